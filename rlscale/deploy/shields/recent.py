"""Numbers of the last so many seconds, as state that JSON can say."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Recent:
    """(time, value) pairs younger than `window_s`. Times never go back."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._kept: deque[tuple[float, float]] = deque()

    def add(self, now_s: float, value: float) -> None:
        """Remember a value."""
        self._kept.append((now_s, value))
        self.forget(now_s)

    def forget(self, now_s: float) -> None:
        """Drop what has become too old."""
        while self._kept and self._kept[0][0] <= now_s - self.window_s:
            self._kept.popleft()

    @property
    def values(self) -> list[float]:
        """What is remembered, oldest first."""
        return [value for _, value in self._kept]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def state(self) -> list[list[float]]:
        """For JSON."""
        return [[at_s, value] for at_s, value in self._kept]

    def restore(self, pairs: Iterable[Iterable[float]]) -> None:
        """What `state` gave."""
        self._kept = deque((float(at_s), float(value)) for at_s, value in pairs)


class Peaks(Recent):
    """The same, without what is neither younger nor larger than another: all that the largest one needs."""

    def add(self, now_s: float, value: float) -> None:
        """Remember a value."""
        while self._kept and self._kept[-1][1] <= value:
            self._kept.pop()
        super().add(now_s, value)
