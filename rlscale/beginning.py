"""Where a run begins in a load: the rates before that moment, and the first fleet."""

from __future__ import annotations

import math

import numpy as np

from rlscale.sim import steady
from rlscale.types import Floats, Ints, Load, ScalingLimits

RECENT_S = 600.0
MINUTE_S, HISTORY_MINUTES = 60.0, 60


class Moments:
    """A load as seen from its moments. Environments ask at many of them: every mean is a difference of two sums."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self._sums = np.concatenate([np.zeros(1), np.cumsum(load.rate_per_s)])  # over cells; of single-precision
        # rates, so that sums and differences of a day are exact
        self._minute = max(1, round(MINUTE_S / load.step_s))  # cells

    def history(self, cell: int) -> tuple[Floats, float]:
        """Rates of the hour before a cell, in minutes: of the load itself, before it of the load's own history."""
        older, step_s = self.load.history_per_s, self.load.history_step_s
        if cell == 0:
            return older, step_s
        minutes = min(HISTORY_MINUTES, cell // self._minute)
        own = self._means(cell - minutes * self._minute, cell)
        if len(older) and minutes < HISTORY_MINUTES:
            ages_s = (np.arange(HISTORY_MINUTES - minutes, 0, -1) - 0.5) * MINUTE_S
            at = len(older) - 1 - (ages_s / step_s).astype(np.int64)
            own = np.concatenate([older[np.maximum(at, 0)], own])
        return own if len(own) else np.zeros(1), MINUTE_S

    def first_need_per_s(self, cell: int, lead_s: float) -> float:
        """Mean rate of the busiest minute of the first lead time, or of the last ten minutes, whichever is larger."""
        end = min(len(self._sums) - 1, cell + math.ceil(max(MINUTE_S, lead_s) / self.load.step_s))
        minutes = self._means(cell, end)
        if len(minutes):
            return max(float(minutes.max()), self._recent_per_s(cell))
        short = float(self._sums[end] - self._sums[cell]) / (end - cell) if end > cell else 0.0
        return max(short, self._recent_per_s(cell))

    def _means(self, first: int, end: int) -> Floats:
        """Of every whole minute of the cells from `first` to `end`."""
        edges = self._sums[first : end + 1 : self._minute]
        return (edges[1:] - edges[:-1]) / self._minute

    def _recent_per_s(self, cell: int) -> float:
        """Mean rate of the ten minutes before `cell`; 0 where nothing is known of them."""
        load = self.load
        first = max(0, cell - round(RECENT_S / load.step_s))
        own, seconds = float(self._sums[cell] - self._sums[first]) * load.step_s, (cell - first) * load.step_s
        cells = min(len(load.history_per_s), round((RECENT_S - seconds) / load.history_step_s))
        if cells > 0:
            own += float(load.history_per_s[-cells:].sum()) * load.history_step_s
            seconds += cells * load.history_step_s
        return own / seconds if seconds > 0 else 0.0


def first_fleet(need_per_s: Floats, known: ScalingLimits) -> Ints:
    """(k, P) replicas that carry each rate, (k,): of the cheapest pool, the minimum of the others."""
    counts = np.tile(known.min_replicas, (len(need_per_s), 1))
    counts[:, cheapest(known)] += np.maximum(0, steady.need(need_per_s, known) - known.min_replicas.sum())
    return np.clip(counts, known.min_replicas, known.max_replicas)


def initial_replicas(load: Load, known: ScalingLimits, cell: int = 0) -> tuple[int, ...]:
    """Ready replicas when a run begins at `cell` of a load: the cheapest pool, the minimum of the others.

    They are what the busiest minute of the first lead time (its p95) needs, and the last ten minutes before. Nothing
    that a scaler orders is there before: with less, every scaler would start with the same misses, which say nothing
    about it and hide what does; in an hour of load they were 5 % of all requests.
    """
    need = Moments(load).first_need_per_s(cell, first_lead_s(known))
    return tuple(int(count) for count in first_fleet(np.array([need]), known)[0])


def first_lead_s(known: ScalingLimits) -> float:
    """p95 of the lead time of the pool that the first fleet comes from."""
    return float(known.start_p95_s[cheapest(known)])


def cheapest(known: ScalingLimits) -> int:
    """The pool with the lowest price of capacity."""
    return int(np.argmin(known.usd_per_replica_s / known.capacity_per_s))
