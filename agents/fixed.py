"""A constant fleet: what every other scaler has to beat."""

from __future__ import annotations

import math

from rlscale.errors import ScenarioError
from rlscale.execute import by_price
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits


class Fixed:
    """The same number of replicas always; on several pools, as many as carry what they would on the cheapest.

    Of prefill and decode replicas it is their number together, in the proportion in which both carry the same.
    """

    def __init__(self, limits: ScalingLimits, replicas: float = 8) -> None:
        if not (math.isfinite(replicas) and replicas >= 0):
            raise ScenarioError(f"fixed: replicas = {replicas}; expected a number of replicas, 0 or more")
        each = [float(limits.capacity_per_s[pool]) for pool in by_price(limits)[:1]]
        if limits.roles:
            each = [limits.reference_per_s]
        self._decision = Decision(
            reason=f"fixed at {math.ceil(replicas)}",
            capacity_per_s=math.ceil(replicas) * sum(each),  # nothing where no pool carries any
        )

    def reset(self) -> None:
        """Nothing to forget."""

    def decide(self, seen: Observation) -> Decision:
        """The same as ever."""
        return self._decision


SCALERS = {
    "fixed": ScalerKind(
        Fixed,
        Knob("replicas", (2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 50, 60), 8, "replicas kept at all times"),
        "a constant number of replicas",
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {"fixed": {"replicas": ("int", 1, 120)}}
