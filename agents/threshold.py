"""Scale when occupancy leaves a band, then wait: the rule most clusters start with."""

from __future__ import annotations

import math

from rlscale.decide import Cooldown, blind, busy_per_s, called_from_zero, carried_per_s, hold, positive
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits


class Threshold:
    """Out above `upper`, in below `lower`, by a share of the fleet or, without `step_share`, to the middle of the band.

    Occupancy is the larger of compute and KV memory, spread over the replicas that serve *and* those that are
    starting: what has been ordered is taken for there. Occupancy is convex in load (half of l_SLO reads about 0.16
    on an H100 with chat), so jumping to the middle of the band overshoots on the way in; small steps do not.
    """

    def __init__(
        self,
        limits: ScalingLimits,
        upper: float = 0.5,
        lower: float | None = None,
        step_share: float | None = 0.2,
        cooldown_out_s: float = 60.0,
        cooldown_in_s: float = 300.0,
    ) -> None:
        self.limits = limits
        self.upper = upper
        self.lower = upper / 2 if lower is None else lower
        if not 0 <= self.lower < self.upper:
            raise ScenarioError(f"threshold: lower = {self.lower}, upper = {upper}; expected 0 <= lower < upper")
        self.step_share = None if step_share is None else positive("threshold: step_share", step_share)
        self._out = Cooldown(cooldown_out_s)
        self._in = Cooldown(cooldown_in_s)

    def reset(self) -> None:
        """Forget the last action."""
        self._out.reset()
        self._in.reset()

    def decide(self, seen: Observation) -> Decision:
        """Out, in, or nothing."""
        compute = busy_per_s(seen.compute_occupancy, seen, self.limits)
        memory = busy_per_s(seen.memory_occupancy, seen, self.limits)
        why = blind(seen, compute_occupancy=compute, memory_occupancy=memory)
        if why:
            return hold(seen, why)
        busy, ordered = max(compute, memory), carried_per_s(seen.ready + seen.pending, self.limits)
        occupancy = busy / ordered if ordered > 0 else math.inf if called_from_zero(seen) else 0.0
        if occupancy > self.upper:
            return self._act(self._out, seen, busy, f"occupancy {occupancy:.2f} above {self.upper:.2f}")
        if occupancy < self.lower:
            return self._act(self._in, seen, busy, f"occupancy {occupancy:.2f} below {self.lower:.2f}")
        return hold(seen, f"occupancy {occupancy:.2f} within the band")

    def _act(self, cooldown: Cooldown, seen: Observation, busy: float, why: str) -> Decision:
        if not cooldown.over(seen.t_s):
            return hold(seen, f"{why}, cooling down")
        cooldown.start(seen.t_s)
        self._in.start(seen.t_s)  # after growing too: a fleet that has just grown is not yet at its new occupancy
        step = self._step_per_s(seen) * (1 if cooldown is self._out else -1)
        middle = 2 * busy / (self.upper + self.lower)
        wanted = middle if self.step_share is None else carried_per_s(seen.target, self.limits) + step
        return Decision(reason=why, capacity_per_s=max(0.0, wanted))

    def _step_per_s(self, seen: Observation) -> float:
        """A share of the fleet, and at least its largest replica, so that a step is never rounded away."""
        largest = float(self.limits.capacity_per_s.max())
        return max((self.step_share or 0.0) * carried_per_s(seen.target, self.limits), largest)


# About evenly spread in load, as occupancy is convex: on an H100 with chat 0.08 is 0.3 of l_SLO, 0.23 0.6, 0.44 0.8.
OCCUPANCIES = (1.0, 0.8, 0.65, 0.5, 0.4, 0.33, 0.27, 0.22, 0.18, 0.14, 0.1, 0.07)

SCALERS = {
    "threshold": ScalerKind(
        Threshold,
        Knob(
            "upper",
            OCCUPANCIES,
            0.5,
            "occupancy above which replicas are added, as a share of the sequences at l_SLO",
        ),
        "steps out and in when occupancy leaves a band, with cooldowns",
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "threshold": {
        "upper": ("log", 0.05, 1.2),
        "step_share": ("log", 0.05, 1.0),
        "cooldown_out_s": ("float", 0.0, 600.0),
        "cooldown_in_s": ("float", 0.0, 3600.0),
    }
}
