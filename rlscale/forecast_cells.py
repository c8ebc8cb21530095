"""Forecasters on a regular grid: what is measured becomes cells of equal length, gaps included, and fits come in turn.

Every update costs a few microseconds but those at which a model is fitted anew (`trained_s` adds them up).
"""

from __future__ import annotations

import math
import time
import warnings
from collections import deque

import numpy as np

from rlscale.forecast_parts import Parameter
from rlscale.types import DAY_S, Floats

LARGEST_PER_S = 1e12  # no service gets more; what is above is taken for this, so that squares stay finite
LONGEST_GAP_S = 14 * DAY_S
CELL = Parameter(15.0, 3600.0, "length of a cell, seconds; longer when rates come more rarely")
REFIT = Parameter(0.0, 30 * DAY_S, "seconds between fits; 0 never fits")


class CellForecaster:
    """Base of forecasters that see one mean rate per cell. The forecast is that of the cell one lead time ahead.

    Until a model is ready, and where it goes astray, the forecast is the last measured rate. The
    clock starts at the reset; a cell without a measurement teaches nothing and moves the clock.
    """

    least_cells = 1  # measured ones, before the model is asked
    between_fits = 96  # cells at least
    forecast_per_s: float
    step_s: float  # length of a cell; 0 until the first measurement has come
    ahead: int  # cells of a lead time
    window: deque[float]  # last cells, oldest first
    _elapsed_s: float  # of the open cell
    _covered_s: float  # the part of it that was measured
    _area: float  # requests in it

    def __init__(self, lead_s: float, cell_s: float = 60.0, refit_s: float = DAY_S, window_s: float = DAY_S) -> None:
        self.lead_s, self.cell_s, self.refit_s, self.window_s = lead_s, cell_s, refit_s, window_s
        self.trained_s = 0.0  # CPU time of all fits
        self._restart()

    def reset(self, history_per_s: Floats, step_s: float) -> None:
        """Forget the previous run, then learn from the rates before this one."""
        self._restart()
        for rate in np.asarray(history_per_s, dtype=np.float64):
            self.update(float(rate), step_s)

    def update(self, rate_per_s: float, interval_s: float) -> float:
        """See `Forecaster`."""
        if self.step_s == 0.0:
            self._begin(max(self.cell_s, interval_s))
        known = math.isfinite(rate_per_s)
        rate = min(max(0.0, rate_per_s), LARGEST_PER_S) if known else math.nan
        if known:
            self._last = rate
            if not self._ready():
                self.forecast_per_s = rate
        left_s = min(interval_s, LONGEST_GAP_S)
        while left_s > 1e-9 * self.step_s:
            part_s = min(left_s, self.step_s - self._elapsed_s)
            left_s -= part_s
            self._elapsed_s += part_s
            if known:
                self._area += rate * part_s
                self._covered_s += part_s
            if self._elapsed_s >= self.step_s * (1.0 - 1e-9):
                self._close()
        return self.forecast_per_s

    def _restart(self) -> None:
        self.forecast_per_s = math.nan
        self.step_s = 0.0
        self.cells = self.measured = 0
        self._last = math.nan
        self._elapsed_s = self._covered_s = self._area = 0.0
        self._next_fit = 0
        self.failed_fits = 0

    def _begin(self, step_s: float) -> None:
        self.step_s = step_s
        self.ahead = max(1, round(self.lead_s / step_s))  # cells
        self.window = deque(maxlen=max(2, round(self.window_s / step_s)))
        self._start()

    def _close(self) -> None:
        value = self._area / self._covered_s if self._covered_s > 0 else math.nan
        self._elapsed_s = self._covered_s = self._area = 0.0
        self.cells += 1
        self.window.append(value)
        self._learn(value)
        if math.isnan(value):
            return
        self.measured += 1
        if self.refit_s and self.cells >= self._next_fit and self._can_fit():
            self._refit()
        if self._ready():
            self.forecast_per_s = self.bounded(self._forecast())

    def bounded(self, forecast_per_s: float) -> float:
        """A rate that can be; the last one where the model is beyond that."""
        if not math.isfinite(forecast_per_s):
            return self._last
        return min(max(0.0, forecast_per_s), LARGEST_PER_S)

    def _refit(self) -> None:
        """Fit on what was seen. A fit that fails leaves the model as it is."""
        began_s = time.process_time()
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # convergence; what a fit is worth, the back-test tells
            try:
                self._fit(np.array(self.window))
            except (ValueError, ArithmeticError, np.linalg.LinAlgError):
                self.failed_fits += 1
        usual = max(self.between_fits, round(self.refit_s / self.step_s))
        # A young model learns most from each new cell.
        self._next_fit = self.cells + min(usual, max(10, self.cells // 2))
        self.trained_s += time.process_time() - began_s

    def _ready(self) -> bool:
        """Whether the model can say more than the last rate."""
        return self.measured >= self.least_cells

    def _can_fit(self) -> bool:
        return self.measured >= self.least_cells

    def _start(self) -> None:
        """Forget, and prepare for cells of `step_s`."""
        raise NotImplementedError

    def _learn(self, value: float) -> None:
        """One cell more; NaN where nothing was measured."""
        raise NotImplementedError

    def _forecast(self) -> float:
        """Rate `ahead` cells after the last one."""
        raise NotImplementedError

    def _fit(self, window: Floats) -> None:
        """Fit on the last cells, oldest first, NaN where nothing was measured."""
        raise NotImplementedError


def filled(values: Floats) -> Floats:
    """Without gaps: straight lines over them; at least one value is known."""
    known = np.flatnonzero(np.isfinite(values))
    return np.interp(np.arange(len(values)), known, values[known])
