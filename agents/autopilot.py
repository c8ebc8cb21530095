"""A recommender in the manner of Autopilot: replicas from a decaying histogram of the service's usage.

General knowledge of the EuroSys 2020 paper, whose full text and code are not open: an approximation, on the histogram
of the Vertical Pod Autoscaler. Usage is what the load needs of the fleet, in requests per second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from agents.averages import Averages, from_zero
from agents.headroom import LEVELS
from agents.histogram import MARGIN, Decaying, Exponential
from rlscale.decide import blind, carried_per_s, demand_per_s, hold, positive
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

PERIOD_S = 300.0
# What the paper is known to use; it forgets over days, far more slowly than a fleet of GPUs pays for.
PAPER: dict[str, Any] = {"headroom": 1.0 + MARGIN, "share": 0.95, "half_life_s": 43_200.0, "defer_s": 3600.0}
_MOST_PER_S, _FIRST_PER_S = 1e6, 0.01  # buckets of 5 % from 0.01 to a million requests/s


class Recommender:
    """Largest recommendation of the last `defer_s`; one recommendation is a percentile of usage, averaged over 5 min.

    Shrinking is deferred by that maximum and slowed to `decay` of the count per period; changes within `ignore` of
    the count are ignored; growth is limited to `growth` times what is ready, so the more of the fleet is still
    starting, the less is added.
    """

    def __init__(
        self, share: float, half_life_s: float, defer_s: float, decay: float, ignore: float, growth: float
    ) -> None:
        if not (0 < share <= 1 and 0 < decay <= 1 and 0 <= ignore < 1 and defer_s >= 0):
            what = f"share = {share}, decay = {decay}, ignore = {ignore}, defer_s = {defer_s}"
            raise ScenarioError(f"autopilot: {what}; expected shares of at most 1 and seconds")
        self.share, self.defer_s, self.decay, self.ignore = share, defer_s, decay, ignore
        self.growth = positive("autopilot: growth", growth)
        self.half_life_s = half_life_s
        self.reset()

    def reset(self) -> None:
        """Forget the usage."""
        self.histogram = Decaying(Exponential(_MOST_PER_S, _FIRST_PER_S), self.half_life_s)
        self._recent: list[tuple[float, float]] = []  # (time, usage recommended for)

    def state(self) -> dict[str, Any]:
        """Histogram and recommendations, as JSON can hold them."""
        return {"histogram": self.histogram.state(), "recent": [list(entry) for entry in self._recent]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        self.histogram.restore(state["histogram"])
        self._recent = [(float(at_s), float(usage)) for at_s, usage in state["recent"]]

    def usage(self, t_s: float, mean: float) -> float:
        """Usage to provide for after a period whose mean was `mean`."""
        if self._recent and t_s < self._recent[-1][0]:
            self.reset()  # the clock jumped back
        self.histogram.add(mean, t_s)
        now = self.histogram.percentile(self.share)
        # Below the first bucket's end there is no telling from nothing.
        self._recent.append((t_s, 0.0 if now <= _FIRST_PER_S else now))
        self._recent = [entry for entry in self._recent if entry[0] > t_s - self.defer_s or entry[0] == t_s]
        return max(usage for _, usage in self._recent)

    def count(self, wanted: float, current: float, starting: float) -> float:
        """The size, in any unit, on the way from `current`, of which `starting` is not ready, to `wanted`."""
        if current <= 0 or wanted == current:
            return wanted
        if wanted > current:
            most = current + self.growth * (current - starting)
            return max(current, min(wanted, most)) if wanted > current * (1 + self.ignore) else current
        return max(wanted, current * (1 - self.decay)) if wanted < current * (1 - self.ignore) else current


class Autopilot:
    """Replicas for a percentile of the usage and a margin, at most `utilisation` of what they carry."""

    def __init__(
        self,
        limits: ScalingLimits,
        headroom: float = 1.2,
        share: float = 0.95,
        half_life_s: float = PERIOD_S,
        defer_s: float = 900.0,
        decay: float = 0.5,
        ignore: float = 0.05,
        growth: float = 2.0,
        period_s: float = PERIOD_S,
    ) -> None:
        self.limits = limits
        self.headroom = positive("autopilot: headroom", headroom)
        self.recommender = Recommender(share, half_life_s, defer_s, decay, ignore, growth)
        self._period = Averages(positive("autopilot: period_s", period_s))

    def reset(self) -> None:
        """Forget everything."""
        self.recommender.reset()
        self._period.reset()

    def decide(self, seen: Observation) -> Decision:
        """One recommendation per period."""
        called = from_zero(seen, self.limits)
        if called:
            return called
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        mean = self._period.take(seen.t_s, math.nan if why else demand_per_s(seen, self.limits))
        if mean is None:
            return hold(seen, "between periods")
        if why:
            return hold(seen, why)
        usage = self.recommender.usage(seen.t_s, mean)
        current, starting = carried_per_s(seen.target, self.limits), carried_per_s(seen.pending, self.limits)
        wanted = self.recommender.count(self.headroom * usage, current, starting)
        reason = f"{usage:.4g}/s at percentile {100 * self.recommender.share:g}, {wanted:.4g}/s wanted"
        return hold(seen, reason) if wanted == current else Decision(reason=reason, capacity_per_s=wanted)

    def state(self) -> dict[str, Any]:
        """Recommender and the period under way, as JSON can hold them."""
        return {"recommender": self.recommender.state(), "period": self._period.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        self.recommender.restore(state["recommender"])
        self._period.restore(state["period"])


SCALERS = {
    "autopilot": ScalerKind(
        Autopilot,
        Knob("headroom", LEVELS, 1.2, "capacity over the percentile of usage"),
        "percentile of a decaying histogram of the load, in the manner of Autopilot (an approximation)",
        stabilisation="defer_s",
        native_s=PERIOD_S,
        upstream=PAPER,
        lacks_at=dict.fromkeys(
            ("scales in without traffic", "scales in for less load", "waits before it shrinks"),
            "upstream's half-life of 12 h: the percentile of usage falls over days, not within the hour",
        ),
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "autopilot": {
        "headroom": ("log", min(LEVELS), max(LEVELS)),
        "share": ("float", 0.5, 1.0),
        "half_life_s": ("log", 60.0, 43_200.0),
        "defer_s": ("log", 60.0, 3600.0),
        "decay": ("float", 0.05, 1.0),
        "ignore": ("float", 0.0, 0.3),
        "growth": ("float", 0.25, 4.0),
        "period_s": ("log", 15.0, 600.0),
    }
}
