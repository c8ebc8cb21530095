"""Forecasters that know the day: the same time yesterday or last week, and Holt-Winters with a daily season."""

from __future__ import annotations

import math

import numpy as np

from rlscale.forecast_cells import CELL, REFIT, CellForecaster, filled
from rlscale.forecast_parts import ForecasterKind, Parameter, needs
from rlscale.types import DAY_S, Floats

WEEK_S = 7 * DAY_S
SMOOTH_S = 1800.0  # a season is smoothed over so long: a minute of one day is mostly noise


class SeasonalNaive(CellForecaster):
    """The rate of the same time yesterday, or a week ago, times how today's level compares with the level then.

    Both levels are means over `level_s`; their ratio is kept within 1/3 and 3. Yesterday or last week: whichever erred
    less over about the last day. Before a day is known, the last rate.
    """

    def __init__(self, lead_s: float, level_s: float = 900.0, smooth_s: float = 1800.0, cell_s: float = 60.0) -> None:
        self.level_s, self.smooth_s = level_s, smooth_s
        super().__init__(lead_s, cell_s, refit_s=0.0)

    def _start(self) -> None:
        self._day, self._week = round(DAY_S / self.step_s), round(WEEK_S / self.step_s)
        self._level_cells = max(1, round(self.level_s / self.step_s))
        self._half = int(self.smooth_s / self.step_s / 2)
        self._size = self._week + max(self._level_cells, self._half) + 2
        # Running sums of rates and of measured cells, in a ring: a mean over any stretch is two differences.
        self._sums, self._counts = [0.0] * self._size, [0] * self._size
        self._errors = {self._day: 0.0, self._week: 0.0}
        self._made: dict[int, list[float]] = {season: [math.nan] * self.ahead for season in self._errors}

    def _learn(self, value: float) -> None:
        known = not math.isnan(value)
        at, before = self.cells % self._size, (self.cells - 1) % self._size
        self._sums[at] = self._sums[before] + (value if known else 0.0)
        self._counts[at] = self._counts[before] + known
        for season, made in self._made.items():
            earlier = made[self.cells % self.ahead]
            if known and not math.isnan(earlier):
                self._errors[season] += (abs(value - earlier) - self._errors[season]) / self._day
            made[self.cells % self.ahead] = self._from(season)

    def _ready(self) -> bool:
        return bool(self.cells) and any(not math.isnan(made[self.cells % self.ahead]) for made in self._made.values())

    def _forecast(self) -> float:
        now = {season: made[self.cells % self.ahead] for season, made in self._made.items()}
        known = [season for season, forecast in now.items() if not math.isnan(forecast)]
        return now[min(known, key=self._errors.__getitem__)]

    def _from(self, season: int) -> float:
        """The forecast from one season ago; NaN where that is not known."""
        then = self.cells - season
        if then < 1:
            return math.nan
        base = self._mean(then + self.ahead - self._half, then + self.ahead + self._half)
        level = self._mean(self.cells - self._level_cells + 1, self.cells)
        level_then = self._mean(then - self._level_cells + 1, then)
        if not level_then > 0 or math.isnan(level):
            return base
        return base * min(3.0, max(1 / 3, level / level_then))

    def _mean(self, first: int, last: int) -> float:
        """Of the cells first ... last, counted from 1; NaN without any measured one."""
        first, last = max(first, 1), min(last, self.cells)
        if last < first:
            return math.nan
        high, low = last % self._size, (first - 1) % self._size
        count = self._counts[high] - self._counts[low]
        return (self._sums[high] - self._sums[low]) / count if count > 0 else math.nan


class HoltWinters(CellForecaster):
    """Level, damped trend and additive daily season:

    l' = α(x - s) + (1-α)(l + φb),  b' = β(l' - l) + (1-β)φb,  s' = γ(x - l - φb) + (1-γ)s,
    forecast l + (φ + ... + φ^h) b + s of that time of day.

    The season begins as the smoothed mean of the days seen; α, β, γ, φ are those that fit the last day or two best, one
    cell ahead, by statsmodels' ExponentialSmoothing (BSD licence). Before a day is known there is no season.
    """

    least_cells = 3

    def __init__(
        self, lead_s: float, alpha: float = 0.2, beta: float = 0.01, gamma: float = 0.1, phi: float = 0.98,
        cell_s: float = 60.0, refit_s: float = DAY_S,
    ) -> None:  # fmt: skip
        if refit_s:
            needs("statsmodels", "holt-winters")
        self.given = (alpha, beta, gamma, phi)
        super().__init__(lead_s, cell_s, refit_s, window_s=WEEK_S)

    def _start(self) -> None:
        self.alpha, self.beta, self.gamma, self.phi = self.given
        self._day = max(1, round(DAY_S / self.step_s))
        self._season: list[float] = []
        self._level, self._trend = math.nan, 0.0
        self._reach = self._damped()

    def _damped(self) -> float:
        return sum(self.phi**j for j in range(1, self.ahead + 1))

    def _learn(self, value: float) -> None:
        if not self._season and self.cells == self._day:
            self._first_season()
        self._advance(value, self.cells % self._day)

    def _advance(self, value: float, at: int) -> None:
        if math.isnan(self._level):
            self._level = value - self._season[at] if self._season else value
            return
        slope = self.phi * self._trend
        before = self._level + slope
        if math.isnan(value):
            self._level, self._trend = before, slope
            return
        season = self._season[at] if self._season else 0.0
        level = self.alpha * (value - season) + (1.0 - self.alpha) * before
        self._trend = self.beta * (level - self._level) + (1.0 - self.beta) * slope
        self._level = level
        if self._season:
            self._season[at] = self.gamma * (value - before) + (1.0 - self.gamma) * season

    def _forecast(self) -> float:
        season = self._season[(self.cells + self.ahead) % self._day] if self._season else 0.0
        return self._level + self._reach * self._trend + season

    def _first_season(self) -> None:
        window = np.array(self.window)
        if np.isfinite(window).sum() < self._day / 2:
            return
        self._season = self._profile(window, self.cells)
        # The season of the present moment leaves the level.
        self._level -= self._season[(self.cells - 1) % self._day]

    def _profile(self, cells: Floats, last: int) -> list[float]:
        """Smoothed mean day of the cells up to number `last`, less its mean, by time of day."""
        at = np.arange(last - len(cells) + 1, last + 1) % self._day
        known = np.isfinite(cells)
        counts = np.bincount(at[known], minlength=self._day)
        sums = np.bincount(at[known], cells[known], minlength=self._day)
        day = filled(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
        half = int(SMOOTH_S / self.step_s / 2)
        around = np.concatenate([day[len(day) - half :], day, day[:half]])
        smooth = np.convolve(around, np.full(2 * half + 1, 1.0 / (2 * half + 1)), "valid")
        return [float(value) for value in smooth - smooth.mean()]

    def _can_fit(self) -> bool:
        return bool(self._season) and self._day >= 4 and self.cells >= 2 * self._day

    def _fit(self, window: Floats) -> None:
        from statsmodels.tsa.holtwinters import ExponentialSmoothing

        days = 2 if len(window) >= 3 * self._day else 1
        recent, earlier = window[-days * self._day :], window[: -days * self._day]
        if np.isfinite(recent).sum() < len(recent) / 2 or np.isfinite(earlier).sum() < self._day / 2:
            return
        season = self._profile(earlier, self.cells - len(recent))
        first = self.cells - len(recent) + 1
        at = (first + np.arange(len(recent))) % self._day
        flat = recent - np.array(season)[at]
        if not float(np.nanstd(recent)) > 0:
            return
        start = float(np.nanmean(flat[: max(1, round(SMOOTH_S / self.step_s))]))
        if math.isnan(start):
            start = float(np.nanmean(flat))
        model = ExponentialSmoothing(
            filled(flat) + np.array(season)[at], trend="add", damped_trend=True, seasonal="add",
            seasonal_periods=self._day, initialization_method="known", initial_level=start, initial_trend=0.0,
            initial_seasonal=np.array(season)[at[: self._day]],
        )  # fmt: skip
        found = model.fit(use_brute=False, minimize_kwargs={"options": {"maxiter": 50}}).params
        names = ("smoothing_level", "smoothing_trend", "smoothing_seasonal", "damping_trend")
        chosen = [float(found[name]) for name in names]
        if not all(map(math.isfinite, chosen)):
            return
        self.alpha, self.beta, self.gamma, self.phi = chosen
        self._reach = self._damped()
        self._season, self._level, self._trend = season, start, 0.0
        for value, index in zip(recent.tolist(), at.tolist()):
            self._advance(value, index)


_WEIGHT = "weight of the newest {}, before a fit"

FORECASTERS: dict[str, ForecasterKind] = {
    "seasonal-naive": ForecasterKind(
        SeasonalNaive,
        {
            "level_s": Parameter(60.0, DAY_S, "seconds over which the level is taken, now and then"),
            "smooth_s": Parameter(0.0, 7200.0, "seconds around that time over which the earlier rate is taken"),
            "cell_s": CELL,
        },
        "the same time yesterday or last week, scaled to today's level",
    ),
    "holt-winters": ForecasterKind(
        HoltWinters,
        {
            "alpha": Parameter(0.001, 1.0, _WEIGHT.format("cell in the level")),
            "beta": Parameter(0.0, 1.0, _WEIGHT.format("slope in the trend")),
            "gamma": Parameter(0.0, 1.0, _WEIGHT.format("day in the season")),
            "phi": Parameter(0.5, 1.0, "what is left of the trend after a cell, before a fit"),
            "cell_s": CELL,
            "refit_s": REFIT,
        },
        "level, damped trend and daily season",
    ),
}
