"""Ray Serve's autoscaler: the specification's order of operations and pitfalls, and the scaler in a circle."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from agents.ray_serve import SCALERS, SEARCH, UPSTREAM_DEFAULTS, RayServe
from agents.ray_serve_metrics import RequestMetrics, aggregate, merge, time_weighted_average, window_start_s
from agents.ray_serve_policy import (
    AutoscalingConfig,
    Context,
    DeploymentAutoscaler,
    LegacyAutoscaler,
    apply_factor,
    bounded,
    capacity_adjusted,
    decide_application,
)
from rlscale.checks import ToyFleet, check_scaler, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError

FREE = {"min_replicas": 0, "max_replicas": math.inf, "target_ongoing_requests": 1.0}


def scaler(**changes: Any) -> DeploymentAutoscaler:
    return DeploymentAutoscaler(
        AutoscalingConfig(**(FREE | {"upscale_delay_s": 0.0, "downscale_delay_s": 0.0} | changes))
    )


# 1. Cold start
@pytest.mark.parametrize(("factor", "target", "wanted"), [(0.5, 0, 1), (2.5, 0, 3), (1.0, 4, 4)])
def test_a_cold_start_waits_for_no_delay(factor: float, target: int, wanted: int):
    assert scaler(upscaling_factor=factor, upscale_delay_s=30.0).decide(0, target, 1, 0.0) == wanted


def test_nothing_running_and_no_requests_keeps_the_target():
    assert scaler(downscale_delay_s=600.0).decide(0, 3, 0, 0.0) == 3


# 2. and 3. Policy and factor: a fraction until after the factor
@pytest.mark.parametrize(
    ("running", "desired", "up", "down", "wanted"),
    [
        (10, 10.4, 0.5, 1.0, 11),  # rounding the desired 11 first gives 11 too
        (10, 12.2, 0.5, 1.0, 12),  # rounding the desired 13 first would give 12, the fraction 11.1 gives 12
        (10, 13.2, 0.3, 1.0, 11),  # 10.96; rounded first: 11.2, 12
        (10, 4, 1.0, 0.1, 9),  # 9.4 rounds up to 10: forced down by one
        (10, 9.5, 1.0, 0.5, 10),  # ceil(desired) is not below: nothing is forced
        (0, 7.2, 0.5, 1.0, 8),  # from zero the factor means nothing
    ],
)
def test_the_factor_works_on_the_distance(running: int, desired: float, up: float, down: float, wanted: int):
    assert apply_factor(AutoscalingConfig(upscaling_factor=up, downscaling_factor=down), desired, running) == wanted


@pytest.mark.parametrize(
    ("older", "up", "down"),
    [({"smoothing_factor": 0.3}, 0.3, 0.3), ({"upscale_smoothing_factor": 0.2, "smoothing_factor": 0.3}, 0.2, 0.3)],
)
def test_older_names_of_the_factors_still_count(older: dict[str, float], up: float, down: float):
    config = AutoscalingConfig(**older)
    assert (config.up_factor, config.down_factor) == (up, down)
    assert AutoscalingConfig(**older, upscaling_factor=0.9).up_factor == 0.9


# 4. and 5. Delay
def test_the_delay_compares_with_the_target_and_not_with_what_runs():
    slow = scaler(downscale_delay_s=1e5)
    assert [slow.decide(1, 100, 100, 0.0), slow.decide(3, 100, 123, 0.0), slow.decide(4, 123, 10, 0.0)] == [
        100,
        123,
        123,
    ]


@pytest.mark.parametrize("loop_s", [0.1, 0.7, 15.0])
def test_the_delay_is_by_the_clock_whatever_the_loop(loop_s: float):
    calm = scaler(upscale_delay_s=30.0)
    turns = int(100 / loop_s)
    fired = next(k * loop_s for k in range(turns) if calm.decide(1, 1, 5, k * loop_s) == 5)
    assert 30.0 - 1e-5 <= fired < 30.0 + loop_s


@pytest.mark.parametrize("between", [5, 2])  # equal to the target, and the other way
def test_a_streak_begins_anew_after_equality_or_the_opposite(between: int):
    calm = scaler(upscale_delay_s=30.0, downscale_delay_s=600.0)
    assert [calm.decide(5, 5, n, t) for t, n in ((0.0, 9), (20.0, between), (31.0, 9), (60.0, 9), (61.0, 9))] == [
        5, 5, 5, 5, 9,
    ]  # fmt: skip


def test_after_it_fired_a_streak_begins_anew():
    calm = scaler(upscale_delay_s=30.0)
    assert [calm.decide(1, 1, 5, t) for t in (0.0, 30.0, 40.0, 70.0)] == [1, 5, 1, 5]


def test_zero_is_reached_from_one_only_and_by_its_own_delay():
    calm = scaler(downscale_delay_s=10.0, downscale_to_zero_delay_s=40.0)
    assert [calm.decide(4, 4, 0, t) for t in (0.0, 10.0)] == [4, 1]
    assert [calm.decide(1, 1, 0, t) for t in (11.0, 50.0, 51.0)] == [1, 1, 0]


def test_nothing_running_and_a_wish_above_the_target_skips_the_delay():
    calm = scaler(upscale_delay_s=30.0, downscale_delay_s=600.0)
    assert (calm.decide_desired(0, 5, 8, 0.0), calm.decide_desired(0, 5, 2, 0.0)) == (8, 5)


# 6. Gang and bounds
@pytest.mark.parametrize(
    ("replicas", "percent", "wanted"),
    [(10, 50.0, 5), (5, 50.0, 3), (1, 10.0, 1), (0, 50.0, 0), (10, 0.0, 0), (10, None, 10), (3, 100.0, 3)],
)
def test_bounds_scale_with_the_target_capacity_halves_up_and_at_least_one(replicas: int, percent: float, wanted: int):
    assert capacity_adjusted(replicas, percent) == wanted


def test_custom_policies_are_bounded_too():
    own = DeploymentAutoscaler(
        AutoscalingConfig(min_replicas=2, max_replicas=6, upscale_delay_s=0.0), lambda c: (99.5, {})
    )
    assert own.decide(3, 3, 5, 0.0) == 6


def test_gangs_round_up_before_the_bounds():
    assert [bounded(AutoscalingConfig(0, 10, gang_size=4), n) for n in (0, 1, 4, 9)] == [0, 4, 4, 10]


def test_initial_replicas_are_the_lower_bound_while_capacity_rises():
    config = AutoscalingConfig(1, 10, initial_replicas=8, target_capacity=50.0, capacity_rises=True)
    assert (config.lower, config.upper) == (4, 5)


def test_auto_means_a_hundred_replicas_of_two_requests():
    assert (AutoscalingConfig.auto().max_replicas, AutoscalingConfig.auto().target_ongoing_requests) == (100, 2.0)


# 4.3 Metric
def test_series_are_merged_as_step_functions():
    first, second = [(0.2, 5.0), (0.8, 7.0), (1.5, 6.0)], [(0.1, 3.0), (0.9, 4.0), (1.4, 8.0)]
    merged = merge([first, second])
    assert merged == [(0.1, 3.0), (0.2, 8.0), (0.8, 10.0), (0.9, 11.0), (1.4, 15.0), (1.5, 14.0)]
    assert aggregate(merged, "mean", window_start_s([first, second]), 0.5) == pytest.approx(11.0)
    assert aggregate(merged, "mean", None, 0.5) == pytest.approx(20.1 / 1.9)
    assert [aggregate(merged, name) for name in ("max", "min")] == [15.0, 3.0]


def test_times_are_rounded_to_ten_milliseconds_and_a_lone_series_is_not_touched():
    assert merge([[(0.101, 1.0)], [(0.104, 2.0)]]) == [(0.1, 3.0)]
    assert merge([[(0.101, 1.0)], []]) == [(0.101, 1.0)]
    assert merge([[(1.0, 0.0), (2.0, 4.0)], [(1.5, 4.0), (1.7, 4.0)]]) == [(1.5, 4.0), (2.0, 8.0)]
    assert (merge([]), time_weighted_average([])) == ([], None)


def test_stale_and_late_reports_are_dropped():
    metrics = RequestMetrics(30.0, 10.0)
    metrics.record("a", 0.0, 4.0)
    metrics.record("a", 0.0, 9.0)  # not newer
    metrics.record("b", 15.0, 2.0)
    assert metrics.total(20.0) == pytest.approx(6.0)  # from 15 s on, when both had reported
    metrics.drop_stale(20.0)
    assert metrics.total(20.0) == pytest.approx(2.0)
    metrics.record("c", 21.0, math.nan)
    assert metrics.total(100.0) == 0.0


# State, versions, applications
def test_a_restored_controller_goes_on_where_the_other_one_was():
    for build in (
        lambda: scaler(upscale_delay_s=1.0),
        lambda: LegacyAutoscaler(AutoscalingConfig(**FREE, upscale_delay_s=1.0)),
    ):
        first, second = build(), build()
        story = [first.decide(1, 1, 5, k / 10) for k in range(8)]
        second.restore(json.loads(json.dumps(first.state())))
        rest = [k / 10 for k in range(8, 14)]
        assert [second.decide(1, 1, 5, t) for t in rest] == [first.decide(1, 1, 5, t) for t in rest]
        assert set(story) == {1}
        first.reset()
        assert first.state() == build().state()


def test_the_older_release_counts_turns_and_clips_before_the_factor():
    config = AutoscalingConfig(0, 20, target_ongoing_requests=1.0, upscale_delay_s=0.3, upscaling_factor=0.5)
    legacy = LegacyAutoscaler(config)
    assert [legacy.decide(10, 10, 50, 1000.0 * k) for k in range(3)] == [10, 10, 15]  # int(0.3 / 0.1) is 2
    assert scaler(upscaling_factor=0.5, max_replicas=20).decide(10, 10, 50, 0.0) == 20  # bounded afterwards


def test_one_policy_for_an_application_hands_back_its_state():
    both = {"a": scaler(), "b": scaler()}

    def policy(contexts: dict[str, Context]):
        return {"a": 3.2}, {"a": {"calls": contexts["a"].policy_state.get("calls", 0) + 1}}

    for _ in range(2):
        contexts = {name: each.context(2, 2, 4.0, 0.0) for name, each in both.items()}
        assert decide_application(both, contexts, policy) == {"a": 4, "b": 2}
    assert both["a"].state()["policy_state"] == {"calls": 2}


def test_a_target_of_zero_requests_is_refused():
    with pytest.raises(ScenarioError, match="target_ongoing_requests = 0"):
        AutoscalingConfig(target_ongoing_requests=0)
    with pytest.raises(ScenarioError, match="aggregation_function = 'p99'"):
        RayServe(limits_of(), aggregation_function="p99")


# The scaler
def seen(t_s: float, ready: int, requests: float, pending: int = 0, **changes: Any):
    fleet = {"ready": np.array([ready]), "pending": np.array([pending]), "target": np.array([ready + pending])}
    load = {"running": requests, "arrival_per_s": 1.0, "ready_at_scrape": np.array([ready])}
    return observation(limits_of(), t_s=t_s, **(fleet | load | changes))


def test_the_scaler_waits_its_delay_and_then_grows_to_the_share():
    rule = RayServe(limits_of(), target_ongoing_share=0.5)  # 40 requests of 80
    decisions = [rule.decide(seen(t, 4, 400.0)).target for t in (0.0, 15.0, 30.0)]
    assert decisions == [(4,), (4,), (10,)]


def test_the_scaler_averages_over_the_look_back():
    rule = RayServe(limits_of(), upscale_delay_s=0.0, look_back_period_s=30.0)
    rule.decide(seen(0.0, 4, 160.0))
    assert rule.decide(seen(15.0, 4, 400.0)).target == (5,)  # 160 for 15 s, 400 for the 2 s since the scrape


def test_the_scaler_does_not_order_twice_what_is_on_its_way():
    rule = RayServe(limits_of(), upscale_delay_s=0.0)
    assert rule.decide(seen(0.0, 4, 400.0)).target == rule.decide(seen(15.0, 4, 400.0, pending=6)).target == (10,)


@pytest.mark.parametrize("bad", [{"running": math.nan}, {"waiting": math.nan}, {"age_s": 1e4}])
def test_the_scaler_holds_without_metrics(bad: dict[str, float]):
    decision = RayServe(limits_of()).decide(seen(0.0, 4, 400.0, **bad))
    assert decision.target == (4,)
    assert decision.reason.startswith("hold")


def test_a_clock_that_goes_back_and_huge_counts_do_not_break_the_scaler():
    rule = RayServe(limits_of(), upscale_delay_s=0.0)
    assert rule.decide(seen(100.0, 4, 2.0**31)).target == (40,)
    assert rule.decide(seen(50.0, 4, 2.0**31)).target == (40,)  # a clock that was set back begins a new beat


def test_a_fleet_that_must_be_empty_stays_empty():
    limits = limits_of()
    limits.min_replicas[:], limits.max_replicas[:] = 0, 0
    nothing = observation(limits, ready=np.array([0]), waiting=5.0, arrival_per_s=1.0)
    assert RayServe(limits).decide(nothing).target == (0,)


def test_the_scalers_state_survives_a_restart():
    first, second, fleet = RayServe(limits_of(3)), RayServe(limits_of(3)), ToyFleet(limits_of(3), 40.0)
    drive(first, fleet, 9)
    second.restore(json.loads(json.dumps(first.state())))
    now = fleet.measure()
    assert second.decide(now) == first.decide(now)


@pytest.mark.parametrize("changes", [{}, {"legacy": True, "upscale_delay_s": 0.2, "downscale_delay_s": 0.5}])
def test_the_contract_is_kept(changes: dict[str, Any]):
    check_scaler(SCALERS["ray-serve"], limits_of(), **changes)


def test_the_fleet_settles_at_the_wanted_share():
    fleet = ToyFleet(limits_of(), 60.0, start_s=0.0)
    assert totals(drive(RayServe(limits_of(), target_ongoing_share=0.5), fleet, 100))[-1] == 12


def test_the_search_space_builds_and_defaults_are_upstreams():
    for low in (1, 2):
        RayServe(limits_of(), **{name: space[low] for name, space in SEARCH["ray-serve"].items()})
    assert UPSTREAM_DEFAULTS["ray-serve timing"]["downscale_delay_s"] == 600.0
