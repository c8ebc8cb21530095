"""Fronts with known answers: interpolation along -log10(1 - attainment), never beyond the sweep."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments import fronts

COST = np.array([10.0, 20.0, 40.0])
LEVEL = np.array([1.0, 2.0, 3.0])  # 90 %, 99 %, 99.9 %


def read(target: float, cost: np.ndarray = COST, x: np.ndarray = LEVEL) -> tuple[float, str]:
    at = fronts.cost_at(cost, x, target)
    return float(at.cost), fronts.STATUS[int(at.status)]


def test_level_is_minus_log10_of_the_missed_share():
    assert fronts.level(100.0, 1000.0) == pytest.approx(1.0)
    assert fronts.level(1.0, 1000.0) == pytest.approx(3.0)
    assert fronts.level_of(0.999) == pytest.approx(3.0)
    assert fronts.attainment_of(2.0) == pytest.approx(0.99)


def test_no_miss_counts_as_half_a_miss_and_all_missed_as_level_zero():
    assert fronts.level(0.0, 500.0) == pytest.approx(3.0)
    assert fronts.level(500.0, 500.0) == 0.0
    assert fronts.level(0.0, 0.0) == 0.0  # no request, nothing shown


def test_cost_is_linear_in_the_level_between_points():
    assert read(2.0) == (20.0, "reached")
    assert read(1.5) == (pytest.approx(15.0), "reached")
    assert read(2.25) == (pytest.approx(25.0), "reached")
    # Linear in attainment itself, 99.45 % would lie half way between 99 % and 99.9 % and cost 30.
    assert read(fronts.level_of(0.9945))[0] == pytest.approx(25.19, abs=0.01)


def test_beyond_the_sweep_nothing_is_extrapolated():
    assert read(3.01) == (math.inf, "never")
    assert read(0.5) == (10.0, "above")  # an upper bound, and labelled
    assert read(1.0) == (10.0, "reached")
    assert read(3.0) == (40.0, "reached")


def test_dominated_points_do_not_bend_the_front():
    cost = np.array([40.0, 15.0, 10.0, 25.0, 20.0])  # any order
    level = np.array([3.0, 0.4, 1.0, 1.9, 2.0])
    assert fronts.on_front(cost, level).tolist() == [True, False, True, False, True]
    assert read(1.5, cost, level) == (pytest.approx(15.0), "reached")
    assert read(2.5, cost, level) == (pytest.approx(30.0), "reached")


def test_of_two_points_of_one_cost_the_better_counts():
    cost, level = np.array([10.0, 10.0, 20.0]), np.array([1.0, 1.5, 2.0])
    assert fronts.on_front(cost, level).tolist() == [False, True, True]
    assert read(1.75, cost, level) == (pytest.approx(15.0), "reached")


def test_a_single_point_is_reached_only_at_its_own_level():
    cost, level = np.array([7.0]), np.array([2.0])
    assert read(2.0, cost, level) == (7.0, "reached")
    assert read(2.1, cost, level) == (math.inf, "never")
    assert read(1.9, cost, level) == (7.0, "above")


def test_many_fronts_at_once_equal_one_at_a_time():
    rng = np.random.default_rng(5)
    cost, level = rng.uniform(1, 9, (40, 3, 7)), np.round(rng.uniform(0, 4, (40, 3, 7)), 1)
    together = fronts.cost_at(cost, level, 2.0)
    for index in np.ndindex(40, 3):
        alone = fronts.cost_at(cost[index], level[index], 2.0)
        assert together.cost[index] == alone.cost and together.status[index] == alone.status
    assert set(np.unique(together.status)) == {fronts.REACHED, fronts.NEVER, fronts.ABOVE}


def test_interpolated_cost_agrees_with_numpy_on_the_front_points():
    rng = np.random.default_rng(6)
    for _ in range(200):
        cost, level = rng.uniform(1, 9, 9), rng.uniform(0, 4, 9)
        keep = fronts.on_front(cost, level)
        xs, cs = np.sort(level[keep]), np.sort(cost[keep])
        target = rng.uniform(xs[0], xs[-1])
        assert read(target, cost, level)[0] == pytest.approx(np.interp(target, xs, cs))


def test_the_frozen_knob_is_interpolated_between_neighbours_of_the_sweep():
    knob = np.array([0.9, 0.7, 0.5])  # a set point: lower is dearer
    assert fronts.knob_at(COST, LEVEL, knob, 2.5) == fronts.Frozen(pytest.approx(0.6), "reached")
    assert fronts.knob_at(COST, LEVEL, knob, 2.0).knob == 0.7
    assert fronts.knob_at(COST, LEVEL, knob, 3.5) == fronts.Frozen(None, "never")
    assert fronts.knob_at(COST, LEVEL, knob, 0.5) == fronts.Frozen(0.9, "above")


def test_a_whole_number_knob_takes_the_cheapest_value_that_reaches():
    assert fronts.knob_at(COST, LEVEL, np.array([2.0, 3.0, 4.0]), 2.5).knob == 4.0


def test_a_front_that_skips_a_knob_value_is_not_interpolated_across_it():
    cost, level = np.array([10.0, 30.0, 20.0]), np.array([1.0, 0.5, 2.0])
    assert fronts.knob_at(cost, level, np.array([0.1, 0.25, 0.4]), 1.5).knob == 0.4


def test_hypervolume_of_steps_is_their_area():
    # Box 0..100 USD/h, levels 1..4. One point at cost 40, level 3 dominates 60 x 2 of 300.
    assert fronts.hypervolume(np.array([40.0]), np.array([3.0]), 100.0) == pytest.approx(120 / 300)
    assert fronts.hypervolume(COST, LEVEL, 100.0) == pytest.approx((80 * 1 + 60 * 1) / 300)  # level 1 adds nothing
    assert fronts.hypervolume(COST, LEVEL + 5, 100.0) == pytest.approx(0.9)  # capped at the box
    assert fronts.hypervolume(np.array([120.0]), np.array([3.0]), 100.0) == 0.0
