"""How long ago what is pending was ordered: control planes count pending replicas, they do not date the orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlscale.types import PENDING_AGES_S, Floats


class Orders:
    """The times of the pending replicas of every pool, oldest first, kept from one count to the next.

    More pending than were ordered here: somebody else has ordered them, now. Fewer: the oldest have become ready.
    """

    def __init__(self, pools: int) -> None:
        self._times: list[list[float]] = [[] for _ in range(pools)]

    def by_age(self, t_s: float, pending: Sequence[int]) -> Floats:
        """(P, classes) pending replicas by the age classes of `PENDING_AGES_S`, after noting how many there are."""
        table = np.zeros((len(self._times), len(PENDING_AGES_S) + 1))
        for pool, (times, count) in enumerate(zip(self._times, pending, strict=True)):
            del times[: max(0, len(times) - count)]
            times.extend([t_s] * (count - len(times)))
            for ordered_s in times:
                table[pool, np.searchsorted(PENDING_AGES_S, t_s - ordered_s, side="right")] += 1.0
        return table

    def placed(self, t_s: float, more: Sequence[int]) -> None:
        """So many more replicas of every pool are wanted from now on; fewer, below 0, cancel the newest orders."""
        for times, count in zip(self._times, more, strict=True):
            times.extend([t_s] * max(0, count))
            del times[max(0, len(times) + min(0, count)) :]

    def state(self) -> list[list[float]]:
        """To be kept over a restart."""
        return [list(times) for times in self._times]

    def restore(self, state: Any) -> None:
        """As it was; a state of another number of pools is of another cluster and is left alone."""
        if isinstance(state, list) and len(state) == len(self._times):
            self._times = [[float(time) for time in times] for times in state]
