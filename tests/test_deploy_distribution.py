"""A policy that sees what it was not trained on makes room; on days like those of its training it is left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_policy import always

from agents.hpa import HPA
from envs import get_scenario
from experiments.training_features import fit_statistics
from rlscale.actions import LEVELS, Headroom
from rlscale.checks import ToyFleet, limits_of
from rlscale.deploy import shield_config as config
from rlscale.deploy.guard import Guarded
from rlscale.deploy.shields.base import Context
from rlscale.deploy.shields.distribution import Distribution
from rlscale.errors import PolicyError
from rlscale.feature_statistics import FeatureStatistics, fit
from rlscale.features import HIGHEST, LOWEST, NAMES, FeatureExtractor
from rlscale.loop import run
from rlscale.manifest import STATISTICS
from rlscale.policy import Policy
from rlscale.policy_folder import load_policy, save_policy

LIMITS = limits_of()
SPAN = (HIGHEST - LOWEST).astype(np.float64)
NETWORK = always(LEVELS.index(1.2), len(LEVELS))
DIRECT = config.Breaker(deadline_s=None)


def chat(horizon_s: float = 6 * 3600.0) -> Any:
    return replace(get_scenario("chat"), horizon_s=horizon_s)


@pytest.fixture(scope="module")
def trained() -> FeatureStatistics:
    """Of a policy that always takes 1.2 times the demand, on loads of six hours."""
    return fit_statistics(chat(), NETWORK, Headroom())


def behind(scenario: Any, load: Any, statistics: FeatureStatistics | None) -> Guarded:
    policy = Policy(NETWORK, Headroom(), scenario.limits, 15.0, statistics=statistics)
    guard = Guarded(policy, HPA(scenario.limits), config.ShieldsConfig(breaker=DIRECT), scenario.limits)
    result = run(scenario, guard, load, 0)
    if statistics is None:
        assert sum("brings no statistics" in reason for reason in result.reasons) == 1
    return guard


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_days_like_those_of_the_training_are_left_to_the_policy(trained: FeatureStatistics, seed: int) -> None:
    guard = behind(chat(), chat().sample_load("test", seed), trained)
    assert guard.counts["distribution_fallback"] == 0
    assert guard.counts["fallback"] == 0


def test_another_kind_of_service_or_of_load_is_not(trained: FeatureStatistics) -> None:
    web = replace(get_scenario("web"), horizon_s=3600.0)
    assert behind(web, web.sample_load("test", 0), trained).counts["distribution_fallback"] > 200
    crowds = replace(get_scenario("flash-crowd"), horizon_s=6 * 3600.0)
    assert behind(crowds, crowds.sample_load("test", 0), trained).counts["distribution_fallback"] > 20


def test_a_policy_without_statistics_is_left_alone_and_said_so_once() -> None:
    short = chat(900.0)
    assert behind(short, short.sample_load("test", 0), None).counts["fallback"] == 0


class Brings:
    """What a policy tells the gate."""

    interval_s, multiplier = 15.0, 1.0

    def __init__(self, statistics: FeatureStatistics) -> None:
        self.statistics = statistics


def toy_rows(rates: list[float]) -> tuple[np.ndarray, list[Any]]:
    """Features and observations of a toy fleet, 100 decisions per rate, sized for it."""
    extractor, rows, moments = FeatureExtractor(LIMITS, 15.0), [], []
    extractor.reset(slice(None), np.full(60, rates[0]), 60.0)
    fleet = ToyFleet(LIMITS, rates[0])
    rng = np.random.default_rng(1)
    for rate in rates:
        for _ in range(100):
            fleet.rate_per_s = rate * float(rng.uniform(0.95, 1.05))
            fleet.apply((8,))
            fleet.wait()
            moments.append(fleet.measure())
            rows.append(extractor.push(moments[-1])[0].copy())
    return np.array(rows), moments


def test_it_hands_over_after_some_decisions_and_back_after_more() -> None:
    rows, _ = toy_rows([60.0, 64.0] * 4)
    statistics = replace(fit(rows, NAMES, SPAN), usual=1.0)  # of eight short stretches, too few to tell
    setting = config.Distribution(after_decisions=4, back_decisions=10)
    gate = Distribution(setting, Brings(statistics), LIMITS)
    gate.warm_up(np.full(60, 60.0), 60.0)
    _, moments = toy_rows([60.0, 200.0, 60.0, 60.0, 60.0, 60.0])
    ruled = [gate.judge(seen, Context(LIMITS, seen.t_s, (8,))) for seen in moments]
    out = [ruling.who == "fallback" for ruling in ruled]
    assert not any(out[:100])
    assert not any(out[100:103])
    assert all(out[110:200])
    assert not out[-1], "in range again"
    assert "load_now" in next(ruling.reason for ruling in ruled if ruling.who == "fallback")
    blind = [gate.judge(seen, Context(LIMITS, seen.t_s, (8,), blind="no value")).who for seen in moments[150:170]]
    assert set(blind) == {"scaler"}, "without metrics nothing is known of now"


def test_statistics_travel_in_the_manifest(tmp_path: Path, trained: FeatureStatistics) -> None:
    about = {STATISTICS: trained.to_json()}
    save_policy(tmp_path / "p", NETWORK, Headroom(), 1, 15.0, about)
    found = load_policy(tmp_path / "p", LIMITS).statistics
    assert found is not None
    assert found.to_json() == trained.to_json()
    save_policy(tmp_path / "without", NETWORK, Headroom(), 1, 15.0, {})
    assert load_policy(tmp_path / "without", LIMITS).statistics is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"low": [0.0]}, "as many"),
        ({"names": ["load_now"]}, "as many"),
        ({"scale": [0.0] * len(NAMES)}, "scale above 0"),
        ({"usual": float("nan")}, "finite"),
        ({"high": "x"}, "no feature statistics"),
        ({"names": None}, "no feature statistics"),
    ],
)
def test_broken_statistics_are_refused(
    tmp_path: Path, trained: FeatureStatistics, change: dict[str, Any], why: str
) -> None:
    save_policy(tmp_path / "p", NETWORK, Headroom(), 1, 15.0, {STATISTICS: trained.to_json() | change})
    with pytest.raises(PolicyError, match=why):
        load_policy(tmp_path / "p", LIMITS)


def test_statistics_of_too_little_are_refused() -> None:
    with pytest.raises(PolicyError, match="at least 4 rows"):
        fit(np.zeros((3, 2)), ["a", "b"], np.ones(2))


def test_a_feature_that_never_moved_is_far_once_it_does() -> None:
    rows = np.tile([0.5, 0.0], (100, 1)) + np.random.default_rng(0).normal(0, [0.1, 0.0], (100, 2))
    statistics = fit(rows, ["moves", "stands"], np.array([4.0, 4.0]))
    assert statistics.score(np.array([0.5, 0.0])) == 0.0
    assert statistics.score(np.array([0.5, 0.01])) < 1.0
    assert statistics.score(np.array([0.5, 1.0])) > 5.0
    assert statistics.score(np.array([0.5, np.nan])) > 5.0
    assert statistics.farthest(np.array([0.5, 1.0]))[0].startswith("stands 1")


def test_a_policy_and_its_gate_go_on_after_a_restart(trained: FeatureStatistics) -> None:
    scenario = chat(3 * 3600.0)
    known, load = scenario.limits, scenario.sample_load("test", 3)

    class Restarts:
        """Every hundredth decision is made by a new Guarded with the state of the last."""

        def __init__(self) -> None:
            self.history: Any = ()
            self.made = 0

        def fresh(self) -> Guarded:
            policy = Policy(NETWORK, Headroom(), known, 15.0, statistics=trained)
            return Guarded(policy, HPA(known), config.ShieldsConfig(breaker=DIRECT), known)

        def reset(self) -> None:
            self.guard = self.fresh()

        def warm_up(self, *history: Any) -> None:
            self.guard.warm_up(*history)

        def decide(self, seen: Any) -> Any:
            self.made += 1
            if self.made % 100 == 0:
                kept = json.loads(json.dumps(self.guard.state(), allow_nan=False))
                self.guard = self.fresh()
                self.guard.restore(kept)
            return self.guard.decide(seen)

    through, restarted = run(scenario, Restarts().fresh(), load, 0), run(scenario, Restarts(), load, 0)
    np.testing.assert_array_equal(through.series["target"], restarted.series["target"])
    assert through.reasons == restarted.reasons
