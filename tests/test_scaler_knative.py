"""Knative's autoscaler as a scaler: what it is fed, its state, pools, and a closed circle."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents.knative import SCALERS, SEARCH, Knative
from rlscale.checks import ToyFleet, check_scaler, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError
from rlscale.types import ScalingLimits


def at(t_s: float, limits: ScalingLimits, requests: float, ready: int, **more: Any):
    fleet = np.array([ready])
    given = {"running": requests, "ready": fleet, "target": fleet, "ready_at_scrape": fleet} | more
    return observation(limits, t_s=t_s, **given)


def test_an_interval_of_fifteen_seconds_does_not_dilute_the_concurrency():
    limits = limits_of()
    scaler = Knative(limits)
    for k in range(40):
        decision = scaler.decide(at(15.0 * k, limits, 560.0, 10))
    assert decision.target == (10,)  # 560 / (0.7 * 80)


def test_between_ticks_it_holds_and_records():
    limits = limits_of()
    scaler = Knative(limits)
    assert scaler.decide(at(0.0, limits, 560.0, 1)).target == (10,)
    between = scaler.decide(at(1.0, limits, 560.0, 1))
    assert between.target == (1,)
    assert "between" in between.reason


def test_a_step_is_seen_by_the_panic_window_first():
    limits = limits_of()
    fast, slow = Knative(limits), Knative(limits, panic_window_percentage=100.0)
    for scaler in (fast, slow):
        for k in range(40):
            scaler.decide(at(2.0 * k, limits, 56.0, 1))
    for k in range(40, 44):
        quick = fast.decide(at(2.0 * k, limits, 560.0, 1)).target
        late = slow.decide(at(2.0 * k, limits, 560.0, 1)).target
    assert quick == (10,)
    assert late < quick


def test_a_fresh_scaler_keeps_a_fleet_for_a_stable_window_and_a_restored_one_does_not_begin_anew():
    limits = limits_of()
    first = Knative(limits)
    counts = [first.decide(at(15.0 * k, limits, 56.0, 20)).target[0] for k in range(7)]
    assert counts == [20] * 5 + [10] * 2
    second = Knative(limits)
    second.restore(json.loads(json.dumps(first.state())))
    assert second.decide(at(105.0, limits, 56.0, 10)) == first.decide(at(105.0, limits, 56.0, 10))
    assert Knative(limits).decide(at(105.0, limits, 56.0, 10)).target == (10,)


def test_missing_metrics_are_decided_by_what_is_left_of_the_window_and_then_held():
    limits = limits_of()
    scaler = Knative(limits)
    for k in range(10):
        scaler.decide(at(15.0 * k, limits, 280.0, 5))
    blind = [scaler.decide(at(15.0 * k, limits, math.nan, 5)) for k in range(10, 20)]
    assert {decision.target for decision in blind} == {(5,)}
    assert "hold" not in blind[0].reason
    assert "hold: no value for running" in blind[-1].reason


def test_a_clock_that_is_set_back_adds_nothing_up():
    limits = limits_of()
    scaler = Knative(limits, utilisation=0.7)
    for t_s in (100.0, 115.0, 105.0, 117.0, 132.0, 147.0, 162.0):
        decision = scaler.decide(at(t_s, limits, 280.0, 5))
    assert decision.target == (5,)


def test_a_fleet_of_nothing_but_starting_replicas_is_left_alone_until_someone_asks():
    limits = limits_of()
    scaler = Knative(limits)
    starting = {"target": np.array([4]), "pending": np.array([4])}
    quiet = scaler.decide(at(0.0, limits, 0.0, 0, **starting))
    assert quiet.target == (4,)
    assert "no pod and no request" in quiet.reason
    assert scaler.decide(at(15.0, limits, 0.0, 0, waiting=560.0, **starting)).target == (10,)


def test_down_to_zero_where_the_minimum_allows_it_and_back_when_asked():
    limits = replace(limits_of(), min_replicas=np.array([0]))
    fleet, scaler = ToyFleet(limits, 40.0), Knative(limits)
    drive(scaler, fleet, 40)
    fleet.rate_per_s = 0.0
    idle = totals(drive(scaler, fleet, 40))
    assert idle[-1] == 0
    assert 1 in idle
    fleet.rate_per_s = 40.0
    assert totals(drive(scaler, fleet, 240))[-1] >= 4


def test_a_maximum_of_zero_is_no_replica_and_not_upstreams_unlimited():
    limits = replace(limits_of(), min_replicas=np.array([0]), max_replicas=np.array([0]))
    assert Knative(limits).decide(at(0.0, limits, 500.0, 0, target=np.array([0]))).target == (0,)


def test_pools_share_the_requests_by_what_serves():
    limits = limits_of(2)  # 80 and 40 sequences
    fleet = np.array([4, 2])
    seen = observation(limits, running=400.0, ready=fleet, target=fleet, ready_at_scrape=fleet)
    assert Knative(limits).decide(seen).target == (6, 3)


def test_pools_without_sequences_hold():
    limits = replace(limits_of(), seats=np.array([0.0]))
    assert "within the SLO" in Knative(limits).decide(at(0.0, limits, 5.0, 2)).reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"utilisation": 0.0},
        {"stable_window_s": 5.0},
        {"stable_window_s": 3601.0},
        {"panic_window_percentage": 0.5},
        {"panic_threshold_percentage": 100.0},
        {"max_scale_up_rate": 1.0},
        {"max_scale_down_rate": math.nan},
        {"scale_down_delay_s": -1.0},
        {"activation_scale": 0},
        {"initial_scale": 0},
        {"aggregation_algorithm": "median"},
    ],
)
def test_settings_that_upstream_refuses_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ScenarioError, match=next(iter(wrong))):
        Knative(limits_of(), **wrong)


@pytest.mark.parametrize(("algorithm", "replicas"), [("linear", 7), ("weightedExponential", 5)])
def test_falling_weights_follow_a_step_down_sooner(algorithm: str, replicas: int):
    """20 s after the load fell to a tenth the mean of 60 s is at 392, the weighted one at 62, which the rate limits."""
    limits = limits_of()
    scaler = Knative(limits, aggregation_algorithm=algorithm)
    for k in range(70):
        decision = scaler.decide(at(2.0 * k, limits, 560.0 if k < 60 else 56.0, 10))
    assert decision.target == (replicas,)


def test_a_state_of_another_window_is_refused():
    with pytest.raises(ScenarioError, match="state of 60 buckets; expected 30"):
        Knative(limits_of(), stable_window_s=30.0).restore(Knative(limits_of()).state())


@pytest.mark.parametrize("end", [1, 2])
def test_both_ends_of_the_search_space_can_be_built(end: int):
    space = SEARCH["knative"]
    assert SCALERS["knative"].knob.name in space
    Knative(limits_of(), **{name: kind[end] for name, kind in space.items()})


def test_a_low_rate_up_counts_ready_pods_and_so_takes_back_what_was_ordered():
    """Upstream limits by what is ready, not by what was asked: 4 on their way, none ready, at most 2."""
    limits = limits_of()
    starting = {"target": np.array([4]), "pending": np.array([4]), "waiting": 560.0}
    assert Knative(limits, max_scale_up_rate=2.0).decide(at(0.0, limits, 0.0, 0, **starting)).target == (2,)


def test_settings_of_a_long_window_and_a_delay_keep_the_contract():
    check_scaler(SCALERS["knative"], limits_of(), stable_window_s=600.0, scale_down_delay_s=600.0)


def test_falling_weights_keep_the_contract_which_silence_would_break():
    check_scaler(SCALERS["knative"], limits_of(), aggregation_algorithm="weightedExponential")
