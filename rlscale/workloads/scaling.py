"""Makes a recorded load larger or smaller. Knows no files and no cluster.

superpose: copies shifted in a circle inside the split: independent users. Flattens.
amplify:   each request becomes a Poisson number of requests within its second: a common cause. Keeps the swings.
Client traces know rates only: their rates are multiplied and the clients keep their burstiness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rlscale.errors import TraceError
from rlscale.types import Floats, Load, Requests
from rlscale.workloads import statistics as st
from rlscale.workloads.client_counts import draw_counts
from rlscale.workloads.renewal import burstiness
from rlscale.workloads.trace import Series, Trace

Way = Literal["superpose", "amplify", "rate", "recorded"]
WINDOWS_S = (1.0, 10.0, 60.0)


@dataclass(frozen=True, slots=True)
class Cells:
    """Load in cells: counts, or mean rates (requests per second) out of which counts are still to be drawn."""

    step_s: float
    values: Floats
    law: Literal["poisson", "counts"]
    burstiness: float = 1.0
    requests: Requests | None = None  # those that were counted, where they are known

    @property
    def rate_per_s(self) -> Floats:
        """Requests per second in every cell."""
        return self.values if self.law == "poisson" else self.values / self.step_s

    def part(self, first: int, last: int) -> Cells:
        """The cells `first` to `last - 1`."""
        span_s = (first * self.step_s, min(last, len(self.values)) * self.step_s)
        requests = None if self.requests is None else self.requests.between(*span_s)
        return replace(self, values=self.values[first:last], requests=requests)


@dataclass(frozen=True, slots=True)
class Dispersion:
    """How the load was scaled and what that did to it; index of dispersion by window, seconds."""

    way: Way
    factor: float
    before: dict[float, float]
    after: dict[float, float]

    def __str__(self) -> str:
        """One line for a report."""
        text = ", ".join(
            f"{w:g} s: {self.before[w]:.3g} -> {self.after[w]:.3g}" for w in self.after if w in self.before
        )
        return f"{self.way} x{self.factor:.3g}; index of dispersion {text or 'not known'}"


def superpose(trace: Trace, factor: float, rng: np.random.Generator, step_s: float) -> Cells:
    """Sum of ceil(factor) copies; the first stays in place, the last is thinned to the rest of the factor."""
    _check(factor)
    if trace.clients is not None:
        return multiply(trace, factor, rng, step_s)
    copies = math.ceil(factor - 1e-9)
    keep = factor - (copies - 1)
    shifts_s = np.concatenate([[0.0], rng.uniform(0.0, trace.span_s, copies - 1)])
    keeps = [1.0] * (copies - 1) + [keep]
    if trace.requests is not None:
        return _from_requests(_superposed(trace.requests, trace.span_s, shifts_s, keeps, rng), trace.span_s, step_s)
    assert trace.series is not None
    parts = [_shifted(trace.series, shift_s, keep, rng) for shift_s, keep in zip(shifts_s, keeps, strict=True)]
    whole = replace(trace, series=replace(trace.series, counts=np.sum(parts, axis=0)))
    return _from_series(whole, step_s)


def amplify(trace: Trace, factor: float, rng: np.random.Generator, step_s: float) -> Cells:
    """Poisson(factor) requests for each, within its second (within its cell, where cells are longer)."""
    _check(factor)
    if trace.clients is not None:
        return multiply(trace, factor, rng, step_s)
    return Cells(step_s, factor * trace.rates(step_s), "poisson")


def multiply(trace: Trace, factor: float, rng: np.random.Generator, step_s: float) -> Cells:
    """Client rates times `factor`; the place of every request inside its ten minutes is drawn."""
    _check(factor)
    assert trace.clients is not None, "only client traces are scaled by rate"
    counts = draw_counts(trace.clients, trace.span_s, step_s, factor, rng)
    expected = factor * step_s * trace.rates(step_s)
    return Cells(step_s, counts, "counts", burstiness(counts, expected))


def scaled(trace: Trace, way: Way, factor: float, rng: np.random.Generator, step_s: float) -> Cells:
    """By name; "recorded" is the trace as it is."""
    if way == "recorded":
        return superpose(trace, 1.0, rng, step_s)
    return {"superpose": superpose, "amplify": amplify, "rate": multiply}[way](trace, factor, rng, step_s)


def dispersion(cells: Cells | Load) -> dict[float, float]:
    """Index of dispersion at 1, 10 and 60 s, of the counts or as expected of counts drawn from the rates."""
    found = {}
    for window_s in WINDOWS_S:
        group = round(window_s / cells.step_s)
        if group < 1 or abs(group * cells.step_s - window_s) > 1e-9 * window_s:
            continue
        values = cells.values.astype(np.float64)
        counts = st.regroup(values * cells.step_s if cells.law == "poisson" else values, group)
        drawn = 1.0 if cells.law == "poisson" else 0.0  # Poisson adds its mean to the variance
        value = st.idc(counts) + drawn
        if math.isfinite(value):
            found[window_s] = value
    return found


def _check(factor: float) -> None:
    if not (0 < factor < math.inf):
        raise TraceError(f"factor={factor}; expected a number above 0")


def _superposed(
    requests: Requests, span_s: float, shifts_s: Floats, keeps: list[float], rng: np.random.Generator
) -> Requests:
    """Copies moved in a circle of `span_s`, each thinned to its share."""
    every = np.arange(len(requests))
    rows = [every if keep >= 1.0 else every[rng.random(len(every)) < keep] for keep in keeps]
    at_s = [np.mod(requests.arrival_s[own] + shift_s, span_s) for own, shift_s in zip(rows, shifts_s, strict=True)]
    whose = [np.full(len(own), copy) for copy, own in enumerate(rows)]
    return requests.at(np.concatenate(at_s), np.concatenate(rows), np.concatenate(whose))


def _shifted(series: Series, shift_s: float, keep: float, rng: np.random.Generator) -> Floats:
    """Counts of one copy, moved in a circle and thinned to the share `keep`."""
    counts = np.roll(series.counts, int(shift_s / series.step_s))
    if keep >= 1.0:
        return counts
    return rng.binomial(np.rint(counts).astype(np.int64), keep).astype(np.float64) if series.whole else keep * counts


def _from_requests(requests: Requests, span_s: float, step_s: float) -> Cells:
    at_s = requests.arrival_s
    counts = st.window_counts(at_s, step_s, span_s)
    return Cells(step_s, counts, "counts", st.within_cell_dispersion(at_s, step_s, span_s), requests)


def _from_series(trace: Trace, step_s: float) -> Cells:
    """Counts where the cells asked for hold whole recorded cells, else rates to draw from."""
    assert trace.series is not None
    group = round(step_s / trace.series.step_s)
    if trace.series.whole and group >= 1 and abs(group * trace.series.step_s - step_s) < 1e-9 * step_s:
        return Cells(step_s, np.rint(st.regroup(trace.series.counts, group)), "counts")
    return Cells(step_s, trace.rates(step_s), "poisson")
