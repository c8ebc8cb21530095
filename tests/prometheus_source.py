"""A source under test: what is told, and the source that reads it."""

from __future__ import annotations

from typing import Any

from rlscale.deploy.metrics_config import MetricsConfig, source_of
from rlscale.deploy.prometheus import Prometheus
from rlscale.types import Slo
from tests.fake_prometheus import FakePrometheus

SLO = Slo(ttft_s=1.0, tpot_s=0.05)
TTFT = {"0.5": 40.0, "1.0": 80.0, "2.5": 95.0, "+Inf": 100.0}
TPOT = {"0.025": 50.0, "0.05": 90.0, "0.1": 100.0, "+Inf": 100.0}
GOOD: dict[str, Any] = {
    "arrival_per_s": 5.0, "waiting": 3, "running": 12, "dropped_per_s": 0.0, "prompt_tokens": 1000.0,
    "answer_tokens": 200.0, "memory@0": 0.4, "running@0": 12, "ttft.0.buckets": TTFT, "ttft.0.sum": 70.0,
    "tpot.0.buckets": TPOT, "tpot.0.sum": 3.0,
}  # fmt: skip


def source(server: FakePrometheus, **given: Any) -> Prometheus:
    slo = given.pop("slo", SLO)
    return source_of(MetricsConfig(url=given.pop("url", server.url), **given), slo, 1)
