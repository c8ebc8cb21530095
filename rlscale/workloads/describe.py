"""What a recorded load is like, in figures a newcomer can read. Knows no scaling and no file format.

How each figure is taken (the published tables were reproduced this way):
- requests: windows start at the first request and are whole; variances are those of the population (divided by n);
  local variation is the median over windows of 300 s, the last one as long as it lasts.
- series: missing cells are left out and the rest is joined, so that an outage does not pass for burstiness.
- clients: the mean counts empty windows; lengths are pooled by the mean rate of the clients.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rlscale.types import Floats
from rlscale.workloads import statistics as st
from rlscale.workloads.family import DAY_S
from rlscale.workloads.trace import Clients, Series, Trace
from rlscale.workloads.trace_tokens import coverage, pooled_by_client

WINDOWS_S = (1.0, 10.0, 60.0)
LENGTH_QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Distribution of a length, tokens."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class ClientFigures:
    """What only a trace with clients can tell."""

    clients: int
    min_600s_per_s: float
    empty_windows: int
    top1: float  # share of the requests, 0 to 1
    top5: float
    top10: float
    cv_by_rate: float  # variation of inter-arrivals, mean weighted by rate
    cv_median: float  # over client-windows
    cv_p95: float
    residual_sigma: float  # log rate around the usual course of the day
    residual_autocorrelation: float  # at one window
    token_coverage: float  # share of the requests whose client has lengths on file


@dataclass(frozen=True, slots=True)
class Description:
    """The figures of one trace; None where the trace cannot tell."""

    source: str
    format: str
    requests: float
    span_s: float  # without missing cells
    mean_per_s: float
    peak_per_s: dict[float, float] = field(default_factory=dict)  # by window, seconds
    idc: dict[float, float] = field(default_factory=dict)  # by window, seconds
    cv: float | None = None
    local_cv: float | None = None
    prompt: Lengths | None = None
    output: Lengths | None = None
    clients: ClientFigures | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values, ready for json.dumps; keys of windows end in s."""
        data = asdict(self)
        for name in ("peak_per_s", "idc"):
            data[name] = {f"{window:g}s": value for window, value in data[name].items()}
        return data


def describe(trace: Trace) -> Description:
    """All figures that the trace allows."""
    if trace.requests is not None:
        return _of_requests(trace)
    if trace.series is not None:
        return _of_series(trace, trace.series)
    assert trace.clients is not None, "a trace holds requests, a series or clients"
    return _of_clients(trace, trace.clients)


def _of_requests(trace: Trace) -> Description:
    assert trace.requests is not None
    at_s = trace.requests.arrival_s
    counts = {window: st.window_counts(at_s, window, trace.span_s) for window in WINDOWS_S}
    return Description(
        source=trace.source,
        format=trace.format,
        requests=float(len(at_s)),
        span_s=trace.span_s,
        mean_per_s=len(at_s) / trace.span_s,
        peak_per_s=_known({w: st.peak_per_s(counts[w], w) for w in WINDOWS_S[1:]}),
        idc=_known({w: st.idc(counts[w]) for w in WINDOWS_S}),
        cv=_maybe(st.cv(at_s)),
        local_cv=_maybe(st.local_cv(at_s)),
        prompt=_lengths(trace.requests.prompt_tokens),
        output=_lengths(trace.requests.output_tokens),
        notes=trace.notes,
    )


def _of_series(trace: Trace, series: Series) -> Description:
    kept = series.counts[~series.missing]
    windows = [w for w in sorted({*WINDOWS_S, series.step_s}) if _whole(w, series.step_s)]
    counts = {window: st.regroup(kept, round(window / series.step_s)) for window in windows}
    return Description(
        source=trace.source,
        format=trace.format,
        requests=float(kept.sum()),
        span_s=len(kept) * series.step_s,
        mean_per_s=float(kept.sum()) / (len(kept) * series.step_s),
        peak_per_s=_known({w: st.peak_per_s(counts[w], w) for w in windows if w > 1.0}),
        idc=_known({w: st.idc(counts[w]) for w in windows}) if series.whole else {},
        notes=trace.notes,
    )


def _of_clients(trace: Trace, clients: Clients) -> Description:
    rate = clients.total_per_s(trace.span_s)
    prompt, output = None, None
    if clients.tokens is not None:
        sides = pooled_by_client(clients, clients.tokens, LENGTH_QUANTILES)
        prompt, output = (Lengths(*side.tolist()) for side in sides)
    return Description(
        source=trace.source,
        format=trace.format,
        requests=float(rate.sum() * clients.window_s),
        span_s=trace.span_s,
        mean_per_s=float(rate.mean()),
        peak_per_s={clients.window_s: float(rate.max())},
        prompt=prompt,
        output=output,
        clients=_client_figures(clients, rate),
        notes=trace.notes,
    )


def _client_figures(clients: Clients, rate: Floats) -> ClientFigures:
    by_client = np.sort(np.bincount(clients.client, clients.rate_per_s))[::-1]
    share = np.cumsum(by_client) / by_client.sum()
    sigma, autocorrelation = st.log_residual(rate, round(DAY_S / clients.window_s))
    return ClientFigures(
        clients=len(np.unique(clients.client)),
        min_600s_per_s=float(rate.min()),
        empty_windows=int((rate == 0).sum()),
        top1=float(share[0]),
        top5=float(share[min(4, len(share) - 1)]),
        top10=float(share[min(9, len(share) - 1)]),
        cv_by_rate=float(np.average(clients.cv, weights=clients.rate_per_s)),
        cv_median=float(np.median(clients.cv)),
        cv_p95=float(np.quantile(clients.cv, 0.95)),
        residual_sigma=sigma,
        residual_autocorrelation=autocorrelation,
        token_coverage=0.0 if clients.tokens is None else coverage(clients, clients.tokens),
    )


def _lengths(tokens: Floats) -> Lengths:
    return Lengths(float(tokens.mean()), *np.quantile(tokens, LENGTH_QUANTILES).tolist())


def _whole(window_s: float, step_s: float) -> bool:
    return abs(window_s / step_s - round(window_s / step_s)) < 1e-9 and window_s >= step_s


def _known(values: dict[float, float]) -> dict[float, float]:
    return {window: value for window, value in values.items() if math.isfinite(value)}


def _maybe(value: float) -> float | None:
    return value if math.isfinite(value) else None
