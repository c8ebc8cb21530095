"""Allocation as a linear program: min sum p_i x_i with 0 <= x_i <= r_i and sum x_i >= D. Knows no replicas.

For divisible amounts, filling in the order of price is exact. Whole replicas make it a knapsack cover, for which
`rlscale.execute.allocate` is a heuristic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlscale.errors import ScenarioError

_ROUNDING = 1e-9  # what sums of floats may miss of a demand, as a share of it


def cheapest(demand: float, prices: Sequence[float], limits: Sequence[float]) -> tuple[float, ...]:
    """The amounts x_i of least cost; equal prices are filled in the order listed, at most up to `limits`.

    ScenarioError when the limits together are below the demand, or when a number makes no sense (NaN, a price or a
    limit below 0, an infinite demand). A limit may be infinite.
    """
    _check(demand, prices, limits)
    amounts = [0.0] * len(prices)
    missing = max(0.0, demand)
    for i in sorted(range(len(prices)), key=lambda i: prices[i]):
        amounts[i] = min(limits[i], missing)
        missing -= amounts[i]
    if missing > _ROUNDING * demand:
        raise ScenarioError(f"infeasible: demand {demand:g}, the limits together allow {math.fsum(limits):g}")
    return tuple(amounts)


def cost(amounts: Sequence[float], prices: Sequence[float]) -> float:
    """sum p_i x_i."""
    return math.fsum(price * amount for price, amount in zip(prices, amounts, strict=True))


def _check(demand: float, prices: Sequence[float], limits: Sequence[float]) -> None:
    if len(prices) != len(limits):
        raise ScenarioError(f"{len(prices)} prices for {len(limits)} limits")
    if not math.isfinite(demand):
        raise ScenarioError(f"demand = {demand}; expected a finite number")
    for i, (price, limit) in enumerate(zip(prices, limits, strict=True)):
        if not (math.isfinite(price) and price >= 0 and limit >= 0):
            raise ScenarioError(f"resource {i}: price = {price}, limit = {limit}; expected numbers of at least 0")
