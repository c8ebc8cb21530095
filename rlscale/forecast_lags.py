"""Least squares on lags and calendar: what the rate did next when the last hours looked like this.

Features are differences from the newest five cells, so that a forecaster that has learnt nothing repeats them: means of
several lengths, the level an hour and a day ago, what yesterday and last week did over the same lead time, and the time
of day and week. Which of them are used depends on how long the past is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlscale.forecast_cells import CELL, REFIT, CellForecaster
from rlscale.forecast_parts import ForecasterKind, Parameter
from rlscale.types import DAY_S, Floats

BASE = 5  # cells of the level that everything is compared with
LEARN_S = 14 * DAY_S


@dataclass(frozen=True, slots=True)
class Shape:
    """Which features there are."""

    lags: tuple[int, ...]  # cells of each mean
    day: int = 0  # cells of a day; 0 without calendar
    yesterday: bool = False
    last_week: bool = False

    @property
    def reach(self) -> int:
        """Cells of the past that a row of features needs."""
        longest = max(*self.lags, BASE)
        return (7 if self.last_week else 1) * self.day + longest if self.yesterday else longest


class Lagged(CellForecaster):
    """What forecasters on lags and calendar share: the past, and features out of it.

    A cell without a measurement counts as the one before it; it is never a target.
    """

    rows = 4000  # at most, evenly spread over the past
    least_rows = 12
    rows_per_column = 10  # for more than the shortest lags

    def _start(self) -> None:
        self._day = round(DAY_S / self.step_s)
        self._size = round(LEARN_S / self.step_s) + self.ahead + 2
        self._sums = [0.0] * self._size  # running sum after each cell, in a ring
        self._known = [False] * self._size
        self._held = 0.0  # last value, for a cell without one
        self.shape: Shape | None = None

    def _learn(self, value: float) -> None:
        known = not math.isnan(value)
        self._held = value if known else self._held
        at = self.cells % self._size
        self._sums[at] = self._sums[(self.cells - 1) % self._size] + self._held
        self._known[at] = known

    def _ready(self) -> bool:
        return self.shape is not None

    def _shape(self) -> Shape:
        """As much as the past allows, with enough of it left to learn from."""
        hour, day = max(BASE + 1, round(3600.0 / self.step_s)), self._day
        cells, enough = self.cells, self.measured // self.rows_per_column  # as many columns can be learnt
        if cells < 4 * hour + self.ahead or enough < 5:
            return Shape((1, 2, 10))
        lags = (1, 2, 10, 20, hour)
        if cells < 3 * day + hour or day < 8 or enough < 11:
            return Shape(lags)
        return Shape(lags, day, True, cells >= 8.5 * day + hour and enough >= 14)

    def features(self, shape: Shape, at: Any, sums: Any, maths: Any) -> list[Any]:
        """Columns for the cells numbered `at`: one cell with the ring as a list and `math`, many with numpy.

        The same few lines serve both, so that a forecast cannot see other features than those that were learnt.
        """
        size = self._size

        def mean(last: Any, count: int) -> Any:
            return (sums[last % size] - sums[(last - count) % size]) / count

        base = mean(at, BASE)
        columns = [mean(at, count) - base for count in shape.lags]
        if not shape.day:
            return columns
        half = max(1, round(300.0 / self.step_s))  # ten minutes around a moment
        for days in (1, 7) if shape.last_week else (1,):
            then = at - days * shape.day
            columns.append(mean(then + self.ahead + half, 2 * half) - mean(then + half, 2 * half))
        columns.append(mean(at, shape.day) - base)
        for period, harmonics in ((shape.day, 2), (7 * shape.day, 1)) if shape.last_week else ((shape.day, 2),):
            for harmonic in range(1, harmonics + 1):
                angle = (at + self.ahead) % period * (2.0 * math.pi * harmonic / period)
                columns += [maths.sin(angle), maths.cos(angle)]
        return columns

    def base(self, at: Any, sums: Any) -> Any:
        """Level that features and target are counted from."""
        return (sums[at % self._size] - sums[(at - BASE) % self._size]) / BASE

    def now(self) -> tuple[float, list[float]]:
        """Level and features of this moment."""
        assert self.shape is not None
        return self.base(self.cells, self._sums), self.features(self.shape, self.cells, self._sums, math)

    def table(self, shape: Shape) -> tuple[Floats, Floats]:
        """Features (rows, columns) and targets: cells whose lead time is over, and what came then."""
        oldest = max(self.cells - self._size + 1, 0)
        at = np.arange(oldest + shape.reach, self.cells - self.ahead + 1)
        sums, known = np.array(self._sums), np.array(self._known)
        at = at[known[(at + self.ahead) % self._size]]
        at = at[:: max(1, math.ceil(len(at) / self.rows))]
        came = sums[(at + self.ahead) % self._size] - sums[(at + self.ahead - 1) % self._size]
        columns = self.features(shape, at, sums, np)
        return np.stack(columns, axis=1), came - self.base(at, sums)


class LagRegression(Lagged):
    """Ridge-stabilised least squares, fitted again every hour or so. Before the first fit, the last rate."""

    between_fits = 48

    def __init__(self, lead_s: float, ridge: float = 0.1, cell_s: float = 60.0, refit_s: float = 3600.0) -> None:
        self.ridge = ridge
        super().__init__(lead_s, cell_s, refit_s)

    def _forecast(self) -> float:
        forecast, features = self.now()
        forecast += self.intercept
        for weight, value in zip(self.weights, features):
            forecast += weight * value
        return forecast

    def _fit(self, window: Floats) -> None:
        shape = self._shape()
        x, y = self.table(shape)
        if len(y) < max(self.least_rows, 2 * x.shape[1]):
            return
        centre, spread = x.mean(axis=0), x.std(axis=0)
        spread = np.where(spread > 1e-9 * (1.0 + np.abs(centre)), spread, np.inf)  # a constant column says nothing
        z = (x - centre) / spread
        gram = z.T @ z + self.ridge * len(y) * np.eye(z.shape[1])
        weights = np.linalg.solve(gram, z.T @ (y - y.mean())) / spread
        if not np.isfinite(weights).all():
            return
        self.weights: list[float] = weights.tolist()
        self.intercept = float(y.mean() - weights @ centre)
        self.shape = shape


FORECASTERS: dict[str, ForecasterKind] = {
    "lag-regression": ForecasterKind(
        LagRegression,
        {
            "ridge": Parameter(0.0, 100.0, "penalty on the weights, over the variance of the features"),
            "cell_s": CELL,
            "refit_s": REFIT,
        },
        "least squares on lags and calendar",
    ),
}
