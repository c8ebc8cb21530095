"""What Knative does with an autoscaler's proposal for one revision: bounds, initial scale, scaling to zero.

After pkg/reconciler/autoscaling/kpa/{scaler,kpa}.go of knative/serving, commit 98e5ef90aa70 (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from agents.knative_config import DEFAULTS

UNKNOWN = -1  # no proposal yet, or none that may be applied
ACTIVATION_BUFFER_S = 30.0  # beyond the progress deadline, so that the deployment can say first what went wrong

Condition = Literal["activating", "active", "inactive"]
Reachability = Literal["unknown", "reachable", "unreachable"]


@dataclass(frozen=True, slots=True)
class RevisionSpec:
    """Settings of a revision. An unreachable one, which no route names, has no minimum and no pod retention."""

    min_scale: int = DEFAULTS.min_scale
    max_scale: int = DEFAULTS.max_scale  # 0: unlimited
    initial_scale: int = DEFAULTS.initial_scale
    reachability: Reachability = "unknown"
    enable_scale_to_zero: bool = DEFAULTS.enable_scale_to_zero
    stable_window_s: float = DEFAULTS.stable_window_s
    grace_period_s: float = DEFAULTS.scale_to_zero_grace_period_s
    pod_retention_s: float = DEFAULTS.scale_to_zero_pod_retention_period_s
    progress_deadline_s: float = DEFAULTS.progress_deadline_s
    target_burst_capacity: float = DEFAULTS.target_burst_capacity

    @property
    def min_pods(self) -> int:
        """Minimum while the initial scale is not concerned."""
        return 0 if self.reachability == "unreachable" else self.min_scale

    @property
    def retention_s(self) -> float:
        """How long the last pod stays after deactivation."""
        return 0.0 if self.reachability == "unreachable" else self.pod_retention_s


class Scaled(NamedTuple):
    """The wanted count, -1 for unknown, and whether it may be written. Wanted 0 and not written deactivates."""

    desired: int
    write: bool


class Revision:
    """Condition of a revision, for how long, whether its initial scale was reached, since when requests are proxied.

    A new revision is activating. The activator buffers requests in proxy mode; in serve mode pods get them directly.
    """

    def __init__(
        self, spec: RevisionSpec, t_s: float, condition: Condition = "activating", initialised: bool = False
    ) -> None:
        self.spec = spec
        self.condition: Condition = condition
        self.since_s = t_s
        self.initialised = initialised
        self.proxy_since_s: float | None = t_s if condition == "inactive" else None

    def reconcile(self, t_s: float, proposal: int, excess_burst_capacity: int, ready: int) -> Scaled:
        """One pass: what to write, then the mode of the activator, then the condition."""
        scaled = self.scale(t_s, proposal)
        self._route(t_s, scaled.desired, excess_burst_capacity)
        self._observe(t_s, scaled.desired, ready)
        return scaled

    def scale(self, t_s: float, proposal: int, probe: Callable[[], bool] | None = None) -> Scaled:
        """The proposal within the bounds and, for 0, the steps to zero. Changes nothing here.

        `probe` says whether the activator is in the path; None: as this object has routed it. It is not asked where
        the burst capacity is below 0, for the activator is then always there. Its failure is an answer of False.
        """
        if proposal < 0 and self.condition != "activating":
            return Scaled(proposal, False)
        low, high = self.least_pods(), self.spec.max_scale
        # The initial scale may lie above the maximum: as upstream, what is below it is raised, what is above the
        # maximum is lowered.
        desired = low if proposal < low else high if 0 < high < proposal else proposal
        return self._to_zero(t_s, probe) if desired == 0 else Scaled(desired, True)

    def least_pods(self) -> int:
        """The minimum, raised to the initial scale until that was reached."""
        spec = self.spec
        # An initial scale of 1 holds nothing up: else no new revision without traffic could go to zero.
        if self.initialised or spec.initial_scale <= 1 or spec.reachability == "unreachable":
            return spec.min_pods
        return max(spec.min_pods, spec.initial_scale)

    def proxied_for_s(self, t_s: float) -> float:
        """How long the activator has been in the path."""
        return 0.0 if self.proxy_since_s is None else t_s - self.proxy_since_s

    def state(self) -> dict[str, Any]:
        """All there is to remember, as plain JSON."""
        return {
            "condition": self.condition,
            "since_s": self.since_s,
            "initialised": self.initialised,
            "proxy_since_s": self.proxy_since_s,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.condition, self.since_s = state["condition"], state["since_s"]
        self.initialised, self.proxy_since_s = state["initialised"], state["proxy_since_s"]

    def _to_zero(self, t_s: float, probe: Callable[[], bool] | None) -> Scaled:
        spec, age_s = self.spec, t_s - self.since_s
        if not spec.enable_scale_to_zero:
            return Scaled(1, True)
        if self.condition == "activating":
            stuck = age_s > spec.progress_deadline_s + ACTIVATION_BUFFER_S
            return Scaled(0, True) if stuck else Scaled(UNKNOWN, False)
        if self.condition == "active":
            return Scaled(0, False) if age_s >= spec.stable_window_s else Scaled(1, True)
        in_path = spec.target_burst_capacity < 0 or (probe or self._proxied)()
        return Scaled(0, in_path and self._may_end(t_s, age_s))

    def _may_end(self, t_s: float, inactive_s: float) -> bool:
        """The last pod may go: nobody knows its address any more, and it was kept as long as asked."""
        spec = self.spec
        if inactive_s >= max(spec.grace_period_s, spec.retention_s):
            return True
        return inactive_s >= spec.retention_s and self.proxied_for_s(t_s) >= spec.grace_period_s

    def _proxied(self) -> bool:
        return self.proxy_since_s is not None

    def _route(self, t_s: float, wanted: int, excess_burst_capacity: int) -> None:
        asleep = wanted == 0 or (wanted == UNKNOWN and self.condition == "inactive")
        if not asleep and excess_burst_capacity >= 0:
            self.proxy_since_s = None
        elif self.proxy_since_s is None:
            self.proxy_since_s = t_s

    def _observe(self, t_s: float, wanted: int, ready: int) -> None:
        condition = self.condition
        least = max(1, self.least_pods())
        if wanted == 0:
            condition = "inactive"
        elif wanted > 0 or condition != "inactive":
            condition = "active" if ready >= least else "activating"
        self.initialised = self.initialised or ready >= least
        if condition != self.condition:
            self.condition, self.since_s = condition, t_s
