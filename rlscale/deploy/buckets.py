"""Latencies from the cumulative buckets of a Prometheus histogram: quantile, share below, mean. Pure; knows no server.

Within a bucket observations are taken to lie evenly, so that an answer is wrong by at most the width of one bucket.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlscale.types import Floats


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram over a window: `count[i]` observations were at most `edge[i]`; the last edge is +inf."""

    edge: Floats  # (buckets,) increasing
    count: Floats  # (buckets,) never falling, 0 or more

    @property
    def total(self) -> float:
        """Observations in the window."""
        return float(self.count[-1])


def of_pairs(pairs: Mapping[float, float], scale: float = 1.0) -> Buckets | None:
    """The histogram of upper edge -> cumulative count, edges multiplied by `scale`; None when it is not one.

    Replicas that start or restart in the window make counts fall a little from one edge to the next: the largest so
    far counts, as in Prometheus' own `histogram_quantile`.
    """
    edges = np.array(sorted(pairs), dtype=np.float64)
    if len(edges) < 2 or not math.isinf(edges[-1]) or edges[-1] < 0.0 or np.isnan(edges).any():
        return None
    counts = np.array([pairs[edge] for edge in edges], dtype=np.float64)
    if not np.isfinite(counts).all():
        return None
    return Buckets(edges * scale, np.maximum.accumulate(np.maximum(counts, 0.0)))


def quantile(held: Buckets, q: float) -> float:
    """The `q` quantile; +inf when it lies above the last finite edge, NaN when nothing was observed."""
    if held.total <= 0.0:
        return math.nan
    i = int(np.searchsorted(held.count, q * held.total, side="left"))
    if math.isinf(held.edge[i]):
        return math.inf
    below, low = (held.count[i - 1], held.edge[i - 1]) if i > 0 else (0.0, min(0.0, float(held.edge[0])))
    inside = held.count[i] - below
    share = (q * held.total - below) / inside if inside > 0.0 else 1.0
    return float(low + share * (held.edge[i] - low))


def share_below(held: Buckets, limit: float) -> float:
    """Share of observations of at most `limit`, 0 to 1; NaN when nothing was observed.

    What lies above the last finite edge counts as above the limit, however high that is.
    """
    if held.total <= 0.0:
        return math.nan
    if math.isinf(limit):
        return 1.0
    finite = np.isfinite(held.edge)
    edges = np.append(min(0.0, float(held.edge[0])), held.edge[finite])
    counts = np.append(0.0, held.count[finite])
    return float(np.interp(limit, edges, counts) / held.total)


def mean(total_sum: float, held: Buckets) -> float:
    """Mean of the observations whose sum is `total_sum`; NaN when nothing was observed."""
    return total_sum / held.total if held.total > 0.0 else math.nan
