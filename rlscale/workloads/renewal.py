"""Counts of renewal processes with gamma distances: the arrivals of one bursty client. Knows no clock.

A client with coefficient of variation c has distances gamma(shape 1/c^2). Where a cell holds many arrivals, one draw
stands for several of them (a sum of gammas is a gamma): what happens below an eighth of a cell cannot be seen in
the counts.
"""

from __future__ import annotations

import math

import numpy as np

from rlscale.types import Floats


def epochs(rng: np.random.Generator, total: float, cv: float, per_draw: int) -> tuple[float, Floats]:
    """Positions, in mean distances, of every `per_draw`-th arrival from 0 to the first one beyond `total`.

    The process is stationary from the start; the number returned beside them is the share of the distance in
    progress at 0 that is still to come.
    """
    shape, scale = per_draw / (cv * cv), cv * cv
    ahead = float(rng.random())
    # The distance in progress at 0 is length-biased: gamma of shape + 1, of which a uniform share remains.
    position = ahead * float(rng.gamma(shape + 1.0)) * scale
    parts = [np.array([position])]
    while position <= total:
        draws = (total - position) / per_draw
        part = position + np.cumsum(rng.gamma(shape, scale, int(1.02 * draws + 4.0 * cv * math.sqrt(draws)) + 8))
        parts.append(part)
        position = float(part[-1])
    every = np.concatenate(parts)
    return ahead, every[: int(np.searchsorted(every, total, side="right")) + 1]


def counts_at(rng: np.random.Generator, operational: Floats, cv: float) -> Floats:
    """Arrivals in every cell, given the operational time (mean arrivals so far) at the edges of the cells.

    The operational time starts at 0 and never falls.
    """
    cells = len(operational) - 1
    total = float(operational[-1])
    per_draw = max(1, int(total / cells / 8.0))
    ahead, at = epochs(rng, total, cv, per_draw)
    if per_draw == 1:
        if len(at) < cells:
            cell = np.searchsorted(operational, at[:-1], side="left") - 1
            return np.bincount(np.clip(cell, 0, cells - 1), minlength=cells).astype(np.float64)
        ahead = 1.0  # every position is an arrival: the count reaches a whole number there
    # Arrivals of one draw are spread evenly over its distance, of which only the share `ahead` lies after 0.
    number = per_draw * (ahead + np.arange(len(at)))
    so_far = np.interp(operational, np.concatenate([[0.0], at]), np.concatenate([[0.0], number]))
    return np.diff(np.floor(so_far + 1e-9))


def burstiness(counts: Floats, expected: Floats) -> float:
    """Variance over mean of the counts around what the rate had let expect; 1 for Poisson."""
    mean = float(expected.sum())
    return float(np.square(counts - expected).sum() / mean) if mean > 0 else 1.0
