"""Latency histograms with fixed logarithmic bins, so that runs merge and percentiles are never averaged.

Thirty-two linear bins per octave from 2^-10 s to 2^10 s: a bin is at most 3.1 % wide, and its number is the upper
bits of the float itself. The last bin is +infinity (dropped, timed out, lost).
"""

from __future__ import annotations

import math

import numpy as np

from rlscale.sim.luck import kernel
from rlscale.types import Floats

OCTAVES, PER_OCTAVE = 20, 32
INF_BIN = OCTAVES * PER_OCTAVE
BINS = INF_BIN + 1
_FIRST = (1023 - 10) * PER_OCTAVE  # 2^-10 s; 1023 is the exponent bias of a double
_SHIFT = 52 - 5  # keep 5 bits of the 52-bit mantissa


@kernel
def bin_of(seconds):
    """Bin of a positive duration; shorter than 1 ms counts as the first bin, longer than 1024 s as the last finite."""
    number = (np.float64(seconds).view(np.int64) >> _SHIFT) - _FIRST
    return min(max(number, 0), INF_BIN - 1)


def edges_s() -> Floats:
    """Bin edges in seconds, BINS + 1 of them; the last bin reaches from 1024 s to infinity."""
    octave = 2.0 ** np.arange(-10, 10)
    inner = (octave[:, None] * (1.0 + np.arange(PER_OCTAVE) / PER_OCTAVE)).ravel()
    return np.concatenate([inner, [2.0**10, np.inf]])


def quantile(counts: Floats, q: float) -> float:
    """The `q` quantile of a histogram, linear inside its bin; +inf when it lies in the last bin, NaN when empty."""
    total = counts.sum()
    if total <= 0:
        return float("nan")
    upto = np.cumsum(counts)
    i = int(np.searchsorted(upto, q * total, side="left"))
    i = min(i, BINS - 1)
    if i == INF_BIN:
        return float("inf")
    edges = edges_s()
    below = upto[i] - counts[i]
    share = (q * total - below) / counts[i] if counts[i] > 0 else 0.0
    return float(edges[i] + min(max(share, 0.0), 1.0) * (edges[i + 1] - edges[i]))


@kernel
def quantile_between(now, before, q, edges):
    """The `q` quantile of what came between two states of a histogram, linear inside its bin; 0 when nothing came."""
    total = 0.0
    for i in range(BINS):
        total += now[i] - before[i]
    if total <= 0.0:
        return 0.0
    upto = 0.0
    for i in range(INF_BIN):
        count = now[i] - before[i]
        if count > 0.0 and upto + count >= q * total:
            return edges[i] + (q * total - upto) / count * (edges[i + 1] - edges[i])
        upto += count
    return math.inf
