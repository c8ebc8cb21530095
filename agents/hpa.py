"""Kubernetes HorizontalPodAutoscaler (v2) on requests per replica or on occupancy, one object per pool.

Three ways to feed the controller of `agents.hpa_reconcile`: a pods metric, an external one, a resource-like one. After
pkg/controller/podautoscaler of kubernetes/kubernetes, v1.33 and later (Apache-2.0).
"""

from __future__ import annotations

import math
from typing import Any

from agents.hpa_calculator import Proposal, Tally, Tolerance, by_average, by_utilization, by_value
from agents.hpa_reconcile import SYNC_S, UPSTREAM_DEFAULTS, Metric
from agents.hpa_scaler import (
    Autoscalers,
    Settings,
    counts,
    failing,
    milli,
    parts_of,
    per_replica,
    requests_of,
    status_of,
    target_milli,
)
from agents.threshold import OCCUPANCIES
from rlscale.decide import blind
from rlscale.types import Knob, Observation, ScalerKind, ScalingLimits

__all__ = ["HPA", "SCALERS", "SEARCH", "UPSTREAM_DEFAULTS", "ExternalHPA", "GpuHPA"]


class HPA(Autoscalers):
    """`target` is the wanted mean of running + waiting requests per replica, as a share of its sequences at l_SLO.

    The metric is the service's, so every pool sees the same share and scales its own replicas by it: a metric of type
    Pods. Replicas that start are pending pods. A pool of none has no pods to average over; beside the pods metric its
    object has the share as a metric of the whole service, which alone can start it.
    """

    def __init__(self, limits: ScalingLimits, target: float = 0.5, **settings: Any) -> None:
        super().__init__("hpa", limits, target, Settings(**settings))
        self._seats = [float(each) for each in limits.seats]
        self._targets = [target_milli(self.target * each) for each in self._seats]

    def _metrics(self, seen: Observation) -> tuple[list[Metric], str]:
        why = blind(seen, running=seen.running, waiting=seen.waiting)
        sampled = counts(seen.ready_at_scrape)
        serving = sum(count * each for count, each in zip(sampled, self._seats, strict=True))
        if not why and serving == 0 and any(counts(seen.target)):
            why = "no replica with metrics"
        if why:
            return [failing(why)] * len(self._seats), why
        requests, shares = requests_of(seen, self.limits), [0.0] * len(self._seats)
        for side in self.limits.sides:
            serving = sum(sampled[pool] * self._seats[pool] for pool in side)
            for pool in side:
                shares[pool] = requests[pool] / serving if serving > 0 else math.inf if requests[pool] > 0 else 0.0
        ready, pending = counts(seen.ready), counts(seen.pending)
        metrics = [
            self._metric(pool, share, (sampled[pool], ready[pool], pending[pool])) for pool, share in enumerate(shares)
        ]
        read = " and ".join(f"{shares[side[0]]:.2f}" for side in self.limits.sides)
        return metrics, f"{read} of the sequences at l_SLO, target {self.target:.2f}"

    def _metric(self, pool: int, share: float, pods: tuple[int, int, int]) -> Metric:
        average, target = milli(share * self._seats[pool]), self._targets[pool]
        sampled, ready, pending = pods
        known = min(sampled, ready)

        def metric(current: int, tolerance: Tolerance) -> Proposal:
            if current == 0:
                return by_value([average], target, 0, 0, tolerance)
            tally = Tally(known, known, average * known, max(0, ready - sampled), pending)
            return by_average(tally, target, current, tolerance)

        return metric


class ExternalHPA(Autoscalers):
    """The total of running + waiting requests as an external metric, `target` of which a replica is to have.

    The wanted count follows from the total alone, whatever is ready: replicas that start are neither counted twice nor
    waited for. With several pools each sees its part of the total.
    """

    def __init__(self, limits: ScalingLimits, target: float = 0.5, **settings: Any) -> None:
        super().__init__("hpa-external", limits, target, Settings(**settings))
        self._targets = [target_milli(self.target * float(each)) for each in limits.seats]

    def _metrics(self, seen: Observation) -> tuple[list[Metric], str]:
        why = blind(seen, running=seen.running, waiting=seen.waiting)
        if why:
            return [failing(why)] * len(self._targets), why
        total = float(seen.running + seen.waiting)
        parts = parts_of(seen, self.limits)
        status = status_of(seen)
        metrics = [per_replica(milli(part), self._targets[pool], status[pool]) for pool, part in enumerate(parts)]
        return metrics, f"{total:.4g} requests, {self.target:.2f} of the sequences at l_SLO wanted per replica"


class GpuHPA(Autoscalers):
    """Compute occupancy as a resource of which every replica requests one: utilisation in whole percent per pool.

    As with any resource metric, a pool of no replicas has no utilisation: its object keeps one as the minimum and
    leaves a pool that has none alone.
    """

    def __init__(self, limits: ScalingLimits, target: float = 0.5, **settings: Any) -> None:
        super().__init__("hpa-gpu", limits, target, Settings(**settings))
        self._percent = max(1, round(100 * self.target))

    def reset(self) -> None:
        """New objects under a new controller."""
        super().reset()
        for one in self.objects:
            one.low = max(one.low, min(1, one.high))

    def _metrics(self, seen: Observation) -> tuple[list[Metric], str]:
        why = blind(seen)
        if why:
            return [failing(why)] * len(self.objects), why
        occupancy = [float(share) for share in seen.compute_occupancy]
        sampled, ready, pending = counts(seen.ready_at_scrape), counts(seen.ready), counts(seen.pending)
        metrics = [self._metric(*pods) for pods in zip(occupancy, sampled, ready, pending, strict=True)]
        read = ", ".join(f"{100 * share:.0f} %" for share in occupancy)
        return metrics, f"compute occupancy {read}, target {self._percent} %"

    def _metric(self, occupancy: float, sampled: int, ready: int, pending: int) -> Metric:
        known, missing = min(sampled, ready), max(0, ready - sampled)
        if known == 0 or not occupancy >= 0:
            return failing("no replica with metrics")
        tally = Tally(
            ready=known,
            samples=known,
            usage_milli=milli(occupancy) * known,
            missing=missing,
            unready=pending,
            missing_usage_milli=missing * 1000 * max(100, self._percent) // 100,
            known=known,
            requests_milli=1000 * known,
            missing_requests_milli=1000 * missing,
            unready_requests_milli=1000 * pending,
        )
        return lambda current, tolerance: by_utilization(tally, self._percent, current, tolerance)


_COMMON = {
    "tolerance": ("float", 0.0, 0.3),
    "window_up_s": ("float", 0.0, 600.0),
    "window_down_s": ("float", 0.0, 1800.0),
    "up_pods": ("int", 1, 16),
    "up_percent": ("int", 10, 400),
    "up_period_s": ("float", 15.0, 300.0),
    "down_percent": ("int", 5, 100),
    "down_period_s": ("float", 15.0, 600.0),
    "behavior": ("choice", "given", "absent"),
}
_TARGET: dict[str, tuple[Any, ...]] = {"target": ("log", 0.05, 1.2)}
SEARCH: dict[str, dict[str, tuple[Any, ...]]] = {
    "hpa": _TARGET | _COMMON,
    "hpa-external": _TARGET | _COMMON,
    "hpa-gpu": _TARGET | _COMMON,
}

# Out of the box: no `behavior` section, and 80 percent where no metric is named.
_UPSTREAM = {"target": 0.8, "tolerance": 0.1, "sync_s": SYNC_S, "behavior": "absent", "window_down_s": 300.0}
_MEANING = "running + waiting requests per replica, as a share of its sequences at l_SLO"
SCALERS = {
    "hpa": ScalerKind(
        HPA,
        Knob("target", OCCUPANCIES, 0.5, _MEANING),
        "Kubernetes HPA on running + waiting requests per ready replica",
        stabilisation="window_down_s",
        native_s=SYNC_S,
        upstream=_UPSTREAM,
    ),
    "hpa-external": ScalerKind(
        ExternalHPA,
        Knob("target", OCCUPANCIES, 0.5, _MEANING),
        "Kubernetes HPA on the total of running + waiting requests, an external metric",
        stabilisation="window_down_s",
        native_s=SYNC_S,
        upstream=_UPSTREAM,
    ),
    "hpa-gpu": ScalerKind(
        GpuHPA,
        Knob("target", OCCUPANCIES, 0.5, "compute occupancy, as a share of the sequences at l_SLO"),
        "Kubernetes HPA on compute occupancy in percent, a resource metric",
        stabilisation="window_down_s",
        native_s=SYNC_S,
        upstream=_UPSTREAM,
        lacks={
            "starts from zero": "a resource metric needs a pod that has it; upstream refuses a minimum of 0 with it"
        },
    ),
}
