"""Where a run begins in a load: the rates before that moment, and the first fleet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rlscale.sim import steady
from rlscale.sim.luck import kernel
from rlscale.types import Floats, Ints, Load, ScalingLimits

RECENT_S = 600.0
MINUTE_S, HISTORY_MINUTES = 60.0, 60


class Beginnings:
    """Loads of the same cell length as seen from any of their moments.

    Every mean is a difference of two cumulative sums; rates are of single precision, so the sums of a day are exact.
    """

    def __init__(self, loads: Sequence[Load], known: ScalingLimits) -> None:
        self.known, self._cheapest = known, np.array(known.cheapest)
        self._least = np.array([known.min_replicas[list(side)].sum() for side in known.sides])
        self._cells = np.array([len(load.values) for load in loads])
        self._sums = np.zeros((len(loads), int(self._cells.max()) + 1))
        self._older = np.full((len(loads), HISTORY_MINUTES), np.nan)
        for load, sums, older in zip(loads, self._sums, self._older, strict=True):
            np.cumsum(load.rate_per_s, out=sums[1 : 1 + len(load.values)])
            if len(load.history_per_s):
                ages_s = (np.arange(HISTORY_MINUTES, 0, -1) - 0.5) * MINUTE_S
                at = len(load.history_per_s) - 1 - (ages_s / load.history_step_s).astype(np.int64)
                older[at >= 0] = load.history_per_s[at[at >= 0]]
        step_s = loads[0].step_s
        lead_s = max(MINUTE_S, float(known.start_p95_s[self._cheapest].max()))
        self._widths = max(1, round(MINUTE_S / step_s)), math.ceil(lead_s / step_s), round(RECENT_S / step_s)

    def at(self, which: Ints, cells: Ints) -> tuple[Ints, Floats]:
        """(k, P) first fleets and (k, HISTORY_MINUTES) rates before, oldest first, NaN where nothing is known.

        The fleet: see `initial_replicas`. The rates: of the load itself, before it of the load's own history.
        """
        known = self.known
        fleets = np.empty((len(which), len(known.min_replicas)), np.int64)
        minutes = np.empty((len(which), HISTORY_MINUTES))
        _look_around(which, cells, self._cells, self._sums, self._older, *self._widths, self._cheapest,
                     self._least, known.min_replicas, known.max_replicas, known.capacity_per_s, fleets,
                     minutes)  # fmt: skip
        return fleets, minutes


def initial_replicas(load: Load, known: ScalingLimits, cell: int = 0) -> tuple[int, ...]:
    """Ready replicas when a run begins at `cell` of a load: the cheapest pool, of prefill and of decode where they are
    apart, the minimum of the others.

    They are what the busiest minute of the first lead time (its p95) needs, and the last ten minutes before. Nothing
    that a scaler orders is there before: with less, every scaler would start with the same misses, which say nothing
    about it and hide what does; in an hour of load they were 5 % of all requests.
    """
    fleets, _ = Beginnings([load], known).at(np.zeros(1, np.int64), np.array([cell]))
    return tuple(int(count) for count in fleets[0])


_replicas = kernel(steady.replicas)


@kernel
def _look_around(
    which: Ints, cells: Ints, lengths: Ints, sums: Floats, older: Floats, minute: int, lead: int, recent: int,
    cheapest: Ints, sums_least: Ints, least: Ints, most: Ints, each_per_s: Floats, fleets: Ints, minutes: Floats,
) -> None:  # fmt: skip
    """What `Beginnings.at` gives, row by row."""
    count = minutes.shape[1]
    for i in range(which.shape[0]):
        k, cell = which[i], cells[i]
        end = min(lengths[k], cell + lead)

        # The busiest minute of the first lead time; a shorter rest of the load counts as a minute.
        largest = 0.0
        if cell < end < cell + minute:
            largest = (sums[k, end] - sums[k, cell]) / (end - cell)
        for j in range(cell + minute, end + 1, minute):
            largest = max(largest, (sums[k, j] - sums[k, j - minute]) / minute)

        # The last ten minutes: of the load as far as it goes back, of its history before.
        own = min(cell, recent)
        total, weight = sums[k, cell] - sums[k, cell - own], float(own)
        for j in range(count - round((recent - own) / minute), count):
            if math.isfinite(older[k, j]):
                total += older[k, j] * minute
                weight += minute
        largest = max(largest, total / weight if weight > 0.0 else 0.0)
        for p in range(least.shape[0]):
            fleets[i, p] = least[p]
        for s in range(cheapest.shape[0]):
            p = cheapest[s]
            extra = int(_replicas(largest, each_per_s[p], sums_least[s])) - sums_least[s]
            fleets[i, p] = min(least[p] + extra, most[p])

        # Minute by minute.
        known = min(count, cell // minute)
        for j in range(count - known):
            minutes[i, j] = older[k, j + known]
        for j in range(count - known, count):
            last = cell - (count - 1 - j) * minute
            minutes[i, j] = (sums[k, last] - sums[k, last - minute]) / minute
