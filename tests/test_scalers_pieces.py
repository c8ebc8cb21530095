"""The pieces that rules are made of: holding, demand, stabilisation windows, cooldowns, beats."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlscale.checks import limits_of, observation
from rlscale.decide import (
    Cadence,
    Cooldown,
    Window,
    blind,
    busy_per_s,
    called_from_zero,
    demand_per_s,
    demand_replicas,
    hold,
    lead_s,
    positive,
)
from rlscale.errors import ScenarioError

ONE, TWO = limits_of(1), limits_of(2)  # a replica of 10 requests/s; a second pool of 5


def test_hold_keeps_the_target_and_says_why():
    decision = hold(observation(TWO, target=np.array([3, 1])), "metrics are missing")
    assert decision.target == (3, 1)
    assert decision.reason == "hold: metrics are missing"


def test_no_traffic_can_be_decided_upon_and_nan_cannot():
    seen = observation(ONE)
    assert blind(seen, waiting=0.0) == ""
    assert blind(seen, waiting=math.nan, running=1.0) == "no value for waiting"


@pytest.mark.parametrize("age_s", [121.0, math.inf, math.nan])
def test_old_metrics_cannot_be_decided_upon(age_s: float):
    assert "old" in blind(observation(ONE, age_s=age_s), waiting=0.0)


def test_at_a_slow_beat_metrics_may_be_older():
    assert blind(observation(ONE, interval_s=300.0, age_s=400.0), waiting=0.0) == ""


def test_demand_works_off_the_queue_within_the_drain_time():
    seen = observation(TWO, arrival_per_s=40.0, waiting=120.0)
    assert demand_per_s(seen, TWO) == 42.0  # 40 + 120/60
    assert demand_replicas(seen, TWO).tolist() == [4.2, 8.4]


def test_an_empty_pool_has_no_occupancy_to_miss():
    seen = observation(TWO, ready_at_scrape=np.array([4, 0]))
    assert busy_per_s(np.array([0.5, math.nan]), seen, TWO) == 20.0
    assert math.isnan(busy_per_s(np.array([math.nan, 0.5]), seen, TWO))


def test_a_fleet_that_is_starting_is_not_an_idle_one():
    starting = {"ready": np.array([0]), "ready_at_scrape": np.array([0]), "target": np.array([3])}
    assert math.isnan(busy_per_s(np.array([math.nan]), observation(ONE, **starting), ONE))
    assert busy_per_s(np.array([math.nan]), observation(ONE, **(starting | {"target": np.array([0])})), ONE) == 0.0


def test_a_request_to_an_empty_fleet_is_heard():
    nobody = observation(ONE, ready=np.array([0]))
    assert not called_from_zero(nobody)
    assert called_from_zero(replace(nobody, arrival_per_s=0.1))
    assert called_from_zero(replace(nobody, waiting=1.0))
    assert not called_from_zero(replace(nobody, waiting=1.0, target=np.array([1])))


def test_the_lead_time_is_that_of_the_slowest_pool():
    assert lead_s(TWO) == 300.0


def test_a_stabilisation_window_keeps_the_largest_recommendation():
    window = Window(60.0)
    assert window.extreme(0, 8) == 8
    assert window.extreme(30, 2) == 8  # 8 still in the window
    assert window.extreme(59, 3) == 8
    assert window.extreme(60, 1) == 3  # exactly as old as the window: gone
    window.reset()
    assert window.extreme(61, 1) == 1


def test_a_window_of_nothing_keeps_nothing():
    window = Window(0.0)
    assert [window.extreme(t, value) for t, value in ((0, 9), (0, 4), (15, 2))] == [9, 4, 2]


@given(
    steps=st.lists(st.tuples(st.floats(0.5, 40), st.integers(0, 50)), min_size=1, max_size=30),
    window_s=st.floats(0, 100),
)
def test_a_window_is_the_extreme_of_the_younger_entries(steps: list[tuple[float, int]], window_s: float):
    window, t_s, log = Window(window_s, min), 0.0, []
    for pause_s, value in steps:
        t_s += pause_s
        log.append((t_s, value))
        kept = [v for at_s, v in log if at_s > t_s - window_s] or [value]
        assert window.extreme(t_s, value) == min(kept)


def test_a_cooldown_blocks_until_it_is_over():
    cooldown = Cooldown(60.0)
    assert cooldown.over(0)
    cooldown.start(0)
    assert not cooldown.over(59.9)
    assert cooldown.over(60)
    cooldown.start(60)
    cooldown.reset()
    assert cooldown.over(61)


@pytest.mark.parametrize(
    ("calls_every_s", "due_at"), [(5, [0, 15, 30, 45]), (10, [0, 20, 30, 50]), (15, [0, 15, 30, 45]), (60, [0, 60])]
)
def test_a_beat_keeps_its_phase_however_often_it_is_asked(calls_every_s: int, due_at: list[int]):
    beat = Cadence(15.0)
    assert [t for t in range(0, 61, calls_every_s) if beat.due(t)][: len(due_at)] == due_at


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_parameter_that_must_be_positive_is_refused(value: float):
    with pytest.raises(ScenarioError, match=r"headroom = .*above 0"):
        positive("headroom", value)
