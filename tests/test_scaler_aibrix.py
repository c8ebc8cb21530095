"""AIBrix's APA and KPA variant as scalers: what they are fed, their state, pools, and a closed circle."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents.aibrix import SCALERS, SEARCH, AIBrix
from agents.aibrix_rules import (
    Algorithm,
)
from rlscale.checks import ToyFleet, check_scaler, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError
from rlscale.types import ScalingLimits

BOTH: tuple[Algorithm, ...] = ("apa", "kpa")


def at(t_s: float, limits: ScalingLimits, requests: float, ready: int, **more: Any):
    fleet = np.array([ready])
    given = {"running": requests, "ready": fleet, "target": fleet, "ready_at_scrape": fleet} | more
    return observation(limits, t_s=t_s, **given)


def test_apa_aims_at_the_mean_per_replica():
    limits = limits_of()
    decision = AIBrix(limits, "apa", 0.5).decide(at(0.0, limits, 480.0, 8))
    assert decision.target == (12,)  # 60 each, wanted 40
    assert decision.reason == "0.75 of the sequences at l_SLO, target 0.50; stable"


def test_between_resyncs_it_holds():
    limits = limits_of()
    scaler = AIBrix(limits, "apa", 0.5)
    scaler.decide(at(0.0, limits, 480.0, 8))
    held = scaler.decide(at(5.0, limits, 480.0, 8))
    assert held.target == (8,)
    assert "between" in held.reason


def test_upstreams_window_runs_in_circles_at_a_constant_load_and_a_short_one_does_not():
    """Instant replicas, six hours at 60 requests/s, target 0.5: the last hour."""
    story = {}
    for window_s in (180.0, 10.0):
        fleet = ToyFleet(limits_of(), 60.0, start_s=0.0)
        story[window_s] = set(totals(drive(AIBrix(limits_of(), "apa", 0.5, window_s, 10.0), fleet, 1440))[-240:])
    assert story[10.0] == {12}
    assert min(story[180.0]) < 6 < 30 < max(story[180.0])


@pytest.mark.parametrize("algorithm", BOTH)
def test_starting_replicas_only_have_no_metric_and_hold(algorithm: Algorithm):
    limits = limits_of()
    scaler = AIBrix(limits, algorithm, 0.5)
    starting = {"target": np.array([4]), "pending": np.array([4]), "waiting": 900.0}
    decision = scaler.decide(at(0.0, limits, 0.0, 0, **starting))
    assert decision.target == (4,)
    assert "no replica with metrics" in decision.reason


def test_a_pool_that_starts_beside_one_that_serves_holds():
    limits = limits_of(2)
    fleet, target = np.array([4, 0]), np.array([4, 3])
    seen = observation(limits, running=320.0, ready=fleet, target=target, ready_at_scrape=fleet)
    decision = AIBrix(limits, "apa", 0.5).decide(seen)
    assert decision.target == (8, 3)
    assert "no metric" in decision.reason


def test_apa_does_not_come_back_from_zero_and_the_kpa_variant_does():
    limits = replace(limits_of(), min_replicas=np.array([0]))
    asked = at(0.0, limits, 0.0, 0, waiting=300.0)
    assert AIBrix(limits, "apa", 0.5).decide(asked).target == (0,)
    assert AIBrix(limits, "kpa", 0.5).decide(asked).target == (1,)
    least = limits_of()
    disabled = AIBrix(least, "kpa", 0.5).decide(at(0.0, least, 0.0, 0, waiting=300.0))
    assert disabled.target == (0,)
    assert "disabled" in disabled.reason


@pytest.mark.parametrize("algorithm", BOTH)
def test_missing_and_old_metrics_hold_and_write_nothing(algorithm: Algorithm):
    limits = limits_of()
    scaler = AIBrix(limits, algorithm, 0.5)
    before = scaler.state()
    for wrong in ({"running": math.nan}, {"age_s": 500.0}, {"waiting": -1.0}):
        decision = scaler.decide(at(0.0, limits, 480.0, 8, **wrong))
        assert decision.target == (8,)
        assert decision.reason.startswith("hold: ")
        scaler._beat.reset()
    assert scaler.state() == before


@pytest.mark.parametrize("algorithm", BOTH)
def test_a_restored_scaler_goes_on_and_a_restarted_one_has_forgotten(algorithm: Algorithm):
    """Seed 3; 40 observations of 8 replicas, 0 to 1000 requests."""
    limits = limits_of()
    loads = np.random.default_rng(3).uniform(0.0, 1000.0, 40)
    seen = [at(15.0 * k, limits, float(load), 8) for k, load in enumerate(loads)]
    first, second, fresh = (AIBrix(limits, algorithm, 0.1) for _ in range(3))
    for each in seen[:20]:
        first.decide(each)
    second.restore(json.loads(json.dumps(first.state())))
    going_on = [first.decide(each) for each in seen[20:]]
    assert [second.decide(each) for each in seen[20:]] == going_on
    assert [fresh.decide(each) for each in seen[20:]] != going_on


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": 0.0},
        {"panic_window_s": 0.0},
        {"panic_window_s": 200.0},
        {"max_scale_up_rate": 1.0},
        {"max_scale_down_rate": math.nan},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]):
    with pytest.raises(ScenarioError, match=next(iter(wrong))):
        SCALERS["aibrix-kpa"].build(limits_of(), **wrong)


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize("end", [1, 2])
def test_both_ends_of_the_search_space_can_be_built(name: str, end: int):
    assert SCALERS[name].knob.name in SEARCH[name]
    SCALERS[name].build(limits_of(), **{setting: kind[end] for setting, kind in SEARCH[name].items()})


@pytest.mark.parametrize("name", SCALERS)
def test_the_contract_in_pools_of_several_kinds(name: str):
    check_scaler(SCALERS[name], limits_of(2))
