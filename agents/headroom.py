"""Capacity in proportion to the present demand: the calibrated reactive rule, and what a policy learns to correct."""

from __future__ import annotations

from rlscale.decide import Window, blind, demand_per_s, hold, positive
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

LEVELS = (0.9, 1.0, 1.05, 1.1, 1.2, 1.3, 1.45, 1.6, 1.8, 2.1, 2.5, 3.0)


class Headroom:
    """headroom * (rate + backlog/drain_s), and no less than it asked for during the last `window_s` seconds.

    With `window_s` 0 it is the rule that the levels of a learned policy multiply.
    """

    def __init__(self, limits: ScalingLimits, headroom: float = 1.2, window_s: float = 0.0) -> None:
        self.limits = limits
        self.headroom = positive("headroom: headroom", headroom)
        self._window = Window(window_s)

    def reset(self) -> None:
        """Forget what was asked for."""
        self._window.reset()

    def decide(self, seen: Observation) -> Decision:
        """Headroom times demand."""
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        if why:
            return hold(seen, why)
        demand = demand_per_s(seen, self.limits)
        wanted = self._window.extreme(seen.t_s, self.headroom * demand)
        return Decision(reason=f"{demand:.4g}/s demanded, {wanted:.4g}/s wanted", capacity_per_s=wanted)


def held(limits: ScalingLimits, headroom: float = 1.2, window_s: float = 300.0) -> Headroom:
    """The rule with the scale-in stabilisation of a Kubernetes HPA."""
    return Headroom(limits, headroom, window_s)


_KNOB = Knob("headroom", LEVELS, 1.2, "capacity over demand")

SCALERS = {
    "headroom": ScalerKind(Headroom, _KNOB, "capacity in proportion to present demand", stabilisation="window_s"),
    "headroom-held": ScalerKind(
        held, _KNOB, "the same, scaling in on the largest demand of the last 5 minutes", stabilisation="window_s"
    ),
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "headroom": {"headroom": ("log", 0.7, 3.0)},
    "headroom-held": {"headroom": ("log", 0.7, 3.0), "window_s": ("log", 30.0, 7200.0)},
}
