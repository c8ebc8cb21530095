"""Observation history to a float32 vector: one function for training, comparison and deployment.

Scale-free: everything is a ratio to capacity, limit, SLO or interval, so that a policy is not tied to a fleet size.
Works on a batch (leading axis of clusters) and on one observation alike. Nothing of the future, never NaN: a missing
metric keeps its last value and sets a flag.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.types import PENDING_AGES_S, Floats, Observation, ScalingLimits

WINDOWS_S = (60.0, 300.0, 900.0, 3600.0)
HISTORY_S = 3600.0
DAY_S, WEEK_S = 86_400.0, 604_800.0

# (name, unit, lowest, highest); values are clipped to their range.
FEATURES: tuple[tuple[str, str, float, float], ...] = (
    ("load_now", "load / ready capacity", 0.0, 4.0),
    *((f"load_{window:g}s", "mean load of the window / ready capacity", 0.0, 4.0) for window in WINDOWS_S),
    ("load_peak", "largest load of the last hour / ready capacity", 0.0, 4.0),
    ("load_slope", "(mean of 60 s - mean of 900 s) / ready capacity", -2.0, 2.0),
    ("load_noise", "standard deviation of the last 300 s / ready capacity", 0.0, 2.0),
    ("backlog", "waiting requests / (ready capacity x drain_s)", 0.0, 4.0),
    ("compute_occupancy", "share", 0.0, 3.0),
    ("memory_occupancy", "share", 0.0, 1.5),
    ("ttft", "mean TTFT / SLO", 0.0, 4.0),
    ("tpot", "mean TPOT / SLO", 0.0, 4.0),
    ("missed", "share of the window's outcomes outside the SLO", 0.0, 1.0),
    *(
        (f"pending_{edge:g}s", "capacity ordered up to this many seconds ago / ready capacity", 0.0, 2.0)
        for edge in (*PENDING_AGES_S, float("inf"))
    ),
    ("ready", "ready capacity / largest capacity", 0.0, 1.0),
    ("target", "target capacity / largest capacity", 0.0, 1.0),
    ("draining", "draining capacity / largest capacity", 0.0, 1.0),
    ("day_sin", "time of day", -1.0, 1.0),
    ("day_cos", "time of day", -1.0, 1.0),
    ("week_sin", "time of week", -1.0, 1.0),
    ("week_cos", "time of week", -1.0, 1.0),
    ("age", "age of the newest metric / control interval", 0.0, 8.0),
    ("missing", "1 when the last scrape failed", 0.0, 1.0),
    ("lead_median", "median lead time / 600 s", 0.0, 3.0),
    ("lead_p95", "p95 of the lead time / 600 s", 0.0, 3.0),
)
NAMES = tuple(name for name, *_ in FEATURES)
LOWEST = np.array([low for *_, low, _ in FEATURES], dtype=np.float32)
HIGHEST = np.array([high for *_, high in FEATURES], dtype=np.float32)
Matrix = NDArray[np.float32]


class FeatureExtractor:
    """Keeps an hour of rates per cluster and turns observations into features."""

    def __init__(self, known: ScalingLimits, interval_s: float, rows: int = 1) -> None:
        self.known, self.interval_s, self.rows = known, interval_s, rows
        self._length = max(4, round(HISTORY_S / interval_s))
        self._rates = np.zeros((rows, self._length))  # ring, oldest at `_next`
        self._next = 0
        self._last = np.zeros((rows, 7))

    def reset(self, rows: Any, history_per_s: Floats, history_step_s: float) -> None:
        """Begin the given rows anew, with the load history (the same for all of them)."""
        self._rates[rows] = np.roll(self._past(history_per_s, history_step_s), self._next)
        self._last[rows] = 0.0

    def push(self, seen: Observation) -> Matrix:
        """(rows, features) after this observation."""
        self._next = (self._next + 1) % self._length
        return self._vector(seen, slice(None))

    def first(self, seen: Observation, rows: Any) -> Matrix:
        """Features of rows that have just begun anew, while the others stand where they are."""
        vector: Matrix = self._vector(seen, rows)[rows]
        return vector

    def _vector(self, seen: Observation, rows: Any) -> Matrix:
        known = self.known
        capacity = known.capacity_per_s
        metrics, missing = self._metrics(seen)
        rate, waiting, compute, memory, ttft, tpot, missed = metrics.T
        self._rates[rows, self._next - 1] = rate[rows]
        ready = np.maximum(_pools(seen.ready) @ capacity, capacity.min())
        largest = float(known.max_replicas @ capacity)
        means = [self._recent(window).mean(axis=1) for window in WINDOWS_S]
        pending = np.einsum("npa,p->na", _pools(seen.pending_by_age, 3), capacity) / ready[:, None]
        slo = known.slo
        columns = [
            rate / ready,
            *(mean / ready for mean in means),
            self._rates.max(axis=1) / ready,
            (means[0] - means[2]) / ready,
            self._recent(300.0).std(axis=1) / ready,
            waiting / (ready * known.drain_s),
            compute,
            memory,
            ttft / slo.ttft_s,
            tpot / slo.tpot_s,
            missed,
            *pending.T,
            _pools(seen.ready) @ capacity / largest,
            _pools(seen.target) @ capacity / largest,
            _pools(seen.draining) @ capacity / largest,
            *_clock(np.atleast_1d(seen.week_s), DAY_S),
            *_clock(np.atleast_1d(seen.week_s), WEEK_S),
            np.atleast_1d(seen.age_s) / self.interval_s,
            missing,
            np.full(self.rows, known.start_median_s.max() / 600.0),
            np.full(self.rows, known.start_p95_s.max() / 600.0),
        ]
        return np.asarray(np.clip(np.stack(columns, axis=1), LOWEST, HIGHEST), dtype=np.float32)

    def _metrics(self, seen: Observation) -> tuple[Floats, Floats]:
        """(rows, 7) scraped metrics with the last good value in place of NaN, and the flag."""
        weight = self.known.capacity_per_s / self.known.capacity_per_s.sum()
        now = np.stack(
            [
                np.atleast_1d(seen.arrival_per_s),
                np.atleast_1d(seen.waiting),
                _pools(seen.compute_occupancy) @ weight,
                _pools(seen.memory_occupancy) @ weight,
                np.atleast_1d(seen.ttft_s),
                np.atleast_1d(seen.tpot_s),
                1.0 - np.atleast_1d(seen.attainment),
            ],
            axis=1,
        )
        good = np.isfinite(now)
        self._last = np.where(good, now, self._last)
        return self._last, (~good[:, 0]).astype(np.float64)

    def _recent(self, window_s: float) -> Floats:
        count = min(self._length, max(1, round(window_s / self.interval_s)))
        index = (self._next - 1 - np.arange(count)) % self._length
        return self._rates[:, index]

    def _past(self, history_per_s: Floats, history_step_s: float) -> Floats:
        """The last hour of the history in control intervals, oldest first; zeros where there is none."""
        if len(history_per_s) == 0:
            return np.zeros(self._length)
        ages = (np.arange(self._length)[::-1] + 0.5) * self.interval_s
        cell = len(history_per_s) - 1 - (ages / history_step_s).astype(np.int64)
        return np.where(cell >= 0, history_per_s[np.maximum(cell, 0)], history_per_s.mean())


def _pools(values: Any, dimensions: int = 2) -> Floats:
    """A per-pool field with its leading axis of clusters."""
    array = np.asarray(values, dtype=np.float64)
    return array if array.ndim == dimensions else array[None]


def _clock(week_s: Floats, period_s: float) -> tuple[Floats, Floats]:
    angle = 2.0 * np.pi * np.mod(week_s, period_s) / period_s
    return np.sin(angle), np.cos(angle)
