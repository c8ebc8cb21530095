"""The learning-sanity study: its yardsticks are what they say they are."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from envs import get_scenario
from experiments.sanity_study import (
    FOLDER,
    LOADS,
    Schedule,
    Score,
    _fixed,
    _headroom,
    _plain,
    _report,
    _score,
    cheapest,
)
from rlscale.errors import ResultError


def scenario_and_loads(name: str) -> tuple[Any, list[Any]]:
    scenario = get_scenario(str(FOLDER / f"{name}.yaml"))
    return scenario, [scenario.sample_load("test", seed) for seed in range(2)]


def scores(scenario: Any, loads: list[Any], build: Any, values: Any, monkeypatch: pytest.MonkeyPatch) -> list[Score]:
    monkeypatch.setattr("experiments.sanity_study.STARTS", (0.5, 1.5))
    return [_score(str(value), scenario, loads, partial(build, value)) for value in values]


def test_the_best_constant_fleet_for_the_steady_load_is_about_forty_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, loads = scenario_and_loads("steady")
    found = scores(scenario, loads, partial(_fixed, scenario.limits), (39, 40, 41, 42), monkeypatch)
    assert cheapest(found).name in ("40", "41")
    assert [s.usd_per_hour for s in found] == sorted(s.usd_per_hour for s in found)


def test_on_the_periodic_load_the_best_constant_headroom_is_a_tenth_dearer_than_a_schedule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario, loads = scenario_and_loads("periodic")
    headroom = cheapest(scores(scenario, loads, partial(_headroom, scenario.limits), (1.4, 1.45, 1.5), monkeypatch))
    plan = cheapest(scores(scenario, loads, partial(Schedule, 300.0), (0.98, 1.0, 1.02), monkeypatch))
    assert headroom.usd_per_hour > 1.1 * plan.usd_per_hour


def test_a_policy_that_stands_still_fails_from_a_wrong_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    class Still:
        def reset(self) -> None: ...

        def decide(self, seen: Any) -> Any:
            from rlscale.types import Decision

            return Decision(tuple(int(count) for count in seen.target))

    scenario, loads = scenario_and_loads("steady")
    best = cheapest(scores(scenario, loads, partial(_fixed, scenario.limits), (40, 41, 42), monkeypatch))
    still = scores(scenario, loads, lambda *_: Still(), (0,), monkeypatch)[0]
    assert not _plain(still, best)["good"]


def test_the_schedule_keeps_the_largest_rate_until_an_order_could_serve() -> None:
    load = SimpleNamespace(rate_per_s=np.array([1.0, 2.0, 9.0, 3.0]))
    assert Schedule(1.0, 2.0, load).decide(SimpleNamespace(t_s=0.0)).capacity_per_s == 4.0
    assert Schedule(2.0, 2.0, load).decide(SimpleNamespace(t_s=0.0)).capacity_per_s == 18.0
    assert Schedule(2.0, 2.0, load).decide(SimpleNamespace(t_s=9.0)).capacity_per_s == 6.0


def test_misses_are_told_and_nothing_to_choose_from_is_an_error() -> None:
    best = Score("41 replicas", 100.0, 0.995)
    dear, low = Score("seed 0", 106.0, 0.999), Score("seed 1", 90.0, 0.98)
    policies = {"ppo": [_plain(dear, best), _plain(low, best), _plain(Score("seed 2", 104.0, 0.999), best)]}
    entry = {"best": _plain(best), "best_constant_headroom": _plain(dear), "policies": policies}
    text = _report(dict.fromkeys(LOADS, entry))
    assert text.count("misses the goal") == 2 * len(LOADS)
    assert "| ppo seed 2 | 104.00 | 0.9990 | +4.0% |" in text
    with pytest.raises(ResultError, match="widen the search"):
        cheapest([low])
