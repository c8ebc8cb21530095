"""Knative's KPA as a ladder: windows, one decision, panic, the way to zero, and the scaler in a closed circle."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents.knative import SCALERS, SEARCH, UPSTREAM_DEFAULTS, Knative
from agents.knative_config import (
    Config,
    activator_count,
    panic_window_s,
    resolve_target,
    sample_size,
    scraped_concurrency,
)
from agents.knative_kpa import MOST_PODS, Autoscaler, DeciderSpec
from agents.knative_revision import UNKNOWN, Revision, RevisionSpec, Scaled
from agents.knative_windows import DelayWindow, SlidingMax, TimedBuckets, WeightedBuckets
from rlscale.checks import ToyFleet, check_scaler, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError
from rlscale.types import ScalingLimits

SPEC = DeciderSpec(target_value=10.0, total_value=13.0, max_scale_up_rate=10.0, max_scale_down_rate=10.0)


def calm(spec: DeciderSpec = SPEC, ready: int = 1) -> Autoscaler:
    return Autoscaler(spec, ready, 0.0)


# Windows.
def test_while_the_window_fills_the_average_is_over_what_was_seen():
    window = TimedBuckets(60.0)
    for t_s in range(10):
        window.record(t_s, 6.0)
    assert window.average(9.0) == 6.0  # over the whole window it would be 1


def test_one_bucket_adds_up_and_a_hole_inside_counts_as_zero():
    window = TimedBuckets(5.0)
    for t_s in (0.0, 0.2, 0.9, 4.0):
        window.record(t_s, 5.0)
    assert window.average(4.5) == 4.0


def test_silence_at_the_end_shrinks_the_divisor_and_a_full_window_of_it_is_zero():
    window = TimedBuckets(5.0)
    for t_s in range(5):
        window.record(t_s, float(t_s + 1))
    assert window.average(6.0) == 4.0  # 3, 4, 5 are left
    assert window.average(9.0) == 0.0
    assert not window.is_empty(9.0)
    assert window.is_empty(10.0)
    window.record(20.0, 7.0)  # begins anew
    assert window.average(20.0) == 7.0


def test_a_late_write_moves_the_beginning_back_and_one_of_a_window_ago_is_dropped():
    window = TimedBuckets(5.0)
    window.record(60.0, 8.0)
    window.record(57.0, 4.0)
    assert window.average(60.0) == 3.0
    window.record(55.0, 1000.0)
    assert window.average(60.0) == 3.0


def test_averages_are_cut_after_six_decimals():
    window = TimedBuckets(3.0)
    for t_s in range(3):
        window.record(t_s, 2.0 if t_s else 1.0)
    assert window.average(2.0) == 1.666666


def test_a_window_that_is_no_multiple_of_its_buckets_has_one_more():
    window = TimedBuckets(5.5)
    window.record_since(-1.0, 6.0, 1.0)
    assert len(window.state()["buckets"]) == 6
    assert window.average(6.0) == 1.0


@pytest.mark.parametrize("window_s", [1.0, 6.0, 60.0])
def test_a_held_sample_is_the_same_as_one_write_a_second(window_s: float):
    """15 s intervals with a gap and a change of level; both ways, bucket by bucket."""
    held, each = TimedBuckets(window_s), TimedBuckets(window_s)
    before_s = -1.0
    for t_s in (0.0, 15.0, 30.0, 31.0, 33.0, 48.0, 150.0):
        held.record_since(before_s, t_s, t_s / 7.0)
        for second in range(int(before_s) + 1, int(t_s) + 1):
            each.record(float(second), t_s / 7.0)
        assert held.average(t_s + 2.0) == pytest.approx(each.average(t_s + 2.0), abs=1.1e-6)
        before_s = t_s
    assert held.state()["last"] == each.state()["last"]


def test_newer_buckets_weigh_more():
    window = WeightedBuckets(60.0)
    assert window.coefficient == 0.2
    for t_s in range(61):
        window.record(t_s, 10.0 if t_s < 58 else 20.0)
    plain = 10.0 + 10.0 * 3 / 60
    assert window.average(60.0) == pytest.approx(10.0 + 10.0 * (1 - 0.8**3), abs=1e-4)
    assert window.average(60.0) > plain
    assert window.average(62.0) == pytest.approx(0.8**2 * window.average(60.0), abs=1e-4)
    assert window.average(121.0) == 0.0


def test_the_sliding_maximum_keeps_the_larger_of_one_index_and_forgets_by_index():
    window = SlidingMax(3)
    seen = []
    for index, value in ((0, 3.0), (0, 2.0), (1, 1.0), (2, 2.0), (3, 0.0), (5, 0.0)):
        window.record(index, value)
        seen.append(window.current)
    assert seen == [3.0, 3.0, 3.0, 3.0, 2.0, 0.0]


def test_the_delay_counts_ticks_of_two_seconds():
    delay = DelayWindow(5.0)
    assert delay.maximum.size == 3
    assert [delay.longest(t_s, count) for t_s, count in ((0.0, 9), (2.0, 4), (4.9, 1), (6.0, 1))] == [9, 9, 9, 4]


# Settings.
def test_targets_by_annotation_limit_and_utilisation():
    config = Config(container_concurrency_target_fraction=0.8)
    assert resolve_target(config, container_concurrency=10, target_annotation=50) == (8.0, 10)
    assert resolve_target(config, container_concurrency=50, target_annotation=10) == (8.0, 10)
    assert resolve_target(config, "rps", container_concurrency=1, target_annotation=10) == (7.0, 10)
    assert resolve_target(config, target_annotation=0.001) == (0.01, 0.001)
    assert resolve_target(config, container_concurrency=10, utilization_annotation=0.5) == (5.0, 10)


def test_the_panic_window_is_whole_seconds_and_at_least_one():
    assert [panic_window_s(each, 10.0) for each in (6.0, 14.0, 15.0, 60.0, 3600.0)] == [1.0, 1.0, 2.0, 6.0, 360.0]
    assert panic_window_s(6.0, 1.0) == 1.0


def test_samples_of_pods_and_what_the_activator_reports_itself():
    assert [sample_size(pods) for pods in (0, 1, 3, 4, 10_000)] == [0, 1, 3, 4, 16]
    assert scraped_concurrency([(3.0, 1.0), (4.0, 0.0)], 10) == 30.0
    assert scraped_concurrency([], 0) == 0.0


def test_activators():
    assert activator_count(10, 50.0, 0, 100) == 2
    assert activator_count(10, 50.0, -1, 100) == 5
    assert activator_count(10, 50.0, 211, 100) == 8


def test_defaults_are_those_of_the_code():
    assert UPSTREAM_DEFAULTS["knative"]["panic_window_s"] == 6.0
    assert UPSTREAM_DEFAULTS["knative"]["target_burst_capacity"] == 211.0
    assert json.loads(json.dumps(UPSTREAM_DEFAULTS)) == UPSTREAM_DEFAULTS


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


# The scaler.
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
    ],
)
def test_settings_that_upstream_refuses_are_refused(wrong: dict[str, float]):
    with pytest.raises(ScenarioError, match=next(iter(wrong))):
        Knative(limits_of(), **wrong)


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
