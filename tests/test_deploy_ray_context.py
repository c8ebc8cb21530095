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
from rlscale.deploy.ray_stats import RayStats, Tally
from rlscale.limits_file import parse_limits

KNOWN = parse_limits(json.dumps(LIMITS).encode(), "test")


def reader() -> ContextReader:
    return ContextReader(KNOWN, began_s=0.0)


def test_recorded_rates_are_added_up_and_the_growth_of_the_queue_is_load_too() -> None:
    metrics = told(100.0, arrival_per_s={"a": 6.0, "b": 4.0})
    read = reader()
    first = read.read(FakeContext(5.0, 1.0, **metrics), 10.0, 100.0)
    later = read.read(FakeContext(35.0, 31.0, **metrics), 20.0, 110.0)
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
    assert reader().read(FakeContext(1.0, 0.0, **told(60.0, arrival_per_s={"a": 1.0})), 10.0, 100.0).taken_s == 60.0
    assert reader().read(FakeContext(1.0, 0.0), 10.0, 100.0).taken_s == 100.0


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
def test_a_tally_tells_means_since_it_was_last_asked() -> None:
    now = [0.0]
    tally = Tally(slo_ttft_s=0.5, slo_tpot_s=0.1, clock=lambda: now[0])
    tally.add(arrived=4.0, answered=2.0, ttft_s=0.8, met=1.0, dropped=2.0, several=1.0, tpot_s=0.05)
    now[0] = 2.0
    first = tally.tell()
    assert first["arrival_per_s"] == 2.0
    assert (first["ttft_s"], first["tpot_s"], first["attainment"]) == (0.4, 0.05, 0.25)
    now[0] = 4.0
    second = tally.tell()
    assert second["arrival_per_s"] == second["answered_per_s"] == 0.0
    assert second["ttft_s"] == 0.4  # the last mean there was


class Model(RayStats):
    """An application."""

    def __init__(self) -> None:
        self.slo_ttft_s = 60.0


def test_an_application_counts_with_two_lines() -> None:
    model = Model()
    with model.counted() as asked:
        asked.first_token()
        asked.answered(prompt_tokens=800, answer_tokens=100)
    with model.counted():
        pass
    with pytest.raises(ValueError, match="bad"), model.counted():
        raise ValueError("bad")
    stats = model.record_autoscaling_stats()
    assert all(isinstance(value, float) and math.isfinite(value) for value in stats.values())  # or Serve stops asking
    assert stats["prompt_tokens"] == 400.0
    assert stats["attainment"] == pytest.approx(2 / 3)
    assert stats["arrival_per_s"] == pytest.approx(1.5 * stats["answered_per_s"])
