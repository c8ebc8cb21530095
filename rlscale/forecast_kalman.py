"""Kalman filter of a local linear trend: level and slope wander, what is measured is the level with noise.

y = l + e,  l' = l + b + u,  b' = b + v,  with variances r, q_level, q_slope (Harvey 1989, section 2.3.6). statsmodels'
UnobservedComponents finds them by maximum likelihood (BSD licence); the filter here takes a few flops per cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from rlscale.forecast_cells import CELL, REFIT, CellForecaster
from rlscale.forecast_parts import ForecasterKind, Parameter, needs
from rlscale.types import DAY_S, Floats

NORMAL = NormalDist()
SCALE_CELLS = 200.0  # memory of the innovations' variance
FIT_CELLS = 500
LEAST_NOISE = 1e-6  # of the sum of the variances


class Kalman(CellForecaster):
    """Level and slope by a Kalman filter, projected over the lead time; normal quantiles from its own variance.

    Variances are kept relative to a scale that follows the squared innovations, so that the width of the distribution
    follows quiet and busy hours between two fits.
    """

    least_cells = 2

    def __init__(
        self, lead_s: float, level_share: float = 0.1, slope_share: float = 1e-5, cell_s: float = 60.0,
        refit_s: float = DAY_S,
    ) -> None:  # fmt: skip
        if refit_s:
            needs("statsmodels", "kalman")
        self.level_share, self.slope_share = level_share, slope_share
        super().__init__(lead_s, cell_s, refit_s)

    @property
    def gain(self) -> float:
        """Weight of the newest cell in the level, 0 to 1."""
        return self._gain

    def quantiles(self, levels: Sequence[float]) -> list[float]:
        """Of the normal distribution of the rate one lead time ahead; see `Distribution`."""
        if not self._ready():
            return [math.nan] * len(levels)
        deviation = math.sqrt(self._scale * self._variance(self.ahead))
        return [self.bounded(self._mean + deviation * NORMAL.inv_cdf(level)) for level in levels]

    def _start(self) -> None:
        self._noise, self._level_noise, self._slope_noise = 1.0, self.level_share, self.slope_share
        self._level = self._mean = math.nan
        self._slope = self._gain = 0.0
        self._p11, self._p12, self._p22 = 1.0, 0.0, 0.01
        self._scale, self._innovations = 0.0, 0

    def _learn(self, value: float) -> None:
        if math.isnan(self._level):
            self._level = value
            return
        self._level += self._slope
        self._p11 += 2.0 * self._p12 + self._p22 + self._level_noise
        self._p12 += self._p22
        self._p22 += self._slope_noise
        if math.isnan(value):
            return
        innovation, variance = value - self._level, self._p11 + self._noise
        self._gain = gain = self._p11 / variance
        slope_gain = self._p12 / variance
        self._level += gain * innovation
        self._slope += slope_gain * innovation
        self._p22 -= slope_gain * self._p12
        self._p12 *= 1.0 - gain
        self._p11 *= 1.0 - gain
        self._innovations += 1
        weight = max(1.0 / self._innovations, 1.0 / SCALE_CELLS)
        self._scale += weight * (innovation * innovation / variance - self._scale)

    def _forecast(self) -> float:
        self._mean = self._level + self.ahead * self._slope
        return self._mean

    def _variance(self, ahead: int) -> float:
        """Of a measurement so many cells ahead, in units of the scale."""
        slopes = (ahead - 1) * ahead * (2 * ahead - 1) / 6  # sum of the squares below `ahead`
        state = self._p11 + 2.0 * ahead * self._p12 + ahead * ahead * self._p22
        return state + ahead * self._level_noise + slopes * self._slope_noise + self._noise

    def _can_fit(self) -> bool:
        return self.measured >= 30

    def _fit(self, window: Floats) -> None:
        import numpy as np
        from statsmodels.tsa.statespace.structural import UnobservedComponents

        recent = window[-FIT_CELLS:]
        unit = float(np.nanstd(recent))
        if not unit > 0:
            return
        model = UnobservedComponents((recent - np.nanmean(recent)) / unit, "lltrend")
        found = model.fit(disp=False, maxiter=50, cov_type="none").params
        noise, level, slope = (max(0.0, float(variance)) for variance in found)
        total = noise + level + slope
        if not (0.0 < total < math.inf):
            return
        noise = max(noise, LEAST_NOISE * total)
        # The state's variance is kept in units of the old scale; a few cells bring it to the new one.
        self._noise, self._level_noise, self._slope_noise = noise / total, level / total, slope / total
        self._p11, self._p12, self._p22 = 1.0, 0.0, 0.01
        self._restart_filter(recent)

    def _restart_filter(self, recent: Floats) -> None:
        """Filter what the variances were found on once more with them, so that state and scale fit together."""
        self._level, self._slope, self._scale, self._innovations = math.nan, 0.0, 0.0, 0
        for value in recent.tolist():
            self._learn(value)


FORECASTERS: dict[str, ForecasterKind] = {
    "kalman": ForecasterKind(
        Kalman,
        {
            "level_share": Parameter(0.0, 1e6, "variance of the level's steps over that of the noise, before a fit"),
            "slope_share": Parameter(0.0, 1e6, "variance of the slope's steps over that of the noise, before a fit"),
            "cell_s": CELL,
            "refit_s": REFIT,
        },
        "local linear trend by a Kalman filter, variances by maximum likelihood",
    ),
}
