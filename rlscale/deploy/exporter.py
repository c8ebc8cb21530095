"""Feedback as Prometheus metrics: what was seen, decided and prevented. Extra `live`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rlscale.deploy.base import LiveConfigError

if TYPE_CHECKING:
    from rlscale.circle import Turn
    from rlscale.types import ScalingLimits

BUCKETS_S = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
# Names, meaning and labels of the gauges, in the order of the values in `_gauges`.
GAUGES = {
    "rlscale_arrival_per_s": "requests per second over the window of the newest metrics",
    "rlscale_waiting": "requests waiting",
    "rlscale_running": "requests being served",
    "rlscale_ttft_seconds": "mean time to first token of the window",
    "rlscale_attainment": "share of the window's requests within the SLO, 0 to 1",
    "rlscale_metrics_age_seconds": "age of the older of metrics and fleet",
}
POOL_GAUGES = {
    "rlscale_target_replicas": "replicas that are wanted",
    "rlscale_ready_replicas": "replicas that serve",
    "rlscale_pending_replicas": "replicas that are on their way",
    "rlscale_shadow_target_replicas": "replicas the shadow wants",
}


class _Told:
    """What somebody else counts, as a collector."""

    def __init__(self, prom: Any, told: Callable[[], Mapping[tuple[str, tuple[tuple[str, str], ...]], float]]) -> None:
        self._prom, self._told = prom, told

    def collect(self) -> Iterator[Any]:
        """A family per name."""
        families: dict[str, Any] = {}
        for (name, labels), value in self._told().items():
            kind = self._prom.core.CounterMetricFamily if name.endswith("_total") else self._prom.core.GaugeMetricFamily
            names = [label for label, _ in labels]
            family = families.setdefault(name, kind(name.removesuffix("_total"), name, labels=names))
            family.add_metric([text for _, text in labels], value)
        yield from families.values()


class Exporter:
    """The metrics of one service, in a registry of their own."""

    def __init__(self, service: str, limits: ScalingLimits) -> None:
        try:
            import prometheus_client as prom
        except ImportError:
            raise LiveConfigError(
                "metrics of a live service need prometheus-client: pip install 'rlscale[live]'"
            ) from None
        self._prom, self.registry, self._limits, self._service = prom, prom.CollectorRegistry(), limits, service
        self._gauges = {name: self._gauge(name, text).labels(service) for name, text in GAUGES.items()}
        self._pools = {name: self._gauge(name, text, "pool") for name, text in POOL_GAUGES.items()}
        self._cost = self._gauge("rlscale_cost_usd_per_hour", "price of what is there or ordered").labels(service)
        self._fallback = self._gauge("rlscale_fallback_active", "1 while the fallback decides").labels(service)
        self._leader = self._gauge("rlscale_leader", "1 while this instance acts").labels(service)
        self._decision = prom.Histogram("rlscale_decision_seconds", "time a decision took", ["service"],
                                        buckets=BUCKETS_S, registry=self.registry).labels(service)  # fmt: skip
        self._decisions = self._counter("rlscale_decisions", "decisions", "scaler", "outcome")
        self._shields = self._counter("rlscale_shield_interventions", "decisions a shield changed", "shield")
        self._states = self._gauge("rlscale_shield_state", "who decides, open breakers, scores", "name")
        self._errors = self._counter("rlscale_errors", "failures by where they were", "where")
        self._missed = self._counter("rlscale_missed_intervals", "intervals that were slept through").labels(service)
        self._counted: dict[str, int] = {}

    def _gauge(self, name: str, text: str, *labels: str) -> Any:
        return self._prom.Gauge(name, text, ["service", *labels], registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return self._prom.Counter(name, text, ["service", *labels], registry=self.registry)

    def turn(self, turn: Turn, scaler: str, outcome: str, leads: bool, fallback: bool) -> None:
        """What one turn of the circle says."""
        seen = turn.seen
        values = (seen.arrival_per_s, seen.waiting, seen.running, seen.ttft_s, seen.attainment, seen.age_s)
        for gauge, value in zip(self._gauges.values(), values, strict=True):
            gauge.set(float(value))
        for name, counts in zip(self._pools, (turn.bounded.target, seen.ready, seen.pending), strict=False):
            self._by_pool(self._pools[name], counts)
        there = np.asarray(seen.ready) + np.asarray(seen.pending)
        self._cost.set(float(there @ self._limits.usd_per_replica_s) * 3600.0)
        self._decision.observe(turn.decision_s)
        self._decisions.labels(self._service, scaler, outcome).inc()
        self._leader.set(float(leads))
        self._fallback.set(float(fallback))

    def shadow(self, target: tuple[int, ...]) -> None:
        """What the shadow wants."""
        self._by_pool(self._pools["rlscale_shadow_target_replicas"], target)

    def shields(self, counts: Mapping[str, int], gauges: Mapping[str, float]) -> None:
        """Interventions so far, by shield, and the state of the shields."""
        for name, value in gauges.items():
            self._states.labels(self._service, name).set(value)
        for name, count in counts.items():
            self._shields.labels(self._service, name).inc(max(0, count - self._counted.get(name, 0)))
            self._counted[name] = count

    def error(self, where: str) -> None:
        """Something failed."""
        self._errors.labels(self._service, where).inc()

    def missed(self, intervals: int) -> None:
        """Intervals without a decision."""
        self._missed.inc(intervals)

    def text(self) -> bytes:
        """The page that Prometheus scrapes."""
        return bytes(self._prom.generate_latest(self.registry))

    def backend(self, told: Callable[[], Mapping[tuple[str, tuple[tuple[str, str], ...]], float]]) -> None:
        """The backend's own metrics, asked for at every scrape: by name and labels."""
        self.registry.register(_Told(self._prom, told))

    def _by_pool(self, gauge: Any, counts: Any) -> None:
        for pool, count in enumerate(counts):
            value = float(count)
            gauge.labels(self._service, str(pool)).set(value if math.isfinite(value) else math.nan)
