"""The plain rules: fixed, threshold, headroom, smoothing, scheduled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from agents.fixed import Fixed
from agents.headroom import Headroom, held
from agents.scheduled import Scheduled, hourly_rates
from agents.smoothing import Smoothing, holt
from agents.threshold import Threshold
from rlscale.checks import limits_of, observation
from rlscale.errors import ScenarioError
from rlscale.execute import bound
from rlscale.types import Load, Observation, Scaler
from rlscale.workloads.tokens import TOKEN_LAWS

ONE, TWO = limits_of(1), limits_of(2)  # a replica of 10 requests/s, queue to be gone in 60 s; a second pool of 5


def seen(t: float = 0, ready: int = 4, occupancy: float = 0.0, pending: int = 0, **changes: Any) -> Observation:
    fleet = {"ready": np.array([ready]), "pending": np.array([pending]), "target": np.array([ready + pending])}
    load = {"compute_occupancy": np.array([occupancy]), "ready_at_scrape": np.array([ready])}
    return observation(ONE, t_s=float(t), **(fleet | load | changes))


def target(scaler: Scaler, now: Observation) -> int:
    """Replicas in force after Execute, one pool."""
    return bound(scaler.decide(now), ONE, now.target).target[0]


# Fixed
def test_fixed_is_fixed_whatever_happens():
    assert [target(Fixed(ONE, 7), seen(arrival_per_s=rate)) for rate in (0.0, 500.0, math.nan)] == [7, 7, 7]


def test_fixed_on_several_pools_fills_the_cheapest_capacity_first():
    cheapest_first = bound(Fixed(TWO, 3).decide(observation(TWO)), TWO, (1, 0))
    assert cheapest_first.target == (3, 0)


@pytest.mark.parametrize("replicas", [-1, math.nan, math.inf])
def test_fixed_refuses_what_is_no_number_of_replicas(replicas: float):
    with pytest.raises(ScenarioError, match="replicas = "):
        Fixed(ONE, replicas)


# Threshold
def test_threshold_steps_out_above_the_band_and_waits():
    rule = Threshold(ONE, upper=0.6, step_share=0.2)
    assert target(rule, seen(t=0, ready=10, occupancy=0.7)) == 12
    assert target(rule, seen(t=45, ready=12, occupancy=0.7)) == 12  # cooling down
    assert target(rule, seen(t=60, ready=12, occupancy=0.7)) == 15


def test_threshold_steps_in_below_the_band_after_a_longer_wait():
    rule = Threshold(ONE, upper=0.6, lower=0.3, step_share=0.2)
    assert target(rule, seen(t=0, ready=10, occupancy=0.2)) == 8
    assert target(rule, seen(t=285, ready=8, occupancy=0.2)) == 8
    assert target(rule, seen(t=300, ready=8, occupancy=0.2)) == 7
    assert target(rule, seen(t=315, ready=7, occupancy=0.7)) == 9  # growing does not wait for it


def test_threshold_does_not_shrink_right_after_it_grew():
    rule = Threshold(ONE, upper=0.6, lower=0.3)
    assert target(rule, seen(t=0, ready=10, occupancy=0.7)) == 12
    assert target(rule, seen(t=75, ready=12, occupancy=0.1)) == 12


def test_threshold_leaves_the_band_alone():
    decision = Threshold(ONE, upper=0.6, lower=0.3).decide(seen(occupancy=0.45))
    assert decision.target == (4,)
    assert "within the band" in decision.reason


def test_threshold_takes_ordered_replicas_for_there():
    assert target(Threshold(ONE, upper=0.6), seen(ready=4, pending=2, occupancy=0.8)) == 6  # 0.8 * 4 / 6 = 0.53


def test_threshold_without_a_step_goes_to_the_middle_of_the_band():
    rule = Threshold(ONE, upper=0.6, lower=0.4, step_share=None)
    assert target(rule, seen(t=0, ready=4, occupancy=1.0)) == 8
    assert target(rule, seen(t=300, ready=8, occupancy=0.1)) == 2


def test_threshold_obeys_the_fuller_of_compute_and_memory():
    assert target(Threshold(ONE, upper=0.6), seen(occupancy=0.4, memory_occupancy=np.array([0.9]))) == 5


def test_threshold_needs_both_metrics():
    assert target(Threshold(ONE, upper=0.6), seen(occupancy=0.9, memory_occupancy=np.array([math.nan]))) == 4


def test_threshold_starts_a_fleet_of_nothing_when_someone_waits():
    assert target(Threshold(ONE), seen(ready=0, waiting=5.0)) == 1


@pytest.mark.parametrize("band", [{"lower": 0.6}, {"lower": -0.1}, {"step_share": 0.0}])
def test_threshold_refuses_an_impossible_band(band: dict[str, float]):
    with pytest.raises(ScenarioError, match="expected"):
        Threshold(ONE, upper=0.5, **band)


# Headroom
def test_headroom_is_a_multiple_of_rate_and_backlog():
    assert Headroom(ONE, 1.2).decide(seen(arrival_per_s=40.0, waiting=120.0)).capacity_per_s == pytest.approx(50.4)
    assert target(Headroom(ONE, 1.2), seen(arrival_per_s=40.0, waiting=120.0)) == 6


def test_headroom_follows_the_load_down_at_once_and_the_held_one_after_its_window():
    quick, slow = Headroom(ONE, 1.0), held(ONE, 1.0, window_s=60.0)
    assert (target(quick, seen(0, arrival_per_s=80.0)), target(slow, seen(0, arrival_per_s=80.0))) == (8, 8)
    assert (target(quick, seen(30, arrival_per_s=20.0)), target(slow, seen(30, arrival_per_s=20.0))) == (2, 8)
    assert target(slow, seen(60, arrival_per_s=20.0)) == 2


# Smoothing
def test_smoothing_scales_by_the_smoothed_rate():
    rule = Smoothing(ONE, headroom=1.0, alpha=0.5)
    assert target(rule, seen(0, arrival_per_s=40.0)) == 4
    assert target(rule, seen(15, arrival_per_s=80.0)) == 6  # halfway
    assert target(rule, seen(30, arrival_per_s=80.0)) == 7
    assert target(rule, seen(45, arrival_per_s=80.0, waiting=600.0)) == 9  # 75/s and 600 in 60 s


def test_holt_orders_ahead_of_a_ramp():
    ahead, behind = holt(ONE, headroom=1.0), Smoothing(ONE, headroom=1.0)
    for k in range(120):
        now = seen(15 * k, arrival_per_s=20.0 + k)
        wanted = target(ahead, now), target(behind, now)
    assert wanted == (16, 14)  # rate 139/s, growing by 20/s in a lead time of 300 s


def test_a_gap_in_the_metrics_does_not_poison_the_smoothing():
    rule = Smoothing(ONE, headroom=1.0, alpha=0.5)
    target(rule, seen(0, arrival_per_s=40.0))
    assert target(rule, seen(15, ready=9, arrival_per_s=math.nan)) == 9  # held
    assert target(rule, seen(30, arrival_per_s=80.0)) == 6


def test_smoothing_does_not_learn_from_an_old_metric():
    rule = Smoothing(ONE, headroom=1.0, alpha=0.5)
    target(rule, seen(0, arrival_per_s=40.0))
    assert target(rule, seen(300, ready=9, arrival_per_s=400.0, age_s=300.0)) == 9
    assert target(rule, seen(315, arrival_per_s=80.0)) == 6


# Scheduled
HOUR = 3600.0


def load(rates: list[float], week_s: float, step_s: float = 600.0, history: tuple[float, ...] = ()) -> Load:
    return Load(
        "made up", step_s, np.array(rates, np.float32), "poisson", (TOKEN_LAWS["chat"],),
        history_per_s=np.array(history), history_step_s=HOUR, week_s=week_s,
    )  # fmt: skip


def test_the_table_is_the_mean_rate_by_hour_of_the_week():
    tuesday = load([10.0] * 3 + [20.0] * 3 + [40.0] * 6, week_s=24 * HOUR)
    table = hourly_rates([tuesday])
    assert table[24:26].tolist() == [15.0, 40.0]
    again = load([35.0] * 6, week_s=24 * HOUR)
    assert hourly_rates([tuesday, again])[24] == 25.0


def test_history_before_the_load_belongs_to_the_table_and_may_reach_into_last_week():
    table = hourly_rates([load([10.0] * 6, week_s=0.0, history=(7.0, math.nan, 3.0))])
    assert table[[165, 167, 0]].tolist() == [7.0, 3.0, 10.0]
    assert table[166 - 24] != table[166 - 24]  # not measured on any day


def test_counts_are_turned_into_rates():
    counts = Load("made up", 1800.0, np.array([3600, 1800], np.float32), "counts", (TOKEN_LAWS["chat"],))
    assert hourly_rates([counts])[0] == 1.5


def test_an_hour_without_data_takes_the_same_hour_of_the_other_days():
    table = hourly_rates([load([10.0] * 6, week_s=5 * HOUR), load([30.0] * 6, week_s=29 * HOUR)])
    assert table[[5, 29, 53]].tolist() == [10.0, 30.0, 20.0]
    assert math.isnan(table[6])


def full_table() -> np.ndarray[Any, Any]:
    return np.arange(168.0)


def test_the_schedule_orders_for_the_next_hour_one_lead_time_ahead():
    rule = Scheduled(ONE, headroom=1.0, table=full_table())
    assert rule.decide(seen(week_s=20 * HOUR)).capacity_per_s == 20.0
    assert rule.decide(seen(week_s=21 * HOUR - 301)).capacity_per_s == 20.0
    assert rule.decide(seen(week_s=21 * HOUR - 300)).capacity_per_s == 21.0  # a start takes 300 s


def test_the_schedule_goes_round_the_week():
    rule = Scheduled(ONE, headroom=1.0, table=full_table())
    assert rule.decide(seen(week_s=168 * HOUR - 60)).capacity_per_s == 167.0  # 167 now, 0 in the next hour
    assert rule.decide(seen(week_s=(168 + 5) * HOUR)).capacity_per_s == 5.0


def test_a_full_schedule_needs_no_metrics():
    dark = seen(week_s=30 * HOUR, arrival_per_s=math.nan, waiting=math.nan)
    assert target(Scheduled(ONE, headroom=1.0, table=full_table()), dark) == 3


def test_an_hour_that_the_table_does_not_know_is_left_to_headroom():
    assert target(Scheduled(ONE, headroom=1.5), seen(arrival_per_s=40.0)) == 6


def test_what_is_learnt_is_what_build_takes():
    learnt = Scheduled.fit([load([50.0] * 6, week_s=0.0)])
    assert target(Scheduled(ONE, headroom=1.0, **learnt), seen(week_s=0.0)) == 5


@pytest.mark.parametrize("table", [[1.0] * 24, [-1.0] * 168, [math.inf] * 168])
def test_a_table_that_is_no_week_of_rates_is_refused(table: list[float]):
    with pytest.raises(ScenarioError, match="table"):
        Scheduled(ONE, table=table)
