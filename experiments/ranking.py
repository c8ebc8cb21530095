"""Do two engines put scalers in the same order? Pairs that luck cannot explain, and Kendall's tau over them.

Scores are rewards of load blocks, one row per scaler; a block is the same stretch of the same load for everybody.
Knows no engine and no scaler.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.stats import Resampling
from rlscale.types import Floats

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Agreement:
    """`tau` over the pairs told apart in the reference; `swapped` those that both tell apart, the other way round."""

    pairs: int  # all
    told_apart: int  # in the reference
    told_apart_in_both: int
    tau: float  # NaN where nothing is told apart
    tau_of_all: float
    swapped: tuple[Pair, ...]


def agreement(scores: Floats, reference: Floats, draws: Resampling) -> Agreement:
    """(scalers, blocks) scores of an engine against those of the reference."""
    every = list(itertools.combinations(range(len(scores)), 2))
    apart = [pair for pair in every if differs(reference, pair, draws)]
    both = [pair for pair in apart if differs(scores, pair, draws)]
    swapped = tuple(pair for pair in both if _sign(scores, pair) != _sign(reference, pair))
    return Agreement(len(every), len(apart), len(both), tau(scores, reference, apart), tau(scores, reference, every),
                     swapped)  # fmt: skip


def differs(scores: Floats, pair: Pair, draws: Resampling) -> bool:
    """Whether zero lies outside the 95 % interval of the paired difference over resampled blocks."""
    apart = scores[pair[0]] - scores[pair[1]]
    if not apart.any():
        return False
    low, high = np.quantile(draws.weights @ apart, [0.025, 0.975])
    return bool(low > 0.0 or high < 0.0)


def tau(scores: Floats, reference: Floats, pairs: Sequence[Pair]) -> float:
    """Concordant minus discordant over the number of pairs; a tie is neither. NaN without pairs."""
    if not pairs:
        return math.nan
    return float(np.mean([_sign(scores, pair) * _sign(reference, pair) for pair in pairs]))


def _sign(scores: Floats, pair: Pair) -> float:
    return float(np.sign(scores[pair[0]].sum() - scores[pair[1]].sum()))
