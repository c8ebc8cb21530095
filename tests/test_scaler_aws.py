"""AWS: the documented rules one by one, then the scalers in a closed circle."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from agents.aws import Predictive, Simple, Stepped, Tracking
from agents.aws_predictive import HourlyForecast
from agents.aws_rules import (
    Step,
    StepPolicy,
    TargetTracking,
    adjusted,
    combined,
    during_warmup,
    effective_max,
    percent_rounding,
)
from rlscale.checks import ToyFleet, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError

OUT = (Step(0, 10, 0), Step(10, 20, 10), Step(20, None, 30))
IN = (Step(-10, 0, 0), Step(-20, -10, -10), Step(None, -20, -30))


@pytest.mark.parametrize(
    ("metric", "capacity"), [(49.9, 10), (50, 10), (59.9, 10), (60, 11), (69.9, 11), (70, 13), (1e9, 13)]
)
def test_above_the_threshold_a_lower_bound_belongs_to_its_step(metric: float, capacity: int):
    assert StepPolicy(50, "above", OUT).capacity(10, metric) == capacity


@pytest.mark.parametrize(("metric", "capacity"), [(50, 10), (40.1, 10), (40, 9), (30.1, 9), (30, 7), (-5, 7)])
def test_below_the_threshold_an_upper_bound_belongs_to_its_step(metric: float, capacity: int):
    assert StepPolicy(50, "below", IN).capacity(10, metric) == capacity


def test_bounds_of_shares_are_met_exactly():
    assert StepPolicy(0.5, "above", (Step(0, 0.1, 10), Step(0.1, None, 100))).capacity(10, 0.6) == 20


@pytest.mark.parametrize("steps", [(Step(0, 10, 1), Step(11, None, 2)), (Step(0, 10, 1), Step(5, None, 2)),
                                   (Step(0, None, 1), Step(10, None, 2)), (Step(10, 10, 1),)])  # fmt: skip
def test_gaps_and_overlaps_are_refused(steps: tuple[Step, ...]):
    with pytest.raises(ScenarioError, match="step policy"):
        StepPolicy(50, "above", steps)


@pytest.mark.parametrize(
    ("change", "rounded"),
    [(12.7, 12), (1.0, 1), (0.67, 1), (0.01, 1), (0.0, 0), (-0.58, -1), (-1.0, -1), (-6.67, -6)],
)
def test_percent_changes_are_rounded_toward_zero_but_never_to_nothing(change: float, rounded: int):
    assert percent_rounding(change) == rounded


def test_the_least_magnitude_applies_to_percentages_only():
    assert adjusted(4, 25, "PercentChangeInCapacity", 2) == 6
    assert adjusted(4, -25, "PercentChangeInCapacity", 2) == 2
    assert adjusted(4, 0, "PercentChangeInCapacity", 2) == 4
    assert adjusted(4, 1, "ChangeInCapacity", 2) == 5
    assert adjusted(4, 9, "ExactCapacity", 2) == 9


def test_a_breach_during_warm_up_adds_only_what_the_warming_do_not_cover():
    policy = StepPolicy(50, "above", OUT)
    assert during_warmup(10, policy.capacity(10, 60)) == 11
    assert during_warmup(11, policy.capacity(10, 62)) == 11
    assert during_warmup(11, policy.capacity(10, 70)) == 13


def test_predictive_scaling_passes_the_maximum_only_when_told_to():
    assert effective_max(50, 40, 10, "HonorMaxCapacity") == 40
    assert effective_max(50, 40, 0, "IncreaseMaxCapacity") == 50
    assert effective_max(50, 40, 10, "IncreaseMaxCapacity") == 55
    assert effective_max(20, 40, 10, "IncreaseMaxCapacity") == 40


def test_of_several_policies_the_largest_capacity_wins():
    assert combined(5, [3, 7, 4]) == 7
    assert combined(5, [3, 4]) == 4  # all agree to shrink
    assert combined(5, [3, 5]) == 5


def feed(policy: TargetTracking, metrics: list[float], count: int, t_s: float = 0.0) -> list[int]:
    """A minute per metric, over a fleet that stays as it is."""
    return [policy.tick(t_s + 60.0 * k, metric, count, count) for k, metric in enumerate(metrics)]


def test_tracking_grows_in_proportion_after_three_points_in_a_row():
    assert feed(TargetTracking(50), [75, 75, 75], 4) == [4, 4, 6]
    assert feed(TargetTracking(50), [75, 75, 50, 75, 75], 4) == [4] * 5


def test_tracking_shrinks_after_fifteen_points_well_below_the_target():
    assert feed(TargetTracking(50), [20] * 15, 10) == [10] * 14 + [4]
    assert feed(TargetTracking(50), [45] * 30, 10) == [10] * 30  # 0.9 of the target is not below it
    assert feed(TargetTracking(50), [44] * 15, 2)[-1] == 2  # one fewer would be above the target
    assert feed(TargetTracking(50, scale_in=False), [0] * 30, 10) == [10] * 30


def test_without_data_tracking_does_nothing_and_counts_no_point():
    assert feed(TargetTracking(50), [75, 75, math.nan, 75], 4) == [4, 4, 4, 6]


def test_growing_during_a_cooldown_after_shrinking_goes_ahead_and_cancels_it():
    policy = TargetTracking(50, points_out=1, points_in=1)
    assert policy.tick(0, 10, 10, 10) == 2
    assert policy.tick(60, 10, 10, 10) == 10  # cooling down
    assert policy.tick(120, 100, 2, 2) == 4
    assert policy.tick(180, 10, 10, 10) == 2  # the cooldown is gone
    assert policy.tick(480, 10, 10, 10) == 2  # and over exactly 300 s after it began


def test_warming_instances_carry_no_metric_but_count_toward_what_is_wanted():
    policy = TargetTracking(50, points_out=1)
    assert policy.tick(0, 75, 4, 4) == 6
    assert policy.tick(60, 75, 4, 6) == 6
    assert policy.tick(120, 100, 4, 6) == 8


def test_a_forecast_needs_a_day_and_is_made_every_six_hours():
    forecast = HourlyForecast(buffer_s=300.0)
    for hour in range(24):
        forecast.learn(3600.0 * hour, 100.0 + hour)
        assert math.isnan(forecast.ahead(3600.0 * hour))
    forecast.learn(3600.0 * 24, 1000.0)
    assert forecast.ahead(3600.0 * 25) == 101.0
    assert forecast.ahead(3600.0 * 26 - 301.0) == 101.0
    assert forecast.ahead(3600.0 * 26 - 300.0) == 102.0  # instances are ready before the hour begins
    for hour in range(25, 30):
        forecast.learn(3600.0 * hour, 0.0)
        assert forecast.ahead(3600.0 * 24) == 100.0  # not made anew yet
    forecast.learn(3600.0 * 30, 0.0)
    assert forecast.ahead(3600.0 * 49) == pytest.approx((101.0 + 0.0) / 2)


def test_a_forecast_only_adds():
    limits = limits_of()
    plain, predictive = Tracking(limits), Predictive(limits)
    for hour in range(25):
        predictive.forecast.learn(3600.0 * hour, 800.0 if hour == 1 else 10.0)
    for t_s, more in ((25 * 3600.0, True), (27 * 3600.0, False)):
        seen = observation(limits, t_s=t_s, running=80.0, arrival_per_s=10.0)
        assert (predictive.decide(seen).target > plain.decide(seen).target) is more


def test_steps_wait_for_what_starts_before_they_remove():
    scaler = Stepped(limits_of(), points_in=1)
    busy = {"ready": [4], "ready_at_scrape": [4], "target": [6], "pending": [2]}
    seen = {name: np.array(value) for name, value in busy.items()}
    assert scaler.decide(observation(limits_of(), **seen)).target == (6,)
    seen |= {"pending": np.array([0]), "ready": np.array([6])}
    assert scaler.decide(observation(limits_of(), t_s=60.0, **seen)).target == (5,)


def test_a_simple_policy_does_nothing_at_all_while_it_cools_down():
    fleet = ToyFleet(limits_of(), 300.0, start_s=0.0)
    scaler = Simple(limits_of(), points_out=1)
    counts = totals(drive(scaler, fleet, 60))
    changes = [15 * k for k in range(1, 60) if counts[k] != counts[k - 1]]
    assert changes and all(later - earlier >= 300 for earlier, later in itertools.pairwise(changes))
    assert max(counts) - counts[0] == len(changes)


def test_asked_between_the_minutes_it_holds():
    scaler = Tracking(limits_of(), points_out=1)
    reasons = [scaler.decide(observation(limits_of(), t_s=15.0 * k)).reason for k in range(5)]
    assert [reason.startswith("hold: between") for reason in reasons] == [False, True, True, True, False]
