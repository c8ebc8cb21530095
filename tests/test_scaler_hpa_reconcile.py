"""The Kubernetes HPA's behaviour and reconciliation: what is most often done differently, one statement each."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agents.hpa_behavior import (
    DOWN,
    UP,
    Behavior,
    Events,
    Policy,
    Recommendation,
    Rules,
    ScaleEvent,
    changed_within,
    down_limit,
    legacy_normalize,
    legacy_stabilize,
    rate_limited,
    stabilize,
    store_event,
    up_limit,
    with_defaults,
)
from agents.hpa_calculator import (
    Calculator,
    Proposal,
    Tolerance,
)
from agents.hpa_pods import (
    MetricError,
)
from agents.hpa_reconcile import UPSTREAM_DEFAULTS, HorizontalAutoscaler, Metric
from rlscale.errors import ScenarioError

DEFAULT = with_defaults(Behavior())


def asks(replicas: int) -> Metric:
    return lambda current, tolerance: Proposal(replicas, 0)


def fails(current: int, tolerance: Tolerance) -> Proposal:
    raise MetricError("no metric")


def never(current: int, tolerance: Tolerance) -> Proposal:
    raise AssertionError("a metric was read")


# Behaviour.
def test_a_side_given_in_part_inherits_only_what_it_lacks() -> None:
    one = (Policy("Pods", 2, 60.0),)
    filled = with_defaults(Behavior(down=Rules(policies=one)))
    assert filled.down == Rules(one, "Max", 300.0)
    assert filled.up == UP
    assert with_defaults(Behavior(down=Rules(window_s=0.0))).down == replace(DOWN, window_s=0.0)
    assert with_defaults(Behavior(), 120.0).down.window_s == 120.0


def test_the_legacy_path_at_most_doubles_or_goes_to_four() -> None:
    assert legacy_normalize(1, 100, 1, 50) == (4, "ScaleUpLimit")
    assert legacy_normalize(5, 100, 1, 50) == (10, "ScaleUpLimit")
    assert legacy_normalize(5, 100, 1, 10) == (10, "TooManyReplicas")
    assert rate_limited(DEFAULT, Events([], []), 0.0, 1, 100, 1, 50) == (5, "ScaleUpLimit")


def test_the_legacy_window_keeps_what_is_as_old_as_itself_and_logs_the_raw_proposal() -> None:
    log = [Recommendation(9, -300.0), Recommendation(12, -300.5), Recommendation(7, -301.0)]
    assert legacy_stabilize(log, 0.0, 3, 300.0) == 9
    assert [entry.replicas for entry in log] == [9, 12, 3]  # over the last expired slot


def test_windows_of_behaviour_keep_only_what_is_younger_than_themselves() -> None:
    log = [Recommendation(9, -300.0), Recommendation(7, -299.0)]
    assert stabilize(log, 0.0, 9, 3, 0.0, 300.0) == 7
    assert [entry.replicas for entry in log] == [9, 7, 3]  # not older than both windows: no slot is free


def test_growth_rounds_up_and_shrinking_truncates() -> None:
    rules = Rules((Policy("Percent", 1, 60.0),), "Max", 0.0)
    none = Events([], [])
    assert up_limit(rules, none, 0.0, 3) == 4
    assert down_limit(rules, none, 0.0, 99) == 98  # 98.01


def test_limits_start_from_the_count_at_the_start_of_the_period_and_both_lists_enter_both_directions() -> None:
    rules = Rules((Policy("Pods", 5, 60.0),), "Max", 0.0)
    events = Events([ScaleEvent(4, -30.0)], [ScaleEvent(1, -30.0)])
    assert up_limit(rules, events, 0.0, 10) == 10 - 4 + 1 + 5
    assert down_limit(rules, events, 0.0, 10) == 10 - 4 + 1 - 5


def test_an_event_exactly_one_period_old_no_longer_counts() -> None:
    events = [ScaleEvent(4, -60.0), ScaleEvent(2, -59.9)]
    assert changed_within(events, 0.0, 60.0) == 2


@pytest.mark.parametrize(("select", "up", "down"), [("Max", 14, 6), ("Min", 11, 9), ("Disabled", 10, 10)])
def test_select_is_by_the_change_not_the_count(select, up: int, down: int) -> None:
    rules = Rules((Policy("Pods", 4, 60.0), Policy("Percent", 10, 60.0)), select, 0.0)
    none = Events([], [])
    assert (up_limit(rules, none, 0.0, 10), down_limit(rules, none, 0.0, 10)) == (up, down)


def test_a_limit_on_the_wrong_side_is_the_current_count() -> None:
    rules = Rules((Policy("Pods", 5, 120.0),), "Max", 0.0)
    behavior = with_defaults(Behavior(rules, rules))
    assert rate_limited(behavior, Events([ScaleEvent(9, -20.0)], []), 0.0, 100, 200, 1, 999) == (100, "ScaleUpLimit")
    assert rate_limited(behavior, Events([], [ScaleEvent(9, -20.0)]), 0.0, 100, 1, 1, 999) == (100, "ScaleDownLimit")


def test_events_beyond_the_longest_period_lend_their_slot() -> None:
    behavior = with_defaults(Behavior(up=Rules((Policy("Pods", 10, 60.0),))))
    events = Events([ScaleEvent(7, -61.0), ScaleEvent(9, -62.0), ScaleEvent(6, -60.0)], [])
    store_event(behavior, events, 0.0, 10, 15)
    assert events.up == [ScaleEvent(7, -61.0, True), ScaleEvent(5, 0.0), ScaleEvent(6, -60.0)]
    store_event(None, events, 0.0, 10, 5)
    assert events.down == []


# Reconciliation.
def test_a_count_outside_the_bounds_goes_to_them_and_reads_no_metric() -> None:
    hpa = HorizontalAutoscaler(2, 8, Behavior(down=Rules(select="Disabled")))
    assert hpa.sync(0.0, 20, [never]).replicas == 8
    assert hpa.sync(15.0, 1, [never]).replicas == 2
    assert [entry.replicas for entry in hpa.log or ()] == [20]  # nothing but the seed
    assert (hpa.events.up, hpa.events.down) == ([ScaleEvent(1, 15.0)], [ScaleEvent(12, 0.0)])


def test_one_broken_metric_blocks_shrinking_only() -> None:
    hpa = HorizontalAutoscaler(1, 9, downscale_stabilization_s=0.0)
    hpa.log = []
    blocked = hpa.sync(0.0, 4, [fails, asks(2)])
    assert (blocked.replicas, blocked.scaled, blocked.error) == (4, False, "no metric")
    assert hpa.log == []
    assert hpa.sync(0.0, 4, [asks(4), fails]).error == "no metric"
    assert hpa.sync(0.0, 4, [asks(6), fails]).replicas == 6
    assert not hpa.sync(0.0, 4, [fails, fails]).scaled
    assert not hpa.sync(0.0, 4, []).scaled


def test_the_largest_proposal_rules() -> None:
    assert HorizontalAutoscaler(1, 9).sync(0.0, 4, [asks(5), asks(7), asks(2)]).replicas == 7


def test_zero_replicas_with_a_minimum_is_switched_off() -> None:
    outcome = HorizontalAutoscaler(3, 5).sync(0.0, 0, [never])
    assert (outcome.replicas, outcome.scaled, outcome.reason) == (0, False, "ScalingDisabled")


def test_an_autoscaler_that_went_to_zero_itself_comes_back_though_the_minimum_was_raised() -> None:
    hpa = HorizontalAutoscaler(0, 5, downscale_stabilization_s=0.0)
    hpa.log = []
    assert hpa.sync(0.0, 2, [asks(0)]).replicas == 0
    hpa.low = 3
    assert hpa.sync(15.0, 0, [asks(1)]).replicas == 3
    assert not hpa.scaled_to_zero


@pytest.mark.parametrize("behavior", [None, Behavior()])
def test_a_fresh_controller_does_not_shrink_for_one_window(behavior: Behavior | None) -> None:
    hpa = HorizontalAutoscaler(1, 9, behavior)
    counts = [hpa.sync(15.0 * turn, 8, [asks(2)]).replicas for turn in range(22)]
    first = 21 if behavior is None else 20  # as old as the window, or younger
    assert counts.index(2) == first
    assert set(counts[:first]) == {8}


@pytest.mark.parametrize("behavior", [None, Behavior(up=Rules((Policy("Pods", 2, 60.0),)))])
def test_a_restart_forgets_and_a_restored_state_continues(behavior: Behavior | None) -> None:
    def run(interrupt: str) -> list[int]:
        hpa, current, counts = HorizontalAutoscaler(1, 30, behavior), 4, []
        for turn in range(60):
            if turn == 20 and interrupt == "restart":
                hpa.restart()
            if turn == 20 and interrupt == "restore":
                state = json.loads(json.dumps(hpa.state()))
                hpa = HorizontalAutoscaler(1, 30, behavior)
                hpa.restore(state)
            current = hpa.sync(15.0 * turn, current, [asks(12 if turn in (3, 4, 5, 6, 7, 30) else 3)]).replicas
            counts.append(current)
        return counts

    assert run("restore") == run("")
    assert run("restart") != run("")


def test_per_autoscaler_tolerances_replace_the_controllers_side_by_side() -> None:
    hpa = HorizontalAutoscaler(1, 9, Behavior(up=Rules(tolerance=0.0)), Tolerance(0.2, 0.2))
    assert hpa.tolerance == Tolerance(0.2, 0.0)


def test_bounds_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ScenarioError, match="0 <= low <= high"):
        HorizontalAutoscaler(3, 2)


def test_upstreams_defaults_are_the_ones_in_use() -> None:
    declared, hpa = UPSTREAM_DEFAULTS["k8s-hpa controller"], HorizontalAutoscaler()
    assert declared["tolerance"] == hpa.tolerance.up == hpa.tolerance.down
    assert declared["downscale_stabilization_s"] == hpa.downscale_stabilization_s == DEFAULT.down.window_s
    assert declared["cpu_initialization_period_s"] == Calculator().readiness.cpu_initialization_s
    assert hpa.low == 1
