"""One Kubernetes HorizontalPodAutoscaler: from its metrics to the count it writes, sync by sync.

After pkg/controller/podautoscaler/horizontal.go of kubernetes/kubernetes, v1.33 and later (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.hpa_behavior import (
    DOWNSCALE_STABILIZATION_S,
    TOO_FEW,
    TOO_MANY,
    WITHIN,
    Behavior,
    Events,
    Recommendation,
    ScaleEvent,
    legacy_normalize,
    legacy_stabilize,
    rate_limited,
    stabilize,
    store_event,
    tolerance_of,
    with_defaults,
)
from agents.hpa_calculator import Proposal, Tolerance
from agents.hpa_pods import MetricError, Readiness
from rlscale.errors import ScenarioError

SYNC_S = 15.0
_READINESS, _TOLERANCE = Readiness(), Tolerance()

UPSTREAM_DEFAULTS: dict[str, dict[str, Any]] = {
    "k8s-hpa controller": {
        "sync_period_s": SYNC_S,
        "tolerance": _TOLERANCE.up,
        "cpu_initialization_period_s": _READINESS.cpu_initialization_s,
        "initial_readiness_delay_s": _READINESS.initial_delay_s,
        "downscale_stabilization_s": DOWNSCALE_STABILIZATION_S,
    }
}

Metric = Callable[[int, Tolerance], Proposal]
"""From the current count and the tolerance to a proposal; raises MetricError. Read only where bounds allow."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one sync came to. `reason` is upstream's word for the limit that ruled; `error` the metrics' failure."""

    replicas: int
    scaled: bool
    reason: str = WITHIN
    error: str = ""


def largest(metrics: Sequence[Metric], current: int, tolerance: Tolerance) -> tuple[int, str]:
    """The largest proposal, and the error of the first metric that failed, empty when none did.

    MetricError where all failed, or where some did and the rest asks for fewer replicas than there are: a broken
    metric might be the one that needs them.
    """
    wanted, failures, first = 0, 0, ""
    for metric in metrics:
        try:
            wanted = max(wanted, metric(current, tolerance).replicas)
        except MetricError as error:
            failures += 1
            first = first or str(error)
    if failures >= len(metrics) or (failures and wanted < current):
        raise MetricError(first or "no metrics")
    return wanted, first


class HorizontalAutoscaler:
    """One autoscaler and all its controller remembers of it.

    `behavior` None is the legacy path. `low` and `high` are the bounds; a minimum of 0 lets metrics of the whole
    service start from nothing, any other minimum leaves a count of 0 alone: someone switched the service off.
    """

    def __init__(
        self,
        low: int = 1,
        high: int = 2**31 - 1,
        behavior: Behavior | None = None,
        tolerance: Tolerance = _TOLERANCE,
        downscale_stabilization_s: float = DOWNSCALE_STABILIZATION_S,
    ) -> None:
        if not 0 <= low <= high:
            raise ScenarioError(f"hpa: bounds {low} to {high}; expected 0 <= low <= high")
        self.low, self.high = low, high
        self.behavior = None if behavior is None else with_defaults(behavior, downscale_stabilization_s)
        self.tolerance = tolerance_of(behavior, tolerance)
        self.downscale_stabilization_s = downscale_stabilization_s
        # Kept in the object's status upstream, so a new controller still knows it.
        self.scaled_to_zero = False
        self.restart()

    def restart(self) -> None:
        """The controller is started anew: it forgets recommendations and scale events."""
        self.log: list[Recommendation] | None = None
        self.events = Events([], [])

    def state(self) -> dict[str, Any]:
        """All that is remembered, in plain lists."""
        return {
            "log": None if self.log is None else [[entry.replicas, entry.t_s] for entry in self.log],
            "up_events": [[event.change, event.t_s, event.outdated] for event in self.events.up],
            "down_events": [[event.change, event.t_s, event.outdated] for event in self.events.down],
            "scaled_to_zero": self.scaled_to_zero,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        log = state["log"]
        self.log = None if log is None else [Recommendation(*entry) for entry in log]
        self.events = Events(
            [ScaleEvent(*entry) for entry in state["up_events"]],
            [ScaleEvent(*entry) for entry in state["down_events"]],
        )
        self.scaled_to_zero = bool(state["scaled_to_zero"])

    def sync(self, now_s: float, current: int, metrics: Sequence[Metric]) -> Outcome:
        """One sync. Bounds come first and read no metric; failed metrics change nothing."""
        if self.log is None:
            self.log = [Recommendation(current, now_s)]
        outcome = self._outcome(now_s, current, metrics)
        if outcome.scaled:
            self.scaled_to_zero = outcome.replicas == 0 and self.low == 0
            store_event(self.behavior, self.events, now_s, current, outcome.replicas)
        return outcome

    def _outcome(self, now_s: float, current: int, metrics: Sequence[Metric]) -> Outcome:
        if current == 0 and self.low != 0 and not self.scaled_to_zero:
            return Outcome(0, False, "ScalingDisabled")
        if current > self.high:
            return Outcome(self.high, True, TOO_MANY)
        if 0 < current < self.low:
            return Outcome(self.low, True, TOO_FEW)
        try:
            proposal, error = largest(metrics, current, self.tolerance)
        except MetricError as failure:
            return Outcome(current, False, "", str(failure))
        replicas, reason = self._normalized(now_s, current, proposal)
        if replicas < self.low:
            replicas, reason = self.low, TOO_FEW
        return Outcome(replicas, replicas != current, reason, error)

    def _normalized(self, now_s: float, current: int, proposal: int) -> tuple[int, str]:
        assert self.log is not None
        behavior = self.behavior
        if behavior is None:
            desired = legacy_stabilize(self.log, now_s, proposal, self.downscale_stabilization_s)
            return legacy_normalize(current, desired, self.low, self.high)
        up_s, down_s = behavior.up.window_s, behavior.down.window_s
        assert up_s is not None and down_s is not None
        desired = stabilize(self.log, now_s, current, proposal, up_s, down_s)
        return rate_limited(behavior, self.events, now_s, current, desired, self.low, self.high)
