"""Intervals and comparisons over load blocks and training seeds. Knows no scaler, no front and no file.

A block is a stretch of load that is close to independent of the next one: a day, 30 minutes of a one-hour trace.
Blocks and training seeds are resampled; luck on one recorded load never is, because a load seen ten times is still
one load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import trim_mean

from rlscale.types import Floats, Ints

MIN_BLOCKS = 5  # below this, the spread of the loads cannot be told from so few of them
RESAMPLES = 2000
CONFIDENCE = 0.95

DAY_S = 86_400.0
LONG_S = 7_200.0  # a recorded load shorter than this is cut into half hours


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; an end may be infinite when a scaler misses the target in some resamples."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Resampling:
    """One set of block draws for every scaler of a scenario: sharing them is what makes differences paired."""

    weights: Floats  # (resamples, blocks) how often each block was drawn; a row sums to the number of blocks
    seed: int

    def seeds(self, count: int) -> Ints:
        """(resamples, count) training seeds drawn with replacement; the same for every call with one count."""
        rng = np.random.default_rng([self.seed, 1, count])
        return rng.integers(0, count, (len(self.weights), count))


def resample(blocks: int, seed: int = 0, resamples: int = RESAMPLES) -> Resampling | None:
    """Draws of `blocks` blocks with replacement; None below MIN_BLOCKS: then there is no interval over loads."""
    if blocks < MIN_BLOCKS:
        return None
    rng = np.random.default_rng([seed, 0, blocks])
    counts = rng.multinomial(blocks, np.full(blocks, 1.0 / blocks), resamples)
    return Resampling(counts.astype(np.float64), seed)


def student(values: Floats) -> tuple[float, float]:
    """Mean, and half the width of its Student interval: infinite for a single value."""
    from scipy.stats import t

    n, mean = len(values), float(values.mean())
    if n < 2:
        return mean, math.inf
    return mean, float(t.ppf(0.5 + CONFIDENCE / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))


def iqm(values: Floats, axis: int = -1) -> Floats:
    """Interquartile mean: a quarter is cut at each end (rounded down), so one lucky or failed seed does not decide."""
    return np.asarray(trim_mean(values, 0.25, axis=axis), np.float64)


def percentile_interval(samples: Floats, confidence: float = CONFIDENCE) -> Interval:
    """Percentile bootstrap interval of (resamples,) samples; infinities are ordered, never averaged."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(samples, [tail, 1.0 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))


def relative_difference(cost: Floats, base: Floats) -> Floats:
    """cost / base - 1. Neither reached (both infinite) counts as no difference."""
    both = np.isinf(cost) & np.isinf(base)
    with np.errstate(invalid="ignore"):
        return np.where(both, 0.0, cost / base - 1.0)


def probability_of_improvement(cost: Floats, base: Floats) -> float:
    """Chance that a training seed of the scaler is cheaper than one of the base on the same block, ties half.

    `cost` (seeds, blocks), `base` (base seeds, blocks); infinite where the attainment is never reached.
    """
    less = cost[:, None, :] < base[None, :, :]
    tie = cost[:, None, :] == base[None, :, :]
    return float(np.mean(less + 0.5 * tie))


def block_of(t_s: Floats, duration_s: float, block_s: float) -> Ints:
    """Block number of each time. A rest shorter than half a block belongs to the block before it."""
    count = max(1, math.floor(duration_s / block_s + 0.5))
    return np.minimum((np.asarray(t_s) / block_s).astype(np.int64), count - 1)


def default_block_s(duration_s: float, recorded: bool) -> float:
    """Days; half hours in a recorded load of an hour or two. A shorter generated episode is one block."""
    return 1_800.0 if recorded and duration_s <= LONG_S else DAY_S
