"""How many companions an arrival of a bursty load has within a time: a table per load. Knows no engine and no clock.

A gamma renewal process of squared variation c^2 is bursty on every time scale. With x the mean number of arrivals in a
window and H the renewal function (mean arrivals within x after an arrival), a request has (2/x) * integral of H
from 0 to x companions in a window laid over it at random; the same is I(x) - 1 + x with I the index of dispersion of
counts (Cox, Renewal Theory, 1962, chapter 4). Poisson: x.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from rlscale.sim.luck import inlined
from rlscale.types import Floats

KNOTS, LOWEST = 28, -12  # one knot per factor of two, from 2^-12 to 2^15 arrivals
_LN2 = math.log(2.0)
_STEPS = 12  # of the integral, per factor of two
_FROM = LOWEST - 60  # where the integral starts: 2^-72 mean distances
_LIMIT = 40.0  # in units of cv2: beyond, the renewal function is its asymptote to 1e-9


@lru_cache(maxsize=256)
def company_table(cv2: float) -> Floats:
    """(KNOTS,) mean companions in a window of 2^(LOWEST + i) mean arrivals; `cv2` >= 1."""
    from scipy.special import gammainc

    x = 2.0 ** (LOWEST + np.arange(KNOTS, dtype=np.float64))
    if cv2 <= 1.0:
        return x
    shape = 1.0 / cv2
    fine = 2.0 ** (np.arange(_FROM * _STEPS, (LOWEST + KNOTS - 1) * _STEPS + 1) / _STEPS)
    renewals = fine + 0.5 * (cv2 - 1.0)
    near = fine <= _LIMIT * cv2
    renewals[near] = 0.0
    for n in range(1, math.ceil(2.0 * _LIMIT * cv2)):
        nth_arrival = gammainc(n * shape, shape * fine[near])
        renewals[near] += nth_arrival
        if nth_arrival[-1] < 1e-9:
            break
    parts = 0.5 * (renewals[1:] + renewals[:-1]) * np.diff(fine)
    integral = np.concatenate([[0.0], np.cumsum(parts)])
    return np.asarray(2.0 / x * integral[(LOWEST - _FROM) * _STEPS :: _STEPS])


@inlined
def companions(table, x):
    """Mean companions in a window of `x` mean arrivals, linear between the knots in the logarithm."""
    place = math.log(max(x, 1e-300)) / _LN2 - LOWEST
    i = min(max(int(place), 0), KNOTS - 2)
    share = min(max(place - i, 0.0), 1.0)
    return table[i] + share * (table[i + 1] - table[i])
