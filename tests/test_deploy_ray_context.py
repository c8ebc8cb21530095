"""What an AutoscalingContext of Ray Serve means: load, queue, latencies, fleet, bounds. No ray needed."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from fake_ray import LIMITS, FakeContext, config, told
from hypothesis import given
from hypothesis import strategies as st

from rlscale.deploy.base import BackendError, MetricsError
from rlscale.deploy.ray_context import ContextReader, altered, bounds, fleet
from rlscale.deploy.ray_stats import TOTALS, Asked, RayStats, Tally
from rlscale.limits_file import parse_limits

KNOWN = parse_limits(json.dumps(LIMITS).encode(), "test")


def reader() -> ContextReader:
    return ContextReader(KNOWN, began_s=0.0)


def test_recorded_rates_are_added_up_and_the_growth_of_the_queue_is_load_too() -> None:
    metrics = told(100.0, arrival_per_s={"a": 6.0, "b": 4.0})
    read = reader()
    first = read.read(FakeContext(5.0, 1.0, **metrics), 10.0, 100.0)
    later = read.read(FakeContext(35.0, 31.0, **metrics), 20.0, 101.0)
    assert read.how == "recorded"
    assert first.arrival_per_s == 10.0  # nothing is known of the queue before
    assert later.arrival_per_s == 13.0  # 30 more are queued after 10 s
    assert (later.waiting, later.running) == (31.0, 4.0)


def test_without_records_the_rate_follows_from_littles_law() -> None:
    read = reader()
    assert read.read(FakeContext(2.0, 0.0), 10.0, 100.0).arrival_per_s == 10.0  # 2 running, 0.2 s each at l_SLO
    assert read.how == "estimated"
    # Both replicas are full, which is 20/s, and 30 requests more are present after 10 s.
    assert read.read(FakeContext(32.0, 28.0), 20.0, 110.0).arrival_per_s == pytest.approx(23.0)


def test_latencies_are_weighted_by_answers_and_hold_the_wait_in_serves_queue() -> None:
    metrics = told(100.0, arrival_per_s={"a": 9.0, "b": 1.0}, answered_per_s={"a": 9.0, "b": 1.0},
                   ttft_s={"a": 0.1, "b": 1.1}, attainment={"a": 1.0, "b": 0.5})  # fmt: skip
    calm = reader().read(FakeContext(1.0, 0.0, **metrics), 10.0, 100.0)
    assert calm.ttft_s == pytest.approx(0.2)
    assert calm.attainment == pytest.approx(0.95)
    queued = reader().read(FakeContext(6.0, 5.0, **metrics), 10.0, 100.0)
    assert queued.ttft_s == pytest.approx(0.7)  # 5 wait, 10 leave per second
    late = reader().read(FakeContext(16.0, 15.0, **metrics), 10.0, 100.0)
    assert late.attainment == 0.0  # the mean wait alone, 1.5 s, is beyond the SLO


def test_the_age_of_metrics_is_that_of_the_newest_record() -> None:
    assert reader().read(FakeContext(1.0, 0.0, **told(98.0, arrival_per_s={"a": 1.0})), 10.0, 100.0).taken_s == 98.0
    assert reader().read(FakeContext(1.0, 0.0), 10.0, 100.0).taken_s == 100.0


def test_who_served_when_metrics_were_taken_are_the_replicas_with_new_records() -> None:
    metrics = told(98.0, arrival_per_s={"a": 1.0, "b": 1.0, "gone": 1.0})
    assert reader().read(FakeContext(1.0, 0.0, **metrics), 10.0, 98.0).replicas == (3,)
    metrics["raw_metrics"]["arrival_per_s"]["gone"][-1].timestamp = 90.0
    assert reader().read(FakeContext(1.0, 0.0, **metrics), 10.0, 98.0).replicas == (2,)
    assert reader().read(FakeContext(1.0, 0.0), 10.0, 98.0).replicas == ()


def test_records_older_than_the_window_are_missing_metrics() -> None:
    old = FakeContext(0.0, 0.0, **told(90.0, arrival_per_s={"a": 1.0}))
    assert reader().read(old, 10.0, 92.0).arrival_per_s == 1.0
    with pytest.raises(MetricsError, match=r"is 3.0 s old"):  # a window of 2 s, told every 0.5 s
        reader().read(old, 10.0, 93.0)


def test_silence_after_the_start_is_not_idleness() -> None:
    read = reader()
    with pytest.raises(MetricsError, match="no report yet"):
        read.read(FakeContext(), 1.0, 100.0)
    assert read.read(FakeContext(), 2.5, 100.0).arrival_per_s == 0.0  # after the look-back window of 2 s
    assert reader().read(FakeContext(1.0), 1.0, 100.0).running == 1.0  # somebody has reported


def test_records_that_cease_while_replicas_run_are_missing_metrics() -> None:
    read = reader()
    read.read(FakeContext(4.0, **told(100.0, arrival_per_s={"a": 9.0})), 10.0, 100.0)
    with pytest.raises(MetricsError, match="record nothing any more"):
        read.read(FakeContext(), 20.0, 110.0)
    assert read.read(FakeContext(current_num_replicas=0), 30.0, 120.0).arrival_per_s == 0.0


def test_replicas_that_serve_while_serve_tells_of_no_request_are_missing_metrics() -> None:
    raw = {"arrived_total": {"a": [SimpleNamespace(timestamp=90.0, value=4.0)]},
           "answered_total": {"a": [SimpleNamespace(timestamp=90.0, value=3.0)]}}  # fmt: skip
    with pytest.raises(MetricsError, match="its replicas of 1 that they serve"):
        reader().read(FakeContext(0.0, raw_metrics=raw), 10.0, 90.0)


@pytest.mark.parametrize("broken", [math.nan, None, -3.0, math.inf, "many"])
def test_totals_that_are_no_number_are_missing_metrics(broken: Any) -> None:
    with pytest.raises(MetricsError, match="total_num_requests"):
        reader().read(FakeContext(broken), 10.0, 100.0)


def test_the_fleet_is_what_runs_and_what_is_ordered() -> None:
    assert fleet(FakeContext(current_num_replicas=2, target_num_replicas=5)).pending == (3,)
    assert fleet(FakeContext(current_num_replicas=5, target_num_replicas=2)).pending == (0,)
    with pytest.raises(BackendError, match="target None"):
        fleet(FakeContext(target_num_replicas=None))


def test_zero_needs_the_permission_of_both_sides() -> None:
    empty = FakeContext(capacity_adjusted_min_replicas=0)
    assert bounds(empty, to_zero=False) == (1, 10)
    assert bounds(empty, to_zero=True) == (0, 10)
    assert bounds(FakeContext(capacity_adjusted_min_replicas=2), to_zero=True) == (2, 10)
    assert bounds(FakeContext(capacity_adjusted_min_replicas=0, capacity_adjusted_max_replicas=0), False) == (1, 1)


def test_settings_by_which_serve_alters_decisions_are_named() -> None:
    assert altered(config(), 15.0) == []
    found = altered(config(upscale_delay_s=30.0, downscaling_factor=0.5), 15.0)
    assert [text.split(" = ")[0] for text in found] == ["upscale_delay_s", "downscaling_factor"]
    assert "look_back_period_s = 60" in altered(config(look_back_period_s=60.0), 15.0)[0]
    peak = altered(config(aggregation_function=SimpleNamespace(value="max")), 15.0)
    assert peak == ["aggregation_function = max makes another load of what there was; set it to mean"]


ANYTHING = st.one_of(
    st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(-5, 500), st.text(max_size=3)
)


@given(
    total=ANYTHING, queued=ANYTHING, replicas=st.integers(0, 50), at_s=st.floats(-10.0, 1e6),
    metrics=st.dictionaries(st.sampled_from(["arrival_per_s", "ttft_s", "answered_per_s", "attainment", "other"]),
                            st.dictionaries(st.sampled_from("ab"), ANYTHING)),
)  # fmt: skip
def test_whatever_serve_says_becomes_a_reading_that_can_be_or_an_error_with_a_name(
    total: Any, queued: Any, replicas: int, at_s: float, metrics: Any
) -> None:
    read = reader()
    for ctx in (FakeContext(3.0, 1.0), FakeContext(total, queued, replicas, aggregated_metrics=metrics)):
        try:
            reading = read.read(ctx, at_s, 100.0)
        except MetricsError:
            continue
        for value in (reading.arrival_per_s, reading.waiting, reading.running):
            assert 0.0 <= value < math.inf
        assert math.isnan(reading.ttft_s) or reading.ttft_s >= 0.0
        assert math.isnan(reading.attainment) or reading.attainment >= 0.0
        at_s += 1.0


@given(low=ANYTHING, high=ANYTHING, to_zero=st.booleans())
def test_bounds_never_let_the_last_replica_go_unasked(low: Any, high: Any, to_zero: bool) -> None:
    ctx = FakeContext(capacity_adjusted_min_replicas=low, capacity_adjusted_max_replicas=high)
    try:
        least, most = bounds(ctx, to_zero)
    except BackendError:
        return
    assert (0 if to_zero else 1) <= least <= most


# What replicas record.
class Model(RayStats):
    """An application."""

    def __init__(self) -> None:
        self.slo_ttft_s = 60.0


def test_an_application_counts_with_two_lines() -> None:
    model = Model()
    assert set(model.record_autoscaling_stats().values()) == {0.0}
    with model.counted() as asked:
        asked.first_token()
        asked.answered(prompt_tokens=800, answer_tokens=100)
    with model.counted():
        pass
    with pytest.raises(ValueError, match="bad"), model.counted():
        raise ValueError("bad")
    stats = model.record_autoscaling_stats()
    assert all(type(value) is float for value in stats.values())  # anything else, and Serve never asks again
    assert (stats["arrived_total"], stats["answered_total"], stats["dropped_total"]) == (3.0, 2.0, 1.0)
    assert (stats["met_total"], stats["prompt_tokens_total"], stats["several_total"]) == (2.0, 800.0, 1.0)


def test_latencies_are_taken_from_the_tokens() -> None:
    now = [10.0]
    tally = Tally(slo_ttft_s=0.5, slo_tpot_s=0.1, clock=lambda: now[0])
    for first_s, rest_s in ((0.4, 0.9), (0.4, 1.8), (0.6, 0.9)):  # in time; tokens too slow; the first too late
        asked = Asked(tally)
        now[0] += first_s
        asked.first_token()
        now[0] += rest_s
        asked.answered(answer_tokens=11)
    totals = tally.totals()
    assert totals["ttft_s_total"] == pytest.approx(1.4)
    assert totals["tpot_s_total"] == pytest.approx(0.36)
    assert totals["met_total"] == 1.0


def test_totals_become_rates_and_means_of_the_window_however_late_they_are_read() -> None:
    begin = dict.fromkeys((f"{name}_total" for name in TOTALS), 5.0)
    more = begin | {"arrived_total": 45.0, "answered_total": 25.0, "dropped_total": 10.0, "met_total": 20.0,
                    "ttft_s_total": 9.0, "several_total": 15.0, "tpot_s_total": 5.5}  # fmt: skip
    raw = {name: {"a": [SimpleNamespace(timestamp=90.0, value=begin[name]),
                        SimpleNamespace(timestamp=98.0, value=more[name])]} for name in begin}  # fmt: skip
    reading = reader().read(FakeContext(1.0, 0.0, raw_metrics=raw), 10.0, 99.0)
    assert (reading.arrival_per_s, reading.dropped_per_s, reading.taken_s) == (5.0, 0.625, 98.0)
    assert (reading.ttft_s, reading.tpot_s, reading.attainment) == (0.2, 0.05, 0.6)


def test_a_replica_that_has_told_its_totals_once_says_nothing_yet() -> None:
    raw = {"arrived_total": {"a": [SimpleNamespace(timestamp=90.0, value=4.0)]}}
    read = reader()
    read.read(FakeContext(1.0, 0.0, raw_metrics=raw), 10.0, 90.0)
    assert read.how == "estimated"
