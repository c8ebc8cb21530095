"""What no scaler of a product may trip over: odd fleets, odd metrics, odd clocks; and the ends of what is tuned."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace

import numpy as np
import pytest

from rlscale import registry
from rlscale.checks import limits_of, observation
from rlscale.execute import bound

KINDS = registry.scan("agents", "SCALERS")
MODULES = ("aws", "gcp", "azure", "autopilot", "erlang", "token_backlog", "cluster_autoscaler")
SEARCH = {
    name: ranges for module in MODULES for name, ranges in importlib.import_module(f"agents.{module}").SEARCH.items()
}


def counts(ready: list[int], target: list[int]) -> dict[str, object]:
    missing = np.maximum(np.array(target) - np.array(ready), 0)
    return {
        "ready": np.array(ready),
        "ready_at_scrape": np.array(ready),
        "target": np.array(target),
        "pending": missing,
        "pending_by_age": np.column_stack([missing, np.zeros((len(ready), 6), np.int64)]),
    }


@pytest.mark.parametrize("name", SEARCH)
def test_what_is_tuned_can_be_built_at_both_ends_and_holds_the_knob(name: str):
    kind, ranges = KINDS[name], SEARCH[name]
    assert kind.knob is not None and kind.knob.name in ranges
    for parameter, (law, *ends) in ranges.items():
        assert law in ("float", "log", "int", "choice")
        for value in ends:
            kind.build(limits_of(), **{parameter: value})


@pytest.mark.parametrize("name", SEARCH)
def test_a_large_queue_is_a_number_and_the_maximum_is_kept(name: str):
    limits = limits_of()
    scaler = KINDS[name].build(limits)
    for k in range(30):
        seen = observation(limits, t_s=60.0 * k, waiting=2.0**31, running=160.0, arrival_per_s=1e4, **counts([2], [40]))
        assert bound(scaler.decide(seen), limits, seen.target).target == (40,)


@pytest.mark.parametrize("name", SEARCH)
@pytest.mark.parametrize("missing", [math.nan, -1.0, math.inf])
def test_a_metric_that_is_none_means_hold(name: str, missing: float):
    limits = limits_of()
    scaler = KINDS[name].build(limits)
    for k in range(30):
        seen = observation(limits, t_s=60.0 * k, waiting=missing, running=missing, arrival_per_s=20.0)
        assert bound(scaler.decide(seen), limits, seen.target).target == (2,)


@pytest.mark.parametrize("name", SEARCH)
def test_stale_metrics_mean_hold(name: str):
    scaler = KINDS[name].build(limits_of())
    for k in range(30):
        seen = observation(limits_of(), t_s=60.0 * k, age_s=500.0, running=500.0, arrival_per_s=90.0)
        assert scaler.decide(seen).target == (2,)


@pytest.mark.parametrize("name", SEARCH)
def test_a_fleet_of_nothing_stays_so_until_someone_asks(name: str):
    limits = replace(limits_of(), min_replicas=np.array([0]))
    scaler = KINDS[name].build(limits)
    none = observation(limits, **counts([0], [0]))
    assert bound(scaler.decide(none), limits, none.target).target == (0,)
    asked = observation(limits, t_s=900.0, arrival_per_s=25.0, waiting=3.0, **counts([0], [0]))
    assert bound(scaler.decide(asked), limits, asked.target).target[0] >= 1


@pytest.mark.parametrize("name", SEARCH)
def test_a_pool_that_may_hold_nothing_or_carries_nothing_is_left_alone(name: str):
    limits = replace(
        limits_of(3),
        max_replicas=np.array([40, 0, 40]),
        capacity_per_s=np.array([10.0, 5.0, 0.0]),
        min_replicas=np.array([1, 0, 1]),
    )
    scaler = KINDS[name].build(limits)
    for k in range(60):
        fleet = counts([2, 0, 1], [2, 0, 1])
        seen = observation(limits, t_s=60.0 * k, running=100.0, arrival_per_s=30.0, **fleet)
        target = bound(scaler.decide(seen), limits, seen.target).target
        assert target[1] == 0 and target[2] >= 1


@pytest.mark.parametrize("name", SEARCH)
def test_a_clock_that_jumps_back_does_not_stop_it_for_ever(name: str):
    limits = limits_of()
    scaler = KINDS[name].build(limits)
    for k in range(20):
        scaler.decide(observation(limits, t_s=1e6 + 60.0 * k, running=320.0, arrival_per_s=60.0))
    grown = [
        bound(scaler.decide(observation(limits, t_s=60.0 * k, running=320.0, arrival_per_s=60.0)), limits, (2,)).target
        for k in range(20)
    ]
    assert max(grown) > (2,)
