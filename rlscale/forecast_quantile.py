"""Quantile regression on lags and calendar, and quantiles for forecasters that give none.

Quantile regression (Koenker and Bassett 1978) by scikit-learn's QuantileRegressor with the HiGHS solver (BSD and MIT
licences): one linear programme per level, on the features of `rlscale.forecast_lags`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence

import numpy as np

from rlscale.forecast_cells import CELL, REFIT
from rlscale.forecast_lags import Lagged
from rlscale.forecast_parts import Distribution, Forecaster, ForecasterKind, Parameter, needs
from rlscale.types import DAY_S, Floats

FITTED = (0.1, 0.5, 0.9, 0.99)
PENALTY = 3e-3  # on the absolute weights of standardised features; keeps them still where features repeat one another


class QuantileRegression(Lagged):
    """Four quantiles, each linear in the features; the forecast is the median. Before the first fit, the last rate."""

    rows = 1000
    least_rows = 20
    rows_per_column = 50  # the outer levels lean on few of them

    def __init__(self, lead_s: float, cell_s: float = 60.0, refit_s: float = DAY_S) -> None:
        needs("sklearn", "quantile-regression")
        super().__init__(lead_s, cell_s, refit_s)

    def quantiles(self, levels: Sequence[float]) -> list[float]:
        """Straight lines between the fitted levels, the outermost ones beyond; see `Distribution`."""
        if self.shape is None:
            return [math.nan] * len(levels)
        values = sorted(self.bounded(self._line(i, *self._seen)) for i in range(len(FITTED)))
        return [float(value) for value in np.interp(levels, FITTED, values)]

    def _forecast(self) -> float:
        self._seen = self.now()
        return self._line(FITTED.index(0.5), *self._seen)

    def _line(self, index: int, base: float, features: list[float]) -> float:
        value = base + self.intercepts[index]
        for weight, feature in zip(self.weights[index], features):
            value += weight * feature
        return value

    def _fit(self, window: Floats) -> None:
        shape = self._shape()
        x, y = self.table(shape)
        if len(y) < max(self.least_rows, 3 * x.shape[1]):
            return
        centre, spread, unit = x.mean(axis=0), x.std(axis=0), float(y.std())
        if not unit > 0:
            return
        from sklearn.linear_model import QuantileRegressor

        spread = np.where(spread > 1e-9 * (1.0 + np.abs(centre)), spread, np.inf)  # a constant column says nothing
        z, target = (x - centre) / spread, (y - y.mean()) / unit
        weights, intercepts = [], []
        for level in FITTED:
            line = QuantileRegressor(quantile=level, alpha=PENALTY, solver="highs").fit(z, target)
            weight = unit * line.coef_ / spread
            weights.append(weight.tolist())
            intercepts.append(float(y.mean() + unit * line.intercept_ - weight @ centre))
        if not np.isfinite(weights).all() or not np.isfinite(intercepts).all():
            return
        self.weights: list[list[float]] = weights
        self.intercepts: list[float] = intercepts
        self.shape = shape
        self._seen = self.now()


class WithQuantiles:
    """A forecaster with a distribution: its own once it has one, else the errors of its last forecasts.

    The errors of the last three days, 200 to 1 440 of them, are kept in units of forecast plus a quarter of the mean
    rate, so that busy hours have wider bands and a forecast of zero still has one. With fewer than `LEAST` errors every
    quantile is the forecast.
    """

    KEPT_S, LEAST_KEPT, MOST_KEPT, LEAST = 3 * DAY_S, 200, 1440, 10

    def __init__(self, inner: Forecaster, lead_s: float) -> None:
        self.inner, self.lead_s = inner, lead_s
        self._own = inner if isinstance(inner, Distribution) else None
        self._restart()

    def _restart(self) -> None:
        self.forecast_per_s = math.nan
        self._clock_s = self._mean = 0.0
        self._measured = 0
        self._due: deque[tuple[float, float]] = deque()  # (moment, forecast for it)
        self._order: deque[float] = deque()  # errors, oldest first
        self._errors: list[float] = []  # the same, sorted

    def reset(self, history_per_s: Floats, step_s: float) -> None:
        """Forget the previous run, then learn from the rates before this one."""
        self.inner.reset(np.zeros(0), step_s)
        self._restart()
        for rate in np.asarray(history_per_s, dtype=np.float64):
            self.update(float(rate), step_s)

    def update(self, rate_per_s: float, interval_s: float) -> float:
        """See `Forecaster`."""
        self.forecast_per_s = self.inner.update(rate_per_s, interval_s)
        self._clock_s += interval_s
        self._kept = min(max(self.LEAST_KEPT, round(self.KEPT_S / interval_s)), self.MOST_KEPT)
        self._note(rate_per_s)
        if math.isfinite(self.forecast_per_s):
            ahead_s = max(1, round(self.lead_s / interval_s)) * interval_s
            self._due.append((self._clock_s + ahead_s, self.forecast_per_s))
        return self.forecast_per_s

    def quantiles(self, levels: Sequence[float]) -> list[float]:
        """See `Distribution`."""
        if self._own is not None and not math.isnan((own := self._own.quantiles(levels))[0]):
            return own
        count = len(self._errors)
        if count < self.LEAST:
            return [self.forecast_per_s] * len(levels)
        unit, found = self._unit(self.forecast_per_s), []
        for level in levels:
            # The next error lies below the k-th of n with probability k / (n + 1).
            place = min(max(level * (count + 1) - 1.0, 0.0), count - 1.0)
            low = int(place)
            high = min(low + 1, count - 1)
            error = self._errors[low] + (place - low) * (self._errors[high] - self._errors[low])
            value = max(0.0, self.forecast_per_s + unit * error)
            found.append(value if math.isfinite(value) else self.forecast_per_s)
        return found

    def _unit(self, forecast_per_s: float) -> float:
        return forecast_per_s + 0.25 * self._mean + 1e-9

    def _note(self, rate_per_s: float) -> None:
        known = math.isfinite(rate_per_s)
        if known:
            self._measured += 1
            self._mean += (max(0.0, rate_per_s) - self._mean) / min(self._measured, self._kept)
        while self._due and self._due[0][0] <= self._clock_s * (1.0 + 1e-12):
            _, forecast = self._due.popleft()
            if known:
                self._keep((max(0.0, rate_per_s) - forecast) / self._unit(forecast))

    def _keep(self, error: float) -> None:
        self._order.append(error)
        insort(self._errors, error)
        while len(self._order) > self._kept:
            oldest = self._order.popleft()
            del self._errors[bisect_left(self._errors, oldest)]


FORECASTERS: dict[str, ForecasterKind] = {
    "quantile-regression": ForecasterKind(
        QuantileRegression,
        {"cell_s": CELL, "refit_s": Parameter(3600.0, REFIT.high, REFIT.meaning)},
        "quantiles linear in lags and calendar; the forecast is the median",
    ),
}
