"""Flash crowds: a calm base with sudden crowds that stay for minutes and then melt away.

Statistics of the Twitter stream of August 2021: base 52 per second, twelve crowds a day, 3.8 times the base on
average and 5.8 at most, reached within one or two minutes and left over several.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from rlscale.types import Z95, Floats
from rlscale.workloads.family import DAY_S, Clock, Family, NotNegative, Positive
from rlscale.workloads.noise import ar1, lognormal

DECAYS = 4.0  # times `decay_s` after which a crowd has gone


class FlashCrowd(Family):
    """Rate = base x slow noise x (1 + crowds). Peaks are uniform between `peak_low` and `peak_high`.

    The plateau and the decay are tuned so that the variance of a window is that of the trace.
    """

    kind: Literal["flash-crowd"] = "flash-crowd"
    rate_per_s: Positive = 65.0
    crowds_per_day: NotNegative = Field(12.0, description="mean number of crowds in 24 hours")
    peak_low: Positive = Field(1.8, description="smallest peak over the base")
    peak_high: Positive = Field(5.8, description="largest peak over the base")
    rise_s: Positive = Field(90.0, description="from the base to the peak, seconds")
    plateau_median_s: Positive = Field(240.0, description="time at the peak: median of a lognormal, seconds")
    plateau_p95_s: Positive = Field(700.0, description="its 95th percentile, seconds")
    decay_s: Positive = Field(220.0, description="time in which a crowd shrinks to 37 %, seconds")
    base_sigma: NotNegative = Field(0.11, description="standard deviation of the log of the base")
    base_s: Positive = Field(7200.0, description="its correlation time, seconds")
    ripple_sigma: NotNegative = Field(0.042, description="the same from minute to minute (steps of 6 %)")

    @model_validator(mode="after")
    def _in_order(self) -> FlashCrowd:
        if not 1.0 <= self.peak_low <= self.peak_high:
            raise ValueError(f"peaks from {self.peak_low} to {self.peak_high}; expected 1 <= peak_low <= peak_high")
        if self.plateau_p95_s < self.plateau_median_s:
            raise ValueError("plateau_p95_s is below plateau_median_s; swap them")
        if self._mean_calm_s() <= 0:
            raise ValueError(f"crowds_per_day={self.crowds_per_day:g} leaves no time between crowds; expected fewer")
        return self

    def shape(self, rng: np.random.Generator, clock: Clock) -> Floats:
        """Base noise times crowds, over the mean of the crowds."""
        at_s = clock.mid_s
        base = lognormal(ar1(rng, at_s, self.base_s)[:, 0], self.base_sigma)
        ripple = lognormal(ar1(rng, at_s, 60.0)[:, 0], self.ripple_sigma)
        return base * ripple * (1.0 + self._crowds(rng, at_s)) / (1.0 + self._mean_excess())

    def _crowds(self, rng: np.random.Generator, at_s: Floats) -> Floats:
        """Excess over the base, in units of the base. One crowd at a time, so that no peak exceeds `peak_high`."""
        excess = np.zeros(len(at_s))
        if self.crowds_per_day == 0:
            return excess
        start = at_s[0] - DAY_S  # long enough before for the process to be stationary
        while True:
            start += rng.exponential(self._mean_calm_s())
            if start > at_s[-1]:
                return excess
            height = rng.uniform(self.peak_low, self.peak_high) - 1.0
            plateau_s = self.plateau_median_s * math.exp(self._plateau_sigma() * rng.standard_normal())
            gone = start + self.rise_s + plateau_s + DECAYS * self.decay_s
            cells = slice(*np.searchsorted(at_s, (start, gone)))
            since = at_s[cells] - start
            melting = np.maximum(since - self.rise_s - plateau_s, 0.0)
            excess[cells] = height * np.minimum(since / self.rise_s, 1.0) * np.exp(-melting / self.decay_s)
            start = gone

    def _mean_excess(self) -> float:
        """Area of a crowd over the mean time from one to the next."""
        height = 0.5 * (self.peak_low + self.peak_high) - 1.0
        melting_s = self.decay_s * (1.0 - math.exp(-DECAYS))
        return self.crowds_per_day / DAY_S * height * (0.5 * self.rise_s + self._mean_plateau_s() + melting_s)

    def _mean_calm_s(self) -> float:
        """Mean time from the end of a crowd to the next one."""
        crowd_s = self.rise_s + self._mean_plateau_s() + DECAYS * self.decay_s
        return DAY_S / self.crowds_per_day - crowd_s if self.crowds_per_day else math.inf

    def _mean_plateau_s(self) -> float:
        return self.plateau_median_s * math.exp(0.5 * self._plateau_sigma() ** 2)

    def _plateau_sigma(self) -> float:
        return math.log(self.plateau_p95_s / self.plateau_median_s) / Z95


WORKLOADS = {"flash-crowd": FlashCrowd}
