"""Counts per cell out of rates and burstiness per client and window (ServeGen). Knows no files.

A window's number of requests is on record and is kept: only where they fall inside the window is drawn. Distances
between N requests that fill a window are Dirichlet; with concentration k their squared variation is
(N - 1) / (N k + 1), which gives the k that reproduces the recorded variation.
"""

from __future__ import annotations

import math

import numpy as np

from rlscale.types import Floats
from rlscale.workloads.trace import Clients

# Draws per cell of a busy client: one draw may stand for several requests when there are more (see renewal.py).
DRAWS_PER_CELL = 8.0


def draw_counts(clients: Clients, span_s: float, step_s: float, factor: float, rng: np.random.Generator) -> Floats:
    """Requests of all clients in every whole cell of the span, rates multiplied by `factor`."""
    cells = int(span_s / step_s + 1e-9)
    edges_s = np.arange(cells + 1) * step_s
    total = np.zeros(cells)
    for client in np.unique(clients.client):
        own = np.flatnonzero(clients.client == client)
        own = own[np.argsort(clients.start_s[own])]
        expected = clients.rate_per_s[own] * clients.window_s * factor
        number = np.floor(expected + rng.random(len(own))).astype(np.int64)  # whole, with the right mean
        at_s, so_far = _path(clients.start_s[own], number, clients.cv[own], clients.window_s, step_s, rng)
        total += np.diff(np.floor(np.interp(edges_s, at_s, so_far) + 1e-9))
    return total


def _path(
    start_s: Floats, number: np.ndarray, cv: Floats, window_s: float, step_s: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Times and the requests so far at each of them, over all windows of one client."""
    per_draw = max(1, math.floor(number.max(initial=0) * step_s / window_s / DRAWS_PER_CELL))
    draws = np.ceil(number / per_draw).astype(np.int64)
    concentration = np.maximum(((number - 1) / np.square(cv) - 1.0) / np.maximum(number, 1), 1e-3)
    # One distance more than requests: the last one leads from the last request to the end of the window.
    gaps = rng.gamma(np.repeat(concentration * per_draw, draws + 1))
    last = np.cumsum(draws + 1) - 1
    so_far = np.cumsum(gaps)
    before = np.concatenate([[0.0], so_far[last[:-1]]]) if len(last) else np.zeros(0)
    length = np.maximum(so_far[last] - before, 1e-300)
    share = (so_far - np.repeat(before, draws + 1)) / np.repeat(length, draws + 1)
    at_s = np.repeat(start_s, draws + 1) + np.minimum(share, 1.0 - 1e-9) * window_s
    within = np.arange(len(gaps)) - np.repeat(last - draws, draws + 1)  # 0 for the first draw of a window
    reached = np.minimum((within + 1) * per_draw, np.repeat(number, draws + 1))
    done = np.repeat(np.cumsum(number) - number, draws + 1)
    # A point at the start of every window keeps its first requests out of the idle time before it.
    order = np.argsort(np.concatenate([start_s, at_s]), kind="stable")
    counts = np.concatenate([np.cumsum(number) - number, done + reached]).astype(np.float64)
    return np.concatenate([start_s, at_s])[order], counts[order]
