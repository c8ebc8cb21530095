"""Rolling back-test of forecasters: at every cell a forecast for one lead time later, out of what came before it.

Nothing of the future can leak: a forecaster gets one rate after another, and its forecast is stored before the next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlscale.errors import RlscaleError
from rlscale.forecast_quantile import WithQuantiles
from rlscale.predict import forecaster
from rlscale.types import DAY_S, Floats, Ints

LEVELS = (0.1, 0.5, 0.9, 0.99)
LEAST_SCORED = 10


@dataclass(frozen=True, slots=True)
class Series:
    """Mean rates of equal intervals, NaN where nothing was recorded."""

    name: str
    kind: str  # "recorded" or "generated"
    interval_s: float
    rates_per_s: Floats
    notes: tuple[str, ...] = ()

    @property
    def warm_up(self) -> int:
        """Cells that are seen before anything is scored: a day, or a third of what lasts less than two."""
        day = round(DAY_S / self.interval_s)
        return day if len(self.rates_per_s) >= 2 * day else len(self.rates_per_s) // 3

    @property
    def naive(self) -> str:
        """What MASE compares with: the same time yesterday, or the last value where no day is known."""
        return "a day ago" if self.warm_up * self.interval_s >= DAY_S - 1e-6 else "last value"

    def ahead(self, lead_s: float) -> int:
        """Cells of a lead time; at least one."""
        return max(1, round(lead_s / self.interval_s))


@dataclass(frozen=True, slots=True)
class Forecasts:
    """What one forecaster said of one series: row i was said after cell i, of cell i + ahead."""

    series: Series
    forecaster: str
    ahead: int
    point_per_s: Floats  # (cells,)
    quantiles_per_s: Floats  # (cells, levels); NaN where nothing is scored
    update_us: float  # median
    slowest_ms: float  # of an update, with a fit in it as a rule
    trained_s: float
    failed_fits: int


def backtest(series: Series, name: str, lead_s: float) -> Forecasts:
    """One walk through a series."""
    inner: Any = forecaster(name, lead_s)
    model = WithQuantiles(inner, lead_s)
    model.reset(np.zeros(0), series.interval_s)
    ahead, cells = series.ahead(lead_s), len(series.rates_per_s)
    first = series.warm_up - ahead  # its forecast is the first that is scored
    point, quantiles = np.full(cells, np.nan), np.full((cells, len(LEVELS)), np.nan)
    took_s = np.empty(cells)
    for i, rate in enumerate(series.rates_per_s.tolist()):
        began_s = time.process_time()
        point[i] = model.update(rate, series.interval_s)
        took_s[i] = time.process_time() - began_s
        if i >= first:
            quantiles[i] = model.quantiles(LEVELS)
    return Forecasts(
        series, name, ahead, point, quantiles, float(np.median(took_s) * 1e6), float(took_s.max() * 1e3),
        float(getattr(inner, "trained_s", 0.0)), int(getattr(inner, "failed_fits", 0)),
    )  # fmt: skip


def scored(series: Series, ahead: int) -> Ints:
    """Numbers of the cells that are scored: measured ones after the warm-up. The same for every forecaster."""
    measured = np.isfinite(series.rates_per_s)
    began = int(np.argmax(measured)) + ahead  # before that nothing was known
    at = np.arange(max(series.warm_up, began), len(measured))
    at = at[measured[at]]
    if len(at) < LEAST_SCORED or not measured.any():
        raise RlscaleError(
            f"{series.name}: {len(at)} cells of {series.interval_s:g} s can be scored, expected {LEAST_SCORED} or more;"
            " use a longer series, or a smaller --interval-s or --lead-s"
        )
    return at


def pinball(came: Floats, quantile: Floats, level: float) -> Floats:
    """Loss of a quantile forecast: `level` per unit too low, 1 - level per unit too high."""
    error = came - quantile
    return np.maximum(level * error, (level - 1.0) * error)


def naive_error(series: Series, at: Ints, ahead: int) -> float:
    """Mean absolute error of the naive forecast over the scored cells it exists for, 1/s; NaN if there are none."""
    back = round(DAY_S / series.interval_s) if series.naive == "a day ago" else ahead
    rates = series.rates_per_s
    error = np.abs(rates[at] - rates[at - back])
    known = error[np.isfinite(error)]
    return float(known.mean()) if len(known) else math.nan


def score(found: Forecasts) -> dict[str, Any]:
    """The row of one forecaster on one series. Losses in requests per second; coverage as shares, 0 to 1."""
    series, ahead = found.series, found.ahead
    at = scored(series, ahead)
    came, point = series.rates_per_s[at], found.point_per_s[at - ahead]
    low, middle, high, highest = found.quantiles_per_s[at - ahead].T
    naive = naive_error(series, at, ahead)
    error = float(np.abs(came - point).mean())
    return {
        "series": series.name,
        "kind": series.kind,
        "forecaster": found.forecaster,
        "interval_s": series.interval_s,
        "ahead_s": ahead * series.interval_s,
        "scored": len(at),
        "mean_per_s": float(came.mean()),
        "pinball_50": float(pinball(came, middle, 0.5).mean()),
        "pinball_90": float(pinball(came, high, 0.9).mean()),
        "pinball_99": float(pinball(came, highest, 0.99).mean()),
        "mase": error / naive if naive > 0 else math.nan,
        "mase_naive": series.naive,
        "coverage_80": float(((low <= came) & (came <= high)).mean()),
        "coverage_90": float((came <= high).mean()),
        "coverage_99": float((came <= highest).mean()),
        "update_us": found.update_us,
        "slowest_ms": found.slowest_ms,
        "trained_s": found.trained_s,
        "failed_fits": found.failed_fits,
    }


def extremes(found: Forecasts) -> tuple[str, slice, slice]:
    """What a figure shows: the name of a period, and the cells of the one forecast best and worst.

    Days, or halves of a series that has less than two to score. Best and worst by the pinball losses at 0.5, 0.9 and
    0.99 together, over the mean rate of the period.
    """
    series, ahead = found.series, found.ahead
    at = scored(series, ahead)
    day, first = round(DAY_S / series.interval_s), int(at[0])
    cells = len(series.rates_per_s) - first
    length, name = (day, "day") if cells >= 2 * day else (cells // 2, "half")
    losses: dict[int, float] = {}
    for period in range(cells // length):
        here = at[(at >= first + period * length) & (at < first + (period + 1) * length)]
        if len(here) < length / 2 or not series.rates_per_s[here].mean() > 0:
            continue
        loss = sum(
            float(pinball(series.rates_per_s[here], found.quantiles_per_s[here - ahead, i], LEVELS[i]).mean())
            for i in (1, 2, 3)
        )
        losses[period] = loss / float(series.rates_per_s[here].mean())
    if not losses:
        return name, slice(first, first + length), slice(first, first + length)
    best, worst = min(losses, key=losses.__getitem__), max(losses, key=losses.__getitem__)
    parts = [slice(first + period * length, first + (period + 1) * length) for period in (best, worst)]
    return name, parts[0], parts[1]


def best_of(rows: Sequence[dict[str, Any]], measure: str) -> dict[str, Any]:
    """The row with the least loss."""
    return min(rows, key=lambda row: row[measure] if math.isfinite(row[measure]) else math.inf)
