"""Prometheus as a source: what a reading says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from rlscale.deploy.base import MetricsError, Reading, Source
from rlscale.types import Slo
from tests.fake_prometheus import NOW_S, FakePrometheus, running, says, vector
from tests.prometheus_source import GOOD, TTFT, source


@pytest.fixture
def server() -> Iterator[FakePrometheus]:
    with running() as site:
        yield site


def read(server: FakePrometheus, parts: dict[str, Any], **given: Any) -> Reading:
    server.answer = says(vector(parts))
    found = source(server, **given)
    try:
        return found.read()
    finally:
        found.close()


def test_every_field_of_a_reading_is_what_was_told(server: FakePrometheus) -> None:
    seen = read(server, GOOD)
    assert (seen.taken_s, seen.arrival_per_s, seen.waiting, seen.running) == (NOW_S, 5.0, 3.0, 12.0)
    assert (seen.ttft_s, seen.tpot_s) == (pytest.approx(0.7), pytest.approx(0.03))
    assert seen.ttft_p90_s == pytest.approx(1.0 + 1.5 * 10 / 15)
    assert seen.tpot_p90_s == pytest.approx(0.05)
    assert seen.attainment == pytest.approx(0.8 + 0.9 - 1.0)
    assert (seen.prompt_tokens, seen.answer_tokens) == (1000.0, 200.0)
    assert (seen.memory, seen.running_by_pool) == ((0.4,), (12.0,))


def test_a_source_is_a_source(server: FakePrometheus) -> None:
    assert isinstance(source(server), Source)


def test_a_missing_metric_is_nan_and_never_zero(server: FakePrometheus) -> None:
    seen = read(server, {"waiting": 3})
    assert seen.waiting == 3.0
    for name in ("arrival_per_s", "running", "ttft_s", "tpot_s", "attainment", "dropped_per_s", "prompt_tokens"):
        assert math.isnan(getattr(seen, name)), name
    assert math.isnan(seen.memory[0])


@pytest.mark.parametrize("odd", ["NaN", "+Inf", "-Inf"])
def test_a_number_that_is_none_is_not_known(server: FakePrometheus, odd: str) -> None:
    seen = read(server, {**GOOD, "arrival_per_s": odd, "memory@0": odd})
    assert math.isnan(seen.arrival_per_s)
    assert math.isnan(seen.memory[0])
    assert seen.waiting == 3.0


def test_an_empty_window_is_as_in_the_simulator(server: FakePrometheus) -> None:
    none = dict.fromkeys(TTFT, 0.0)
    seen = read(server, {**GOOD, "ttft.0.buckets": none, "ttft.0.sum": 0.0, "tpot.0.buckets": none, "tpot.0.sum": 0.0})
    assert (seen.ttft_s, seen.tpot_s, seen.attainment, seen.ttft_p90_s) == (0.0, 0.0, 1.0, 0.0)


def test_what_was_dropped_missed_the_slo(server: FakePrometheus) -> None:
    """100 answers in 60 s and 100 dropped halve the share."""
    assert read(server, {**GOOD, "dropped_per_s": 100.0 / 60.0}).attainment == pytest.approx(0.35)


def test_the_ttft_limit_grows_with_the_mean_prompt(server: FakePrometheus) -> None:
    """1000 tokens at 2000 per second add 0.5 s: of the 15 between 1.0 and 2.5 s a third is in time."""
    seen = read(server, GOOD, slo=Slo(1.0, 0.05, ttft_tokens_per_s=2000.0))
    assert seen.attainment == pytest.approx(0.85 + 0.9 - 1.0)


def test_an_slo_without_tpot_needs_no_tpot(server: FakePrometheus) -> None:
    parts = {part: value for part, value in GOOD.items() if not part.startswith("tpot")}
    assert read(server, parts, slo=Slo(1.0)).attainment == pytest.approx(0.8)
    assert math.isnan(read(server, parts).attainment)


def test_the_first_histogram_that_is_there_counts(server: FakePrometheus) -> None:
    parts = {part.replace("tpot.0", "tpot.1"): value for part, value in GOOD.items()}
    assert read(server, parts).tpot_s == pytest.approx(0.03)


def test_edges_that_differ_in_spelling_are_one_edge(server: FakePrometheus) -> None:
    twice = {"0.5": 20.0, "0.50": 20.0, "1": 40.0, "1.0": 40.0, "2.5": 95.0, "+Inf": 100.0}
    assert read(server, {**GOOD, "ttft.0.buckets": twice}).attainment == pytest.approx(0.7)


def test_a_share_above_one_is_an_error_and_names_the_query(server: FakePrometheus) -> None:
    with pytest.raises(MetricsError, match="memory: got 43, expected a share"):
        read(server, {**GOOD, "memory@0": 43})


def test_one_connection_serves_all_readings(server: FakePrometheus) -> None:
    server.answer = says(vector(GOOD))
    found = source(server)
    for _ in range(5):
        found.read()
    assert len(server.asked) == 5
    assert len(server.connections) == 1
    found.close()


def test_series_that_are_gone_leave_their_age(server: FakePrometheus) -> None:
    found = source(server)
    server.answer = says(vector(GOOD))
    found.read()
    server.answer = says({"status": "success", "data": {"resultType": "vector", "result": []}})
    gone = found.read()
    assert gone.taken_s == NOW_S
    assert math.isnan(gone.arrival_per_s)
    assert gone.memory == ()


def test_no_series_ever_is_an_error_that_says_what_was_looked_for(server: FakePrometheus) -> None:
    server.answer = says({"status": "success", "data": {"resultType": "vector", "result": []}})
    with pytest.raises(MetricsError, match=r"no series of .*num_requests_running.*metrics\.labels"):
        source(server, labels={"model_name": "m"}).read()
