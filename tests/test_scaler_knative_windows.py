"""Knative's windows and settings, by what is most often taken for something else."""

from __future__ import annotations

import json

import pytest

from agents.knative import UPSTREAM_DEFAULTS
from agents.knative_config import (
    Config,
    activator_count,
    panic_window_s,
    resolve_target,
    sample_size,
    scraped_concurrency,
)
from agents.knative_windows import DelayWindow, SlidingMax, TimedBuckets, WeightedBuckets


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
