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

# Closer together: straight lines between the eighteen lift the mean of a long tail by up to 7 %.
# fmt: off
KNOTS = (0.0, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8,
         0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.9975, 0.999, 1.0)
# fmt: on


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
# fmt: off
# ServeGen deepseek-r1 (Apache-2.0): reasoning. Clients pooled by mean rate, the six-hour blocks of a client alike.
REASONING = TokenLaw(
    KNOTS,
    (4, 7, 10, 13, 24, 29, 44, 64, 93, 147, 204, 213, 261, 279, 365, 430, 572, 789, 1116, 1341, 2469, 3955, 7217, 9486,
     12564, 16897, 19844, 23880, 26685, 28667, 31730, 35057, 46463),
    KNOTS,
    (33, 135, 181, 229, 294, 346, 390, 429, 470, 519, 552, 631, 736, 857, 1001, 1178, 1313, 1458, 1648, 2242, 3554,
     4503, 5944, 6749, 7898, 9887, 11478, 13628, 15153, 17313, 21229, 25301, 33050),
)
# ServeGen m-large days 0 to 7, pooled in the same way (Apache-2.0): a shared API.
API = TokenLaw(
    KNOTS,
    (1, 48, 61, 64, 75, 79, 172, 351, 523, 571, 588, 625, 673, 750, 823, 856, 974, 1124, 1427, 1940, 2372, 2387, 2404,
     2434, 2831, 3360, 3761, 4985, 6310, 8279, 11014, 22003, 25961),
    KNOTS,
    (1, 1, 1, 1, 2, 3, 4, 8, 12, 17, 29, 41, 54, 70, 84, 107, 153, 210, 370, 432, 466, 494, 567, 613, 701, 855, 926,
     1100, 1402, 2231, 3097, 5889, 7901),
)
# ServeGen m-small, pooled in the same way (Apache-2.0): short questions; the five largest clients have no lengths.
SMALL = TokenLaw(
    KNOTS,
    (9, 13, 14, 18, 19, 19, 19, 20, 21, 27, 28, 35, 40, 44, 50, 51, 52, 55, 76, 206, 399, 452, 684, 779, 934, 1262,
     1472, 1533, 1579, 2178, 3446, 6421, 27096),
    KNOTS,
    (1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 7, 10, 13, 26, 42, 60, 77, 104, 117, 131, 154, 174, 219, 253, 336,
     2000, 5747, 5747),
)
# fmt: on
# BurstGPT (CC-BY-4.0), first 60 000 rows. Published are mean, p50, p95 and p99; between p50 and p95 the log of the
# length follows a power of the normal score (0.71 and 0.41), the only one that meets the mean.
BURSTGPT = _law(
    (3, 7, 14, 21, 32, 44, 57, 74, 169, 297, 517, 1019, 1697, 2400, 3023, 3879, 6487, 8000),
    (1, 2, 3, 4, 7, 9, 11, 14, 74, 132, 215, 359, 510, 646, 757, 971, 1622, 2000),
)
# Alibaba GenTD26, image requests: milliseconds of GPU time in the place of the prompt and one output token, for a
# service that takes one request at a time; its profile then has c2_ms 1 and service_cv2 0.
GENTD26 = TokenLaw(
    _P,
    (1000, 7000, 11_000, 13_000, 15_000, 17_000, 20_000, 22_000, 24_000, 28_000, 34_000, 47_000, 62_000, 79_000,
     87_230, 97_610, 139_850, 567_000),
    (0.0, 1.0),
    (1, 1),
)  # fmt: skip


def fixed(prompt: float, output: float) -> TokenLaw:
    """Every request alike."""
    return TokenLaw((0.0, 1.0), (prompt, prompt), (0.0, 1.0), (output, output))


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


def _of_2024(law: TokenLaw, p50: float, p95: float, p99: float, mean_total: float) -> TokenLaw:
    """The 2024 law of an Azure service from its 2023 one: answers stretched to three quantiles, prompts scaled.

    Of the prompts of 2024 only the mean of prompt and answer together is published: the 2023 prompt law is
    multiplied by the one factor that meets it.
    """
    at = (0.5, 0.95, 0.99)
    stretch = np.log(np.array([p50, p95, p99]) / law.output_at(np.array(at)))
    output = np.maximum(np.array(law.output_tokens) * np.exp(np.interp(law.output_p, at, stretch)), 1.0)
    answered = TokenLaw(law.prompt_p, law.prompt_tokens, law.output_p, _tuple(output))
    prompt_mean, output_mean = means(answered)
    factor = (mean_total - output_mean) / prompt_mean
    return TokenLaw(law.prompt_p, _tuple(np.array(law.prompt_tokens) * factor), law.output_p, answered.output_tokens)


def means(law: TokenLaw) -> tuple[float, float]:
    """Mean prompt and mean output, tokens."""
    return (
        float(np.trapezoid(np.maximum(law.prompt_tokens, 1.0), law.prompt_p)),
        float(np.trapezoid(np.maximum(law.output_tokens, 1.0), law.output_p)),
    )


TOKEN_LAWS: dict[str, TokenLaw] = {
    "chat": CHAT,
    "code": CODE,
    "long-context": LONG_CONTEXT,
    "reasoning": REASONING,
    "api": API,
    "chat-2024": _of_2024(CHAT, 41.0, 455.0, 694.0, 1737.0),
    "code-2024": _of_2024(CODE, 8.0, 79.0, 271.0, 2534.0),
    "burstgpt": BURSTGPT,
    "servegen-small": SMALL,
    "gentd26": GENTD26,
}
