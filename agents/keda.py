"""KEDA over a Kubernetes HorizontalPodAutoscaler, one object per pool, on the total of running + waiting requests.

The executor of `agents.keda_executor` polls between 0 and 1, the autoscaler of `agents.hpa_reconcile` syncs from 1 to N
on an external metric, each at its own beat. After kedacore/keda, 8b4f083ca8c8 (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agents.hpa_calculator import Proposal, Tolerance, by_value_per_pod
from agents.hpa_pods import MetricError
from agents.hpa_reconcile import SYNC_S, HorizontalAutoscaler, Metric, Outcome
from agents.hpa_scaler import Settings, counts, milli, parts_of, said, status_of, target_milli
from agents.keda_executor import (
    BEHAVIOURS,
    COOLDOWN_S,
    INITIAL_COOLDOWN_S,
    POLLING_S,
    UPSTREAM_DEFAULTS,
    Behaviour,
    Executor,
    Fallback,
    Health,
    ScaledObject,
    any_active,
    hpa_bounds,
)
from agents.threshold import OCCUPANCIES
from rlscale.decide import Cadence, blind, hold, positive
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

__all__ = ["SCALERS", "SEARCH", "UPSTREAM_DEFAULTS", "Keda", "KedaSettings", "Reading"]


@dataclass(frozen=True, slots=True)
class KedaSettings:
    """Settings of a ScaledObject in plain numbers. `fallback_replicas` 0: no fallback."""

    polling_s: float = POLLING_S
    cooldown_s: float = COOLDOWN_S
    initial_cooldown_s: float = INITIAL_COOLDOWN_S
    fallback_replicas: int = 0
    fallback_failures: int = 3
    fallback_behavior: Behaviour = "static"

    def __post_init__(self) -> None:
        positive("keda: polling_s", self.polling_s)
        for name in ("cooldown_s", "initial_cooldown_s", "fallback_replicas", "fallback_failures"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ScenarioError(f"keda: {name} = {getattr(self, name)}; expected a number of 0 or more")
        if self.fallback_behavior not in BEHAVIOURS:
            known = ", ".join(BEHAVIOURS)
            raise ScenarioError(f"keda: fallback_behavior = '{self.fallback_behavior}'; expected one of {known}")

    def scaled_object(self, low: int, high: int) -> ScaledObject:
        """One object of these settings with bounds."""
        fallback = None
        if self.fallback_replicas:
            fallback = Fallback(self.fallback_failures, self.fallback_replicas, self.fallback_behavior)
        return ScaledObject(low, high, None, self.cooldown_s, self.initial_cooldown_s, fallback=fallback)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one pool's trigger says: the metric (None: it failed), its target per replica, whether it is active."""

    value: float | None
    target: float
    active: bool
    error: str = ""


class ScaledPool:
    """One pool's ScaledObject and the autoscaler that belongs to it."""

    def __init__(self, wanted: ScaledObject, autoscaler: HorizontalAutoscaler) -> None:
        self.autoscaler = autoscaler
        self.executor = Executor(wanted, math.nan)
        self.health = Health()

    def step(self, now_s: float, current: int, reading: Reading, due: tuple[bool, bool], status: int) -> Outcome:
        """One call: the executor where a poll is due, then the autoscaler where a sync is and nothing was changed."""
        if self.executor.wanted.high == 0:
            return Outcome(0, current != 0)
        poll, sync = due
        if math.isnan(self.executor.created_s):
            self.executor.created_s = now_s
        if poll:
            step = self.executor.poll(now_s, current, reading.active, reading.value is None)
            if step.replicas != current:
                return Outcome(step.replicas, True, step.reason)
        if sync:
            return self.autoscaler.sync(now_s, current, [self._metric(reading, status)])
        return Outcome(current, False, error=reading.error)

    def _metric(self, reading: Reading, status: int) -> Metric:
        def metric(current: int, tolerance: Tolerance) -> Proposal:
            fallback = self.executor.wanted.fallback
            try:
                value = self.health.read(reading.value, reading.target, fallback, current=current)
            except MetricError as error:
                raise MetricError(f"{reading.error} ({error})") from None
            return by_value_per_pod([milli(value)], target_milli(reading.target), status, tolerance)

        return metric


class ScaledPools:
    """One object per pool, all polled and synced together. Subclasses read the triggers."""

    def __init__(self, limits: ScalingLimits, keda: KedaSettings, hpa: Settings) -> None:
        self.limits, self.keda, self.hpa = limits, keda, hpa
        self._poll, self._sync = Cadence(keda.polling_s), Cadence(hpa.sync_s)
        self.reset()

    def reset(self) -> None:
        """New objects under new controllers."""
        self._poll.reset()
        self._sync.reset()
        bounds = zip(counts(self.limits.min_replicas), counts(self.limits.max_replicas), strict=True)
        self.pools = [self._pool(low, high) for low, high in bounds]

    def _pool(self, low: int, high: int) -> ScaledPool:
        floor, top = hpa_bounds(low, high)
        return ScaledPool(self.keda.scaled_object(low, high), self.hpa.autoscaler(floor, max(floor, top)))

    def decide(self, seen: Observation) -> Decision:
        """Whatever of polls and syncs is due."""
        due = self._poll.due(seen.t_s), self._sync.due(seen.t_s)
        if not any(due):
            return hold(seen, "between polls and syncs")
        readings, words = self._read(seen)
        t_s, current = float(seen.t_s), counts(seen.target)
        outcomes = [
            pool.step(t_s, now, reading, due, status)
            for pool, now, reading, status in zip(self.pools, current, readings, status_of(seen), strict=True)
        ]
        return said(outcomes, words)

    def _read(self, seen: Observation) -> tuple[Sequence[Reading], str]:
        """One reading per pool, and all of them in words."""
        raise NotImplementedError


class Keda(ScaledPools):
    """`target` of the sequences at l_SLO is what a replica is to have of the running + waiting requests.

    Above `activation` requests in the whole service every pool gets its first replica; a cooldown after the last such
    poll a pool whose minimum is 0 loses its last ones. With several pools each sees its part of the total.
    """

    def __init__(
        self,
        limits: ScalingLimits,
        target: float = 0.5,
        activation: float = 0.0,
        polling_s: float = POLLING_S,
        cooldown_s: float = COOLDOWN_S,
        initial_cooldown_s: float = INITIAL_COOLDOWN_S,
        fallback_replicas: int = 0,
        fallback_failures: int = 3,
        fallback_behavior: Behaviour = "static",
        behavior: str = "absent",
        **hpa: Any,
    ) -> None:
        self.target = positive("keda: target", target)
        if not activation >= 0:
            raise ScenarioError(f"keda: activation = {activation}; expected a number of 0 or more")
        self.activation = activation
        self._targets = [self.target * float(each) for each in limits.seats]
        keda = KedaSettings(
            polling_s, cooldown_s, initial_cooldown_s, fallback_replicas, fallback_failures, fallback_behavior
        )
        super().__init__(limits, keda, Settings(behavior=behavior, **hpa))  # type: ignore[arg-type]  # checked there

    def _read(self, seen: Observation) -> tuple[Sequence[Reading], str]:
        why = blind(seen, running=seen.running, waiting=seen.waiting)
        if why:
            return [Reading(None, target, False, why) for target in self._targets], why
        total = float(seen.running + seen.waiting)
        parts = parts_of(seen, self.limits)
        active = any_active([(total, self.activation)])
        readings = [Reading(part, target, active) for part, target in zip(parts, self._targets, strict=True)]
        return readings, f"{total:.4g} requests, {self.target:.2f} of the sequences at l_SLO wanted per replica"


SEARCH: dict[str, dict[str, tuple[Any, ...]]] = {
    "keda": {
        "target": ("log", 0.05, 1.2),
        "activation": ("float", 0.0, 20.0),
        "polling_s": ("float", 5.0, 120.0),
        "cooldown_s": ("float", 0.0, 1800.0),
        "tolerance": ("float", 0.0, 0.3),
        "window_up_s": ("float", 0.0, 600.0),
        "window_down_s": ("float", 0.0, 1800.0),
        "up_pods": ("int", 1, 16),
        "up_percent": ("int", 10, 400),
        "down_percent": ("int", 5, 100),
        "behavior": ("choice", "absent", "given"),
    }
}
SCALERS = {
    "keda": ScalerKind(
        Keda,
        Knob(
            "target",
            OCCUPANCIES,
            0.5,
            "running + waiting requests per replica, as a share of its sequences at l_SLO",
        ),
        "KEDA: to and from zero by activity, from 1 to N by a Kubernetes HPA on the total of requests",
        stabilisation="window_down_s",
        native_s=SYNC_S,  # of the HPA below; to and from zero it polls every 30 s
        upstream={
            "activation": 0.0,
            "polling_s": POLLING_S,
            "cooldown_s": COOLDOWN_S,
            "initial_cooldown_s": INITIAL_COOLDOWN_S,
            "behavior": "absent",
            "sync_s": SYNC_S,
        },
    )
}
