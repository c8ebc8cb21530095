"""`bench requests`: what it reports, not how fast this machine is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_world import alternating_trace

from experiments import _bench_requests as bench
from experiments.__main__ import main


@pytest.mark.timeout(600)
def test_every_load_and_fleet_is_timed_and_the_slower_selves_end_alike(tmp_path: Path) -> None:
    out = tmp_path / "requests.json"
    trace = alternating_trace(tmp_path / "minutes.csv")
    assert main(["bench", "requests", "--quick", "--trace", str(trace), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert {(row["replicas"], row["load"]) for row in found["cases"]} == {
        (replicas, load) for replicas in bench.FLEETS for load in bench.LOADS
    }
    assert all(0 < row["min"] <= row["ns_per_request"] for row in found["cases"])
    assert found["slower"]["plain_over_compiled"] > 1 and found["slower"]["oracle_over_compiled"] > 1
    assert found["streamed"]["requests"] == pytest.approx(bench.QUICK_STREAMED, rel=0.05)
    assert found["streamed"]["peak_gb"] > 0
    once, enlarged = found["recorded"]
    assert once["span_s"] == enlarged["span_s"] and enlarged["requests"] > 10 * once["requests"]
    assert once["times_real"] == pytest.approx(once["span_s"] / once["wall_s"])
