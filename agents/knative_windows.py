"""Time windows of Knative's autoscaler: averages over buckets of seconds, and a sliding maximum.

After pkg/autoscaler/aggregation of knative/serving, commit 98e5ef90aa70 (Apache-2.0). Times are seconds on any
clock; state() of every class is plain JSON and restore() takes it back.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from agents.knative_config import SCRAPE_S, TICK_S
from rlscale.errors import ScenarioError

_DIGITS = 1e6  # averages are cut after six decimals
_LEAST_WEIGHT = 0.2
_OUTSIDE = 0.0001  # share of the weights that lies before the window


class TimedBuckets:
    """A ring of buckets over `window_s`. What falls into one bucket adds up.

    The average divides by the buckets that can hold data: since the first write while the window fills up, and
    without the silent ones at its end. Empty buckets in between count as zero.
    """

    def __init__(self, window_s: float, granularity_s: float = SCRAPE_S) -> None:
        self.window_s = window_s
        self.granularity_s = granularity_s
        self._buckets = [0.0] * max(1, math.ceil(window_s / granularity_s))
        self._first: int | None = None  # number of the bucket of the first write, the clock over the granularity
        self._last: int | None = None
        self._total = 0.0

    def record(self, t_s: float, value: float) -> None:
        """Add a value. One that is a window or more older than the last write is dropped."""
        self._add(math.floor(t_s / self.granularity_s), value)

    def record_since(self, before_s: float, t_s: float, value: float) -> None:
        """The value in every bucket after that of `before_s` up to that of `t_s`."""
        buckets, size = self._buckets, len(self._buckets)
        last = math.floor(t_s / self.granularity_s)
        first = max(math.floor(before_s / self.granularity_s), last - size) + 1
        if self._last is None or first != self._last + 1:
            for number in range(first, last + 1):
                self._add(number, value)
            return
        for number in range(first, last + 1):  # the same for consecutive buckets
            place = number % size
            self._total = self._total - buckets[place] + value
            buckets[place] = value
        self._last = max(last, self._last)

    def average(self, t_s: float) -> float:
        """Mean of a bucket over the window that ends at `t_s`; 0 after silence of a whole window."""
        if self._last is None or self._first is None:
            return 0.0
        silent = math.floor(t_s / self.granularity_s) - self._last
        written = self._last - self._first + 1
        size = len(self._buckets)
        if silent <= 0:
            return _cut(self._total / min(written, size))
        if silent * self.granularity_s >= self.window_s:
            return 0.0
        total = self._total
        for number in range(self._last + 1, self._last + silent + 1):
            total -= self._buckets[number % size]
        return _cut(total / min(written, size - silent))

    def silence_s(self, t_s: float) -> float:
        """Time since the last write in whole buckets; without one, for ever."""
        if self._last is None:
            return math.inf
        return (math.floor(t_s / self.granularity_s) - self._last) * self.granularity_s

    def is_empty(self, t_s: float) -> bool:
        """Nothing was written for longer than the window."""
        return self.silence_s(t_s) > self.window_s

    def state(self) -> dict[str, Any]:
        """All there is to remember."""
        return {"buckets": list(self._buckets), "first": self._first, "last": self._last, "total": self._total}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of a window of the same length, else a ScenarioError."""
        if len(state["buckets"]) != len(self._buckets):
            raise ScenarioError(f"state of {len(state['buckets'])} buckets; expected {len(self._buckets)}")
        self._buckets = [float(value) for value in state["buckets"]]
        self._first, self._last, self._total = state["first"], state["last"], float(state["total"])

    def _add(self, number: int, value: float) -> None:
        if number != self._last:
            if self._last is not None and (number - self._last) * self.granularity_s + self.window_s <= 0:
                return
            if self._first is None or number < self._first:
                self._first = number
            if self._last is None or number > self._last:
                self._advance(number)
        self._buckets[number % len(self._buckets)] += value
        self._total += value

    def _advance(self, number: int) -> None:
        """Empty the buckets between the last write and this one; a window of silence begins anew."""
        size = len(self._buckets)
        if self._last is None or (number - self._last) * self.granularity_s >= self.window_s:
            self._first = number
            self._buckets = [0.0] * size
            self._total = 0.0
        else:
            for passed in range(self._last + 1, number + 1):
                self._total -= self._buckets[passed % size]
                self._buckets[passed % size] = 0.0
        self._last = number


class WeightedBuckets(TimedBuckets):
    """The same ring under exponentially falling weights. They do not add up to 1 while the window fills up."""

    def __init__(self, window_s: float, granularity_s: float = SCRAPE_S) -> None:
        super().__init__(window_s, granularity_s)
        self.coefficient = smoothing_coefficient(len(self._buckets))

    def average(self, t_s: float) -> float:
        """Sum over buckets of value * m * (1 - m)^age, the age in buckets from `t_s`."""
        if self._last is None or self.is_empty(t_s):
            return 0.0
        size, keep = len(self._buckets), 1.0 - self.coefficient
        silent = max(0, math.floor(t_s / self.granularity_s) - self._last)
        weight: float = self.coefficient * keep**silent
        total = 0.0
        for age in range(size - silent):
            total += self._buckets[(self._last - age) % size] * weight
            weight *= keep
        return total


def smoothing_coefficient(buckets: float) -> float:
    """Weight of the newest bucket, so that all of them weigh 0.9999 or, in long windows, 0.2."""
    return max(1.0 - math.pow(_OUTSIDE, 1.0 / buckets), _LEAST_WEIGHT)


class SlidingMax:
    """Maximum of what was recorded at the last `size` indices. One index keeps its largest value."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._falling: deque[tuple[int, float]] = deque()  # (index, value), values strictly falling

    def record(self, index: int, value: float) -> None:
        """A value at an index not before the last one."""
        falling = self._falling
        while falling and value >= falling[-1][1]:
            falling.pop()
        while falling and index - falling[0][0] >= self.size:
            falling.popleft()
        if falling and falling[-1][0] == index:
            return
        falling.append((index, value))

    @property
    def current(self) -> float:
        """The maximum; 0 before anything was recorded."""
        return self._falling[0][1] if self._falling else 0.0

    def state(self) -> list[list[float]]:
        """All there is to remember."""
        return [[index, value] for index, value in self._falling]

    def restore(self, state: list[list[float]]) -> None:
        """Go on from a state."""
        self._falling = deque((int(index), value) for index, value in state)


class DelayWindow:
    """Maximum over `window_s` seconds in buckets of a tick: holds a count until it was lower for so long."""

    def __init__(self, window_s: float, granularity_s: float = TICK_S) -> None:
        self.maximum = SlidingMax(math.ceil(window_s / granularity_s))
        self._granularity_s = granularity_s

    def longest(self, t_s: float, value: int) -> int:
        """Record the count; the largest of the window."""
        self.maximum.record(math.floor(t_s / self._granularity_s), value)
        return int(self.maximum.current)


def _cut(value: float) -> float:
    return math.floor(value * _DIGITS) / _DIGITS
