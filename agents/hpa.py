"""Kubernetes HorizontalPodAutoscaler (v2) on requests per replica or on occupancy, one object per pool.

Three ways to feed the controller of `agents.hpa_reconcile`: a pods metric, an external one, a resource-like one. After
pkg/controller/podautoscaler of kubernetes/kubernetes, v1.33 and later (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from agents.hpa_behavior import DOWN, DOWNSCALE_STABILIZATION_S, UP, Behavior, Policy, Rules
from agents.hpa_calculator import (
    MAX_INT64,
    MetricError,
    Proposal,
    Tally,
    Tolerance,
    by_average,
    by_utilization,
    by_value,
    by_value_per_pod,
)
from agents.hpa_reconcile import SYNC_S, UPSTREAM_DEFAULTS, HorizontalAutoscaler, Metric, Outcome
from agents.threshold import OCCUPANCIES
from rlscale.decide import Cadence, blind, hold, positive
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

__all__ = ["HPA", "SCALERS", "SEARCH", "UPSTREAM_DEFAULTS", "ExternalHPA", "GpuHPA", "Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Controller and object settings in plain numbers; a policy of 0 pods or 0 percent is not listed.

    `behavior` "absent" is the legacy path, which knows no window but `window_down_s` and no policy.
    """

    tolerance: float = 0.1
    tolerance_down: float | None = None  # None: the same
    sync_s: float = SYNC_S
    behavior: Literal["given", "absent"] = "given"
    window_up_s: float = 0.0
    window_down_s: float = DOWNSCALE_STABILIZATION_S
    up_pods: int = 4
    up_percent: int = 100
    up_period_s: float = 15.0
    down_pods: int = 0
    down_percent: int = 100
    down_period_s: float = 15.0

    def __post_init__(self) -> None:
        if self.behavior not in ("given", "absent"):
            raise ScenarioError(f"hpa: behavior = '{self.behavior}'; expected 'given' or 'absent'")
        for name in ("sync_s", "up_period_s", "down_period_s"):
            positive(f"hpa: {name}", getattr(self, name))
        for name in ("tolerance", "window_up_s", "window_down_s", "up_pods", "up_percent", "down_pods", "down_percent"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ScenarioError(f"hpa: {name} = {value}; expected a number of 0 or more")

    def autoscaler(self, low: int, high: int) -> HorizontalAutoscaler:
        """One autoscaler of these settings with bounds."""
        down = self.tolerance if self.tolerance_down is None else self.tolerance_down
        behavior = None
        if self.behavior == "given":
            behavior = Behavior(
                Rules(_policies(self.up_pods, self.up_percent, self.up_period_s), UP.select, self.window_up_s),
                Rules(
                    _policies(self.down_pods, self.down_percent, self.down_period_s), DOWN.select, self.window_down_s
                ),
            )
        return HorizontalAutoscaler(low, high, behavior, Tolerance(down, self.tolerance), self.window_down_s)


def _policies(pods: int, percent: int, period_s: float) -> tuple[Policy, ...]:
    both = Policy("Pods", int(pods), period_s), Policy("Percent", int(percent), period_s)
    return tuple(policy for policy in both if policy.value)


# What the three have in common.
def milli(value: float) -> int:
    """Thousandths of a metric, cut off, saturating."""
    return int(value * 1000.0) if value < MAX_INT64 / 1000 else MAX_INT64


def target_milli(value: float) -> int:
    """Thousandths of a target: a quantity is rounded up to them, so none becomes 0."""
    return max(1, math.ceil(value * 1000.0 - 1e-6))


def failing(why: str) -> Metric:
    """A metric that cannot be had."""

    def metric(current: int, tolerance: Tolerance) -> Proposal:
        raise MetricError(why)

    return metric


def counts(replicas: Iterable[Any]) -> list[int]:
    """Plain whole numbers, one per pool."""
    return [int(count) for count in replicas]


def shares_of(total: float, weights: list[float]) -> list[float]:
    """A service's total divided over its pools by weight."""
    whole = sum(weights)
    return [total * weight / whole if whole > 0 else 0.0 for weight in weights]


def weights_of(seen: Observation, limits: ScalingLimits) -> list[float]:
    """How the service's requests are divided over the pools' autoscalers: by the sequences of all their replicas.

    Those that are starting count, so that an order is not taken back for want of requests; an empty pool counts as
    one replica, so that it may start.
    """
    fleet = zip(seen.ready.tolist(), seen.pending.tolist(), limits.max_replicas.tolist(), strict=True)
    return [
        max(1.0, float(ready + pending)) * seats if most else 0.0
        for (ready, pending, most), seats in zip(fleet, limits.seats.tolist(), strict=True)
    ]


class _Autoscalers:
    """One object per pool, synced together. Asked more often than `sync_s` it holds; asked less often, every call is
    one sync."""

    def __init__(self, name: str, limits: ScalingLimits, target: float, settings: Settings) -> None:
        self.limits = limits
        self.target = positive(f"{name}: target", target)
        self.settings = settings
        self._beat = Cadence(settings.sync_s)
        self.reset()

    def reset(self) -> None:
        """New objects under a new controller."""
        self._beat.reset()
        self.objects = [
            self.settings.autoscaler(low, high)
            for low, high in zip(counts(self.limits.min_replicas), counts(self.limits.max_replicas), strict=True)
        ]

    def decide(self, seen: Observation) -> Decision:
        """One sync of every pool's object."""
        if not self._beat.due(seen.t_s):
            return hold(seen, "between syncs")
        metrics, words = self._metrics(seen)
        t_s, current = float(seen.t_s), counts(seen.target)
        synced = zip(self.objects, current, metrics, strict=True)
        outcomes = [one.sync(t_s, now, [metric]) for one, now, metric in synced]
        return said(outcomes, words)

    def _metrics(self, seen: Observation) -> tuple[list[Metric], str]:
        """One metric per pool, and the reading in words."""
        raise NotImplementedError


def said(outcomes: list[Outcome], words: str) -> Decision:
    """The decision that outcomes amount to: held where all metrics failed, with the limits that ruled in the reason."""
    target = tuple(outcome.replicas for outcome in outcomes)
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed and not any(outcome.scaled for outcome in outcomes):
        return Decision(target, f"hold: {failed[0]}")
    limited = [
        f"pool {pool}: {outcome.error or outcome.reason}"
        for pool, outcome in enumerate(outcomes)
        if outcome.error or outcome.reason != "DesiredWithinRange"
    ]
    return Decision(target, "; ".join([words, *limited]))


class HPA(_Autoscalers):
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
        requests = float(seen.running + seen.waiting)
        share = requests / serving if serving > 0 else math.inf if requests > 0 else 0.0
        ready, pending = counts(seen.ready), counts(seen.pending)
        metrics = [
            self._metric(pool, share, (sampled[pool], ready[pool], pending[pool])) for pool in range(len(self._seats))
        ]
        return metrics, f"{share:.2f} of the sequences at l_SLO, target {self.target:.2f}"

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


class ExternalHPA(_Autoscalers):
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
        parts = shares_of(total, weights_of(seen, self.limits))
        status = [ready + pending for ready, pending in zip(counts(seen.ready), counts(seen.pending), strict=True)]
        metrics = [per_replica(milli(part), self._targets[pool], status[pool]) for pool, part in enumerate(parts)]
        return metrics, f"{total:.4g} requests, {self.target:.2f} of the sequences at l_SLO wanted per replica"


def per_replica(usage: int, target: int, status_replicas: int) -> Metric:
    """An external metric of type AverageValue, thousandths."""
    return lambda current, tolerance: by_value_per_pod([usage], target, status_replicas, tolerance)


class GpuHPA(_Autoscalers):
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
        upstream=_UPSTREAM,
    ),
    "hpa-external": ScalerKind(
        ExternalHPA,
        Knob("target", OCCUPANCIES, 0.5, _MEANING),
        "Kubernetes HPA on the total of running + waiting requests, an external metric",
        upstream=_UPSTREAM,
    ),
    "hpa-gpu": ScalerKind(
        GpuHPA,
        Knob("target", OCCUPANCIES, 0.5, "compute occupancy, as a share of the sequences at l_SLO"),
        "Kubernetes HPA on compute occupancy in percent, a resource metric",
        upstream=_UPSTREAM,
    ),
}
