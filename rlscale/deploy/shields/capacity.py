"""Targets raised to a capacity, or kept from one, side by side: prefill and decode pools each meet every request."""

from __future__ import annotations

from rlscale.deploy.shields.base import Target
from rlscale.execute import by_price
from rlscale.types import ScalingLimits

_ROUNDING = 1e-9


def side_per_s(target: Target, side: tuple[int, ...], limits: ScalingLimits) -> float:
    """What the replicas of one side carry."""
    return float(sum(target[pool] * float(limits.capacity_per_s[pool]) for pool in side))


def priced(side: tuple[int, ...], limits: ScalingLimits) -> list[int]:
    """Pools of a side that carry anything, cheapest capacity first."""
    return [pool for pool in by_price(limits) if pool in side]


def raised(target: Target, side: tuple[int, ...], least_per_s: float, limits: ScalingLimits, most: Target) -> Target:
    """As many replicas more, cheapest first and up to `most` per pool, as it takes to carry `least_per_s`."""
    counts = list(target)
    missing = least_per_s - side_per_s(target, side, limits)
    for pool in priced(side, limits):
        each = float(limits.capacity_per_s[pool])
        if missing <= _ROUNDING * max(1.0, least_per_s):
            break
        added = max(0, min(most[pool] - counts[pool], _up(missing / each)))
        counts[pool] += added
        missing -= added * each
    return tuple(counts)


def lowered(target: Target, side: tuple[int, ...], most_per_s: float, limits: ScalingLimits, least: Target) -> Target:
    """As many replicas fewer, dearest first and down to `least` per pool, as still carry `most_per_s`."""
    counts = list(target)
    surplus = side_per_s(target, side, limits) - most_per_s
    for pool in reversed(priced(side, limits)):
        each = float(limits.capacity_per_s[pool])
        cut = max(0, min(counts[pool] - least[pool], int((surplus + _ROUNDING) / each)))
        counts[pool] -= cut
        surplus -= cut * each
    return tuple(counts)


def _up(replicas: float) -> int:
    return -int(-(replicas - _ROUNDING) // 1)
