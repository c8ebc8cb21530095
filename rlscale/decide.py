"""Decide: the pieces that rules are made of. Knows no world, no future and no particular rule.

A fleet of several pools is measured by what it carries: `capacity_per_s` of its replicas added up, requests per
second within the SLO. With one pool that is its replicas times a constant; with prefill and decode pools the lesser of
what the two sides carry, each of which meets every request.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from rlscale.errors import ScenarioError
from rlscale.types import Decision, Floats, Observation, ScalingLimits

# Metrics older than this, and than three control intervals, say nothing about now.
STALE_S = 120.0


# Never guess: missing or old metrics mean hold.
def hold(seen: Observation, why: str) -> Decision:
    """Leave the target as it is."""
    return Decision(tuple(int(count) for count in np.atleast_1d(seen.target)), f"hold: {why}")


def blind(seen: Observation, **metrics: float) -> str:
    """Why these metrics cannot be decided upon; empty when they can. No traffic is a metric, NaN is none.

    All metrics here are counts, rates and shares: below 0 is a broken exporter.
    """
    if not seen.age_s <= max(STALE_S, 3 * seen.interval_s):
        return f"metrics are {seen.age_s:.0f} s old"
    missing = [name for name, value in metrics.items() if not math.isfinite(value)]
    if missing:
        return f"no value for {', '.join(missing)}"
    return ", ".join(f"{name} is {value:g}" for name, value in metrics.items() if value < 0)


# What is asked, what is there.
def demand_per_s(seen: Observation, limits: ScalingLimits) -> float:
    """Requests per second to be carried so that the present queue is gone in `drain_s`: rate + backlog/drain_s. Of two
    queues, before prefill and before decode, the longer one."""
    return float(seen.arrival_per_s + max(seen.waiting, seen.decode_waiting) / limits.drain_s)


def demand_replicas(seen: Observation, limits: ScalingLimits) -> Floats:
    """(P,) the same in replicas, if one pool had to carry it alone: (rate + backlog/drain_s) / l_SLO."""
    return np.asarray(demand_per_s(seen, limits) / limits.capacity_per_s, dtype=np.float64)


def carried_per_s(replicas: Any, limits: ScalingLimits) -> float:
    """What these replicas, (P,), carry within the SLO."""
    if not limits.roles:
        return float(np.dot(np.asarray(replicas, dtype=np.float64), limits.capacity_per_s))
    carried = np.asarray(replicas, dtype=np.float64) * limits.capacity_per_s
    return min(float(carried[list(side)].sum()) for side in limits.sides)


def busy_per_s(occupancy: Any, seen: Observation, limits: ScalingLimits) -> float:
    """Capacity that was in use at the scrape, by an occupancy per pool, (P,), 0 to 1 and more.

    NaN, a missing metric, where serving replicas have no occupancy, and where none serves yet: a fleet that is
    starting is not an idle one. An empty pool beside a serving one adds nothing; a fleet of nothing is idle. With
    prefill and decode pools it is that of the busier side.
    """
    serving = np.asarray(seen.ready_at_scrape, dtype=np.float64)
    if not serving.any():
        return math.nan if np.any(seen.target) else 0.0
    used = np.where(serving > 0, np.asarray(occupancy, dtype=np.float64), 0.0)
    busy = used * serving * limits.capacity_per_s
    if not limits.roles:
        return float(np.sum(busy))
    return max(float(busy[list(side)].sum()) for side in limits.sides)


def called_from_zero(seen: Observation) -> bool:
    """There is no replica, none was ordered, and someone asks: no occupancy would ever show that."""
    return not np.any(seen.target) and bool(seen.waiting > 0 or seen.arrival_per_s > 0)


def lead_s(limits: ScalingLimits) -> float:
    """Median seconds from an order to a ready replica, of the slowest pool."""
    return float(np.max(limits.start_median_s))


# Rules of thumb.
def positive(name: str, value: float) -> float:
    """The value of a scaler's parameter, refused unless it is a number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ScenarioError(f"{name} = {value}; expected a number above 0")
    return float(value)


def within(ratio: float, tolerance: float) -> bool:
    """Close enough to 1 to leave things alone; both ends belong to it."""
    return 1.0 - tolerance <= ratio <= 1.0 + tolerance


# Memory: of recommendations, of actions, of time.
class Window:
    """The extreme of what was recommended during the last `window_s` seconds: a stabilisation window.

    `pick` max keeps a fleet from shrinking for a moment of calm, min from growing for a moment of load.
    """

    def __init__(self, window_s: float, pick: Callable[..., float] = max) -> None:
        self.window_s = window_s
        self.pick = pick
        self._kept: deque[tuple[float, float]] = deque()  # (time, recommendation)

    def reset(self) -> None:
        self._kept.clear()

    def extreme(self, t_s: float, recommendation: float) -> float:
        """Remember this recommendation; the extreme of those younger than the window, this one included."""
        if self._kept and self._kept[-1][0] > t_s:  # the clock was set back: what is remembered is as of now
            self._kept = deque((min(at_s, t_s), value) for at_s, value in self._kept)
        while self._kept and self._kept[0][0] <= t_s - self.window_s:
            self._kept.popleft()
        # What is older and no more extreme will never count again, so the first one kept is the extreme.
        while self._kept and self.pick(self._kept[-1][1], recommendation) == recommendation:
            self._kept.pop()
        self._kept.append((t_s, recommendation))
        return self._kept[0][1]


class Cooldown:
    """No action for `cooldown_s` seconds after one."""

    def __init__(self, cooldown_s: float) -> None:
        self.cooldown_s = cooldown_s
        self._until_s = -math.inf

    def reset(self) -> None:
        self._until_s = -math.inf

    def over(self, t_s: float) -> bool:
        self._until_s = min(self._until_s, t_s + self.cooldown_s)  # no longer, should the clock have been set back
        return t_s >= self._until_s

    def start(self, t_s: float) -> None:
        self._until_s = t_s + self.cooldown_s


class Cadence:
    """A rule's own beat, for rules that are asked more often: due at the first call at or after every beat."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self._next_s = -math.inf

    def reset(self) -> None:
        self._next_s = -math.inf

    def due(self, t_s: float) -> bool:
        if self._next_s - self.every_s <= t_s < self._next_s:
            return False
        if t_s < self._next_s:  # the clock was set back
            self._next_s = -math.inf
        # The beat stays where it is when calls come late; whole beats that were slept through are dropped.
        first = self._next_s if math.isfinite(self._next_s) else t_s
        self._next_s = first + self.every_s * (math.floor((t_s - first) / self.every_s) + 1)
        return True
