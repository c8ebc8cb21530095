"""AWS predictive scaling: documentation only; the vendor's forecasting model and exact arithmetic are unpublished."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from agents.aws_rules import FORECAST_HOURS, MAX_HISTORY_HOURS, MIN_HISTORY_HOURS, PREDICTIVE_BUFFER_S, REFRESH_HOURS
from rlscale.errors import ScenarioError

HOUR_S = 3600.0


class HourlyForecast:
    """Hourly load for 48 hours, made anew every 6 hours from 24 hours to 14 days of hourly means.

    An approximation in place of the vendor's model: the mean of the same hour of the day over the days kept.
    """

    def __init__(self, min_history_hours: int = MIN_HISTORY_HOURS, buffer_s: float = PREDICTIVE_BUFFER_S) -> None:
        if not 24 <= min_history_hours <= MAX_HISTORY_HOURS or not buffer_s >= 0:
            what = f"min_history_hours = {min_history_hours}, buffer_s = {buffer_s}"
            raise ScenarioError(f"predictive: {what}; expected 24 to {MAX_HISTORY_HOURS} hours and a buffer")
        self.min_history_hours, self.buffer_s = min_history_hours, buffer_s
        self.reset()

    def reset(self) -> None:
        """Forget the history."""
        self._hours: dict[int, tuple[float, int]] = {}  # hour -> (sum, measurements)
        self._first, self._made_in = -1, -1
        self._forecast: tuple[float, ...] = ()  # from hour `_made_in` on

    def learn(self, t_s: float, load: float) -> None:
        """Count a measurement; NaN is none."""
        hour = math.floor(t_s / HOUR_S)
        if math.isfinite(load):
            total, count = self._hours.get(hour, (0.0, 0))
            self._hours[hour] = (total + load, count + 1)
            self._first = hour if self._first < 0 else self._first
        enough = self._first >= 0 and hour - self._first >= self.min_history_hours
        if enough and (self._made_in < 0 or hour - self._made_in >= REFRESH_HOURS):
            self._make(hour)

    def ahead(self, t_s: float) -> float:
        """The largest load expected from now until the buffer is over; NaN before there is enough history."""
        if not self._forecast:
            return math.nan
        hours = range(math.floor(t_s / HOUR_S), math.floor((t_s + self.buffer_s) / HOUR_S) + 1)
        return max(self._forecast[min(max(hour - self._made_in, 0), FORECAST_HOURS - 1)] for hour in hours)

    def state(self) -> dict[str, Any]:
        """History and forecast, as JSON can hold them."""
        return {
            "hours": [[hour, total, count] for hour, (total, count) in self._hours.items()],
            "first": self._first,
            "made_in": self._made_in,
            "forecast": list(self._forecast),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        self._hours = {int(hour): (float(total), int(count)) for hour, total, count in state["hours"]}
        self._first, self._made_in = int(state["first"]), int(state["made_in"])
        self._forecast = tuple(float(load) for load in state["forecast"])

    def _make(self, hour: int) -> None:
        self._hours = {kept: seen for kept, seen in self._hours.items() if hour - kept <= MAX_HISTORY_HOURS}
        days: dict[int, list[float]] = {}
        for kept, (total, count) in self._hours.items():
            if kept < hour:  # the hour under way is not over
                days.setdefault(kept % 24, []).append(total / count)
        overall = [mean for means in days.values() for mean in means]
        if not overall:
            return
        usual = sum(overall) / len(overall)
        same_hour = [days.get((hour + k) % 24, [usual]) for k in range(FORECAST_HOURS)]
        self._forecast = tuple(sum(means) / len(means) for means in same_hour)
        self._made_in = hour
