"""Predict: Holt-Winters on a season of fixed cells, fed with rates of any interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from rlscale.predict import HoltWintersAdditive
from rlscale.types import DAY_S, Floats

_ROUNDING_S = 1e-6


@dataclass
class HoltWinters:
    """Mean rates of cells of `cell_s` seconds, smoothed with a season of `period_s`, projected over `lead_s`.

    Until two seasons are complete, the forecast is the exponentially smoothed rate. Time that was not measured passes
    all the same, or the season would shift: an unmeasured cell counts as what was expected of it.
    """

    lead_s: float
    alpha: float = 0.3
    beta: float = 0.01
    gamma: float = 0.3
    period_s: float = DAY_S
    cell_s: float = 900.0
    forecast_per_s: float = field(default=math.nan, init=False)

    def __post_init__(self) -> None:
        self.cells = max(2, round(self.period_s / self.cell_s))
        self.reset(np.zeros(0), 1.0)

    def reset(self, history_per_s: Floats, step_s: float) -> None:
        """Forget, then learn from the rates before the run."""
        self.model = HoltWintersAdditive(self.alpha, self.beta, self.gamma)
        self.forecast_per_s = self._level = math.nan
        self._first: list[float] = []  # cells of the first two seasons
        self._sum = self._measured_s = self._passed_s = 0.0  # of the cell under way
        for rate in np.asarray(history_per_s, dtype=np.float64):
            self.update(float(rate), step_s)

    def update(self, rate_per_s: float, interval_s: float) -> float:
        """Forecast one lead time ahead; what was not measured repeats the last one."""
        measured = math.isfinite(rate_per_s)
        rate = max(0.0, rate_per_s) if measured else 0.0
        if measured:
            self._level = rate if math.isnan(self._level) else self.alpha * rate + (1 - self.alpha) * self._level
        elif math.isnan(self._level):
            return math.nan  # the season starts with the first measurement
        left_s = interval_s
        while left_s > 0:
            part_s = min(left_s, self.cell_s - self._passed_s)
            self._sum += rate * part_s
            self._measured_s += part_s if measured else 0.0
            self._passed_s += part_s
            left_s -= part_s
            if self._passed_s >= self.cell_s - _ROUNDING_S:
                self._close_cell()
        if measured:
            ahead = self.model.ahead(max(1, round(self.lead_s / self.cell_s))) if self.model.season else self._level
            self.forecast_per_s = max(0.0, ahead)
        return self.forecast_per_s

    def _close_cell(self) -> None:
        expected = self.model.ahead(1) if self.model.season else self._level
        value = self._sum / self._measured_s if self._measured_s > 0 else expected
        self._sum = self._measured_s = self._passed_s = 0.0
        if self.model.season:
            self.model.update(value)
            return
        self._first.append(value)
        if len(self._first) == 2 * self.cells:
            self.model.start(self._first)
            for seen in self._first:
                self.model.update(seen)
            self._first = []
