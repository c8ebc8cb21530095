"""ARIMA: fitted by statsmodels on a bounded past, filtered cell by cell in between, with its own variance.

(1 - φ1 B - ...)(1 - B)^d (y - μ) = (1 + θ1 B + ...) e (Box and Jenkins 1970); μ is fitted when d is 0. statsmodels'
`tsa.arima.ARIMA` (BSD licence) finds φ, θ and the variance of e by maximum likelihood and skips missing cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from rlscale.forecast_cells import CELL, REFIT, CellForecaster
from rlscale.forecast_parts import ForecasterKind, Parameter, needs
from rlscale.types import DAY_S, Floats

NORMAL = NormalDist()
SCALE_CELLS = 200.0  # memory of the variance of e


class Arima(CellForecaster):
    """ARIMA(p, d, q) with normal quantiles. Before the first fit, the last rate."""

    least_cells = 30

    def __init__(
        self, lead_s: float, p: float = 1, d: float = 1, q: float = 1, cell_s: float = 60.0,
        refit_s: float = DAY_S, fit_s: float = DAY_S / 2,
    ) -> None:  # fmt: skip
        needs("statsmodels", "arima")
        self.order = (round(p), round(d), round(q))
        super().__init__(lead_s, cell_s, refit_s, fit_s)

    def quantiles(self, levels: Sequence[float]) -> list[float]:
        """Of the normal distribution of the rate one lead time ahead; see `Distribution`."""
        if not self._ready():
            return [math.nan] * len(levels)
        deviation = math.sqrt(self._scale * self._spread)
        return [self.bounded(self._mean + deviation * NORMAL.inv_cdf(level)) for level in levels]

    def _start(self) -> None:
        self.fitted = False
        self.ar: list[float] = []
        self.ma: list[float] = []
        self.mean_per_s = 0.0
        self._scale = self._spread = 0.0
        self._mean = math.nan
        self._rewind()

    def _ready(self) -> bool:
        return self.fitted

    def _rewind(self) -> None:
        self._level = math.nan  # last value, or what was expected in its place
        self._past = [0.0] * len(self.ar)  # newest first: differences (d = 1) or distances from the mean (d = 0)
        self._shocks = [0.0] * len(self.ma)

    def _next(self, past: list[float], shocks: list[float]) -> float:
        expected = 0.0
        for weight, value in zip(self.ar, past):
            expected += weight * value
        for weight, value in zip(self.ma, shocks):
            expected += weight * value
        return expected

    def _learn(self, value: float) -> None:
        if not self.fitted:
            return
        if math.isnan(self._level):
            self._level = value
            if self.order[1] or math.isnan(value):
                return
        differenced = self.order[1] == 1
        origin = self._level if differenced else self.mean_per_s
        expected = self._next(self._past, self._shocks)
        found = expected if math.isnan(value) else value - origin
        shock = found - expected
        if self.ar:
            self._past = [found, *self._past[:-1]]
        if self.ma:
            self._shocks = [shock, *self._shocks[:-1]]
        self._level = origin + found
        if not math.isnan(value):
            self._scale += (shock * shock - self._scale) / SCALE_CELLS

    def _forecast(self) -> float:
        past, shocks = self._past, self._shocks
        level, differenced = self._level, self.order[1] == 1
        for _ in range(self.ahead):
            step = self._next(past, shocks)
            past = [step, *past[:-1]] if past else past
            shocks = [0.0, *shocks[:-1]] if shocks else shocks
            level = (level if differenced else self.mean_per_s) + step
        self._mean = level
        return level

    def _fit(self, window: Floats) -> None:
        from statsmodels.tsa.arima.model import ARIMA

        unit, centre = float(np.nanstd(window)), float(np.nanmean(window))
        if not unit > 0:
            return
        p, d, _ = self.order
        model = ARIMA((window - centre) / unit, order=self.order, trend="n" if d else "c", validate_specification=False)
        fit = model.fit(cov_type="none", method_kwargs={"maxiter": 50, "disp": False})
        found = dict(zip(fit.param_names, (float(value) for value in fit.params)))
        if not all(map(math.isfinite, found.values())):
            return
        self.ar = [found[f"ar.L{i + 1}"] for i in range(p)]
        self.ma = [found[f"ma.L{i + 1}"] for i in range(self.order[2])]
        self.mean_per_s = 0.0 if d else centre + unit * found["const"]
        self._spread = self._squares()
        self.fitted = True
        self._rewind()
        self._scale = found["sigma2"] * unit * unit
        for value in window.tolist():
            self._learn(value)

    def _squares(self) -> float:
        """Sum of the squared weights of the shocks that come before the forecast cell: variance over that of e."""
        # (1 - φ1 B - ...)(1 - B)^d as weights of the past of y
        polynomial = np.concatenate([[1.0], -np.array(self.ar)])
        if self.order[1]:
            polynomial = np.convolve(polynomial, [1.0, -1.0])
        weights = (-polynomial[1:]).tolist()
        psi = [1.0]
        for j in range(1, self.ahead):
            own = self.ma[j - 1] if j <= len(self.ma) else 0.0
            psi.append(own + sum(weights[i] * psi[j - 1 - i] for i in range(min(j, len(weights)))))
        return sum(weight * weight for weight in psi)


_ORDER = "order of the {}, whole"

FORECASTERS: dict[str, ForecasterKind] = {
    "arima": ForecasterKind(
        Arima,
        {
            "p": Parameter(0, 5, _ORDER.format("autoregression")),
            "d": Parameter(0, 1, _ORDER.format("differences")),
            "q": Parameter(0, 5, _ORDER.format("moving average")),
            "cell_s": CELL,
            "refit_s": REFIT,
            "fit_s": Parameter(3600.0, 14 * DAY_S, "seconds of the past that a fit sees"),
        },
        "ARIMA, fitted by maximum likelihood on the last half day",
    ),
}
