"""Kubernetes HorizontalPodAutoscaler (v2) on running + waiting requests per ready replica, one object per pool.

After pkg/controller/podautoscaler of kubernetes/kubernetes, v1.33 and later, with `behavior` present (Apache-2.0).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from agents.threshold import OCCUPANCIES
from rlscale.decide import Cadence, Window, blind, hold, positive, proportional, within
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits


@dataclass(frozen=True, slots=True)
class Policy:
    """In any `period_s` seconds, a change of at most `value` replicas, or percent of the replicas."""

    kind: Literal["pods", "percent"]
    value: float
    period_s: float


@dataclass(frozen=True, slots=True)
class Rules:
    """One direction of `behavior`; `select` says whether the policy with the largest or smallest change rules."""

    window_s: float
    policies: tuple[Policy, ...]
    select: Literal["max", "min", "disabled"] = "max"


UP = Rules(0.0, (Policy("pods", 4, 15.0), Policy("percent", 100, 15.0)))
DOWN = Rules(300.0, (Policy("percent", 100, 15.0),))


class HPA:
    """`target` is the wanted mean of running + waiting requests per replica, as a share of its sequences at l_SLO.

    The metric is the service's, so every pool sees the same share and scales its own replicas by it. Asked more
    often than every `sync_s`, it holds in between; asked less often, each call is one sync.
    """

    def __init__(
        self,
        limits: ScalingLimits,
        target: float = 0.5,
        tolerance: float = 0.1,
        sync_s: float = 15.0,
        behavior: tuple[Rules, Rules] = (UP, DOWN),
    ) -> None:
        self.limits = limits
        self.target = positive("hpa: target", target)
        self.tolerance = tolerance
        self._beat = Cadence(sync_s)
        self._objects = [Controller(*behavior) for _ in limits.seats]

    def reset(self) -> None:
        """A controller restart: forget recommendations and scale events."""
        self._beat.reset()
        for controller in self._objects:
            controller.reset()

    def decide(self, seen: Observation) -> Decision:
        """One sync of every pool's controller."""
        if not self._beat.due(seen.t_s):
            return hold(seen, "between syncs")
        why = blind(seen, running=seen.running, waiting=seen.waiting)
        serving = float(seen.ready_at_scrape @ self.limits.seats)
        if not why and serving == 0 and seen.target.sum() > 0:
            why = "no replica with metrics"
        if why:
            return hold(seen, why)
        requests = seen.running + seen.waiting
        share = requests / serving if serving > 0 else math.inf if requests > 0 else 0.0
        target = tuple(self._sync(pool, share, seen) for pool in range(len(self._objects)))
        return Decision(target, f"{share:.2f} of the sequences at l_SLO, target {self.target:.2f}")

    def _sync(self, pool: int, share: float, seen: Observation) -> int:
        current = int(seen.target[pool])
        low, high = int(self.limits.min_replicas[pool]), int(self.limits.max_replicas[pool])
        pods = Pods(
            sampled=int(min(seen.ready[pool], seen.ready_at_scrape[pool])),
            missing=int(max(0, seen.ready[pool] - seen.ready_at_scrape[pool])),
            unready=int(seen.pending[pool]),
        )
        if current == 0:
            # A count of 0 has no pods to average over: upstream's rule for a metric of the whole service.
            proposal = math.ceil(min(share / self.target, high))
        else:
            seats = float(self.limits.seats[pool])
            proposal = pods_average(share * seats, self.target * seats, pods, current, self.tolerance)
        return self._objects[pool].sync(seen.t_s, current, proposal, (low, high))


@dataclass(frozen=True, slots=True)
class Pods:
    """Pods of one pool as the replica calculator groups them."""

    sampled: int  # ready and with a metric
    missing: int = 0  # ready since the scrape
    unready: int = 0  # ordered, not ready


def pods_average(average: float, target: float, pods: Pods, current: int, tolerance: float) -> int:
    """Replicas for a metric of type Pods with an AverageValue target.

    Pods that start count as idle when growing, so that what is on its way is not ordered again; they are left out
    when shrinking. A result that contradicts the first ratio keeps the current count.
    """
    if pods.sampled == 0:
        return current
    average = math.floor(average * 1000) / 1000  # the metrics API has thousandths
    ratio = average / target
    if not pods.missing and not (pods.unready and ratio > 1):
        return proportional(pods.sampled, average, target, tolerance, current)
    usage, count = average * pods.sampled, pods.sampled
    if ratio < 1:
        usage, count = usage + target * pods.missing, count + pods.missing
    elif ratio > 1:
        count += pods.missing + pods.unready
    filled = usage / (count * target)
    if within(filled, tolerance) or filled < 1 < ratio or ratio < 1 < filled:
        return current
    replicas = math.ceil(filled * count)
    contradiction = (filled < 1 and replicas > current) or (filled > 1 and replicas < current)
    return current if contradiction else replicas


class Controller:
    """What one HPA object remembers, and what it makes of a proposal."""

    def __init__(self, up: Rules, down: Rules) -> None:
        self.up, self.down = up, down
        self._calm = Window(up.window_s, min)
        self._peak = Window(down.window_s, max)
        self._events: deque[tuple[float, int]] = deque()  # (time, change of the count)
        self._seeded = False

    def reset(self) -> None:
        """Forget everything."""
        self._calm.reset()
        self._peak.reset()
        self._events.clear()
        self._seeded = False

    def sync(self, t_s: float, current: int, proposal: int, bounds: tuple[int, int]) -> int:
        """The new count. A count outside the bounds goes to them without windows and policies."""
        if not self._seeded:
            self._seeded = True
            self.stabilise(t_s, current, current)
        low, high = bounds
        if current > high or current < low:
            wanted = min(max(current, low), high)
        else:
            wanted = self.rate_limited(t_s, current, self.stabilise(t_s, current, proposal), bounds)
        if wanted != current:
            self._remember(t_s, wanted - current)
        return wanted

    def stabilise(self, t_s: float, current: int, proposal: int) -> int:
        """Within the smallest recommendation of the upward window and the largest of the downward window."""
        low = int(self._calm.extreme(t_s, proposal))
        high = int(self._peak.extreme(t_s, proposal))
        return min(max(current, low), high)

    def rate_limited(self, t_s: float, current: int, wanted: int, bounds: tuple[int, int]) -> int:
        """Within what the policies of the direction allow from the count at the start of their periods."""
        low, high = bounds
        if wanted > current:
            top = max(current, self._limit(self.up, t_s, current, +1))
            return min(wanted, high, top)
        floor = min(current, self._limit(self.down, t_s, current, -1))
        return max(wanted, low, floor)

    def _limit(self, rules: Rules, t_s: float, current: int, sign: int) -> int:
        """The count that the ruling policy allows; growth is rounded up, what remains is truncated."""
        if rules.select == "disabled":
            return current
        allowed = []
        for policy in rules.policies:
            start = current - sum(change for at_s, change in self._events if t_s - at_s < policy.period_s)
            if policy.kind == "pods":
                allowed.append(int(start + sign * policy.value))
            else:
                count = start * (1 + sign * policy.value / 100)
                allowed.append(math.ceil(count) if sign > 0 else math.trunc(count))
        # The largest change is the largest count on the way up and the smallest on the way down.
        return max(allowed) if (sign > 0) == (rules.select == "max") else min(allowed)

    def _remember(self, t_s: float, change: int) -> None:
        self._events.append((t_s, change))
        longest_s = max((policy.period_s for policy in (*self.up.policies, *self.down.policies)), default=0.0)
        while self._events[0][0] <= t_s - longest_s and len(self._events) > 1:
            self._events.popleft()


def build(
    limits: ScalingLimits,
    target: float = 0.5,
    tolerance: float = 0.1,
    sync_s: float = 15.0,
    window_up_s: float = UP.window_s,
    window_down_s: float = DOWN.window_s,
) -> HPA:
    """The scaler from plain numbers, with upstream's default policies."""
    behavior = replace(UP, window_s=window_up_s), replace(DOWN, window_s=window_down_s)
    return HPA(limits, target, tolerance, sync_s, behavior)


SCALERS = {
    "hpa": ScalerKind(
        build,
        Knob(
            "target",
            OCCUPANCIES,
            0.5,
            "running + waiting requests per replica, as a share of its sequences at l_SLO",
        ),
        "Kubernetes HPA on running + waiting requests per ready replica",
        upstream={"target": 0.8, "tolerance": 0.1, "sync_s": 15.0, "window_up_s": 0.0, "window_down_s": 300.0},
    )
}
