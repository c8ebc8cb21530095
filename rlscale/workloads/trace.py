"""A recorded load: requests, counts per cell, or rates per client. Frozen; knows neither files nor scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rlscale.errors import RlscaleError, TraceError
from rlscale.types import Floats, Ints, Requests
from rlscale.workloads.family import WEEK_S
from rlscale.workloads.statistics import window_counts


@dataclass(frozen=True, slots=True)
class Series:
    """Requests per cell of `step_s`. `missing` cells hold an interpolated count."""

    step_s: float
    counts: Floats
    missing: NDArray[np.bool_]
    whole: bool  # counts were recorded; False when the file gave rates


@dataclass(frozen=True, slots=True)
class ClientTokens:
    """Length quantiles by client and block: one row each."""

    block_s: float
    client: Ints
    start_s: Floats
    p: Floats  # (knots,)
    prompt: Floats  # (rows, knots) tokens
    output: Floats  # (rows, knots) tokens


@dataclass(frozen=True, slots=True)
class Clients:
    """Rate and burstiness by client and window: one row each, windows without requests left out."""

    window_s: float
    client: Ints
    start_s: Floats
    rate_per_s: Floats
    cv: Floats  # coefficient of variation of the inter-arrivals in the window
    tokens: ClientTokens | None = None

    def total_per_s(self, span_s: float) -> Floats:
        """Rate of all clients together in every window."""
        window = np.rint(self.start_s / self.window_s).astype(np.int64)
        return np.bincount(window, self.rate_per_s, minlength=round(span_s / self.window_s)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Trace:
    """One recorded load; exactly one of `requests`, `series`, `clients` is there. Time runs from 0 to `span_s`."""

    source: str  # file name
    format: str
    span_s: float
    requests: Requests | None = None
    series: Series | None = None
    clients: Clients | None = None
    week_s: float = 0.0  # seconds since Monday 00:00 at the start; 0 when the file has no calendar
    notes: tuple[str, ...] = ()  # what the reader did to the data

    @property
    def grid_s(self) -> float:
        """Times at which the trace can be cut: multiples of this."""
        if self.series is not None:
            return self.series.step_s
        return self.clients.window_s if self.clients is not None else 0.0

    @property
    def mean_per_s(self) -> float:
        """Mean requests per second over the span (missing cells of a series at their interpolated value)."""
        if self.requests is not None:
            return len(self.requests) / self.span_s
        if self.series is not None:
            return float(self.series.counts.sum()) / self.span_s
        assert self.clients is not None
        return float(self.clients.rate_per_s.sum()) * self.clients.window_s / self.span_s

    def rates(self, step_s: float) -> Floats:
        """Requests per second in every whole cell of `step_s`. Requests are counted by the second."""
        if self.requests is not None:
            cell_s, counts = 1.0, window_counts(self.requests.arrival_s, 1.0, self.span_s)
        elif self.series is not None:
            cell_s, counts = self.series.step_s, self.series.counts
        else:
            assert self.clients is not None
            cell_s, counts = self.clients.window_s, self.clients.window_s * self.clients.total_per_s(self.span_s)
        area = np.concatenate([[0.0], np.cumsum(counts)])
        edges_s = np.arange(int(len(counts) * cell_s / step_s + 1e-9) + 1) * step_s
        return np.asarray(np.diff(np.interp(edges_s, np.arange(len(area)) * cell_s, area)) / step_s)

    def between(self, start_s: float, end_s: float) -> Trace:
        """The part in [start, end), its time counted from `start_s`."""
        end_s = min(end_s, self.span_s)
        if not 0 <= start_s < end_s:
            raise TraceError(
                f"{self.source}: nothing between {start_s} and {end_s} s; the trace spans 0 to {self.span_s:g} s"
            )
        grid = self.grid_s
        if grid and any(abs(at / grid - round(at / grid)) > 1e-6 for at in (start_s, end_s) if at != self.span_s):
            raise TraceError(
                f"{self.source}: cut at {start_s:g} and {end_s:g} s; expected multiples of its {grid:g} s cells"
            )
        return replace(
            self,
            span_s=end_s - start_s,
            week_s=(self.week_s + start_s) % WEEK_S,
            requests=None if self.requests is None else self.requests.between(start_s, end_s),
            series=None if self.series is None else _cut_series(self.series, start_s, end_s),
            clients=None if self.clients is None else _cut_clients(self.clients, start_s, end_s),
        )

    def faster(self, times: float) -> Trace:
        """The same requests in `span_s / times` seconds."""
        if not (0 < times < math.inf):
            raise RlscaleError(f"time_scale={times}; expected a number above 0")
        if times == 1.0:
            return self
        return replace(
            self,
            span_s=self.span_s / times,
            requests=None
            if self.requests is None
            else replace(self.requests, arrival_s=self.requests.arrival_s / times),
            series=None if self.series is None else replace(self.series, step_s=self.series.step_s / times),
            clients=None if self.clients is None else _faster_clients(self.clients, times),
        )

    def burstiness(self) -> float:
        """Clients: square of the rate-weighted variation of inter-arrivals; 1 for anything else."""
        if self.clients is None or self.clients.rate_per_s.sum() <= 0:
            return 1.0
        return float(np.average(self.clients.cv, weights=self.clients.rate_per_s)) ** 2


def _cut_series(series: Series, start_s: float, end_s: float) -> Series:
    cells = slice(round(start_s / series.step_s), round(end_s / series.step_s))
    return replace(series, counts=series.counts[cells], missing=series.missing[cells])


def _cut_clients(clients: Clients, start_s: float, end_s: float) -> Clients:
    rows = (clients.start_s >= start_s) & (clients.start_s < end_s)
    return replace(
        clients,
        client=clients.client[rows],
        start_s=clients.start_s[rows] - start_s,
        rate_per_s=clients.rate_per_s[rows],
        cv=clients.cv[rows],
        tokens=None if clients.tokens is None else replace(clients.tokens, start_s=clients.tokens.start_s - start_s),
    )


def _faster_clients(clients: Clients, times: float) -> Clients:
    return replace(
        clients,
        window_s=clients.window_s / times,
        start_s=clients.start_s / times,
        rate_per_s=clients.rate_per_s * times,
        tokens=None if clients.tokens is None else _faster_tokens(clients.tokens, times),
    )


def _faster_tokens(tokens: ClientTokens, times: float) -> ClientTokens:
    return replace(tokens, block_s=tokens.block_s / times, start_s=tokens.start_s / times)
