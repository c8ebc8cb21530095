"""Metric windows of the AIBrix pod autoscaler: means over pods, the last one of every second.

After pkg/controller/podautoscaler/{metrics,types} of vllm-project/aibrix, commit e3e10f9e4aeb (Apache-2.0). Times are
seconds on any clock; state() is plain JSON and restore() takes it back.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

STABLE_WINDOW_S = 180.0
PANIC_WINDOW_S = 60.0
GRANULARITY_S = 1.0


def pod_average(values: Sequence[float]) -> float:
    """One sample: the mean over the pods that have the metric, NaN without any. Never their sum."""
    return _mean(values) if values else math.nan


class TimeWindow:
    """Buckets that keep their last write, up to one more of them than the window is long: both ends belong to it.

    Only a write makes old buckets leave, so that after silence the average is still that of the last window seen.
    """

    def __init__(self, window_s: float, granularity_s: float = GRANULARITY_S) -> None:
        self.window_s = window_s
        self.granularity_s = granularity_s
        self._buckets: dict[int, float] = {}  # in order of time

    def record(self, t_s: float, value: float) -> None:
        """The value of a bucket, in the place of an earlier one."""
        number = math.floor(t_s / self.granularity_s)
        late = bool(self._buckets) and number < next(reversed(self._buckets))
        self._buckets[number] = value
        if late:
            self._buckets = dict(sorted(self._buckets.items()))
        cutoff = math.floor((t_s - self.window_s) / self.granularity_s)
        while (oldest := next(iter(self._buckets))) < cutoff:
            del self._buckets[oldest]

    @property
    def values(self) -> list[float]:
        """Of the buckets that exist, in order of time."""
        return list(self._buckets.values())

    @property
    def average(self) -> float:
        """Mean of the buckets that exist; 0 without any."""
        return _mean(self._buckets.values()) if self._buckets else 0.0

    @property
    def least(self) -> float:
        """Minimum; 0 without any value."""
        return min(self._buckets.values(), default=0.0)

    @property
    def most(self) -> float:
        """Maximum; 0 without any value."""
        return max(self._buckets.values(), default=0.0)

    def state(self) -> list[list[float]]:
        """All there is to remember."""
        return [[number, value] for number, value in self._buckets.items()]

    def restore(self, state: list[list[float]]) -> None:
        """Go on from a state."""
        self._buckets = {int(number): float(value) for number, value in state}


class WindowPair:
    """The stable and the panic window of one metric."""

    def __init__(self, stable_window_s: float = STABLE_WINDOW_S, panic_window_s: float = PANIC_WINDOW_S) -> None:
        self.stable = TimeWindow(stable_window_s)
        self.panic = TimeWindow(panic_window_s)

    def record(self, t_s: float, value: float) -> None:
        """One sample into both."""
        self.stable.record(t_s, value)
        self.panic.record(t_s, value)

    def state(self) -> dict[str, Any]:
        """All there is to remember, as plain JSON."""
        return {"stable": self.stable.state(), "panic": self.panic.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.stable.restore(state["stable"])
        self.panic.restore(state["panic"])


def _mean(values: Collection[float]) -> float:
    """Added one by one: sum() of newer Pythons corrects its rounding, which upstream does not."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values)
