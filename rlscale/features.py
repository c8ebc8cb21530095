"""Observation history to a float32 vector: one function for training, comparison and deployment.

Scale-free: everything is a ratio to capacity, limit, SLO or interval, so that a policy is not tied to a fleet size.
Works on a batch (leading axis of clusters) and on one observation alike: a row is a scalar function of its own state.
Nothing of the future, never NaN: a missing metric keeps its last value and sets a flag.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.sides import busier, carried, largest_per_s
from rlscale.sim.luck import kernel
from rlscale.turns import circle
from rlscale.types import DAY_S, PENDING_AGES_S, WEEK_S, Floats, Ints, Observation, ScalingLimits

WINDOWS_S = (60.0, 300.0, 900.0, 3600.0)
HISTORY_S, LEAD_UNIT_S, CARBON_UNIT = 3600.0, 600.0, 500.0

# (name, unit, lowest, highest); values are clipped to their range. New ones go to the end: a policy takes as many from
# the front as it was trained with.
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
    ("standby", "capacity in standby / ready capacity", 0.0, 2.0),
    ("carbon_least", "intensity of the cleanest pool now / 500 g per kWh", 0.0, 4.0),
    ("carbon_spread", "(dirtiest - cleanest pool) / 500 g per kWh", 0.0, 4.0),
    ("work_waiting", "deferrable tokens waiting / what the largest fleet does of them in an hour", 0.0, 4.0),
    ("work_urgent", "those of them due within an hour, over the same", 0.0, 4.0),
)
NAMES = tuple(name for name, *_ in FEATURES)
LOWEST = np.array([low for *_, low, _ in FEATURES], dtype=np.float32)
HIGHEST = np.array([high for *_, high in FEATURES], dtype=np.float32)
METRICS = 7  # scraped metrics, those that may be missing: see the beginning of `_push`
Matrix = NDArray[np.float32]


class FeatureExtractor:
    """Keeps an hour of rates per cluster and turns observations into features."""

    def __init__(self, known: ScalingLimits, interval_s: float, rows: int = 1) -> None:
        self.known, self.interval_s, self.rows = known, interval_s, rows
        length = max(4, round(HISTORY_S / interval_s))
        self._all = np.arange(rows)
        self._windows = np.array([min(length, max(1, round(window / interval_s))) for window in WINDOWS_S])
        self._capacity = _floats(known.capacity_per_s)
        self._back = np.isin(np.arange(len(self._capacity)), known.sides[1]) if known.roles else np.zeros(0, np.bool_)
        constants = (known.capacity_per_s.min(), largest_per_s(known), known.drain_s,
                     known.slo.ttft_s, known.slo.tpot_s, interval_s, known.start_median_s.max(),
                     known.start_p95_s.max(), _work_per_h(known))  # fmt: skip
        self._constants = tuple(float(value) for value in constants)
        self._state = (
            np.zeros(rows, np.int64),  # where the next rate goes
            np.zeros((rows, length, 2)),  # the ring: a rate, and the largest of the previous turn's behind its place
            np.zeros((rows, self._windows[1])),  # the newest rates once more, oldest first: they are read every time
            np.zeros((rows, len(WINDOWS_S) + 1)),  # sums of the windows; the largest rate of this turn
            np.zeros((rows, METRICS)),  # last good metrics
        )

    def reset(self, rows: Any, history_per_s: Floats, history_step_s: float) -> None:
        """Begin the given rows anew, with the load history: one for all of them, (cells,), or one each, (k, cells).

        Cells of `history_step_s` seconds, oldest first; NaN, and what is too long ago, counts as the mean of the rest.
        """
        chosen = np.atleast_1d(self._all[rows])
        past = _floats(history_per_s, 2)
        _begin(chosen, past, float(history_step_s), self.interval_s, self._windows, *self._state)

    def push(self, seen: Observation) -> Matrix:
        """(rows, features) after this observation."""
        return self._vector(seen, self._all)

    def first(self, seen: Observation, rows: Ints) -> Matrix:
        """Features of rows that have just begun anew, while the others stand where they are."""
        return self._vector(seen, rows)

    def state(self) -> list[list[Any]]:
        """What was kept of earlier observations, as lists that JSON can say."""
        return [array.tolist() for array in self._state]

    def restore(self, state: list[list[Any]]) -> None:
        """What `state` gave; ValueError when it is of another interval or number of clusters."""
        for array, values in zip(self._state, state, strict=True):
            array[...] = np.asarray(values, array.dtype).reshape(array.shape)

    def _vector(self, seen: Observation, rows: Ints) -> Matrix:
        out = np.empty((len(rows), len(FEATURES)), np.float32)
        _push(
            rows, _floats(seen.arrival_per_s), _floats(seen.waiting), _floats(seen.ttft_s), _floats(seen.tpot_s),
            _floats(seen.attainment), _floats(seen.week_s), _floats(seen.age_s), _floats(seen.compute_occupancy, 2),
            _floats(seen.memory_occupancy, 2), _floats(seen.ready, 2), _floats(seen.target, 2),
            _floats(seen.draining, 2), _floats(seen.pending_by_age, 3),
            self._per_pool(seen.standby), self._per_pool(seen.carbon_g_per_kwh), self._per_row(seen.work_waiting),
            self._per_row(seen.work_urgent), self._per_row(seen.decode_waiting), self._capacity, self._back,
            self._constants, self._windows, _LOW, _HIGH,
            *self._state, out,
        )  # fmt: skip
        return out

    def _per_pool(self, value: Any) -> Floats:
        """A field that an observation may leave at its default, (rows, P)."""
        return np.ascontiguousarray(np.broadcast_to(np.asarray(value, np.float64), (self.rows, len(self._capacity))))

    def _per_row(self, value: Any) -> Floats:
        return np.ascontiguousarray(np.broadcast_to(np.asarray(value, np.float64), (self.rows,)))


def _work_per_h(known: ScalingLimits) -> float:
    """Deferrable tokens that the largest fleet does in an hour when it has nothing else to do."""
    each_per_s = known.work_tokens_per_s[: len(known.max_replicas)]
    return max(1.0, 3600.0 * float(known.max_replicas @ each_per_s))


_LOW, _HIGH = LOWEST.astype(np.float64), HIGHEST.astype(np.float64)


def _floats(values: Any, dimensions: int = 1) -> Floats:
    """A field as the kernel takes it: contiguous doubles with a leading axis of clusters."""
    array = np.ascontiguousarray(values, np.float64)
    return array if array.ndim == dimensions else array.reshape(1, *array.shape)


@kernel
def _push(
    rows: Ints, arrival: Floats, waiting: Floats, ttft: Floats, tpot: Floats, attainment: Floats, week_s: Floats,
    age_s: Floats, compute: Floats, memory: Floats, ready: Floats, target: Floats, draining: Floats,
    pending_by_age: Floats, standby: Floats, carbon: Floats, work_waiting: Floats, work_urgent: Floats,
    decode_waiting: Floats, capacity: Floats, back: NDArray[np.bool_], constants: tuple[float, ...], windows: Ints,
    low: Floats, high: Floats,
    place: Ints, ring: Floats, recent: Floats, sums: Floats, last: Floats, out: Matrix,
) -> None:  # fmt: skip
    """Take in one observation of the given rows; (len(rows), features) into `out`."""
    least, largest, drain_s, slo_ttft_s, slo_tpot_s, interval_s, median_s, p95_s, work_per_h = constants
    pools, ages, length, count = capacity.shape[0], pending_by_age.shape[2], ring.shape[1], windows.shape[0]
    short = recent.shape[1]
    total = 0.0
    for p in range(pools):
        total += capacity[p]
    apart = back.shape[0] > 0

    # Rates into the rings. Sums of the windows run along and are made anew at every turn of the ring, so that they
    # never drift; the largest rate is the larger of this turn's and of what is left of the previous one. The rings are
    # scattered in memory: a short loop of its own fetches many of them at a time.
    peak = np.empty(rows.shape[0])
    for i in range(rows.shape[0]):
        r = rows[i]
        at = place[r]
        rate = arrival[r] if 0.0 <= arrival[r] < math.inf else last[r, 0]
        sums[r, 0] += rate - recent[r, short - windows[0]]
        sums[r, 1] += rate - recent[r, 0]
        for w in range(2, count):
            oldest = at - windows[w]
            sums[r, w] += rate - ring[r, oldest if oldest >= 0 else oldest + length, 0]
        for k in range(1, short):
            recent[r, k - 1] = recent[r, k]
        recent[r, short - 1] = rate
        ring[r, at, 0] = rate
        sums[r, count] = rate if at == 0 else max(sums[r, count], rate)
        peak[i] = max(sums[r, count], ring[r, at, 1])
        place[r] = at + 1
        if at + 1 == length:
            _turn(r, windows, place, ring, sums)

    new = np.empty(METRICS)
    row = np.empty(low.shape[0])
    for i in range(rows.shape[0]):
        r = rows[i]

        # Fleet and metrics of all pools, weighted by capacity. What is missing or cannot be keeps its last value.
        ready_per_s = target_per_s = draining_per_s = occupied = resident = 0.0
        for p in range(pools):
            ready_per_s += ready[r, p] * capacity[p]
            target_per_s += target[r, p] * capacity[p]
            draining_per_s += draining[r, p] * capacity[p]
            occupied += compute[r, p] * capacity[p]
            resident += memory[r, p] * capacity[p]
        new[0] = arrival[r]
        new[1] = waiting[r]
        new[2] = occupied / total
        new[3] = resident / total
        if apart:  # what the service carries is what its weaker side does
            ready_per_s = carried(ready[r], capacity, back)
            target_per_s = carried(target[r], capacity, back)
            draining_per_s *= 0.5
            new[1] = max(waiting[r], decode_waiting[r])
            new[2] = busier(compute[r], capacity, back)
            new[3] = busier(memory[r], capacity, back)
        new[4] = ttft[r]
        new[5] = tpot[r]
        new[6] = 1.0 - attainment[r]
        for k in range(METRICS):
            if 0.0 <= new[k] < math.inf:
                last[r, k] = new[k]

        # Load over ready capacity: now, means, peak, slope, noise.
        share = 1.0 / max(ready_per_s, least)
        row[0] = last[r, 0] * share
        for w in range(count):
            row[1 + w] = sums[r, w] / windows[w] * share
        mean = sums[r, 1] / short
        square = 0.0
        for k in range(short):
            square += (recent[r, k] - mean) ** 2
        j = 1 + count
        row[j] = peak[i] * share
        row[j + 1] = row[1] - row[3]
        row[j + 2] = math.sqrt(square / short) * share

        # Queue, occupancy, latency, misses.
        row[j + 3] = last[r, 1] * share / drain_s
        row[j + 4] = last[r, 2]
        row[j + 5] = last[r, 3]
        row[j + 6] = last[r, 4] / slo_ttft_s
        row[j + 7] = last[r, 5] / slo_tpot_s
        row[j + 8] = last[r, 6]

        # What has been ordered, by its age; the fleet against the largest possible one.
        j += 9
        for k in range(ages):
            ordered = 0.0
            for p in range(pools):
                ordered += pending_by_age[r, p, k] * capacity[p]
            row[j + k] = ordered * share * (0.5 if apart else 1.0)
        j += ages
        row[j] = ready_per_s / largest
        row[j + 1] = target_per_s / largest
        row[j + 2] = draining_per_s / largest

        # Time, and how old and how complete all this is.
        row[j + 3], row[j + 4] = circle(week_s[r] / DAY_S)
        row[j + 5], row[j + 6] = circle(week_s[r] / WEEK_S)
        row[j + 7] = age_s[r] / interval_s
        row[j + 8] = 0.0 if 0.0 <= new[0] < math.inf else 1.0
        row[j + 9] = median_s / LEAD_UNIT_S
        row[j + 10] = p95_s / LEAD_UNIT_S

        # Standby, electricity, deferrable work.
        asleep_per_s, cleanest, dirtiest = 0.0, carbon[r, 0], carbon[r, 0]
        for p in range(pools):
            asleep_per_s += standby[r, p] * capacity[p]
            cleanest = min(cleanest, carbon[r, p])
            dirtiest = max(dirtiest, carbon[r, p])
        row[j + 11] = asleep_per_s * share * (0.5 if apart else 1.0)
        row[j + 12] = cleanest / CARBON_UNIT
        row[j + 13] = (dirtiest - cleanest) / CARBON_UNIT
        row[j + 14] = work_waiting[r] / work_per_h
        row[j + 15] = work_urgent[r] / work_per_h
        for k in range(low.shape[0]):
            value = row[k] if row[k] > low[k] else low[k]
            out[i, k] = value if value < high[k] else high[k]


@kernel
def _begin(
    rows: Ints, history: Floats, step_s: float, interval_s: float, windows: Ints,
    place: Ints, ring: Floats, recent: Floats, sums: Floats, last: Floats,
) -> None:  # fmt: skip
    """Fill the ring with the last hour of the history, in control intervals; zeros where there is none."""
    cells, length, short = history.shape[1], ring.shape[1], recent.shape[1]
    for i in range(rows.shape[0]):
        r, own = rows[i], history[min(i, history.shape[0] - 1)]
        known, total = 0, 0.0
        for cell in range(cells):
            if math.isfinite(own[cell]):
                known += 1
                total += own[cell]
        mean = total / known if known > 0 else 0.0
        for k in range(length):
            cell = cells - 1 - int((length - k - 0.5) * interval_s / step_s)
            ring[r, k, 0] = own[cell] if cell >= 0 and math.isfinite(own[cell]) else mean
        for k in range(short):
            recent[r, k] = ring[r, length - short + k, 0]
        last[r, :] = 0.0
        _turn(r, windows, place, ring, sums)


@kernel
def _turn(r: int, windows: Ints, place: Ints, ring: Floats, sums: Floats) -> None:
    """The ring is full: begin at its front again."""
    length = ring.shape[1]
    largest = 0.0
    for k in range(length - 1, -1, -1):
        ring[r, k, 1] = largest
        largest = max(largest, ring[r, k, 0])
    for w in range(windows.shape[0]):
        total = 0.0
        for k in range(length - windows[w], length):
            total += ring[r, k, 0]
        sums[r, w] = total
    place[r] = 0
