"""The next value of a rule's knob to try, so that its front has points close to a target on both sides.

Attainment rises or falls along a knob, nearly always. So between two tried values the level is interpolated, beyond
them continued, and what is asked for next is the value at which the target should just be met.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

CLOSE = 0.04  # in level: a target that lies between two points as close needs no further one
FURTHER = 1.35  # factor, or its inverse, of the knob at most beyond what has been tried
SINGLE = 1.12  # the first step away from a single point
ABOVE = 0.01  # aim this much above the target: a point on the safe side is worth more


def next_value(tried: Sequence[tuple[float, float]], target: float, rises: bool) -> float | None:
    """The knob value for level `target`, from (knob, level) pairs; None when it is pinned down already.

    `rises`: whether the level rises with the knob, for when a single pair does not say so.
    """
    points = sorted(set(tried))
    over = [point for point in points if point[1] >= target]
    under = [point for point in points if point[1] < target]
    if over and under:
        a, b = max(under, key=lambda p: p[1]), min(over, key=lambda p: p[1])
        if b[1] - a[1] <= CLOSE:
            return None
        return _between(a, b, target)
    nearest = sorted(points, key=lambda p: abs(p[1] - target))
    if len(nearest) > 1 and nearest[0][1] != nearest[1][1]:
        return _limited(_between(nearest[0], nearest[1], target), points, nearest[0][0])
    up = rises == (nearest[0][1] < target)
    value = nearest[0][0]
    return value * (SINGLE if up == (value > 0.0) else 1.0 / SINGLE)


def _between(a: tuple[float, float], b: tuple[float, float], target: float) -> float:
    """Linear in the level; in the logarithm of the knob where that exists."""
    share = (target + ABOVE - a[1]) / (b[1] - a[1])
    if a[0] > 0.0 and b[0] > 0.0:
        return math.exp(math.log(a[0]) + max(-9.0, min(9.0, share * math.log(b[0] / a[0]))))
    return a[0] + share * (b[0] - a[0])


def _limited(value: float, points: Sequence[tuple[float, float]], nearest: float) -> float:
    """Not far beyond what was tried, and not in the middle of it, where noise has turned a slope around."""
    low, high = points[0][0], points[-1][0]
    if low <= value <= high:
        value = high * SINGLE if nearest == high else low / SINGLE
    return min(max(value, low / FURTHER), high * FURTHER) if low > 0.0 else value
