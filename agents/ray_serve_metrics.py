"""Ray Serve's count of ongoing requests: step series of several reporters, merged and averaged over the look-back.

After python/ray/serve/_private/metrics_utils.py and autoscaling_state.py of ray-project/ray, near master in 2026
(Apache-2.0). A series is a list of (time in seconds, value), oldest first; a value holds until the next point.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import Any

from rlscale.errors import ScenarioError

Series = Sequence[tuple[float, float]]

MIN_HANDLE_TIMEOUT_S = 10.0  # a silent reporter is kept at least so long
CLOCK_SKEW_S = 1e-3  # the last value holds for this long when a reporter's clock is ahead
FUNCTIONS = ("mean", "max", "min")


def merge(series: Iterable[Series]) -> list[tuple[float, float]]:
    """The instantaneous total of gauges. Times are rounded to 10 ms and equal ones joined; one series stays as it is.

    A point that repeats its series' value is no event, a first value of 0 included.
    """
    active = [points for points in series if points]
    if len(active) <= 1:
        return [(float(t), float(value)) for t, value in active[0]] if active else []
    now = [0.0] * len(active)
    tagged = [[(t, which, value) for t, value in points] for which, points in enumerate(active)]
    total = 0.0
    merged: list[tuple[float, float]] = []
    for t, which, value in heapq.merge(*tagged, key=lambda event: event[:2]):
        changed = value != now[which]
        total += value - now[which]
        now[which] = value
        if changed:
            rounded = round(t, 2)
            if merged and merged[-1][0] == rounded:
                merged.pop()
            merged.append((rounded, total))
    return merged


def window_start_s(series: Iterable[Series]) -> float | None:
    """When the last of the reporters reported for the first time: before, the total lacks somebody's requests."""
    return max((points[0][0] for points in series if points), default=None)


def time_weighted_average(
    merged: Series, start_s: float | None = None, end_s: float | None = None, last_window_s: float = 1.0
) -> float | None:
    """Mean of a step series from `start_s`, by default its first point, to `end_s`, by default `last_window_s` after
    its last. Before the first point it is 0. None without points or without time."""
    if not merged:
        return None
    start_s = merged[0][0] if start_s is None else start_s
    end_s = merged[-1][0] + last_window_s if end_s is None else end_s
    if end_s <= start_s:
        return None
    area, value, since = 0.0, 0.0, start_s
    for t, following in merged:
        if t >= end_s:
            break
        if t > start_s:
            area += value * (t - since)
            since = t
        value = following
    return (area + value * (end_s - since)) / (end_s - start_s)


def aggregate(
    merged: Series, function: str = "mean", start_s: float | None = None, last_window_s: float = 1.0
) -> float:
    """The metric of a merged series, 0 without points; `function` is mean (by time), max or min."""
    if function == "mean":
        return time_weighted_average(merged, start_s, last_window_s=last_window_s) or 0.0
    values = [value for t, value in merged if start_s is None or t >= start_s]
    if not values:
        return 0.0
    return max(values) if function == "max" else min(values)


class RequestMetrics:
    """What the controller has been told by the reporters (replicas: running requests, handles: queued ones).

    A report that is not newer than the last one of its reporter is ignored. Reporters that were silent for twice
    `metrics_interval_s`, and at least 10 s, are dropped; points older than the look-back are too.
    """

    def __init__(
        self, look_back_period_s: float = 30.0, metrics_interval_s: float = 10.0, aggregation_function: str = "mean"
    ) -> None:
        if aggregation_function not in FUNCTIONS:
            raise ScenarioError(
                f"ray-serve: aggregation_function = {aggregation_function!r}; expected one of {FUNCTIONS}"
            )
        self.look_back_period_s = look_back_period_s
        self.timeout_s = max(2 * metrics_interval_s, MIN_HANDLE_TIMEOUT_S)
        self.aggregation_function = aggregation_function
        self._series: dict[str, list[tuple[float, float]]] = {}

    def reset(self) -> None:
        """A controller restart: reporters have to report anew."""
        self._series.clear()

    def state(self) -> dict[str, Any]:
        """All points, as plain values."""
        return {name: [list(point) for point in points] for name, points in self._series.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self._series = {name: [(t, value) for t, value in points] for name, points in state.items()}

    def record(self, reporter: str, t_s: float, value: float) -> None:
        """One report; what is not finite is none."""
        points = self._series.setdefault(reporter, [])
        if math.isfinite(value) and (not points or t_s > points[-1][0]):
            points.append((t_s, value))

    def drop_stale(self, now_s: float) -> None:
        """Forget reporters that have not reported in time."""
        for name, points in list(self._series.items()):
            if not points or now_s - points[-1][0] >= self.timeout_s:
                del self._series[name]

    def total(self, now_s: float) -> float:
        """Ongoing requests over the look-back, 0 when nobody reports; the last values hold until `now_s`."""
        oldest = now_s - self.look_back_period_s
        for name, points in self._series.items():
            if points and points[0][0] < oldest:
                self._series[name] = [point for point in points if point[0] >= oldest]
        series = list(self._series.values())
        merged = merge(series)
        if not merged:
            return 0.0
        rest_s = now_s - merged[-1][0]
        return aggregate(
            merged, self.aggregation_function, window_start_s(series), rest_s if rest_s > 0 else CLOCK_SKEW_S
        )
