"""The requests of a sub-step: how many, when, how long. Luck as in luck.py, so that no scaler can change them.

Counts are those of the fluid engine under the same luck. Inside a sub-step requests come at random, or, for a bursty
load, with Weibull gaps of its squared coefficient of variation.
"""

from __future__ import annotations

import math

import numpy as np

from rlscale.sim import luck
from rlscale.sim.luck import kernel

WHEN, PROMPT, OUTPUT, KEY = 13, 14, 15, 16  # streams
_HALF = np.uint64(1)  # bits to drop so that a hash is a signed number above 0


@kernel
def drawn_count(frozen, c, spec, values, law):
    """How many requests come in this sub-step, those of returning users included."""
    count = 0.0
    at = c.cell + c.step
    if not frozen and at < values.shape[0]:
        count = float(values[at])
        if law.poisson:
            count = luck.poisson(count * spec.substep_s, luck.uniform(c.seed, luck.COUNTS, 0, c.step, 0))
    if law.continues > 0.0 and not frozen:
        back = luck.poisson(c.thinking * law.returns, luck.uniform(c.seed, luck.RETURNS, 0, c.step, 0))
        back = math.floor(min(back, c.thinking))
        c.thinking -= back
        count += back
    return int(count + 0.5)


@kernel
def draw(count, now_s, c, flow, arrivals, spec, law, knots):
    """Write `count` requests, sorted by time; `knots` (2, 2, K): probabilities and tokens of prompts and answers."""
    flow.next = 0
    flow.upto = count
    total = 0.0
    for k in range(count + 1):
        u = luck.uniform(c.seed, WHEN, 0, k, c.step)
        gap = -math.log(u)
        total += gap**law.stretch if law.bursty else gap
        if k < count:
            arrivals[k].at_s = total
    scale = spec.substep_s / total if total > 0.0 else 0.0
    for k in range(count):
        a = arrivals[k]
        a.at_s = now_s + a.at_s * scale
        a.prompt = tokens_at(luck.uniform(c.seed, PROMPT, 0, k, c.step), knots[0])
        a.output = tokens_at(luck.uniform(c.seed, OUTPUT, 0, k, c.step), knots[1])
        a.key = int(luck.bits(c.seed, KEY, 0, k, c.step) >> _HALF)
        a.number = -1
        a.blocks = 0


@kernel
def tokens_at(u, knots):
    """Whole tokens, at least one, at a quantile; linear between the knots."""
    low, high = 0, knots.shape[1] - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if knots[0, middle] <= u:
            low = middle
        else:
            high = middle
    width = knots[0, high] - knots[0, low]
    share = (u - knots[0, low]) / width if width > 0.0 else 0.0
    value = knots[1, low] + min(max(share, 0.0), 1.0) * (knots[1, high] - knots[1, low])
    return max(1.0, math.floor(value + 0.5))


@kernel
def read(now_s, c, flow, arrivals, spec, given, cursor, last, longest):
    """Copy the given requests of this sub-step, none after `last`; returns the cursor behind them, or -1 where there is
    no room. Answers have `longest` tokens at most."""
    until_s = now_s + spec.substep_s
    begun_s = c.cell * spec.substep_s
    end = cursor
    while end < last and given[end].at_s - begun_s < until_s:
        end += 1
    if end - cursor > arrivals.shape[0]:
        return -1
    for k in range(cursor, end):
        a, b = arrivals[k - cursor], given[k]
        a.at_s = max(now_s, b.at_s - begun_s)
        a.prompt, a.output, a.key, a.number = b.prompt, min(b.output, longest), b.key, b.number
        a.block, a.blocks, a.group = b.block, b.blocks, b.group
    flow.next = 0
    flow.upto = end - cursor
    return end
