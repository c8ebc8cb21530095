"""KEDA's half of an autoscaler: between nothing and one replica, and what metrics read while they cannot be had.

The other half, 1 to N, is the HorizontalPodAutoscaler that KEDA creates and feeds. After
pkg/scaling/executor/scale_scaledobjects.go, pkg/fallback/fallback.go and controllers/keda/hpa.go of kedacore/keda,
8b4f083ca8c8 (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agents.hpa_pods import MetricError
from rlscale.errors import ScenarioError

POLLING_S, COOLDOWN_S, INITIAL_COOLDOWN_S = 30.0, 300.0, 0.0
MIN_REPLICAS, MAX_REPLICAS = 0, 100
MetricType = Literal["AverageValue", "Value"]
METRIC_TYPE: MetricType = "AverageValue"

UPSTREAM_DEFAULTS: dict[str, dict[str, Any]] = {
    "keda": {
        "polling_interval_s": POLLING_S,
        "cooldown_period_s": COOLDOWN_S,
        "initial_cooldown_s": INITIAL_COOLDOWN_S,
        "min_replicas": MIN_REPLICAS,
        "max_replicas": MAX_REPLICAS,
        "metric_type": METRIC_TYPE,
    }
}


def is_active(value: float, activation: float = 0.0) -> bool:
    """A trigger wants replicas strictly above its activation threshold; one that reads NaN does not."""
    return value > activation


def any_active(triggers: Sequence[tuple[float, float]], resources_only: bool = False) -> bool:
    """Whether any (value, activation threshold) is active; an object with nothing but CPU and memory always is."""
    return resources_only or any(is_active(value, threshold) for value, threshold in triggers)


def composed(formula: Callable[..., float], *values: float | None) -> float | None:
    """A scaling modifier: one metric from the values of several triggers; None, a failure, where one of them failed.

    The fallback then stands for the composite, and its activity is that of the composite.
    """
    return None if None in values else formula(*values)


def hpa_bounds(low: int | None = None, high: int | None = None) -> tuple[int, int]:
    """Bounds of the HorizontalPodAutoscaler, which never sees 0."""
    return max(low or MIN_REPLICAS, 1), MAX_REPLICAS if high is None else high


# Fallback.
Behaviour = Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]
BEHAVIOURS = ("static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower")


@dataclass(frozen=True, slots=True)
class Fallback:
    """After more than `threshold` failures on end, a metric reads what `replicas` replicas would need."""

    threshold: int
    replicas: int
    behavior: Behaviour = "static"

    @property
    def valid(self) -> bool:
        """Upstream admits a negative number here and then never falls back."""
        return self.threshold >= 0 and self.replicas >= 0

    def wanted(self, current: int) -> int:
        """Replicas to fall back to, given those there are."""
        if self.behavior == "currentReplicas":
            return current
        if self.behavior == "currentReplicasIfHigher":
            return max(current, self.replicas)
        if self.behavior == "currentReplicasIfLower":
            return min(current, self.replicas)
        return self.replicas


@dataclass(slots=True)
class Health:
    """One metric's failures on end."""

    failures: int = 0

    @property
    def status(self) -> str:
        """Upstream's word for it."""
        return "Failing" if self.failures else "Happy"

    def read(
        self,
        value: float | None,
        target: float,
        fallback: Fallback | None = None,
        metric_type: MetricType = METRIC_TYPE,
        current: int = 0,
        ready: int = 0,
    ) -> float:
        """The value that the autoscaler sees; `value` None is a failure. MetricError where that is passed on.

        A value metric is multiplied by the ready replicas later on, so the fallback is divided by them here.
        """
        if value is not None:
            self.failures = 0
            return value
        self.failures += 1
        if fallback is None or not fallback.valid or self.failures <= fallback.threshold:
            raise MetricError(f"trigger failed {self.failures} times on end")
        replicas = fallback.wanted(current)
        if metric_type == "AverageValue":
            return target * replicas
        if ready == 0:
            raise MetricError("trigger failed, and a value metric has no fallback without ready replicas")
        return target * replicas / ready


# Executor.
@dataclass(frozen=True, slots=True)
class ScaledObject:
    """What is asked of the executor. `idle` None: no idle mode; `paused` None: not paused."""

    low: int = MIN_REPLICAS
    high: int = MAX_REPLICAS
    idle: int | None = None
    cooldown_s: float = COOLDOWN_S
    initial_cooldown_s: float = INITIAL_COOLDOWN_S
    paused: int | None = None
    paused_in: bool = False
    paused_out: bool = False
    force_activation: bool = False
    fallback: Fallback | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ScenarioError(f"keda: bounds {self.low} to {self.high}; expected 0 <= low <= high")
        if self.idle is not None and not 0 <= self.idle < self.low:
            raise ScenarioError(f"keda: idle = {self.idle}; expected 0 or more and below the minimum {self.low}")


@dataclass(frozen=True, slots=True)
class Step:
    """What one poll came to; `ready` is upstream's Ready condition: True, Unknown (some failed) or False."""

    replicas: int
    reason: str
    ready: Literal["True", "Unknown", "False"] = "True"


class Executor:
    """Moves a service between 0, or idle, and its minimum, poll by poll; 1 to N is none of its business."""

    def __init__(self, wanted: ScaledObject, created_s: float = 0.0) -> None:
        self.wanted = wanted
        self.created_s = created_s
        self.last_active_s: float | None = None

    def state(self) -> dict[str, Any]:
        """What is remembered, plain. Upstream keeps it in the object's status."""
        return {"created_s": self.created_s, "last_active_s": self.last_active_s}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.created_s, self.last_active_s = state["created_s"], state["last_active_s"]

    def cooled_down(self, now_s: float) -> bool:
        """Whether the last activity is longer ago than the cooldown; without any, the creation than the initial one."""
        if self.last_active_s is None:
            return self.created_s + self.wanted.initial_cooldown_s < now_s
        return self.last_active_s + self.wanted.cooldown_s < now_s

    def poll(self, now_s: float, current: int, active: bool, failed: bool = False) -> Step:
        """One poll. `active`: a trigger is above its threshold; `failed`: a trigger could not be read."""
        wanted = self.wanted
        if wanted.paused is not None:
            return Step(wanted.paused, "paused")
        if active or wanted.force_activation:
            return self._active(now_s, current, failed)
        usable = wanted.fallback is not None and wanted.fallback.replicas != 0
        if failed and usable:
            return Step(current, "a trigger failed, left to the fallback")
        if failed and wanted.fallback is None:
            return Step(current, "a trigger failed", "False")
        return self._inactive(now_s, current)

    def _active(self, now_s: float, current: int, failed: bool) -> Step:
        wanted = self.wanted
        if current == 0 or (wanted.idle is not None and current < wanted.low):
            if wanted.paused_out:
                return Step(current, "active, scaling out is paused")
            self.last_active_s = now_s
            return Step(max(1, wanted.low), "activated")
        if failed:
            return Step(current, "active, some triggers failed", "Unknown")
        self.last_active_s = now_s
        return Step(current, "active")

    def _inactive(self, now_s: float, current: int) -> Step:
        wanted = self.wanted
        if (wanted.idle is not None and current > wanted.idle) or (current > 0 and wanted.low == 0):
            if wanted.paused_in:
                return Step(current, "inactive, scaling in is paused")
            if not self.cooled_down(now_s):
                return Step(current, "inactive, cooling down")
            return Step(wanted.low if wanted.idle is None else wanted.idle, "deactivated")
        if wanted.idle is None and current < wanted.low:
            return Step(wanted.low, "inactive, below the minimum")
        return Step(current, "inactive")
