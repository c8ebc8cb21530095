"""Which part of a trace is scored, what is known before it, and the load of both. Knows no settings and no files."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rlscale.errors import TraceError
from rlscale.types import Floats
from rlscale.workloads.family import DAY_S, HISTORY_STEP_S
from rlscale.workloads.scaling import Cells, Way, scaled, superpose
from rlscale.workloads.trace import Trace

HEAD_S = 600.0  # of a trace with nothing before it: history, not scored


@dataclass(frozen=True, slots=True)
class Split:
    """Part of a trace. Times are seconds of the trace."""

    start_s: float  # begin of the history
    scored_s: float  # begin of what is scored
    end_s: float
    head: bool  # the history is the beginning of the split itself


def split_of(trace: Trace, start_s: float, end_s: float | None) -> Split:
    """History is up to a day before `start_s`; with less than ten minutes there, the first ten of the split."""
    end_s = trace.span_s if end_s is None else min(end_s, trace.span_s)
    grid = trace.grid_s or 1.0
    before_s = min(start_s, math.floor(DAY_S / grid) * grid)
    if before_s >= HEAD_S:
        return Split(start_s - before_s, start_s, end_s, head=False)
    scored_s = start_s + math.ceil(HEAD_S / grid) * grid
    if scored_s >= end_s:
        raise TraceError(
            f"{trace.source}: {start_s:g} to {end_s:g} s leaves nothing to score, since the first {HEAD_S:g} s without"
            f" anything before them are history; the trace spans {trace.span_s:g} s"
        )
    return Split(start_s, scored_s, end_s, head=True)


@dataclass(frozen=True, slots=True)
class Episode:
    """Cells from `begin_s` (played seconds after the begin of the scored part) on, and the minutes before."""

    begin_s: float
    cells: Cells
    history_per_s: Floats  # (minutes,) oldest first


def circle(trace: Trace, split: Split, factor: float, rng: np.random.Generator, step_s: float, times: float) -> Episode:
    """The whole scored part out of shifted copies. The copies stay inside the split, those of the history before it.

    A circle through both would show the end of the split to whoever looks at its history.
    """
    if split.head:
        both = superpose(trace.between(split.start_s, split.end_s).faster(times), factor, rng, step_s)
        head = round((split.scored_s - split.start_s) / times / step_s)
        return Episode(0.0, both.part(head, len(both.values)), minutes(both.rate_per_s[:head], step_s))
    before = superpose(trace.between(split.start_s, split.scored_s).faster(times), factor, rng, HISTORY_STEP_S)
    cells = superpose(trace.between(split.scored_s, split.end_s).faster(times), factor, rng, step_s)
    return Episode(0.0, cells, minutes(before.rate_per_s, HISTORY_STEP_S))


def cut(whole: Episode, begin_s: float, cells: int) -> Episode:
    """A part of a longer episode; what came before it joins the history."""
    step_s = whole.cells.step_s
    first = round(begin_s / step_s)
    passed = minutes(whole.cells.rate_per_s[:first], step_s)
    history = np.concatenate([whole.history_per_s, passed])[-round(DAY_S / HISTORY_STEP_S) :]
    return Episode(begin_s, whole.cells.part(first, first + cells), history)


def in_place(
    trace: Trace, split: Split, begin_s: float, cells: int, way: Way, factor: float, rng: np.random.Generator,
    step_s: float, times: float,
) -> Episode:  # fmt: skip
    """A part scaled where it stands: nothing outside of it and of the day before is touched."""
    first_s = split.scored_s + begin_s * times
    grid = trace.grid_s or step_s * times
    last_s = min(first_s + math.ceil(cells * step_s * times / grid - 1e-9) * grid, split.end_s)
    load = scaled(trace.between(first_s, last_s).faster(times), way, factor, rng, step_s)
    oldest_s = max(split.start_s, first_s - math.floor(DAY_S / grid) * grid)
    rates = trace.between(oldest_s, first_s).faster(times).rates(HISTORY_STEP_S)
    return Episode(begin_s, load.part(0, cells), factor * rates)


def minutes(rate_per_s: Floats, step_s: float) -> Floats:
    """Mean rates of the whole minutes that end where the cells end."""
    span_s = len(rate_per_s) * step_s
    count = int(span_s / HISTORY_STEP_S + 1e-9)
    area = np.concatenate([[0.0], np.cumsum(rate_per_s)]) * step_s
    edges_s = span_s - HISTORY_STEP_S * np.arange(count, -1, -1)
    return np.asarray(np.diff(np.interp(edges_s, np.arange(len(area)) * step_s, area)) / HISTORY_STEP_S)
