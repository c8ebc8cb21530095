"""Allocation of wanted capacity to pools, a row for each cluster: `execute.allocate` at the speed of training."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from rlscale.execute import by_price
from rlscale.sim.luck import kernel
from rlscale.types import Floats, Ints, ScalingLimits

_ROUNDING = 1e-9


def allocate_many(capacity_per_s: Floats, known: ScalingLimits, held: Ints | None = None) -> Ints:
    """`execute.allocate` for a column of capacities: the minima, then the cheapest USD per capacity first.

    Rows whose capacity is not a number get what is `held`, (n, P), the minima by default.
    """
    sides = _filling(known)
    target = np.empty((len(capacity_per_s), len(known.capacity_per_s)), np.int64)
    target[:] = known.min_replicas if held is None else held
    for order, minimum_per_s in sides:
        _allocate(capacity_per_s, minimum_per_s, order, known.min_replicas, known.max_replicas, known.capacity_per_s,
                  target)  # fmt: skip
    return target


@lru_cache(maxsize=64)
def _filling(known: ScalingLimits) -> tuple[tuple[Ints, float], ...]:
    """Of each side: in which order pools are filled, and what the minima carry."""
    order = by_price(known)
    sides = [[pool for pool in order if pool in side] for side in known.sides]
    return tuple(
        (
            np.array(side, np.int64),
            float(
                np.dot(known.min_replicas, known.capacity_per_s * np.isin(np.arange(len(known.capacity_per_s)), pools))
            ),
        )
        for side, pools in zip(sides, known.sides, strict=True)
    )


@kernel
def _allocate(
    capacity_per_s: Floats, minimum_per_s: float, order: Ints, least: Ints, most: Ints, each_per_s: Floats, target: Ints
) -> None:
    """Rows of `target` whose capacity is not a number stay as they are."""
    for r in range(target.shape[0]):
        if not math.isfinite(capacity_per_s[r]):
            continue
        for p in order:
            target[r, p] = least[p]
        missing = capacity_per_s[r] - minimum_per_s
        for p in order:
            if missing > 0.0:
                added = min(float(most[p] - least[p]), np.ceil(missing / each_per_s[p] - _ROUNDING))
                target[r, p] += int(added)
                missing -= added * each_per_s[p]
