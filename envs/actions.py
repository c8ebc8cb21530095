"""Action maps: from what an agent outputs to bounded targets, for many clusters at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlscale.execute import by_price
from rlscale.types import Floats, Ints, Observation, ScalingLimits

# Multiples of the demand estimate. Below 1 to shrink ahead of a falling load, far above for standing headroom.
LEVELS = (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.45, 1.7, 2.1)
_ROUNDING = 1e-9


def headroom_targets(levels: NDArray[np.float64], seen: Observation, known: ScalingLimits) -> Ints:
    """(n, P) targets for a level per cluster; clusters whose metrics are missing hold theirs."""
    demand = np.asarray(seen.arrival_per_s + seen.waiting / known.drain_s, dtype=np.float64)
    wanted = allocate_many(levels * np.nan_to_num(demand), known)
    return np.where(np.isfinite(demand)[:, None], wanted, np.asarray(seen.target))


def allocate_many(capacity_per_s: Floats, known: ScalingLimits) -> Ints:
    """`execute.allocate` for a column of capacities: the minima, then the cheapest USD per capacity first."""
    target = np.tile(known.min_replicas.astype(np.int64), (len(capacity_per_s), 1))
    missing = capacity_per_s - float(np.dot(known.min_replicas, known.capacity_per_s))
    for pool in by_price(known):
        each = float(known.capacity_per_s[pool])
        room = int(known.max_replicas[pool] - known.min_replicas[pool])
        added = np.where(missing > 0, np.minimum(room, np.ceil(missing / each - _ROUNDING)), 0.0)
        target[:, pool] += added.astype(np.int64)
        missing = missing - added * each
    return target
