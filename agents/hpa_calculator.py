"""Replica calculator of the Kubernetes HorizontalPodAutoscaler: one metric, one proposal, before any bound.

Quantities are whole thousandths, averages and percentages are cut to whole ones before a ratio is formed, and only
ratios are floating-point numbers, as upstream. After pkg/controller/podautoscaler/replica_calculator.go and
metrics/utilization.go of kubernetes/kubernetes, v1.33 and later (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agents.hpa_pods import Groups, MetricError, Pod, Readiness, Sample, group_pods, pod_request_milli

MAX_INT32, MAX_INT64 = 2**31 - 1, 2**63 - 1


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Ratios of usage over target that are left alone: 1 - down to 1 + up, both ends included."""

    down: float = 0.1
    up: float = 0.1

    def holds(self, ratio: float) -> bool:
        """Whether this ratio is close enough to 1."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Proposal:
    """Wanted replicas by one metric, and the usage that is reported: thousandths, and percent of the requests."""

    replicas: int
    usage_milli: int
    utilization_pct: int | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """All the arithmetic needs of a set of pods. Sums in thousandths; requests only where utilisation is the target.

    `samples` and `usage_milli` are without ignored and unready pods. `missing_usage_milli` is what missing pods are
    taken to use when the others are below the target.
    """

    ready: int
    samples: int
    usage_milli: int
    missing: int = 0
    unready: int = 0
    missing_usage_milli: int = 0
    known: int = 0  # samples of pods with a request
    requests_milli: int = 0  # of those
    missing_requests_milli: int = 0
    unready_requests_milli: int = 0


def whole(ratio: float) -> int:
    """Replicas, rounded up, at most 2^31 - 1."""
    return math.ceil(ratio) if ratio < MAX_INT32 else MAX_INT32


def saturating_sum(values: Iterable[int]) -> int:
    """Sum in signed 64 bits that stays at the end it runs into."""
    total = 0
    for value in values:
        total = max(-MAX_INT64 - 1, min(MAX_INT64, total + value))
    return total


def _trusted(
    pods: Sequence[Pod], samples: Mapping[str, Sample], resource: str, now_s: float, readiness: Readiness
) -> tuple[Groups, dict[str, int]]:
    if not pods:
        raise MetricError("no pods returned by selector")
    groups = group_pods(pods, samples, resource, now_s, readiness)
    dropped = groups.ignored | groups.unready
    return groups, {name: sample.value_milli for name, sample in samples.items() if name not in dropped}


@dataclass(frozen=True, slots=True)
class Calculator:
    """The controller's settings that proposals depend on."""

    tolerance: Tolerance = Tolerance()
    readiness: Readiness = field(default_factory=Readiness)
    pod_level: bool = True

    def resource_utilization(
        self,
        pods: Sequence[Pod],
        samples: Mapping[str, Sample],
        target_pct: int,
        current: int,
        now_s: float = 0.0,
        resource: str = "cpu",
        container: str | None = None,
    ) -> Proposal:
        """Replicas for a resource metric with a utilisation target, percent of the requests."""
        groups, usage = _trusted(pods, samples, resource, now_s, self.readiness)
        requests = {pod.name: pod_request_milli(pod, container, self.pod_level) for pod in pods}
        known = [name for name in usage if name in requests]
        most = max(100, target_pct)
        tally = Tally(
            ready=groups.ready,
            samples=len(usage),
            usage_milli=sum(usage[name] for name in known),
            missing=len(groups.missing),
            unready=len(groups.unready),
            missing_usage_milli=sum(requests[name] * most // 100 for name in groups.missing),
            known=len(known),
            requests_milli=sum(requests[name] for name in known),
            missing_requests_milli=sum(requests[name] for name in groups.missing),
            unready_requests_milli=sum(requests[name] for name in groups.unready),
        )
        return by_utilization(tally, target_pct, current, self.tolerance)

    def pods_average(
        self,
        pods: Sequence[Pod],
        samples: Mapping[str, Sample],
        target_milli: int,
        current: int,
        now_s: float = 0.0,
        resource: str = "",
    ) -> Proposal:
        """Replicas for a pods metric, or, named, a resource metric, with an average-value target."""
        groups, usage = _trusted(pods, samples, resource, now_s, self.readiness)
        missing = len(groups.missing)
        tally = Tally(groups.ready, len(usage), sum(usage.values()), missing, len(groups.unready))
        return by_average(tally, target_milli, current, self.tolerance)


# Arithmetic.
def by_utilization(tally: Tally, target_pct: int, current: int, tolerance: Tolerance) -> Proposal:
    """Replicas by usage over requests, cut to whole percent. MetricError without a sample of a known pod."""
    if tally.samples == 0:
        raise MetricError("no metrics for any ready pod")
    target = _target(target_pct)
    percent = _percent(tally.usage_milli, tally.requests_milli)

    def refilled(ratio: float) -> float:
        usage, requests = tally.usage_milli, tally.requests_milli + tally.missing_requests_milli
        if ratio < 1.0:
            usage += tally.missing_usage_milli
        else:
            requests += tally.unready_requests_milli
        return _percent(usage, requests) / target

    replicas = _settled(percent / target, tally, current, tolerance, refilled)
    return Proposal(replicas, _quotient(tally.usage_milli, tally.known), percent)


def by_average(tally: Tally, target_milli: int, current: int, tolerance: Tolerance) -> Proposal:
    """Replicas by the mean of the samples, cut to whole thousandths. MetricError without a sample."""
    if tally.samples == 0:
        raise MetricError("no metrics for any ready pod")
    target = _target(target_milli)
    average = _quotient(tally.usage_milli, tally.samples)

    def refilled(ratio: float) -> float:
        usage, count = tally.usage_milli, tally.samples + tally.missing
        if ratio < 1.0:
            usage += target_milli * tally.missing
        else:
            count += tally.unready
        return _quotient(usage, count) / target

    return Proposal(_settled(average / target, tally, current, tolerance, refilled), average)


def _settled(first: float, tally: Tally, current: int, tolerance: Tolerance, refilled: Callable[[float], float]) -> int:
    """Replicas from the first ratio, or from the one with missing and unready pods filled in against its direction."""
    idle = tally.unready if first > 1.0 else 0
    if not tally.missing and not idle:
        return current if tolerance.holds(first) else whole(first * tally.ready)
    if first == 1.0:
        return current
    ratio = refilled(first)
    if tolerance.holds(ratio) or ratio < 1.0 < first or first < 1.0 < ratio:
        return current
    replicas = whole(ratio * (tally.samples + tally.missing + idle))
    against = (ratio < 1.0 and replicas > current) or (ratio > 1.0 and replicas < current)
    return current if against else replicas


def by_value(
    values_milli: Sequence[int], target_milli: int, current: int, ready: int, tolerance: Tolerance
) -> Proposal:
    """Replicas for an object or external metric with a value target; `ready` are the pods Running and Ready.

    With no replicas, the ratio alone counts and the tolerance is skipped. MetricError without a value.
    """
    usage = _usage(values_milli)
    ratio = float(usage) / _target(target_milli)
    if current == 0:
        return Proposal(whole(ratio), usage)
    return Proposal(current if tolerance.holds(ratio) else whole(ratio * ready), usage)


def by_value_per_pod(
    values_milli: Sequence[int], target_milli: int, status_replicas: int, tolerance: Tolerance
) -> Proposal:
    """Replicas for an object or external metric with an average-value target. MetricError without a value."""
    usage, target = _usage(values_milli), _target(target_milli)
    if status_replicas == 0:
        return Proposal(whole(usage / target), 0)
    within = tolerance.holds(float(usage) / (target * status_replicas))
    replicas = status_replicas if within else whole(float(usage) / target)
    return Proposal(replicas, -(-usage // status_replicas))


def _usage(values_milli: Sequence[int]) -> int:
    if not values_milli:
        raise MetricError("no metrics returned")
    return saturating_sum(values_milli)


def _target(target: int) -> float:
    """As the API server, which admits no other."""
    if target <= 0:
        raise MetricError(f"target {target}; expected above 0")
    return float(target)


def _percent(usage_milli: int, requests_milli: int) -> int:
    if requests_milli <= 0:
        raise MetricError("no metrics returned matched known pods")
    return min(_quotient(100 * usage_milli, requests_milli), MAX_INT32)


def _quotient(amount: int, count: int) -> int:
    """Whole division towards zero."""
    return amount // count if amount >= 0 else -(-amount // count)
