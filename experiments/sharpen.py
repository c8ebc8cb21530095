"""The next value of a rule's knob to try, so that its front has points close to a target on both sides.

Attainment rises or falls along a knob, nearly always. So between two tried values the level is interpolated, beyond
them continued, and what is asked for next is the value at which the target should just be met.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

CLOSE = 0.04  # in level: a target that lies between two points as close needs no further one
FURTHER = 1.25
ABOVE = 0.01  # aim this much above the target: a point on the safe side is worth more


def next_value(
    tried: Sequence[tuple[float, float]], target: float, rises: bool, further: float = FURTHER
) -> float | None:
    """The knob value for level `target`, from (knob, level) pairs; None when it is pinned down already.

    `rises`: whether the level rises with the knob, for when the pairs do not say so: noise turns slopes around.
    `further`: factor of the knob, or its inverse, at most beyond what has been tried.
    """
    points = sorted(set(tried))
    over = [point for point in points if point[1] >= target]
    under = [point for point in points if point[1] < target]
    if over and under:
        a, b = max(under, key=lambda p: p[1]), min(over, key=lambda p: p[1])
        if b[1] - a[1] <= CLOSE:
            return None
        return _between(a, b, target)
    # Everything lies on one side of the target: go on from the end of the knob that lies towards it.
    ahead = points if rises == bool(over) else points[::-1]
    step = 1.0 / further if ahead is points else further
    if len(ahead) > 1 and ahead[0][1] != ahead[1][1]:
        value = _between(ahead[1], ahead[0], target)
        if ahead[0][0] > 0.0 and 1.0 < (value / ahead[0][0] if step > 1.0 else ahead[0][0] / value) < further:
            return value
    return ahead[0][0] * step


def _between(a: tuple[float, float], b: tuple[float, float], target: float) -> float:
    """Linear in the level; in the logarithm of the knob where that exists."""
    share = (target + ABOVE - a[1]) / (b[1] - a[1])
    if a[0] > 0.0 and b[0] > 0.0:
        return math.exp(math.log(a[0]) + max(-9.0, min(9.0, share * math.log(b[0] / a[0]))))
    return a[0] + share * (b[0] - a[0])
