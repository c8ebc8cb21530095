"""What scalers on a Kubernetes HorizontalPodAutoscaler share: settings in plain numbers, and one object per pool."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from agents.hpa_behavior import DOWN, DOWNSCALE_STABILIZATION_S, UP, WITHIN, Behavior, Policy, Rules
from agents.hpa_calculator import MAX_INT64, Proposal, Tolerance, by_value_per_pod
from agents.hpa_pods import MetricError
from agents.hpa_reconcile import SYNC_S, HorizontalAutoscaler, Metric, Outcome
from rlscale.decide import Cadence, hold, positive
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Observation, ScalingLimits


@dataclass(frozen=True, slots=True)
class Settings:
    """Controller and object settings in plain numbers; a policy of 0 pods or 0 percent is not listed.

    `behavior` "absent" is the legacy path, which knows no window but `window_down_s` and no policy.
    """

    tolerance: float = 0.1
    tolerance_down: float | None = None  # None: the same
    sync_s: float = SYNC_S
    behavior: Literal["given", "absent"] = "given"
    window_up_s: float = 0.0
    window_down_s: float = DOWNSCALE_STABILIZATION_S
    up_pods: int = 4
    up_percent: int = 100
    up_period_s: float = 15.0
    down_pods: int = 0
    down_percent: int = 100
    down_period_s: float = 15.0

    def __post_init__(self) -> None:
        if self.behavior not in ("given", "absent"):
            raise ScenarioError(f"hpa: behavior = '{self.behavior}'; expected 'given' or 'absent'")
        for name in ("sync_s", "up_period_s", "down_period_s"):
            positive(f"hpa: {name}", getattr(self, name))
        for name in ("tolerance", "window_up_s", "window_down_s", "up_pods", "up_percent", "down_pods", "down_percent"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ScenarioError(f"hpa: {name} = {value}; expected a number of 0 or more")

    def autoscaler(self, low: int, high: int) -> HorizontalAutoscaler:
        """One autoscaler of these settings with bounds."""
        down = self.tolerance if self.tolerance_down is None else self.tolerance_down
        behavior = None
        if self.behavior == "given":
            up = _policies(self.up_pods, self.up_percent, self.up_period_s)
            shrink = _policies(self.down_pods, self.down_percent, self.down_period_s)
            behavior = Behavior(Rules(up, UP.select, self.window_up_s), Rules(shrink, DOWN.select, self.window_down_s))
        return HorizontalAutoscaler(low, high, behavior, Tolerance(down, self.tolerance), self.window_down_s)


def _policies(pods: int, percent: int, period_s: float) -> tuple[Policy, ...]:
    both = Policy("Pods", int(pods), period_s), Policy("Percent", int(percent), period_s)
    return tuple(policy for policy in both if policy.value)


# What the three have in common.
def milli(value: float) -> int:
    """Thousandths of a metric, cut off, saturating."""
    return int(value * 1000.0) if value < MAX_INT64 / 1000 else MAX_INT64


def target_milli(value: float) -> int:
    """Thousandths of a target: a quantity is rounded up to them, so none becomes 0."""
    return max(1, math.ceil(value * 1000.0 - 1e-6))


def failing(why: str) -> Metric:
    """A metric that cannot be had."""

    def metric(current: int, tolerance: Tolerance) -> Proposal:
        raise MetricError(why)

    return metric


def counts(replicas: Iterable[Any]) -> list[int]:
    """Plain whole numbers, one per pool."""
    return [int(count) for count in replicas]


def status_of(seen: Observation) -> list[int]:
    """Replicas that exist, ready or not, per pool."""
    return [ready + pending for ready, pending in zip(counts(seen.ready), counts(seen.pending), strict=True)]


def shares_of(total: float, weights: list[float]) -> list[float]:
    """A service's total divided over its pools by weight."""
    whole = sum(weights)
    return [total * weight / whole if whole > 0 else 0.0 for weight in weights]


def requests_of(seen: Observation, limits: ScalingLimits) -> list[float]:
    """(P,) running and waiting requests that a pool's autoscaler shares in: those of the service, or, with prefill and
    decode pools, those of its side."""
    if not limits.roles:
        return [float(seen.running + seen.waiting)] * len(limits.seats)
    running = seen.compute_occupancy * seen.ready_at_scrape * limits.seats
    found = [0.0] * len(limits.roles)
    for side, waiting in zip(limits.sides, (seen.waiting, seen.decode_waiting), strict=True):
        for pool in side:
            found[pool] = float(running[list(side)].sum() + waiting)
    return found


def parts_of(seen: Observation, limits: ScalingLimits) -> list[float]:
    """(P,) these requests divided over the pools that share in them."""
    totals, weights, parts = requests_of(seen, limits), weights_of(seen, limits), [0.0] * len(limits.seats)
    for side in limits.sides:
        for pool, part in zip(side, shares_of(totals[side[0]], [weights[p] for p in side]), strict=True):
            parts[pool] = part
    return parts


def weights_of(seen: Observation, limits: ScalingLimits) -> list[float]:
    """How the service's requests are divided over the pools' autoscalers: by the sequences of all their replicas.

    Those that are starting count, so that an order is not taken back for want of requests; an empty pool counts as
    one replica, so that it may start.
    """
    pools = zip(status_of(seen), counts(limits.max_replicas), limits.seats.tolist(), strict=True)
    return [max(1, replicas) * float(seats) if most else 0.0 for replicas, most, seats in pools]


class Autoscalers:
    """One object per pool, synced together. Asked more often than `sync_s` it holds; asked less often, every call is
    one sync."""

    def __init__(self, name: str, limits: ScalingLimits, target: float, settings: Settings) -> None:
        self.limits = limits
        self.target = positive(f"{name}: target", target)
        self.settings = settings
        self._beat = Cadence(settings.sync_s)
        self.reset()

    def reset(self) -> None:
        """New objects under a new controller."""
        self._beat.reset()
        self.objects = [
            self.settings.autoscaler(low, high)
            for low, high in zip(counts(self.limits.min_replicas), counts(self.limits.max_replicas), strict=True)
        ]

    def decide(self, seen: Observation) -> Decision:
        """One sync of every pool's object."""
        if not self._beat.due(seen.t_s):
            return hold(seen, "between syncs")
        metrics, words = self._metrics(seen)
        t_s, current = float(seen.t_s), counts(seen.target)
        synced = zip(self.objects, current, metrics, strict=True)
        outcomes = [one.sync(t_s, now, [metric]) for one, now, metric in synced]
        return said(outcomes, words)

    def _metrics(self, seen: Observation) -> tuple[list[Metric], str]:
        """One metric per pool, and the reading in words."""
        raise NotImplementedError


def said(outcomes: list[Outcome], words: str) -> Decision:
    """The decision that outcomes amount to: held where all metrics failed, with the limits that ruled in the reason."""
    target = tuple(outcome.replicas for outcome in outcomes)
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed and not any(outcome.scaled for outcome in outcomes):
        return Decision(target, f"hold: {failed[0]}")
    limited = [
        f"pool {pool}: {outcome.error or outcome.reason}"
        for pool, outcome in enumerate(outcomes)
        if outcome.error or outcome.reason != WITHIN
    ]
    return Decision(target, "; ".join([words, *limited]))


def per_replica(usage: int, target: int, status_replicas: int) -> Metric:
    """An external metric of type AverageValue, thousandths."""
    return lambda current, tolerance: by_value_per_pod([usage], target, status_replicas, tolerance)
