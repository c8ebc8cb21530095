"""Quadrature of a token law on a service profile: the points at which the fluid engine deposits latencies."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rlscale.sim.luck import normal_quantile
from rlscale.types import Floats, ServiceProfile, TokenLaw

SETS, POINTS = 64, 16  # a sub-step uses one set; the sets take turns, so an interval sees hundreds of points
COLUMNS = 9
# Columns: prompt tokens n; its work w(n); uniform: are there others ahead; work of one other; its tokens;
# Exp(1); position inside the admitted batch; uniform residual; standard normal.
CLASSES = 8  # answers by length, equal probability
EACH = 1.0 / CLASSES  # share of a cohort in one class of answer lengths


@lru_cache(maxsize=256)
def points(profile: ServiceProfile, tokens: TokenLaw) -> Floats:
    """(SETS, POINTS, COLUMNS) low-discrepancy points, each set in order of its position in the batch."""
    from scipy.stats import qmc

    u = np.clip(qmc.Sobol(7, seed=1).random(SETS * POINTS), 1e-6, 1.0 - 1e-6)
    law = profile.law

    def work(n: Floats) -> Floats:
        return law.c2_s * n + law.c4_s * n * n

    most = profile.longest_tokens
    n = np.minimum(tokens.prompt_at(u[:, 0]), most)
    other = np.minimum(tokens.prompt_at(u[:, 2]), most)
    normal = np.array([normal_quantile(x) for x in u[:, 6]])
    table = np.stack(
        [n, work(n), u[:, 1], work(other), other, -np.log(1.0 - u[:, 3]), u[:, 4], u[:, 5], normal], axis=1
    ).reshape(SETS, POINTS, COLUMNS)
    order = np.argsort(table[:, :, 6], axis=1)
    return np.ascontiguousarray(np.take_along_axis(table, order[:, :, None], axis=1))


def output_classes(tokens: TokenLaw) -> Floats:
    """(CLASSES, 4): mean answer length m of each eighth of the requests, m - 1, 1 / (m - 1), mean of 1 / (m - 1).

    The last two are 0 for answers of one token. What comes once per answer, such as a late burst of prompts, weighs
    by the last.
    """
    u = (np.arange(CLASSES * 512) + 0.5) / (CLASSES * 512)
    lengths = tokens.output_at(u).reshape(CLASSES, 512)
    m = lengths.mean(axis=1)
    further = np.maximum(m - 1.0, 0.0)
    each = np.divide(1.0, further, out=np.zeros_like(further), where=further > 0)
    singly = np.where(lengths > 1.5, 1.0 / np.maximum(np.round(lengths) - 1.0, 1.0), 0.0).mean(axis=1)
    return np.stack([m, further, each, singly], axis=1)


@lru_cache(maxsize=256)
def kv_spread_s(profile: ServiceProfile, tokens: TokenLaw) -> float:
    """c3 times the root mean square of the resident tokens of a running sequence, seconds."""
    u = (np.arange(512) + 0.5) / 512
    n, m = tokens.prompt_at(u), tokens.output_at(u)
    mean_m = m.mean()
    square = (n * n).mean() + n.mean() * (m * m).mean() / mean_m + (m**3).mean() / (3.0 * mean_m)
    return float(profile.law.c3_s * np.sqrt(square))
