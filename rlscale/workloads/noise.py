"""Slow random factors: first-order autoregressive noise and its lognormal. Knows no load."""

from __future__ import annotations

import math

import numpy as np

from rlscale.types import Floats


def ar1(rng: np.random.Generator, at_s: Floats, correlation_s: float, columns: int = 1) -> Floats:
    """Standard normal noise with autocorrelation exp(-lag / correlation_s) at the rising times `at_s`.

    Shape (times, columns), columns independent. Drawn on a grid of at most an eighth of the correlation time and
    interpolated: that loses less than 4 % of the variance between two grid points.
    """
    step_s = min(60.0, correlation_s / 8.0)
    steps = math.ceil((at_s[-1] - at_s[0]) / step_s) + 2
    keep = math.exp(-step_s / correlation_s)
    nodes = rng.standard_normal((steps, columns))
    nodes[1:] *= math.sqrt(1.0 - keep * keep)
    for i in range(1, steps):
        nodes[i] += keep * nodes[i - 1]
    grid_s = at_s[0] + step_s * np.arange(steps)
    return np.column_stack([np.interp(at_s, grid_s, nodes[:, k]) for k in range(columns)])


def lognormal(z: Floats, sigma: float) -> Floats:
    """exp(sigma z) divided by its mean, so that a factor does not change the mean rate."""
    return np.exp(sigma * z - 0.5 * sigma * sigma)
