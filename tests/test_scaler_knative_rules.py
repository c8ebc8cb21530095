"""One decision of Knative's autoscaler, panic, and the way of a revision to zero."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents.knative_kpa import MOST_PODS, Autoscaler, DeciderSpec
from agents.knative_revision import UNKNOWN, Revision, RevisionSpec, Scaled

SPEC = DeciderSpec(target_value=10.0, total_value=13.0, max_scale_up_rate=10.0, max_scale_down_rate=10.0)


def calm(spec: DeciderSpec = SPEC, ready: int = 1) -> Autoscaler:
    return Autoscaler(spec, ready, 0.0)


# One decision.
def test_panic_is_asked_of_the_unclamped_panic_demand():
    spec = replace(SPEC, max_scale_up_rate=1.5)
    scaler = calm(spec)
    assert scaler.scale(0.0, 4, stable=10.0, panic=80.0).desired == 6  # clamped, 6 of 4 would not be twice
    assert scaler.in_panic


def test_panic_begins_at_the_threshold_and_not_by_the_stable_value():
    for stable, panic, expected in ((0.0, 20.0, True), (0.0, 19.9, True), (100.0, 10.0, False)):
        scaler = calm()
        scaler.scale(0.0, 1, stable, panic)
        assert scaler.in_panic == expected


def test_panic_ends_after_the_stable_window_and_not_at_its_end():
    scaler = calm()
    scaler.scale(0.0, 1, 50.0, 50.0)
    assert scaler.scale(60.0, 5, 10.0, 10.0).desired == 5
    assert scaler.in_panic
    assert scaler.scale(60.1, 5, 10.0, 10.0).desired == 1
    assert not scaler.in_panic
    assert scaler.max_panic_pods == 0


def test_panic_is_extended_while_it_lasts_and_only_grows():
    scaler = calm()
    counts = [scaler.scale(t, 5, 10.0, panic).desired for t, panic in ((0, 100.0), (30, 120.0), (80, 30.0))]
    assert counts == [10, 12, 12]
    assert scaler.panic_time_s == 30.0


def test_limits_count_from_one_pod_and_burst_capacity_from_none():
    result = calm().scale(0.0, 0, stable=1000.0, panic=888.0)
    assert (result.desired, result.excess_burst_capacity) == (10, -211 - 888)


def test_burst_capacity_off_and_always():
    for burst, expected in ((0.0, 0), (-1.0, -1), (10.0, 8)):
        scaler = calm(replace(SPEC, target_burst_capacity=burst))
        assert scaler.scale(0.0, 2, 10.0, 8.0).excess_burst_capacity == expected


def test_the_activation_scale_needs_demand_and_breaks_the_rate():
    scaler = calm(replace(SPEC, activation_scale=25))
    assert scaler.scale(0.0, 1, 0.0, 0.0).desired == 0
    assert scaler.scale(2.0, 1, 1.0, 1.0).desired == 25


def test_an_unreachable_revision_knows_no_rate_down_and_no_delay():
    spec = replace(SPEC, scale_down_delay_s=300.0, max_scale_down_rate=1.1)
    scaler = calm(spec)
    assert scaler.scale(0.0, 100, 900.0, 900.0).desired == 90
    scaler.update(replace(spec, reachable=False))
    assert scaler.scale(2.0, 100, 10.0, 10.0).desired == 1


def test_no_delay_is_no_window_and_an_update_makes_none():
    scaler = calm()
    assert [scaler.scale(0.0, 1, value, 0.0).desired for value in (10.0, 0.0)] == [1, 0]
    scaler.update(replace(SPEC, scale_down_delay_s=300.0))
    assert [scaler.scale(0.0, 1, value, 0.0).desired for value in (10.0, 0.0)] == [1, 0]
    delayed = calm(replace(SPEC, scale_down_delay_s=1.0))
    assert [delayed.scale(0.0, 1, value, 0.0).desired for value in (10.0, 0.0)] == [1, 1]


def test_without_pods_or_metrics_the_result_is_invalid_and_nothing_is_remembered():
    scaler = calm()
    before = scaler.state()
    for ready, stable, panic in ((None, 50.0, 50.0), (1, math.nan, 50.0), (1, 50.0, math.nan)):
        assert not scaler.scale(0.0, ready, stable, panic).valid
    assert scaler.state() == before


def test_demand_without_end_is_limited_by_rate_and_by_the_type():
    assert calm().scale(0.0, 1, math.inf, math.inf).desired == 10
    assert calm(replace(SPEC, max_scale_up_rate=1e12)).scale(0.0, 1, 1e300, 0.0).desired == MOST_PODS
    assert calm(replace(SPEC, target_value=0.0)).scale(0.0, 1, 5.0, 5.0).desired == 10
    assert not calm(replace(SPEC, target_value=0.0)).scale(0.0, 1, 0.0, 0.0).valid


@pytest.mark.parametrize(("ready", "panic", "kept"), [(None, False, 0), (0, False, 0), (1, False, 1), (7, True, 7)])
def test_a_fresh_autoscaler_over_several_pods_starts_in_panic(ready: int | None, panic: bool, kept: int):
    scaler = Autoscaler(SPEC, ready, 100.0)
    assert (scaler.in_panic, scaler.max_panic_pods) == (panic, kept)


def test_a_restored_autoscaler_goes_on_where_the_first_one_was():
    spec = replace(SPEC, scale_down_delay_s=20.0)
    first = calm(spec)
    rng = np.random.default_rng(5)
    steps = [(2.0 * k, int(rng.integers(1, 9)), *rng.uniform(0, 90, 2).tolist()) for k in range(80)]
    for step in steps[:40]:
        first.scale(*step)
    second = Autoscaler(spec, 0, 0.0)
    second.restore(json.loads(json.dumps(first.state())))
    assert [second.scale(*step) for step in steps[40:]] == [first.scale(*step) for step in steps[40:]]


# The way to zero.
def revision(condition: str, age_s: float, proxied_s: float | None = None, **settings: Any) -> Revision:
    spec = RevisionSpec(**({"grace_period_s": 60.0, "stable_window_s": 300.0} | settings))
    made = Revision(spec, 0.0)
    proxy = None if proxied_s is None else -proxied_s
    made.restore({"condition": condition, "since_s": -age_s, "initialised": True, "proxy_since_s": proxy})
    return made


def never() -> bool:
    raise AssertionError("probed")


def test_an_active_revision_keeps_one_pod_for_a_stable_window_and_is_deactivated_first():
    assert revision("active", 299.0).scale(0.0, 0) == Scaled(1, True)
    assert revision("active", 300.0).scale(0.0, 0) == Scaled(0, False)


@pytest.mark.parametrize(
    ("age_s", "proxied_s", "retention_s", "gone"),
    [
        (60.0, 0.0, 0.0, True),
        (59.0, 59.0, 0.0, False),
        (59.0, 60.0, 0.0, True),
        (59.0, 600.0, 59.5, False),  # retention is a hard limit
        (119.0, 0.0, 120.0, False),
        (120.0, 0.0, 120.0, True),
    ],
)
def test_the_last_pod_goes_after_grace_and_retention(age_s: float, proxied_s: float, retention_s: float, gone: bool):
    scaled = revision("inactive", age_s, proxied_s, pod_retention_s=retention_s).scale(0.0, 0)
    assert scaled == Scaled(0, gone)


def test_it_goes_only_with_the_activator_in_the_path_which_is_certain_without_burst_capacity():
    assert revision("inactive", 900.0).scale(0.0, 0, lambda: False) == Scaled(0, False)
    assert revision("inactive", 900.0).scale(0.0, 0) == Scaled(0, False)  # serve mode
    assert revision("inactive", 900.0, target_burst_capacity=-1.0).scale(0.0, 0, never) == Scaled(0, True)


def test_an_activation_that_is_stuck_is_given_up_and_not_before():
    stuck = {"progress_deadline_s": 120.0}
    assert revision("activating", 150.0, **stuck).scale(0.0, 0) == Scaled(UNKNOWN, False)
    assert revision("activating", 150.5, **stuck).scale(0.0, 0) == Scaled(0, True)


def test_no_data_is_applied_while_activating_only():
    assert revision("active", 0.0, min_scale=2).scale(0.0, UNKNOWN) == Scaled(UNKNOWN, False)
    assert revision("activating", 0.0, min_scale=2).scale(0.0, UNKNOWN) == Scaled(2, True)
    assert revision("activating", 0.0).scale(0.0, UNKNOWN) == Scaled(UNKNOWN, False)


def test_without_scaling_to_zero_one_pod_stays():
    assert revision("inactive", 900.0, enable_scale_to_zero=False).scale(0.0, 0) == Scaled(1, True)


def test_the_initial_scale_is_the_minimum_until_it_was_reached():
    new = Revision(RevisionSpec(initial_scale=5), 0.0)
    assert new.reconcile(0.0, 1, 0, ready=4) == Scaled(5, True)
    assert new.condition == "activating"
    assert new.reconcile(2.0, 1, 0, ready=5) == Scaled(5, True)
    assert new.condition == "active"
    assert new.reconcile(4.0, 1, 0, ready=5) == Scaled(1, True)


def test_an_unreachable_revision_has_no_minimum_no_initial_scale_and_no_retention():
    spec = {"min_scale": 3, "initial_scale": 5, "pod_retention_s": 600.0, "reachability": "unreachable"}
    assert revision("inactive", 60.0, 0.0, **spec).scale(0.0, 0) == Scaled(0, True)
    assert Revision(RevisionSpec(**spec), 0.0).least_pods() == 0


def test_the_activator_leaves_the_path_with_pods_and_room_only():
    made = revision("inactive", 0.0, 0.0)
    made.reconcile(0.0, 3, -5, ready=0)
    assert made.proxied_for_s(10.0) == 10.0
    made.reconcile(10.0, 3, 0, ready=3)
    assert made.proxied_for_s(20.0) == 0.0


def test_from_idle_to_zero_and_back():
    """Active for a stable window of 60 s, deactivated, a grace period of 30 s, gone; then called again."""
    made = Revision(RevisionSpec(min_scale=0), 0.0, "active")
    story = [made.reconcile(float(t_s), 0, 100, ready=1) for t_s in range(0, 120, 15)]
    assert story == [Scaled(1, True)] * 4 + [Scaled(0, False)] * 2 + [Scaled(0, True)] * 2
    assert made.reconcile(120.0, 2, -1, ready=0) == Scaled(2, True)
    assert made.condition == "activating"
