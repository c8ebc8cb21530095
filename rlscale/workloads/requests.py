"""Single requests out of a load: what the request-level engines run on."""

from __future__ import annotations

import math

import numpy as np

from rlscale.types import Floats, Ints, Load, Requests


def draw_requests(load: Load, rng: np.random.Generator) -> Requests:
    """Requests consistent with `load`: its counts, uniform inside a cell, whole tokens from the law of the time."""
    counts = load.values.astype(np.float64)
    whole = rng.poisson(counts * load.step_s) if load.law == "poisson" else np.rint(counts).astype(np.int64)
    cell = np.repeat(np.arange(len(whole)), whole)
    arrival_s = np.sort((cell + rng.random(len(cell))) * load.step_s)
    prompt, output = _lengths(load, arrival_s, rng)
    return Requests(arrival_s, prompt, output)


def _lengths(load: Load, arrival_s: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    n = len(arrival_s)
    u, v = rng.random(n), rng.random(n)
    prompt, output = np.empty(n), np.empty(n)
    which = _law_of(load, arrival_s)
    for index, law in enumerate(load.tokens):
        own = which == index
        prompt[own], output[own] = law.prompt_at(u[own]), law.output_at(v[own])
    return np.rint(prompt), np.rint(output)


def _law_of(load: Load, arrival_s: Floats) -> Ints:
    """Index into `load.tokens` for every arrival; the last block lasts to the end."""
    if math.isinf(load.token_block_s):
        return np.full(len(arrival_s), load.token_block[0])
    block = np.minimum((arrival_s / load.token_block_s).astype(np.int64), len(load.token_block) - 1)
    return np.asarray(load.token_block[block], np.int64)
