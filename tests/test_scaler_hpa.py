"""The Kubernetes HPA: its arithmetic against upstream's own cases, then its life in a cluster."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from agents.hpa import DOWN, HPA, UP, Controller, Pods, Policy, Rules, pods_average
from rlscale.checks import limits_of, observation
from rlscale.types import Observation

ONE = limits_of()  # 80 sequences per replica at l_SLO
UPSTREAM = (UP.policies, DOWN.policies)


def seen(t: float, ready: int, share: float, pending: int = 0, **changes: Any) -> Observation:
    """`share`: running + waiting requests over the sequences of the ready replicas at l_SLO."""
    load = {"running": min(1.0, share) * ready * 80, "waiting": max(0.0, share - 1) * ready * 80}
    fleet = {"ready": np.array([ready]), "pending": np.array([pending]), "target": np.array([ready + pending])}
    return observation(ONE, t_s=float(t), **(fleet | load | {"ready_at_scrape": np.array([ready])} | changes))


# One metric, one proposal. Inputs and results of upstream's tests, in pods.
@pytest.mark.parametrize(
    ("average", "target", "pods", "current", "proposal"),
    [
        (30.0, 15.0, Pods(3), 3, 6),
        (12.0, 20.0, Pods(5), 5, 3),
        (20.666, 20.0, Pods(3), 3, 3),  # within the tolerance
        (10.0, 17.0, Pods(2, missing=1), 2, 2),  # the missing one is taken to be at its target
    ],
)
def test_the_replica_calculator_agrees_with_upstream(average, target, pods, current, proposal):
    assert pods_average(average, target, pods, current, tolerance=0.1) == proposal


def test_starting_replicas_count_as_idle_when_growing():
    assert pods_average(40, 20, Pods(4), current=4, tolerance=0.1) == 8
    assert pods_average(40, 20, Pods(4, unready=4), current=8, tolerance=0.1) == 8
    assert pods_average(40, 20, Pods(4, unready=2), current=6, tolerance=0.1) == 8


def test_starting_replicas_are_left_out_when_shrinking():
    assert pods_average(10, 20, Pods(4, unready=4), current=8, tolerance=0.1) == 2


def test_replicas_that_became_ready_after_the_scrape_are_not_double_counted():
    """Twice the target over 4 sampled pods is 8 pods, of which 4 have just arrived."""
    assert pods_average(40, 20, Pods(4, missing=4), current=8, tolerance=0.1) == 8


def test_the_average_is_cut_to_thousandths_before_the_ratio():
    assert pods_average(22.0009, 20, Pods(10), current=10, tolerance=0.1) == 10  # 22.000 is within, 22.0009 is not


# Rate policies. (current, proposal, min, max, policies, events (age, change), result) as in upstream's tests.
PODS, PERCENT = "pods", "percent"


@pytest.mark.parametrize(
    ("current", "proposal", "bounds", "up", "down", "events", "result"),
    [
        (3, 1, (2, 8), *UPSTREAM, [], 2),
        (3, 1000, (1, 2000), [(PERCENT, 1, 60)], DOWN.policies, [], 4),  # growth rounds up
        (1000, 3, (3, 2000), UP.policies, [(PODS, 20, 60)], [], 980),
        (10, 500, (1, 1000), [(PODS, 2, 60), (PERCENT, 100, 60)], DOWN.policies, [], 20),
        (100, 2, (1, 1000), UP.policies, [(PODS, 2, 60), (PERCENT, 1, 60)], [], 98),
        (100, 500, (1, 1000), [(PODS, 150, 120)], DOWN.policies, [(100, 1), (60, 5), (20, 9)], 235),
        (100, 500, (1, 1000), [(PERCENT, 200, 120)], DOWN.policies, [(100, 1), (60, 5), (20, 9)], 255),
        (6, 24, (1, 1000), [(PERCENT, 300, 300)], DOWN.policies, [(60, 4), (60, -2)], 16),  # both lists enter
        (100, 2, (1, 1000), UP.policies, [(PODS, 5, 120)], [(100, -1), (60, -5), (20, -9)], 100),
        (100, 0, (1, 1000), UP.policies, [(PERCENT, 50, 120)], [(100, -2), (60, -4), (20, -6)], 56),
    ],
)
def test_rate_policies_agree_with_upstream(current, proposal, bounds, up, down, events, result):
    def rules(policies):
        return Rules(0.0, tuple(p if isinstance(p, Policy) else Policy(*p) for p in policies))

    controller = Controller(rules(up), rules(down))
    for age_s, change in events:
        controller._events.append((-age_s, change))
    assert controller.rate_limited(0.0, current, proposal, bounds) == result


def test_an_event_exactly_one_period_old_no_longer_counts():
    controller = Controller(Rules(0.0, (Policy("pods", 4, 15.0),)), DOWN)
    assert controller.sync(0, 4, 100, (1, 100)) == 8
    assert controller.sync(14, 8, 100, (1, 100)) == 8
    assert controller.sync(15, 8, 100, (1, 100)) == 12


def test_a_disabled_direction_stays_where_it_is():
    controller = Controller(Rules(0.0, UP.policies, "disabled"), DOWN)
    assert controller.sync(0, 4, 9, (1, 100)) == 4


@pytest.mark.parametrize(("select", "limit"), [("max", 14), ("min", 11)])
def test_the_selected_policy_is_the_one_with_the_larger_or_smaller_change(select, limit):
    policies = (Policy("pods", 4, 60), Policy("percent", 10, 60))
    assert Controller(Rules(0.0, policies, select), DOWN).rate_limited(0, 10, 99, (1, 99)) == limit
    down = Controller(UP, Rules(0.0, policies, select))
    assert down.rate_limited(0, 10, 0, (1, 99)) == 20 - limit


# Stabilisation. (log of (age, replicas), current, proposal, windows, result) as in upstream's tests.
@pytest.mark.parametrize(
    ("log", "current", "proposal", "up_s", "down_s", "result"),
    [
        ([(120, 4), (60, 5)], 100, 3, 0, 180, 5),
        ([(120, 1), (60, 2)], 100, 3, 300, 0, 3),
        ([(120, 4), (60, 5)], 1, 3, 0, 300, 3),
        ([(600, 10), (540, 9)], 1, 100, 0, 0, 100),
        ([(6000, 2), (180, 3)], 2, 1, 300, 300, 2),
    ],
)
def test_stabilisation_agrees_with_upstream(log, current, proposal, up_s, down_s, result):
    controller = Controller(Rules(up_s, UP.policies), Rules(down_s, DOWN.policies))
    for age_s, replicas in log:
        controller.stabilise(-age_s, current, replicas)
    assert controller.stabilise(0.0, current, proposal) == result


# In a cluster.
def test_hpa_doubles_at_once_when_the_load_is_twice_the_target():
    assert HPA(ONE, target=0.5).decide(seen(t=0, ready=4, share=1.0)).target == (8,)


def test_hpa_leaves_ten_percent_alone():
    hpa = HPA(ONE, target=0.5)
    assert hpa.decide(seen(t=0, ready=4, share=0.55)).target == (4,)
    assert hpa.decide(seen(t=15, ready=4, share=0.56)).target == (5,)


def test_the_queue_counts_as_much_as_the_batch():
    assert HPA(ONE, target=1.0).decide(seen(t=0, ready=4, share=1.5)).target == (6,)


def test_hpa_grows_by_the_larger_of_four_replicas_and_a_doubling():
    assert HPA(ONE, target=0.1).decide(seen(t=0, ready=2, share=3.0)).target == (6,)
    assert HPA(ONE, target=0.1).decide(seen(t=0, ready=10, share=3.0)).target == (20,)


def test_hpa_waits_out_the_stabilisation_window():
    hpa = HPA(ONE, target=0.5)
    assert hpa.decide(seen(t=0, ready=4, share=1.0)).target == (8,)  # load doubles
    for t in range(15, 300, 15):
        assert hpa.decide(seen(t=t, ready=8, share=0.1)).target == (8,)  # 8 still in the window
    assert hpa.decide(seen(t=300, ready=8, share=0.1)).target == (2,)  # 8 has left


def test_a_fresh_controller_does_not_shrink_for_one_window():
    hpa = HPA(ONE, target=0.5)
    assert hpa.decide(seen(t=0, ready=8, share=0.1)).target == (8,)
    assert hpa.decide(seen(t=300, ready=8, share=0.1)).target == (2,)


def test_hpa_does_not_order_again_what_is_starting():
    hpa = HPA(ONE, target=0.5)
    assert hpa.decide(seen(t=0, ready=4, share=1.0)).target == (8,)
    for t in range(15, 315, 15):
        assert hpa.decide(seen(t=t, ready=4, pending=4, share=1.0)).target == (8,)


def test_hpa_does_not_order_twice_when_replicas_arrive_between_scrape_and_sync():
    late = seen(t=0, ready=8, share=1.0, ready_at_scrape=np.array([4]), running=320.0)
    assert HPA(ONE, target=0.5).decide(late).target == (8,)


def test_between_syncs_hpa_holds():
    hpa = HPA(ONE, target=0.5)
    assert hpa.decide(seen(t=0, ready=4, share=0.5)).target == (4,)
    between = hpa.decide(seen(t=5, ready=4, share=2.0))
    assert between.target == (4,)
    assert "between syncs" in between.reason
    assert hpa.decide(seen(t=15, ready=4, share=2.0)).target == (8,)


def test_a_count_outside_the_bounds_goes_to_them_without_a_window():
    assert HPA(ONE, target=0.5).decide(seen(t=0, ready=60, share=0.5)).target == (40,)


def test_a_failed_scrape_enters_no_window():
    hpa = HPA(ONE, target=0.5)
    hpa.decide(seen(t=0, ready=4, share=0.5))
    assert hpa.decide(seen(t=15, ready=4, share=0.5, running=math.nan)).target == (4,)
    assert hpa.decide(seen(t=315, ready=4, share=0.25)).target == (2,)


def test_a_service_whose_replicas_are_all_starting_is_held():
    starting = seen(t=0, ready=0, pending=3, share=0.0, waiting=50.0)
    assert HPA(ONE, target=0.5).decide(starting).target == (3,)


def test_every_pool_scales_its_own_replicas_by_the_same_ratio():
    two = limits_of(2)  # 80 and 40 sequences per replica
    fleet = {"ready": np.array([4, 2]), "running": 400.0}  # 400 of 400 sequences
    assert HPA(two, target=0.5).decide(observation(two, **fleet)).target == (8, 4)


def test_an_empty_pool_without_a_minimum_starts_as_soon_as_there_is_load():
    two = limits_of(2)
    fleet = {"ready": np.array([4, 0]), "running": 320.0}
    assert HPA(two, target=0.5).decide(observation(two, **fleet)).target == (8, 2)
    assert HPA(two, target=0.5).decide(observation(two, **(fleet | {"running": 0.0}))).target == (4, 0)
