"""Pieces the cloud providers' scalers share: means over whole periods, the load per seat, the way out of zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlscale.decide import blind, called_from_zero, demand_per_s
from rlscale.types import Decision, Observation, ScalingLimits


class Averages:
    """Means of what was measured in periods of `every_s` seconds, one at the end of each."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self.reset()

    def reset(self) -> None:
        """Forget the period under way."""
        self._sum, self._count = 0.0, 0
        self._last_s = self._end_s = -math.inf

    def take(self, t_s: float, value: float) -> float | None:
        """The mean of the period that ends with this value, NaN if nothing was measured; None within a period.

        A value that is not finite is no measurement. When the clock jumps back, the period starts anew.
        """
        if t_s < self._last_s:
            self.reset()
        self._last_s = t_s
        if math.isfinite(value):
            self._sum += value
            self._count += 1
        if t_s < self._end_s:
            return None
        mean = self._sum / self._count if self._count else math.nan
        self._sum, self._count = 0.0, 0
        # Ends stay a whole number of periods apart when calls come late.
        begun_s = self._end_s if math.isfinite(self._end_s) else t_s
        self._end_s = begun_s + self.every_s * (math.floor((t_s - begun_s) / self.every_s) + 1)
        return mean

    def state(self) -> dict[str, Any]:
        """The period under way, as JSON can hold it (None: not begun)."""
        begun = math.isfinite(self._end_s)
        times = {"last_s": self._last_s, "end_s": self._end_s} if begun else {"last_s": None, "end_s": None}
        return {"sum": self._sum, "count": self._count, **times}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        self.reset()
        self._sum, self._count = float(state["sum"]), int(state["count"])
        if state["end_s"] is not None:
            self._last_s, self._end_s = float(state["last_s"]), float(state["end_s"])


def seat_share(seen: Observation, limits: ScalingLimits) -> tuple[float, str]:
    """Running and waiting requests over the seats that serve, at l_SLO; or NaN, and why it cannot be said."""
    why = blind(seen, running=seen.running, waiting=seen.waiting)
    serving = float(seen.ready_at_scrape @ limits.seats)
    if not why and serving == 0:
        why = "no replica with metrics"
    return (math.nan, why) if why else (float(seen.running + seen.waiting) / serving, "")


def from_zero(seen: Observation, limits: ScalingLimits) -> Decision | None:
    """A group of no instances has no metric. What calls the first instance in practice is an alarm on the queue."""
    if not called_from_zero(seen) or blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting):
        return None
    wanted = demand_per_s(seen, limits)
    return Decision(reason=f"{wanted:.3g}/s asked of no replica", capacity_per_s=wanted)


def instances(seen: Observation, pool: int) -> tuple[int, int]:
    """(warm, ordered) instances of a pool. Where none is ordered, one stands in for those that carry the metric."""
    ordered = int(seen.target[pool])
    warm = int(min(seen.ready[pool], seen.ready_at_scrape[pool]))
    return (max(1, warm) if ordered == 0 else warm), ordered
