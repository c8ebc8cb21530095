"""Predict: the arrival rate one lead time ahead, from the rates seen so far. Knows nothing of clusters or scalers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

from rlscale import forecast_arima, forecast_kalman, forecast_lags, forecast_quantile, forecast_season, registry
from rlscale.errors import ScenarioError, nearest
from rlscale.forecast_parts import Forecaster, ForecasterKind, Parameter
from rlscale.types import Floats

__all__ = ["FORECASTERS", "Exponential", "Forecaster", "Holt", "LastValue", "MovingAverage", "forecaster"]


class _Remembering:
    """What every forecaster shares: the walk through the history, and the refusal of missing measurements."""

    forecast_per_s: float = math.nan
    projected_per_s: float = math.nan  # the same before the floor at zero

    def reset(self, history_per_s: Floats, step_s: float) -> None:
        self.forecast_per_s = self.projected_per_s = math.nan
        self._forget()
        for rate in np.asarray(history_per_s, dtype=np.float64):
            self.update(float(rate), step_s)

    def update(self, rate_per_s: float, interval_s: float) -> float:
        if math.isfinite(rate_per_s):
            # Measurement noise can push a small rate below zero; no fewer than no requests arrive.
            self.projected_per_s = self._learn(max(0.0, rate_per_s), interval_s)
            self.forecast_per_s = max(0.0, self.projected_per_s)
        return self.forecast_per_s

    def _forget(self) -> None:
        raise NotImplementedError

    def _learn(self, rate_per_s: float, interval_s: float) -> float:
        raise NotImplementedError


@dataclass
class LastValue(_Remembering):
    """Tomorrow is like today."""

    def _forget(self) -> None:
        pass

    def _learn(self, rate_per_s: float, interval_s: float) -> float:
        return rate_per_s


@dataclass
class MovingAverage(_Remembering):
    """Mean rate of the last `window_s` seconds."""

    window_s: float = 300.0
    _seen: deque[tuple[float, float]] = field(default_factory=deque, init=False)  # (rate, seconds it stands for)

    def _forget(self) -> None:
        self._seen.clear()

    def _learn(self, rate_per_s: float, interval_s: float) -> float:
        self._seen.append((rate_per_s, interval_s))
        covered_s = sum(seconds for _, seconds in self._seen)
        # The oldest rate leaves when the others fill the window without it.
        while covered_s - self._seen[0][1] >= self.window_s:
            covered_s -= self._seen.popleft()[1]
        return sum(rate * seconds for rate, seconds in self._seen) / covered_s


@dataclass
class Exponential(_Remembering):
    """y'(t+1) = alpha*y(t) + (1-alpha)*y'(t), one step per measurement; y'(0) is the first measurement."""

    alpha: float = 0.3
    _level: float = field(default=math.nan, init=False)

    def _forget(self) -> None:
        self._level = math.nan

    def _learn(self, rate_per_s: float, interval_s: float) -> float:
        expected = rate_per_s if math.isnan(self._level) else self._level
        self._level = self.alpha * rate_per_s + (1 - self.alpha) * expected
        return self._level


@dataclass
class Holt(_Remembering):
    """Level and trend, projected over `lead_s`:

    l <- alpha*x + (1-alpha)*(l + b*dt),  b <- beta*(l - l')/dt + (1-beta)*b,  forecast l + b*lead_s.

    The trend is per second, so that history cells and control intervals may differ in length. It starts at 0: the
    difference of the first two measurements is mostly noise, and a lead time is some 30 control intervals long.
    """

    lead_s: float
    alpha: float = 0.2
    beta: float = 0.02
    level_per_s: float = field(default=math.nan, init=False)
    trend_per_s2: float = field(default=0.0, init=False)

    def _forget(self) -> None:
        self.level_per_s = math.nan
        self.trend_per_s2 = 0.0

    def _learn(self, rate_per_s: float, interval_s: float) -> float:
        if math.isnan(self.level_per_s):
            self.level_per_s = rate_per_s
        before = self.level_per_s
        self.level_per_s = self.alpha * rate_per_s + (1 - self.alpha) * (before + self.trend_per_s2 * interval_s)
        slope = (self.level_per_s - before) / interval_s
        self.trend_per_s2 = self.beta * slope + (1 - self.beta) * self.trend_per_s2
        return self.level_per_s + self.trend_per_s2 * self.lead_s


@dataclass
class Linear(_Remembering):
    """Least-squares line through the last `points` measurements, `lead_s` beyond the newest; one point is a level."""

    lead_s: float
    points: float = 20.0
    _seen: deque[tuple[float, float]] = field(default_factory=deque, init=False)  # (time in seconds, rate)

    def _forget(self) -> None:
        self._seen.clear()

    def _learn(self, rate_per_s: float, interval_s: float) -> float:
        now_s = self._seen[-1][0] + interval_s if self._seen else 0.0
        self._seen.append((now_s, rate_per_s))
        while len(self._seen) > self.points:
            self._seen.popleft()
        count = len(self._seen)
        centre_s = sum(at_s for at_s, _ in self._seen) / count
        mean = sum(rate for _, rate in self._seen) / count
        spread = sum((at_s - centre_s) ** 2 for at_s, _ in self._seen)
        lean = sum((at_s - centre_s) * (rate - mean) for at_s, rate in self._seen)
        return mean + (lean / spread * (now_s + self.lead_s - centre_s) if spread > 0 else 0.0)


@dataclass
class HoltWintersAdditive:
    """Level, trend per cell and a season of additive offsets:

    l <- alpha*(x - s) + (1-alpha)*(l + b),  b <- beta*(l - l') + (1-beta)*b,  s <- gamma*(x - l) + (1-gamma)*s.

    The initial values are given, or those of `start`.
    """

    alpha: float
    beta: float
    gamma: float
    level: float = math.nan
    trend: float = 0.0
    season: list[float] = field(default_factory=list)
    position: int = 0  # of the next value in the season

    def start(self, two_seasons: Sequence[float]) -> None:
        """Level: mean of the first season. Trend: difference of the seasons' means per cell. Offsets of the first."""
        period = len(two_seasons) // 2
        first, second = two_seasons[:period], two_seasons[period : 2 * period]
        self.level = sum(first) / period
        self.trend = (sum(second) / period - self.level) / period
        self.season = [value - self.level for value in first]
        self.position = 0

    def update(self, value: float) -> None:
        """Learn the next value."""
        before, offset = self.level, self.season[self.position]
        self.level = self.alpha * (value - offset) + (1 - self.alpha) * (before + self.trend)
        self.trend = self.beta * (self.level - before) + (1 - self.beta) * self.trend
        self.season[self.position] = self.gamma * (value - self.level) + (1 - self.gamma) * offset
        self.position = (self.position + 1) % len(self.season)

    def ahead(self, cells: int) -> float:
        """Forecast so many cells ahead, 1 is the next one."""
        return self.level + cells * self.trend + self.season[(self.position + cells - 1) % len(self.season)]


def _seasonal(lead_s: float, **chosen: float) -> Forecaster:
    from rlscale.predict_seasonal import HoltWinters  # builds on this module

    return HoltWinters(lead_s, **chosen)


_ALPHA = Parameter(0.001, 1.0, "weight of the newest measurement in the level")

FORECASTERS: dict[str, ForecasterKind] = {
    "last": ForecasterKind(lambda lead_s: LastValue(), {}, "the last measured rate"),
    "average": ForecasterKind(
        lambda lead_s, **chosen: MovingAverage(**chosen),
        {"window_s": Parameter(1.0, 86400.0, "length of the window, seconds")},
        "mean of the last window",
    ),
    "exponential": ForecasterKind(
        lambda lead_s, **chosen: Exponential(**chosen), {"alpha": _ALPHA}, "exponential smoothing"
    ),
    "holt": ForecasterKind(
        Holt,
        {"alpha": _ALPHA, "beta": Parameter(0.0, 1.0, "weight of the newest slope in the trend")},
        "level and trend, projected over the lead time",
    ),
    "linear": ForecasterKind(
        Linear,
        {"points": Parameter(1.0, 1000.0, "measurements the line goes through")},
        "least-squares line through the last measurements, extended by the lead time",
    ),
    "holt-winters-classic": ForecasterKind(
        _seasonal,
        {
            "alpha": _ALPHA,
            "beta": Parameter(0.0, 1.0, "weight of the newest slope in the trend"),
            "gamma": Parameter(0.0, 1.0, "weight of the newest offset in the season"),
            "period_s": Parameter(3600.0, 604_800.0, "length of the season, seconds"),
            "cell_s": Parameter(60.0, 3600.0, "seconds per value of the season"),
        },
        "level, trend and a daily season as textbooks have it, unfitted; exponential smoothing for the first two days",
    ),
    **forecast_season.FORECASTERS,
    **forecast_kalman.FORECASTERS,
    **forecast_arima.FORECASTERS,
    **forecast_lags.FORECASTERS,
    **forecast_quantile.FORECASTERS,
}


def forecaster(name: str, lead_s: float, **parameters: float) -> Forecaster:
    """The forecaster called `name`, from the table, an entry point of `rlscale.forecasters`, or as `module:Class`."""
    if name in FORECASTERS:
        kind = FORECASTERS[name]
        _check(name, kind.parameters, parameters)
        return kind.build(lead_s, **parameters)
    built: Any = _from_outside(name)(lead_s, **parameters)
    return built  # type: ignore[no-any-return]


def _check(name: str, known: Mapping[str, Parameter], given: Mapping[str, float]) -> None:
    for key, value in given.items():
        if key not in known:
            raise ScenarioError(f"forecaster '{name}' has no parameter '{key}'; {nearest(key, known)}")
        low, high = known[key].low, known[key].high
        if not low <= value <= high:
            raise ScenarioError(f"forecaster '{name}': {key} = {value}; expected {low:g} to {high:g}")


def _from_outside(name: str) -> Any:
    if ":" in name:
        return registry.get("rlscale", "FORECASTERS", name, "forecaster")
    for point in metadata.entry_points(group="rlscale.forecasters", name=name):
        return point.load()
    raise ScenarioError(f"unknown forecaster '{name}'; {nearest(name, FORECASTERS)}")
