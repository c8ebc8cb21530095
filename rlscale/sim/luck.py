"""Luck as a pure function of (seed, stream, pool, index, interval): counter-based, never stored, never a generator.

No scaler can change it, so all scalers meet the same luck and comparisons are paired; a batch row equals a single
cluster. Written once and compiled by numba; without it the same lines run as plain Python.
"""

from __future__ import annotations

import math

import numpy as np

from rlscale.sim.compiled import compiler

kernel = compiler()
# For the parts of a sub-step: a call passes every array as a dozen scalars, which cost a fifth of the whole kernel.
inlined = compiler(forceinline=True)

COUNTS, NODE_START, REPLICA_START, ANSWERS, SCRAPE_FAILS, SCRAPE_NOISE = 1, 2, 3, 4, 5, 6  # streams
SUPPLY, WAKE, REPLICA_FAILS, NODE_FAILS, RETURNS = 7, 8, 9, 10, 11

_A, _B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_C, _D, _E = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93), np.uint64(0xA0761D6478BD642F)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_16, _32, _48, _LOW = np.uint64(16), np.uint64(32), np.uint64(48), np.uint64(0xFFFF)
_ULP = 2.0**-53


@kernel
def bits(seed, stream, pool, index, interval):
    """64 well-mixed bits (the finaliser of splitmix64 over a linear form of the five numbers)."""
    z = np.uint64(seed) + np.uint64(stream) * _C + np.uint64(pool) * _D
    z = z + np.uint64(index) * _E + np.uint64(interval) * _B
    z = (z ^ (z >> _30)) * _A
    z = (z ^ (z >> _27)) * _B
    z = z ^ (z >> _31)
    z = (z ^ (z >> _30)) * _A
    return z ^ (z >> _27)


@kernel
def uniform(seed, stream, pool, index, interval):
    """Strictly between 0 and 1."""
    return (float(bits(seed, stream, pool, index, interval) >> _11) + 0.5) * _ULP


@kernel
def rough_normal(seed, stream, pool, index, interval):
    """Mean 0, variance 1, within +-3.46: the sum of four 16-bit uniforms of one hash. For noise, not for tails."""
    z = bits(seed, stream, pool, index, interval)
    total = float(z & _LOW) + float((z >> _16) & _LOW) + float((z >> _32) & _LOW) + float(z >> _48)
    return (total / 65536.0 - 2.0) * 1.7320508075688772


@kernel
def normal_quantile(u):
    """Inverse of the standard normal distribution; P. Acklam's rational fit, relative error below 1.2e-9."""
    if 0.02425 <= u <= 0.97575:
        q = u - 0.5
        r = q * q
        top = (((((-3.969683028665376e1 * r + 2.209460984245205e2) * r - 2.759285104469687e2) * r
                 + 1.383577518672690e2) * r - 3.066479806614716e1) * r + 2.506628277459239) * q  # fmt: skip
        low = ((((-5.447609879822406e1 * r + 1.615858368580409e2) * r - 1.556989798598866e2) * r
                + 6.680131188771972e1) * r - 1.328068155288572e1) * r + 1.0  # fmt: skip
        return top / low
    tail = u if u < 0.5 else 1.0 - u
    q = math.sqrt(-2.0 * math.log(tail))
    top = ((((-7.784894002430293e-3 * q - 3.223964580411365e-1) * q - 2.400758277161838) * q
            - 2.549732539343734) * q + 4.374664141464968) * q + 2.938163982698783  # fmt: skip
    low = (((7.784695709041462e-3 * q + 3.224671290700398e-1) * q + 2.445134137142996) * q
           + 3.754408661907416) * q + 1.0  # fmt: skip
    x = top / low
    return x if u < 0.5 else -x


@kernel
def poisson(mean, u):
    """Poisson quantile at `u`: exact search below 16, third-order Cornish-Fisher above (error under 0.01 counts)."""
    if mean <= 0.0:
        return 0.0
    if mean < 16.0:
        count = 0.0
        term = math.exp(-mean)
        total = term
        while u > total and count < 200.0:
            count += 1.0
            term *= mean / count
            total += term
        return count
    z = normal_quantile(u)
    root = math.sqrt(mean)
    value = mean + root * z + (z * z - 1.0) / 6.0 + (z - z * z * z) / (72.0 * root)
    return max(0.0, math.floor(value + 0.5))


@kernel
def delay(median_s, sigma, z):
    """Lognormal delay at the normal quantile `z`."""
    return median_s * math.exp(sigma * z)
