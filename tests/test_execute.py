"""Execute: whatever a scaler asks, the target is whole, within the limits, and explained."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlscale.checks import limits_of
from rlscale.decide import carried_per_s
from rlscale.execute import StepLimits, allocate, bound, by_price
from rlscale.types import Decision, ScalingLimits

ONE = limits_of()  # 1 to 40 replicas of 10 requests/s


def pools(*each: tuple[float, float, int, int]) -> ScalingLimits:
    """Limits of pools given as (capacity, price, minimum, maximum)."""
    capacity, price, low, high = zip(*each, strict=True)
    return replace(
        limits_of(len(each)),
        capacity_per_s=np.array(capacity),
        usd_per_replica_s=np.array(price),
        min_replicas=np.array(low),
        max_replicas=np.array(high),
    )


SIZES = st.tuples(st.integers(0, 5), st.integers(0, 30)).map(lambda pair: (pair[0], pair[0] + pair[1]))
POOLS = st.lists(
    st.tuples(st.floats(0.1, 50), st.floats(0.1, 10), SIZES).map(lambda pool: (pool[0], pool[1], *pool[2])),
    min_size=1,
    max_size=5,
).map(lambda each: pools(*each))
ANYTHING = st.one_of(st.floats(), st.integers(-(10**9), 10**9), st.none())


# bound, a ladder
def test_a_whole_number_within_the_limits_passes_without_a_word():
    assert bound(Decision((7,), "wanted"), ONE, [3])[:2] == ((7,), "")


def test_a_fraction_is_rounded_up_and_a_rounding_error_is_not():
    assert bound(Decision((6.2,)), ONE, [3]).target == (7,)  # type: ignore[arg-type]
    assert bound(Decision((0.1 + 0.2 + 2.7,)), ONE, [3]).target == (3,)  # type: ignore[arg-type]


def test_minimum_and_maximum_hold_and_are_named():
    assert bound(Decision((0,)), ONE, [3])[:2] == ((1,), "pool 0: 0 asked, 1 by minimum 1")
    assert bound(Decision((99,)), ONE, [3])[:2] == ((40,), "pool 0: 99 asked, 40 by maximum 40")


def test_step_limits_hold_one_decision_back():
    steps = StepLimits(add=4, remove=1)
    assert bound(Decision((20,)), ONE, [10], steps)[:2] == ((14,), "pool 0: 20 asked, 14 by step limit")
    assert bound(Decision((2,)), ONE, [10], steps)[:2] == ((9,), "pool 0: 2 asked, 9 by step limit")


def test_minimum_and_maximum_win_over_step_limits():
    tight = replace(ONE, min_replicas=np.array([8]), max_replicas=np.array([12]))
    assert bound(Decision((10,)), tight, [2], StepLimits(add=1)).target == (8,)
    assert bound(Decision((10,)), tight, [30], StepLimits(remove=1)).target == (12,)


@pytest.mark.parametrize("asked", [math.nan, math.inf, -math.inf, None, "7"])
def test_what_cannot_be_read_holds_the_target(asked: object):
    target, reason, _ = bound(Decision((asked,)), ONE, [5])  # type: ignore[arg-type]
    assert target == (5,)
    assert "held" in reason


def test_one_unreadable_pool_does_not_hold_the_others():
    assert bound(Decision((3, math.nan)), limits_of(2), [1, 4]).target == (3, 4)  # type: ignore[arg-type]


def test_a_target_for_another_number_of_pools_holds():
    assert bound(Decision((3, 3)), ONE, [5])[:2] == ((5,), "held: 2 targets for 1 pools")


def test_neither_target_nor_capacity_holds():
    assert bound(Decision(reason="nothing"), ONE, [5])[:2] == ((5,), "held: capacity nan asked")


def test_standby_is_whole_and_within_its_maximum_or_left_alone():
    limits = replace(limits_of(2), max_standby=np.array([3, 0]))
    assert bound(Decision((5, 5), standby=(2, 0)), limits, [5, 5]) == ((5, 5), "", (2, 0))
    assert bound(Decision((5, 5), standby=(1.2, 4)), limits, [5, 5]).standby == (2, 0)  # type: ignore[arg-type]
    assert bound(Decision((5, 5), standby=(9, -4)), limits, [5, 5]).standby == (3, 0)
    assert bound(Decision((5, 5)), limits, [5, 5]).standby == ()
    for asked in ((1,), (1, math.nan), (None, 1)):
        held = bound(Decision((5, 5), standby=asked), limits, [5, 5])  # type: ignore[arg-type]
        assert held.standby == () and "standby held" in held.reason


def test_wanted_capacity_becomes_replicas():
    assert bound(Decision(capacity_per_s=41.0), ONE, [5])[:2] == ((5,), "")
    assert bound(Decision(capacity_per_s=40.0), ONE, [5])[:2] == ((4,), "")


@given(limits=POOLS, asked=st.lists(ANYTHING, max_size=5), capacity=st.floats(), data=st.data())
def test_every_decision_ends_whole_and_within_the_limits(limits, asked, capacity, data):
    count = len(limits.seats)
    current = data.draw(st.lists(st.integers(0, 60), min_size=count, max_size=count))
    steps = data.draw(st.sampled_from([StepLimits(), StepLimits(2, 1)]))
    target, reason, _ = bound(Decision(tuple(asked), "", capacity), limits, current, steps)
    assert all(isinstance(replicas, int) for replicas in target)
    assert all(low <= n <= high for n, low, high in zip(target, limits.min_replicas, limits.max_replicas, strict=True))
    if target != tuple(asked) and asked:
        assert reason or all(n == math.ceil(a - 1e-9) for n, a in zip(target, asked, strict=True))


@given(limits=POOLS, current=st.integers(0, 60))
def test_binding_twice_changes_nothing_more(limits: ScalingLimits, current: int):
    once = bound(Decision(capacity_per_s=37.0), limits, [current] * len(limits.seats)).target
    assert bound(Decision(once), limits, once) == (once, "", ())


# allocate
def test_the_cheaper_capacity_is_filled_first_whatever_a_replica_costs():
    fleet = pools((10, 2.0, 0, 4), (2, 0.3, 0, 10))  # 0.20 and 0.15 USD per capacity
    assert by_price(fleet) == [1, 0]
    assert allocate(15.0, fleet)[:2] == ((0, 8), "")
    assert allocate(25.0, fleet)[:2] == ((1, 10), "")


def test_textbook_allocation_by_price():
    assert allocate(10.0, pools((1, 1, 0, 4), (1, 2, 0, 10))).target == (4, 6)
    assert allocate(3.0, pools((1, 5, 0, 2), (1, 1, 0, 2))).target == (1, 2)


def test_a_minimum_of_a_dear_pool_counts_towards_the_capacity():
    assert allocate(30.0, pools((10, 1, 0, 9), (10, 5, 2, 9))).target == (1, 2)


def test_capacity_out_of_reach_is_said():
    assert allocate(10.0, pools((1, 1, 0, 3), (1, 1, 0, 3)))[:2] == ((3, 3), "10/s asked, 6/s at every maximum")


def test_a_pool_that_cannot_meet_the_slo_keeps_its_minimum():
    assert allocate(30.0, pools((0, 1, 2, 9), (10, 5, 0, 9))).target == (2, 3)


def test_no_demand_is_the_minimum():
    assert allocate(0.0, pools((10, 1, 1, 9), (10, 5, 2, 9)))[:2] == ((1, 2), "")


@given(limits=POOLS, capacity=st.floats(0, 1e4))
def test_allocated_capacity_covers_the_demand_and_no_replica_is_idle(limits: ScalingLimits, capacity: float):
    target, reason, _ = allocate(capacity, limits)
    carried = carried_per_s(target, limits)
    full = tuple(int(high) for high in limits.max_replicas)
    assert carried >= capacity - 1e-6 or (target == full and reason)
    dearest = [p for p in by_price(limits) if target[p] > limits.min_replicas[p]]
    if dearest:
        assert carried - limits.capacity_per_s[dearest[-1]] < capacity


@given(limits=POOLS, capacity=st.floats(0, 500), more=st.floats(0, 500))
def test_more_demand_never_means_fewer_replicas_anywhere(limits: ScalingLimits, capacity: float, more: float):
    less, greater = allocate(capacity, limits).target, allocate(capacity + more, limits).target
    assert all(a <= b for a, b in zip(less, greater, strict=True))
