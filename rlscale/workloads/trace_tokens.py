"""Token laws of a recorded load, one per block of time. Knows no files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rlscale.types import Floats, Ints, Requests, TokenLaw
from rlscale.workloads.tokens import KNOTS, MIDPOINTS, from_samples, mixture_quantiles
from rlscale.workloads.trace import Clients, ClientTokens, Trace

REQUEST_BLOCK_S = 1800.0  # requests: one law per half hour ...
MIN_REQUESTS = 500  # ... that holds at least so many; below, the p99 of a block would rest on a handful


@dataclass(frozen=True, slots=True)
class TokenBlocks:
    """`laws[block[i]]` holds from `i * block_s` on; no laws where the trace has no lengths."""

    laws: tuple[TokenLaw, ...]
    block: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    block_s: float = math.inf


def token_blocks(trace: Trace, mixed: bool = False) -> TokenBlocks:
    """The laws of a trace by time; `mixed` for one law of all requests."""
    if trace.requests is not None:
        return _of_requests(trace.requests, math.inf if mixed else REQUEST_BLOCK_S, trace.span_s)
    if trace.clients is not None and trace.clients.tokens is not None:
        return _of_clients(trace.clients, trace.clients.tokens, trace.span_s)
    return TokenBlocks(())


def _of_requests(requests: Requests, block_s: float, span_s: float) -> TokenBlocks:
    blocks = max(1, math.ceil(span_s / block_s - 1e-9))
    edges = np.searchsorted(requests.arrival_s, np.append(np.arange(blocks) * min(block_s, span_s), math.inf))
    if blocks == 1 or np.diff(edges).min() < MIN_REQUESTS:
        return TokenBlocks((from_samples(requests.prompt_tokens, requests.output_tokens),))
    laws = [
        from_samples(requests.prompt_tokens[a:b], requests.output_tokens[a:b]) for a, b in itertools.pairwise(edges)
    ]
    return TokenBlocks(tuple(laws), np.arange(blocks, dtype=np.int64), block_s)


def _of_clients(clients: Clients, tokens: ClientTokens, span_s: float) -> TokenBlocks:
    """Clients pooled by their rate in each block; a client without lengths there follows the whole service."""
    windows = round(span_s / clients.window_s)
    number = np.floor((clients.start_s - tokens.start_s.min()) / tokens.block_s + 1e-9).astype(np.int64)
    token_number = np.round((tokens.start_s - tokens.start_s.min()) / tokens.block_s).astype(np.int64)
    prompt, output = _spread(tokens.prompt, tokens.p), _spread(tokens.output, tokens.p)
    weight = _row_weights(clients, number, tokens, token_number)
    service = _mix(prompt, output, weight if weight.sum() > 0 else np.ones(len(weight)))
    at_s = (np.arange(windows) + 0.5) * clients.window_s
    window_number = np.floor((at_s - tokens.start_s.min()) / tokens.block_s).astype(np.int64)
    laws, known = [], np.unique(window_number)
    for block in known:
        rows = token_number == block
        other = float(clients.rate_per_s[number == block].sum() - weight[rows].sum())
        laws.append(_with_others(prompt[rows], output[rows], weight[rows], service, max(other, 0.0)))
    return TokenBlocks(tuple(laws), np.searchsorted(known, window_number).astype(np.int64), clients.window_s)


def pooled_by_client(clients: Clients, tokens: ClientTokens, p: Sequence[float]) -> tuple[Floats, Floats]:
    """Prompt and output of the whole service: the mean, then the quantiles at `p` (below 1).

    Clients count by their mean rate, the blocks of a client alike: the published way of pooling.
    """
    total = {int(c): float(clients.rate_per_s[clients.client == c].sum()) for c in np.unique(clients.client)}
    rows = {int(c): int((tokens.client == c).sum()) for c in np.unique(tokens.client)}
    weight = np.array([total.get(int(c), 0.0) / rows[int(c)] for c in tokens.client])
    sides = []
    for knots in (tokens.prompt, tokens.output):
        values = _spread(knots, tokens.p)
        quantiles = mixture_quantiles(list(values[weight > 0]), weight[weight > 0], (*p, 1.0))
        sides.append(np.append(np.average(values.mean(axis=1), weights=weight), quantiles[:-1]))
    return sides[0], sides[1]


def coverage(clients: Clients, tokens: ClientTokens) -> float:
    """Share of the requests, 0 to 1, whose client has lengths on file."""
    known = np.isin(clients.client, tokens.client)
    return float(clients.rate_per_s[known].sum() / clients.rate_per_s.sum())


def _row_weights(clients: Clients, number: Ints, tokens: ClientTokens, token_number: Ints) -> Floats:
    """Rate of each token row's client in its block."""
    base = int(max(clients.client.max(), tokens.client.max())) + 1
    low = int(min(number.min(), token_number.min()))
    key = (number - low) * base + clients.client
    token_key = (token_number - low) * base + tokens.client
    rate = np.bincount(key, clients.rate_per_s, minlength=int(token_key.max()) + 1)
    return np.asarray(rate[token_key])


def _spread(rows: Floats, p: Floats) -> Floats:
    """(rows, points): values of equal probability out of quantile knots."""
    return np.stack([np.interp(MIDPOINTS, p, row) for row in rows])


def _with_others(prompt: Floats, output: Floats, weight: Floats, service: TokenLaw, other: float) -> TokenLaw:
    if weight.sum() <= 0:
        return service
    return _mix(
        np.vstack([prompt, service.prompt_at(MIDPOINTS)]),
        np.vstack([output, service.output_at(MIDPOINTS)]),
        np.append(weight, other),
    )


def _mix(prompt: Floats, output: Floats, weight: Floats) -> TokenLaw:
    kept = weight > 0
    quantiles = [mixture_quantiles(list(side[kept]), weight[kept], KNOTS) for side in (prompt, output)]
    return TokenLaw(KNOTS, tuple(quantiles[0].tolist()), KNOTS, tuple(quantiles[1].tolist()))
