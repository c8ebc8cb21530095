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
from rlscale.types import Floats, Load
from rlscale.workloads import statistics as st
from rlscale.workloads.client_counts import draw_counts
from rlscale.workloads.renewal import burstiness
from rlscale.workloads.trace import Trace

Way = Literal["superpose", "amplify", "rate", "recorded"]
WINDOWS_S = (1.0, 10.0, 60.0)


@dataclass(frozen=True, slots=True)
class Cells:
    """Load in cells: counts, or mean rates (requests per second) out of which counts are still to be drawn."""

    step_s: float
    values: Floats
    law: Literal["poisson", "counts"]
    burstiness: float = 1.0

    @property
    def rate_per_s(self) -> Floats:
        """Requests per second in every cell."""
        return self.values if self.law == "poisson" else self.values / self.step_s


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
    parts = [_shifted(trace, shift_s, keep if i == copies - 1 else 1.0, rng) for i, shift_s in enumerate(shifts_s)]
    if trace.requests is not None:
        at_s = np.concatenate([part.requests.arrival_s for part in parts if part.requests is not None])
        return _from_requests(np.sort(at_s), trace.span_s, step_s)
    total = np.sum([part.series.counts for part in parts if part.series is not None], axis=0)
    assert trace.series is not None
    whole = replace(trace, series=replace(trace.series, counts=total))
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


def _shifted(trace: Trace, shift_s: float, keep: float, rng: np.random.Generator) -> Trace:
    """One copy, moved in a circle of the trace's span and thinned to the share `keep`."""
    if trace.requests is not None:
        at_s = trace.requests.arrival_s
        kept = at_s if keep >= 1.0 else at_s[rng.random(len(at_s)) < keep]
        return replace(trace, requests=replace(trace.requests, arrival_s=np.mod(kept + shift_s, trace.span_s)))
    assert trace.series is not None
    counts = np.roll(trace.series.counts, int(shift_s / trace.series.step_s))
    if keep < 1.0:
        counts = (
            rng.binomial(np.rint(counts).astype(np.int64), keep).astype(np.float64)
            if trace.series.whole
            else keep * counts
        )
    return replace(trace, series=replace(trace.series, counts=counts))


def _from_requests(at_s: Floats, span_s: float, step_s: float) -> Cells:
    counts = st.window_counts(at_s, step_s, span_s)
    return Cells(step_s, counts, "counts", st.within_cell_dispersion(at_s, step_s, span_s))


def _from_series(trace: Trace, step_s: float) -> Cells:
    """Counts where the cells asked for hold whole recorded cells, else rates to draw from."""
    assert trace.series is not None
    group = round(step_s / trace.series.step_s)
    if trace.series.whole and group >= 1 and abs(group * trace.series.step_s - step_s) < 1e-9 * step_s:
        return Cells(step_s, np.rint(st.regroup(trace.series.counts, group)), "counts")
    return Cells(step_s, trace.rates(step_s), "poisson")
