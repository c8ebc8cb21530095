"""The study of shields in small: pairs for every mishap and scaler, and mishaps that are what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from envs import get_scenario
from experiments.__main__ import main
from experiments.mishaps import LASTS_S, METRICS, NAMES, PERIOD_S, SCALERS, active, with_mishap
from experiments.shields import guarded
from rlscale.checks import limits_of, observation
from rlscale.deploy.shield_config import ShieldsConfig
from rlscale.scalers import build_scaler
from rlscale.types import Decision

LIMITS = limits_of()


def test_every_mishap_is_paired_with_every_scaler(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two loads of four hours of `chat`, seeds 0 and 1: a scaler that wants the smallest fleet loses more than shields
    let it lose, and shields change nothing of a rule with which nothing is wrong."""
    out = tmp_path / "shields"
    given = ["--seeds", "2", "--hours", "4", "--scalers", "headroom", "--workers", "1"]
    assert main(["shields", *given, "--out", str(out)]) == 0
    rows = {row["mishap"]: row for row in json.loads((out / "summary.json").read_text())["rows"]}
    assert list(rows) == list(NAMES)
    assert abs(rows["nothing"]["attainment_change_points"]) < 0.1
    assert abs(rows["nothing"]["cost_change_percent"]) < 0.5
    assert rows["it wants the smallest fleet"]["attainment_change_points"] > 2.0
    assert rows["metrics say that nobody asks"]["attainment_change_points"] > 2.0
    assert "| nothing | headroom |" in (out / "report.md").read_text()
    capsys.readouterr()
    assert main(["shields", "--out", str(out)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_something_is_wrong_for_a_sixth_of_the_time() -> None:
    times_s = np.arange(0.0, 86_400.0, 15.0)
    share = np.mean([active(t_s, 1234.0) for t_s in times_s])
    assert share == pytest.approx(LASTS_S / PERIOD_S, abs=0.01)


class Counting:
    """Remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def reset(self) -> None:
        """Nothing to forget."""

    def decide(self, seen: object) -> Decision:
        """Three replicas."""
        self.seen.append(float(seen.arrival_per_s))  # type: ignore[attr-defined]
        return Decision((3,), "three")


@pytest.mark.parametrize("name", NAMES)
def test_a_mishap_comes_and_goes(name: str) -> None:
    scaler = Counting()
    around = with_mishap(name, scaler, LIMITS, guard=Around, seed=0)
    said, failed = [], 0
    for t_s in np.arange(0.0, 2 * PERIOD_S, 15.0):
        try:
            said.append(around.decide(observation(LIMITS, arrival_per_s=40.0 + t_s / 1e6, t_s=float(t_s))).target)
        except Exception:
            failed += 1
    told = np.array(scaler.seen)
    plain = 40.0 + np.arange(0.0, 2 * PERIOD_S, 15.0) / 1e6
    wrong = int(np.sum(~np.isclose(told, plain, rtol=0.0, atol=1e-9)))
    strange = failed + sum(target != (3,) for target in said)
    part = len(plain) * LASTS_S / PERIOD_S
    if name in METRICS:
        assert wrong == pytest.approx(part, abs=3) and strange == 0
    elif name in SCALERS:
        assert strange == pytest.approx(part, abs=12) and wrong == 0
    else:
        assert wrong == strange == 0


class Around:
    """No guard."""

    def __init__(self, scaler: Counting) -> None:
        self.decide = scaler.decide


def test_shields_are_those_of_serve() -> None:
    chat = get_scenario("chat")
    guard = guarded(build_scaler("headroom", chat.limits), known=chat.limits)
    default = ShieldsConfig()
    assert guard.config.model_copy(update={"breaker": default.breaker}) == default
    assert set(guard.gates) == {"metrics", "silence", "distribution"}
