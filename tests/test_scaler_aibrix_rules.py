"""AIBrix's windows, formulas, pending guard and controller."""

from __future__ import annotations

import json
import math

import pytest

from agents.aibrix import UPSTREAM_DEFAULTS
from agents.aibrix_rules import (
    Algorithm,
    Context,
    Controller,
    Panic,
    Recommendation,
    Sample,
    apa,
    compute,
    kpa,
    panics,
    pending_guard,
    recommend,
)
from agents.aibrix_windows import TimeWindow, WindowPair, pod_average

BOTH: tuple[Algorithm, ...] = ("apa", "kpa")
EXACT = Context(up_fluctuation_tolerance=0.0, down_fluctuation_tolerance=0.0)
CALM = Panic(active=False)


def one(value: float, target: float = 10.0) -> Sample:
    return Sample(target, value, value)


# Windows.
def test_a_sample_is_the_mean_over_pods_and_not_their_sum():
    assert pod_average([30.0, 50.0]) == 40.0
    assert math.isnan(pod_average([]))


def test_the_last_write_of_a_bucket_stays_and_both_ends_of_the_window_belong_to_it():
    window, seen = TimeWindow(120.0, 60.0), []
    for k in range(8):
        window.record(30.0 * k, 10.0 * (k + 1))
        seen.append(window.values)
    assert seen == [[10], [20], [20, 30], [20, 40], [20, 40, 50], [20, 40, 60], [40, 60, 70], [40, 60, 80]]
    assert (window.average, window.least, window.most) == (60.0, 40.0, 80.0)


def test_the_average_is_over_the_buckets_that_exist():
    windows = WindowPair()
    for t_s, value in ((0.0, 10.0), (120.0, 40.0), (180.0, 70.0)):
        windows.record(t_s, value)
    assert (windows.stable.average, windows.panic.average) == (40.0, 55.0)
    windows.record(181.0, 100.0)  # the first one leaves
    assert windows.stable.average == 70.0


def test_only_a_write_makes_old_values_leave_and_a_late_one_is_put_in_order():
    window = TimeWindow(60.0)
    assert (window.average, window.least, window.most) == (0.0, 0.0, 0.0)
    for t_s, value in ((50.0, 1.0), (55.0, 2.0), (52.0, 3.0)):
        window.record(t_s, value)
    assert window.values == [1.0, 3.0, 2.0]


# Formulas.
@pytest.mark.parametrize(
    ("current", "value", "expected"),
    [
        (2, 45.0, 3),
        (2, 90.0, 4),  # twice at most
        (3, 33.0, 3),  # both ends of the tolerance are no change
        (3, 27.0, 3),
        (3, 33.1, 4),
        (6, 20.0, 4),
        (6, 5.0, 3),  # half at least
        (1, 0.0, 0),
        (0, 90.0, 0),
    ],
)
def test_apa_is_proportional_within_rates_and_tolerance(current: int, value: float, expected: int):
    assert apa(current, 30.0, value, Context()) == expected


def test_apa_without_a_target_changes_nothing():
    assert apa(5, 0.0, 10.0, Context()) == 5
    assert apa(5, -1.0, 10.0, Context()) == 5


def test_the_kpa_variant_does_not_multiply_the_mean_by_the_pods():
    assert kpa(4, one(20.0), EXACT, CALM) == 2  # 4 pods with 20 requests each, at 10 a pod
    assert kpa(4, one(100.0), EXACT, CALM) == 8


def test_the_kpa_variant_counts_from_zero_pods_and_may_grow_by_one():
    assert kpa(0, one(1000.0), EXACT, CALM) == 1
    assert kpa(-3, one(0.0), EXACT, CALM) == 0
    assert kpa(1, one(0.0), EXACT, CALM) == 0
    assert kpa(3, one(5.0, target=0.0), EXACT, CALM) == 3


def test_within_the_tolerance_the_kpa_variant_keeps_the_pods():
    assert [kpa(3, one(value), Context(), CALM) for value in (9.0, 10.0, 11.0)] == [3, 3, 3]
    assert kpa(3, one(11.1), Context(), CALM) == 2
    assert kpa(3, one(8.9), Context(), CALM) == 1


def test_panic_takes_the_larger_and_the_ratchet_of_its_context():
    sample = Sample(10.0, stable=30.0, panic=40.0)
    assert kpa(2, sample, EXACT, Panic(True, max_panic_pods=2)) == 4
    assert kpa(5, one(20.0), EXACT, Panic(True, max_panic_pods=5)) == 5
    assert kpa(0, one(15.0), EXACT, Panic(False, activation_scale=3)) == 3
    assert kpa(1, one(0.0), EXACT, Panic(False, activation_scale=3)) == 0


def test_panic_is_a_ratio_of_windows_decided_anew():
    assert panics(stable=0.0, panic=0.0, threshold=2.0)
    assert not panics(stable=10.0, panic=20.0, threshold=2.0)
    assert panics(stable=10.0, panic=20.1, threshold=2.0)


def test_in_service_the_ratchet_is_inert():
    """The same context, first a burst, then a calm: nothing of the burst is left."""
    burst = recommend("kpa", 4, Sample(10.0, 30.0, 80.0), EXACT)
    assert (burst.replicas, burst.mode, burst.value) == (8, "panic", 80.0)
    still = recommend("kpa", 4, Sample(10.0, 5.0, 20.0), EXACT)
    assert (still.replicas, still.mode) == (2, "panic")


# Pipeline.
def test_of_several_metrics_the_largest_valid_one_counts_and_none_is_none():
    context = Context(max_scale_up_rate=4.0, max_replicas=6)
    samples = [one(70.0, 50.0), one(70.0, 30.0), one(math.nan, 1.0)]
    found = compute("apa", 1, samples, context)
    assert found is not None
    assert found.replicas == 3
    assert compute("apa", 1, samples[2:], context) is None
    assert compute("apa", 1, [], context) is None


def test_a_recommendation_is_within_the_bounds():
    context = Context(min_replicas=3, max_replicas=6)
    assert recommend("apa", 5, one(500.0), context).replicas == 6
    assert recommend("apa", 5, one(0.0), context).replicas == 3


@pytest.mark.parametrize(
    ("algorithm", "value", "current", "ready", "unguarded", "guarded"),
    [
        ("kpa", 250.0, 4, 2, 5, 4),
        ("kpa", 350.0, 4, 3, 7, 6),
        ("kpa", 10.0, 10, 5, 5, 6),
        ("apa", 90.0, 4, 2, 8, 4),
        ("apa", 10.0, 4, 2, 2, 3),
        ("apa", 90.0, 4, 4, 8, 8),
    ],
)
def test_pending_replicas_are_not_ordered_again(
    algorithm: Algorithm, value: float, current: int, ready: int, unguarded: int, guarded: int
):
    context = Context(max_scale_up_rate=4.0, max_replicas=20)
    for seen, expected in ((None, unguarded), (ready, guarded)):
        found = compute(algorithm, current, [one(value, 50.0)], context, seen)
        assert found is not None
        assert found.replicas == expected


def test_the_guard_is_for_metrics_of_pods():
    found = Recommendation(7, 350.0, 50.0, per_pod=False, mode="stable")
    assert pending_guard("kpa", 4, 2, found) is found


# Controller.
def test_from_zero_with_a_minimum_scaling_is_disabled_and_bounds_go_first():
    made = Controller("apa", Context(min_replicas=2, max_replicas=5))
    assert made.reconcile(0.0, 0, 0, [one(90.0)]) == (0, "disabled: current replicas are 0")
    assert made.reconcile(0.0, 9, 9, [one(90.0)])[0] == 5
    assert made.reconcile(0.0, 1, 1, [])[0] == 2
    assert made.reconcile(0.0, 3, 3, []) == (3, "no metric")
    assert made.state() == []


def test_stabilisation_is_the_reverse_of_what_a_cooldown_is_for():
    """Shrinking takes the minimum of its window: an old dip is exceeded, a calm is never waited for."""
    made = Controller("apa", Context())
    assert [made.stabilise(t, wanted, 10) for t, wanted in ((0.0, 10), (30.0, 2), (60.0, 8))] == [10, 2, 2]
    assert made.stabilise(330.0, 8, 10) == 8  # the dip of exactly a window ago has left
    grown = Controller("apa", Context(scale_up_cooldown_window_s=60.0))
    assert [grown.stabilise(t, wanted, 2) for t, wanted in ((0.0, 9), (30.0, 3), (60.0, 3))] == [9, 9, 3]
    assert Controller("apa", Context()).stabilise(0.0, 9, 2) == 9  # no window at all


def test_defaults_are_those_of_the_code():
    defaults = UPSTREAM_DEFAULTS["aibrix"]
    assert (defaults["stable_window_s"], defaults["panic_window_s"], defaults["resync_s"]) == (180.0, 60.0, 10.0)
    assert (defaults["max_scale_up_rate"], defaults["scale_down_cooldown_window_s"]) == (2.0, 300.0)
    assert json.loads(json.dumps(UPSTREAM_DEFAULTS)) == UPSTREAM_DEFAULTS
