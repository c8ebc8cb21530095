"""Figures of merit of arrivals: dispersion, peaks, variation of inter-arrivals. Pure arrays in, numbers out.

Every window is whole: what is left over at the end of the span is not counted, so that a half-empty last window
does not pass for burstiness.
"""

from __future__ import annotations

import numpy as np

from rlscale.types import Floats


def window_counts(arrival_s: Floats, window_s: float, span_s: float) -> Floats:
    """Arrivals in every whole window of [0, span)."""
    windows = int(span_s / window_s + 1e-9)
    index = (arrival_s / window_s).astype(np.int64)
    return np.bincount(index[index < windows], minlength=windows)[:windows].astype(np.float64)


def regroup(counts: Floats, cells: int) -> Floats:
    """Sums of `cells` neighbouring cells; whole groups only."""
    groups = len(counts) // cells
    return np.asarray(counts[: groups * cells].reshape(groups, cells).sum(axis=1))


def idc(counts: Floats) -> float:
    """Index of dispersion for counts: variance over mean; 1 for Poisson, NaN below two windows or without arrivals."""
    mean = counts.mean() if len(counts) > 1 else 0.0
    return float(counts.var() / mean) if mean > 0 else float("nan")


def peak_per_s(counts: Floats, window_s: float) -> float:
    """The busiest window, requests per second; NaN without a whole window."""
    return float(counts.max() / window_s) if len(counts) else float("nan")


def cv(arrival_s: Floats) -> float:
    """Coefficient of variation of the inter-arrival times; 1 for Poisson, NaN below three arrivals."""
    gaps = np.diff(arrival_s)
    return float(gaps.std() / gaps.mean()) if len(gaps) > 1 and gaps.mean() > 0 else float("nan")


def local_cv(arrival_s: Floats, window_s: float = 300.0) -> float:
    """Median over windows of the variation inside the window: burstiness without the slow changes of the rate."""
    edges = np.arange(0.0, arrival_s[-1] + window_s, window_s)
    pieces = np.split(arrival_s, np.searchsorted(arrival_s, edges[1:-1]))
    values = [cv(piece) for piece in pieces]
    return float(np.nanmedian(values)) if np.isfinite(values).any() else float("nan")


def within_cell_dispersion(arrival_s: Floats, cell_s: float, span_s: float, parts: int = 10) -> float:
    """Clustering below one cell: variance over mean of the counts in tenths of a cell, given the cell's count.

    1 when arrivals are uniform inside their cell, whatever the rate does from cell to cell.
    """
    fine = window_counts(arrival_s, cell_s / parts, span_s)
    fine = fine[: len(fine) // parts * parts].reshape(-1, parts)
    mean = fine.mean(axis=1, keepdims=True)
    expected = float(mean.sum()) * (parts - 1)  # of a multinomial over the parts
    return float(np.square(fine - mean).sum() / expected) if expected > 0 else 1.0


def log_residual(rate_per_s: Floats, per_day: int) -> tuple[float, float]:
    """Slow noise of a rate series: standard deviation of the log rate around its usual course, and its lag-1
    autocorrelation.

    The usual course is the mean log rate of the time of day when there are two days or more, else the centred mean
    of three hours (shorter at the ends). Empty windows are left out.
    """
    with np.errstate(divide="ignore"):
        log = np.where(rate_per_s > 0, np.log(rate_per_s), np.nan)
    residual = log - (_by_time_of_day(log, per_day) if len(log) >= 2 * per_day else _centred(log, per_day // 8))
    now, later = residual[:-1], residual[1:]
    both = np.isfinite(now) & np.isfinite(later)
    if both.sum() < 3:
        return float("nan"), float("nan")
    return float(np.nanstd(residual)), float(np.corrcoef(now[both], later[both])[0, 1])


def _by_time_of_day(log: Floats, per_day: int) -> Floats:
    slot = np.arange(len(log)) % per_day
    known = np.isfinite(log)
    total = np.bincount(slot[known], log[known], minlength=per_day)
    count = np.bincount(slot[known], minlength=per_day)
    return np.asarray((total / np.maximum(count, 1))[slot])


def _centred(log: Floats, width: int) -> Floats:
    known = np.isfinite(log)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, log, 0.0))])
    count = np.concatenate([[0.0], np.cumsum(known)])
    first = np.maximum(np.arange(len(log)) - width // 2, 0)
    last = np.minimum(np.arange(len(log)) - width // 2 + width, len(log))
    return np.asarray((total[last] - total[first]) / np.maximum(count[last] - count[first], 1))
