"""Execute: from what a scaler asks to whole replicas within the limits. Knows no world and no metric."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, SupportsFloat

import numpy as np

from rlscale.types import Decision, ScalingLimits

# A demand of 3.0000000001 replicas is three replicas and a rounding error.
_ROUNDING = 1e-9


class Bounded(NamedTuple):
    """The target in force, what had to be changed to get there (empty when nothing had to), and the replicas to keep
    in standby (empty: as many as so far)."""

    target: tuple[int, ...]
    reason: str
    standby: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StepLimits:
    """How many replicas one decision may add to a pool or take from it."""

    add: float = math.inf
    remove: float = math.inf


FREE = StepLimits()


def bound(
    decision: Decision, limits: ScalingLimits, current_target: Iterable[SupportsFloat], steps: StepLimits = FREE
) -> Bounded:
    """Whole replicas per pool within step limits, minimum and maximum (which win over the step limits).

    What cannot be read (NaN, infinite, None, the wrong number of pools) holds the pools it concerns where they are.
    """
    current = tuple([int(float(count)) for count in current_target])
    wanted, reasons = whole(decision, limits, current)
    target = []
    known = _plain(limits)
    for pool, (want, now) in enumerate(zip(wanted, current, strict=True)):
        stepped = min(max(want, now - steps.remove), now + steps.add)
        low, high = known.least[pool], known.most[pool]
        allowed = min(max(stepped, low), high)
        if allowed != want:
            limit = f"minimum {low}" if allowed > stepped else f"maximum {high}" if allowed < stepped else "step limit"
            reasons.append(f"pool {pool}: {want} asked, {int(allowed)} by {limit}")
        target.append(int(allowed))
    standby = _standby(decision, limits, reasons)
    return Bounded(tuple(target), "; ".join(reasons), standby)


def _standby(decision: Decision, limits: ScalingLimits, reasons: list[str]) -> tuple[int, ...]:
    """Whole replicas within the maximum of each pool; what cannot be read changes nothing."""
    if len(decision.standby) == 0:
        return ()
    if len(decision.standby) != len(limits.min_replicas) or not all(_readable(count) for count in decision.standby):
        reasons.append(f"standby held: {decision.standby} asked")
        return ()
    wanted = [_up(float(count)) for count in decision.standby]
    return tuple(min(max(0, count), int(most)) for count, most in zip(wanted, limits.max_standby, strict=False))


def allocate(capacity_per_s: float, limits: ScalingLimits) -> Bounded:
    """Replicas that carry `capacity_per_s` requests per second: the minima, then the cheapest USD per capacity, on each
    side of a service with prefill and decode pools.

    Filling in the order of price is exact for divisible replicas and a heuristic for whole ones. A pool without
    capacity (its model cannot meet the SLO) keeps its minimum. Ties go to the pool listed first.
    """
    known = _plain(limits)
    target = list(known.least)
    lacking = -math.inf
    for carried_per_s, pools in known.sides:
        missing = capacity_per_s - carried_per_s
        for pool in pools:
            each = known.each_per_s[pool]
            room = known.most[pool] - target[pool]
            added = min(room, _up(missing / each)) if missing > 0 else 0
            target[pool] += added
            missing -= added * each
        lacking = max(lacking, missing)
    if lacking > _ROUNDING * max(1.0, capacity_per_s):
        reason = f"{capacity_per_s:.4g}/s asked, {capacity_per_s - lacking:.4g}/s at every maximum"
    else:
        reason = ""
    return Bounded(tuple(target), reason)


def by_price(limits: ScalingLimits) -> list[int]:
    """Pools that carry anything, cheapest USD per capacity first; side by side where there are prefill and decode."""
    return [pool for _, pools in _plain(limits).sides for pool in pools]


class _Plain(NamedTuple):
    """Limits as Python numbers: reading an array element takes longer than deciding with it."""

    least: tuple[int, ...]
    most: tuple[int, ...]
    each_per_s: tuple[float, ...]
    sides: tuple[tuple[float, tuple[int, ...]], ...]  # what the minima carry, and the pools by price


@lru_cache(maxsize=64)
def _plain(limits: ScalingLimits) -> _Plain:
    usable = [pool for pool, each in enumerate(limits.capacity_per_s) if each > 0]
    price = sorted(usable, key=lambda pool: float(limits.usd_per_replica_s[pool] / limits.capacity_per_s[pool]))
    sides = [np.isin(np.arange(len(limits.capacity_per_s)), side) for side in limits.sides]
    return _Plain(
        tuple(int(count) for count in limits.min_replicas),
        tuple(int(count) for count in limits.max_replicas),
        tuple(float(each) for each in limits.capacity_per_s),
        tuple(
            (float(np.dot(limits.min_replicas, limits.capacity_per_s * side)), tuple(p for p in price if side[p]))
            for side in sides
        ),
    )


def whole(decision: Decision, limits: ScalingLimits, current: tuple[int, ...]) -> tuple[tuple[int, ...], list[str]]:
    """What the decision asks in whole replicas, rounded up, and what of it could not be read."""
    if len(decision.target) == 0:
        if not _readable(decision.capacity_per_s):
            return current, [f"held: capacity {decision.capacity_per_s} asked"]
        allocated = allocate(float(decision.capacity_per_s), limits)
        return allocated.target, [allocated.reason] if allocated.reason else []
    if len(decision.target) != len(current):
        return current, [f"held: {len(decision.target)} targets for {len(current)} pools"]
    wanted, reasons = [], []
    for pool, (asked, now) in enumerate(zip(decision.target, current, strict=True)):
        if _readable(asked):
            wanted.append(_up(float(asked)))
        else:
            wanted.append(now)
            reasons.append(f"pool {pool}: held, {asked} asked")
    return tuple(wanted), reasons


def _readable(asked: object) -> bool:
    # The plain types first: asking whether something has a method takes longer than all the rest of a decision.
    return isinstance(asked, float | int | SupportsFloat) and math.isfinite(float(asked))


def _up(asked: float) -> int:
    return math.ceil(asked - _ROUNDING)
