"""Services whose prompts and further tokens are made by pools of their own: what both sides carry, hold and gain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlscale.execute import by_price
from rlscale.sim.luck import kernel
from rlscale.types import Floats, Ints, ScalingLimits


def step_level(target: Ints, step: int, known: ScalingLimits) -> Ints:
    """(P,) a step taken replica by replica, so that prefill and decode pools stay level."""
    order = by_price(known)
    cheapest = [next(pool for pool in order if pool in side) for side in known.sides]
    target = target.copy()
    for _ in range(abs(step)):
        carried = [float(target[list(side)] @ known.capacity_per_s[list(side)]) for side in known.sides]
        one = 1 if step > 0 else -1
        open_ = [s for s, pool in enumerate(cheapest)
                 if known.min_replicas[pool] <= target[pool] + one <= known.max_replicas[pool]]  # fmt: skip
        if open_:
            target[cheapest[min(open_, key=lambda s: one * carried[s])]] += one
    return np.clip(target, known.min_replicas, known.max_replicas).astype(np.int64)


def largest_per_s(known: ScalingLimits) -> float:
    """What the largest fleet carries."""
    if not known.roles:
        return float(known.max_replicas @ known.capacity_per_s)
    return min(float(known.max_replicas[list(side)] @ known.capacity_per_s[list(side)]) for side in known.sides)


@kernel
def carried(replicas: Floats, capacity: Floats, back: NDArray[np.bool_]) -> float:
    """What prefill and decode pools carry together: the lesser of the two sums."""
    first = second = 0.0
    for p in range(capacity.shape[0]):
        if back[p]:
            second += replicas[p] * capacity[p]
        else:
            first += replicas[p] * capacity[p]
    return min(first, second)


@kernel
def busier(occupancy: Floats, capacity: Floats, back: NDArray[np.bool_]) -> float:
    """Occupancy of the busier of the two sides, pools weighted by capacity."""
    first = second = of_first = of_second = 0.0
    for p in range(capacity.shape[0]):
        if back[p]:
            second += occupancy[p] * capacity[p]
            of_second += capacity[p]
        else:
            first += occupancy[p] * capacity[p]
            of_first += capacity[p]
    first, second = first / of_first, second / of_second
    return first if not second > first else second  # NaN, a missing metric, stays NaN
