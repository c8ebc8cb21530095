"""Shadow mode: two scalers decide upon the same observations, one acts, both are logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlscale.deploy.member import Member, current
from rlscale.deploy.shields.base import State, Target
from rlscale.execute import bound
from rlscale.types import Decision, Floats, Observation, Scaler, ScalingLimits

DEADLINE_S = 1.0  # a shadow may not keep those waiting that act


class Shadowed:
    """Decides as `acting` does. What the shadow would have done is in `last` after every decision.

    The shadow is asked after the acting one, in a thread of its own; whatever it does, the decision stands. It sees a
    fleet that is not of its making: what it would have come to, only a replay can tell.
    """

    def __init__(
        self, acting: Any, shadow: Scaler, limits: ScalingLimits, name: str = "shadow",
        deadline_s: float | None = DEADLINE_S,
    ) -> None:  # fmt: skip
        self.acting, self.limits, self.name = acting, limits, name
        self.shadow = Member(name, shadow, limits, deadline_s)
        self.failures = 0
        self.last: dict[str, Any] = {}

    def reset(self) -> None:
        """Forget the previous run."""
        self.acting.reset()
        self.shadow.reset()
        self.failures, self.last = 0, {}

    def warm_up(self, history_per_s: Floats, history_step_s: float) -> None:
        """Load before the run."""
        if hasattr(self.acting, "warm_up"):
            self.acting.warm_up(history_per_s, history_step_s)
        self.shadow.warm_up(history_per_s, history_step_s)

    def decide(self, seen: Observation) -> Decision:
        """The decision of the one that acts."""
        decision: Decision = self.acting.decide(seen)
        self.last = self._would(seen)
        return decision

    @property
    def forecaster(self) -> Any:
        """That of the acting scaler: it is fed by whoever feeds the scaler."""
        return getattr(self.acting, "forecaster", None)

    @property
    def counts(self) -> dict[str, int]:
        """Interventions upon the acting scaler, and failures of the shadow."""
        return {**getattr(self.acting, "counts", {}), "shadow_failed": self.failures}

    @property
    def gauges(self) -> dict[str, float]:
        """Those of the acting scaler."""
        return dict(getattr(self.acting, "gauges", {}))

    def state(self) -> State:
        """What must survive a restart."""
        keep = getattr(self.acting, "state", None)
        return {"acting": None if keep is None else keep(), "shadow": self.shadow.state(), "failures": self.failures}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        if state["acting"] is not None and hasattr(self.acting, "restore"):
            self.acting.restore(state["acting"])
        self.shadow.restore(state["shadow"])
        self.failures = int(state["failures"])

    def _would(self, seen: Observation) -> dict[str, Any]:
        """For the audit record: the shadow's name, bounded target (none where it failed) and reason."""
        answer = self.shadow.ask(seen)
        if answer.failure:
            self.failures += 1
            return {"scaler": self.name, "target": None, "reason": answer.reason}
        now: Target = current(seen)
        bounded = bound(Decision(answer.target), self.limits, now)
        reason = "; ".join(part for part in (answer.reason, bounded.reason) if part)
        return {"scaler": self.name, "target": list(bounded.target), "reason": reason}
