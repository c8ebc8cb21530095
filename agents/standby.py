"""Headroom with replicas in standby: the fleet follows the present demand closely, and what wakes covers the rest."""

from __future__ import annotations

import math

from agents.headroom import LEVELS, Headroom
from rlscale.decide import positive
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits


class HeadroomStandby:
    """The reactive rule, and `share` of its target, rounded up, kept in standby in every pool that can."""

    def __init__(self, limits: ScalingLimits, headroom: float = 1.2, share: float = 0.3) -> None:
        self.limits = limits
        self.share = positive("headroom-standby: share", share)
        self._rule = Headroom(limits, headroom)

    def reset(self) -> None:
        """Forget the run."""
        self._rule.reset()

    def decide(self, seen: Observation) -> Decision:
        """The rule's capacity; standby in proportion to the targets in force."""
        decision = self._rule.decide(seen)
        counts = [int(count) for count in seen.target]
        most = [int(count) for count in self.limits.max_standby[: len(counts)]]
        standby = tuple(min(limit, math.ceil(self.share * count)) for count, limit in zip(counts, most, strict=True))
        return Decision(decision.target, decision.reason, decision.capacity_per_s, standby)


SCALERS = {
    "headroom-standby": ScalerKind(
        HeadroomStandby,
        Knob("headroom", LEVELS, 1.2, "capacity over demand"),
        "headroom, with a third as many replicas in standby",
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "headroom-standby": {"headroom": ("log", 0.7, 3.0), "share": ("log", 0.02, 1.0)}
}
