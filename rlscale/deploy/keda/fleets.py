"""Where the number of replicas comes from, as KEDA does not tell it: a count by metrics, or a guess."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from rlscale.deploy.base import BackendError, Fleet, MetricsError

ReadFleet = Callable[[], Fleet]


class AssumedFleet:
    """The fleet if every order were carried out: replicas are pending for `delay_s` after their order, then ready;
    those ordered away are gone at once."""

    def __init__(self, replicas: Sequence[int], delay_s: float, steady_s: Callable[[], float]) -> None:
        self._ready = tuple(replicas)
        self._delay_s, self._steady_s = delay_s, steady_s
        self._orders: deque[tuple[float, tuple[int, ...]]] = deque()  # not yet ready, oldest first

    def note(self, target: tuple[int, ...]) -> None:
        """An order was given now."""
        self._pass()
        self._ready = tuple(map(min, self._ready, target))
        # What a later order takes away again never becomes ready.
        self._orders = deque((at_s, tuple(map(min, wanted, target))) for at_s, wanted in self._orders)
        if not self._orders or self._orders[-1][1] != target:
            self._orders.append((self._steady_s(), target))

    def __call__(self) -> Fleet:
        self._pass()
        target = self._orders[-1][1] if self._orders else self._ready
        pending = tuple(wanted - ready for wanted, ready in zip(target, self._ready, strict=True))
        return Fleet(self._ready, pending, target)

    def _pass(self) -> None:
        while self._orders and self._orders[0][0] + self._delay_s <= self._steady_s():
            self._ready = self._orders.popleft()[1]


class CountedFleet:
    """A fleet by a query per pool for its ready replicas; `count` runs one and gives NaN for an empty answer.

    What the last order asks for beyond the ready ones is pending; before the first one, nothing is.
    """

    def __init__(
        self, count: Callable[[str], float], queries: Sequence[str], close: Callable[[], None] = lambda: None
    ) -> None:
        self._count, self._queries, self.close = count, tuple(queries), close
        self._wanted: tuple[int, ...] | None = None

    def note(self, target: tuple[int, ...]) -> None:
        """An order was given now."""
        self._wanted = target

    def __call__(self) -> Fleet:
        ready = tuple(_whole(self._count, query) for query in self._queries)
        wanted = self._wanted or ready
        pending = tuple(max(0, want - have) for want, have in zip(wanted, ready, strict=True))
        return Fleet(ready, pending, wanted)


def _whole(count: Callable[[str], float], query: str) -> int:
    try:
        value = count(query)
    except MetricsError as error:
        raise BackendError(f"the number of ready replicas is not known: {error}") from None
    if not math.isfinite(value) or value < 0 or value != round(value):
        # An empty answer is not zero replicas: the exporter may be gone instead.
        raise BackendError(f"query {query!r} says {value:g} ready replicas; expected a whole number, or `or vector(0)`")
    return int(value)
