"""Prompt and output lengths as quantile knots: the ready-made laws, laws from samples, mixtures. Knows no arrivals.

The knots were read off public traces: a lognormal misses their tails (p95 of the code answers would be 66 tokens
instead of 90), eighteen quantiles do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rlscale.types import Floats, TokenLaw

_P = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


def _law(prompt: tuple[float, ...], output: tuple[float, ...]) -> TokenLaw:
    return TokenLaw(_P, prompt, _P, output)


# Azure LLM inference trace 2023, conversation (CC-BY-4.0).
CHAT = _law(
    (2, 29, 181, 207, 387, 403, 703, 1020, 1071, 1130, 1315, 2734, 4083, 4098, 4142, 4831, 6179, 14050),
    (7, 16, 41, 54, 77, 91, 103, 129, 177, 384, 400, 424, 451, 540, 601, 643, 954, 1000),
)
# Azure LLM inference trace 2023, code (CC-BY-4.0).
CODE = _law(
    (3, 17, 75, 147, 386, 770, 1075, 1469, 1909, 2433, 3192, 5188, 7303, 7436, 7436, 7436, 7437, 7437),
    (6, 6, 6, 7, 8, 9, 11, 13, 16, 20, 29, 55, 90, 171, 251, 359, 825, 1899),
)
# Mooncake conversation trace (Apache-2.0): long contexts.
LONG_CONTEXT = _law(
    (
        891,
        894,
        901,
        964,
        1662,
        3263,
        4993,
        6909,
        9570,
        13196,
        17869,
        27367,
        39550,
        66449,
        85400,
        100810,
        121301,
        126195,
    ),
    (1, 3, 10, 24, 100, 213, 291, 350, 399, 447, 504, 597, 698, 892, 1119, 1568, 2000, 2000),
)
# ServeGen deepseek-r1, clients pooled by their rate (Apache-2.0): reasoning.
REASONING = _law(
    (4, 9, 13, 18, 29, 58, 113, 208, 268, 408, 765, 2219, 6907, 16832, 23844, 28769, 35397, 55178),
    (34, 134, 221, 285, 386, 470, 586, 796, 1092, 1373, 1690, 3529, 5952, 9980, 13911, 17710, 28867, 32179),
)
# ServeGen m-large, clients pooled by their rate (Apache-2.0): a shared API.
API = _law(
    (1, 60, 66, 74, 80, 441, 582, 651, 816, 979, 1553, 2381, 2406, 3332, 5483, 6911, 12647, 30342),
    (1, 1, 1, 2, 4, 15, 29, 51, 90, 174, 420, 467, 518, 664, 998, 1779, 7187, 8210),
)

TOKEN_LAWS: dict[str, TokenLaw] = {
    "chat": CHAT,
    "code": CODE,
    "long-context": LONG_CONTEXT,
    "reasoning": REASONING,
    "api": API,
}


def fixed(prompt: float, output: float) -> TokenLaw:
    """Every request alike."""
    return TokenLaw((0.0, 1.0), (prompt, prompt), (0.0, 1.0), (output, output))


# For laws made here: closer together, because straight lines between the eighteen lift the mean of a long tail by 7 %.
# fmt: off
KNOTS = (0.0, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8,
         0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.9975, 0.999, 1.0)
# fmt: on


def from_samples(prompt: Floats, output: Floats) -> TokenLaw:
    """The law of recorded lengths: their quantiles at `KNOTS`."""
    return TokenLaw(KNOTS, _tuple(np.quantile(prompt, KNOTS)), KNOTS, _tuple(np.quantile(output, KNOTS)))


def pool(laws: Sequence[TokenLaw], weights: ArrayLike) -> TokenLaw:
    """The law of a request that follows `laws[i]` with probability in proportion to `weights[i]`.

    Prompt and output stay independent in the mixture, which a mixture of unlike services is not: say so where it
    matters (a long prompt then no longer tells which service it came from).
    """
    share = np.asarray(weights, np.float64)
    if len(laws) == 1:
        return laws[0]
    prompt = mixture_quantiles([law.prompt_at(MIDPOINTS) for law in laws], share, KNOTS)
    output = mixture_quantiles([law.output_at(MIDPOINTS) for law in laws], share, KNOTS)
    return TokenLaw(KNOTS, _tuple(prompt), KNOTS, _tuple(output))


# Midpoints of 500 equal-probability cells: the p99 of a mixture still rests on five cells of every component.
MIDPOINTS = (np.arange(500) + 0.5) / 500


def mixture_quantiles(columns: Sequence[Floats], weights: Floats, probabilities: Sequence[float]) -> Floats:
    """Quantiles of a mixture whose components are given by values of equal probability.

    `probabilities` rise to 1. The last quantile is not the maximum but the value that keeps the mean of the piece
    before it: the longest request of a tiny component would otherwise stretch the tail of everybody.
    """
    values = np.concatenate(columns)
    mass = np.concatenate([np.full(len(column), w / len(column)) for column, w in zip(columns, weights, strict=True)])
    order = np.argsort(values, kind="stable")
    values, mass = values[order], mass[order] / mass.sum()
    above = np.cumsum(mass)
    quantiles = np.interp(probabilities, above - 0.5 * mass, values)  # a value stands for the middle of its mass
    tail = 1.0 - probabilities[-2]
    share = np.clip(above - probabilities[-2], 0.0, mass)
    quantiles[-1] = max(quantiles[-2], 2.0 * float(share @ values) / tail - quantiles[-2])
    return quantiles


def _tuple(values: Floats) -> tuple[float, ...]:
    return tuple(round(float(value), 2) for value in values)
