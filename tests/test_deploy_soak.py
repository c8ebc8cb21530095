"""A live service on a simulated cluster: as the simulator's own loop, and 24 simulated hours with faults."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs import get_scenario
from experiments.simulated_service import Faults, SimulatedService
from rlscale.circle import begin
from rlscale.deploy.audit import Audit, records
from rlscale.deploy.exporter import Exporter
from rlscale.deploy.guard import Guarded
from rlscale.deploy.live import Current, Decider, Live
from rlscale.deploy.shield_config import Breaker, ShieldsConfig
from rlscale.deploy.world import LiveWorld, Place
from rlscale.loop import run
from rlscale.scalers import build_scaler
from rlscale.scenario import Scenario
from rlscale.types import Decision, Load, Observation

pytest.importorskip("prometheus_client", reason="needs prometheus-client")

INTERVALS_PER_H = 240
HOURS = [4, pytest.param(24, marks=pytest.mark.slow)]
NO_THREAD = ShieldsConfig(breaker=Breaker(deadline_s=None))


@pytest.fixture(scope="module")
def chat() -> Scenario:
    return get_scenario("chat")


def hours_of(chat: Scenario, hours: int) -> Load:
    """From the beginning of a test day."""
    return replace(chat, horizon_s=3600.0 * hours).sample_load("test", 0)


class Bad:
    """Headroom that raises in 3 % of its decisions and answers NaN in 3 %; seed 0."""

    def __init__(self, limits: Any) -> None:
        self._good, self._rng = build_scaler("headroom-held", limits), np.random.default_rng(0)

    def reset(self) -> None:
        self._good.reset()

    def decide(self, seen: Observation) -> Decision:
        fate = self._rng.random()
        if fate < 0.03:
            raise RuntimeError("the policy failed")
        return Decision((float("nan"),)) if fate < 0.06 else self._good.decide(seen)  # type: ignore[arg-type]


def service(chat: Scenario, world: SimulatedService, decider: Decider, path: Path) -> Live:
    place = Place(chat.limits, chat.cluster.interval_s)
    live = LiveWorld(place, world, world, world)
    return Live("chat", live, Current("scaler", decider), Audit(path / "audit.jsonl"), Exporter("chat", chat.limits),
                lambda: True)  # fmt: skip


@pytest.mark.parametrize("hours", HOURS)
def test_live_hours_are_the_simulators_hours(chat: Scenario, hours: int, tmp_path: Path) -> None:
    """Nothing fails, so the guarded scaler makes the same targets live as in the simulator's loop."""
    load = hours_of(chat, hours)

    def guarded() -> Guarded:
        scalers = [build_scaler(name, chat.limits) for name in ("headroom-held", "headroom-held")]
        return Guarded(scalers[0], scalers[1], NO_THREAD, chat.limits)

    simulated = run(chat, guarded(), load, 0).series["target"]
    world, decider = SimulatedService(chat, load, 0), guarded()
    begin(decider, load.history_per_s, load.history_step_s)
    live = service(chat, world, decider, tmp_path)
    live.run()
    live.close()
    targets = [record["target"][0] for record in records(tmp_path / "audit.jsonl") if record["kind"] == "decision"]
    assert len(targets) == hours * INTERVALS_PER_H - 1
    differ = [i for i, target in enumerate(targets) if target != simulated[i + 1]]
    assert not differ, f"{len(differ)}, the first at {differ[:5]}"


@pytest.mark.parametrize("hours", HOURS)
def test_faults_lose_no_interval_and_leak_nothing(chat: Scenario, hours: int, tmp_path: Path) -> None:
    """Metrics down 5 % of the time, the control plane 2 %, the clock set once an hour, a policy that fails in 6 %
    of its decisions; seeds 0. What Python has allocated grows by less than 2 MB over the last quarter."""
    load, intervals = hours_of(chat, hours), hours * INTERVALS_PER_H
    world = SimulatedService(chat, load, 0, Faults(metrics=0.05, backend=0.02, jump=1.0 / INTERVALS_PER_H))
    decider = Guarded(Bad(chat.limits), build_scaler("headroom-held", chat.limits), NO_THREAD, chat.limits)
    begin(decider, load.history_per_s, load.history_step_s)
    live = service(chat, world, decider, tmp_path)
    sizes: list[int] = []
    keep = live.keep

    def measured(turn: Any) -> None:
        keep(turn)
        if live.turned == 3 * intervals // 4:
            gc.collect()
            tracemalloc.start()
            sizes.append(tracemalloc.get_traced_memory()[0])

    live.keep = measured  # type: ignore[method-assign]
    live.run()
    gc.collect()
    sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    live.close()

    found = [record for record in records(tmp_path / "audit.jsonl") if record["kind"] == "decision"]
    failed = [record for record in records(tmp_path / "audit.jsonl") if record["kind"] == "error"]
    assert len(found) == live.turned == intervals - 1 and live.world.missed_intervals == 0
    assert all(2 <= record["target"][0] <= 40 for record in found), "never below the minimum, whatever failed"
    assert {record["where"] for record in failed} == {"metrics", "fleet", "order"} and len(failed) > 8 * hours
    assert decider.counts["scaler_error"] > 2 * hours and decider.counts["scaler_invalid"] > 2 * hours
    assert decider.counts["fallback"] > 4 * hours
    assert sizes[1] - sizes[0] < 2_000_000, sizes
    assert world.attainment > 0.95
