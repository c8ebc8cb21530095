"""What one engine can do, by a regression on records of its forward passes: NVIDIA Dynamo's newest planner.

After components/src/dynamo/planner/core/perf_model/{base,prefill,decode,agg}.py of ai-dynamo/dynamo at 439d6458 and
518a7027 (Apache-2.0). Times in seconds, targets in milliseconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

LEAST_S = 1e-6
KV_CAP = 1024  # sequences, when the KV capacity is not known

Point = tuple[float, ...]


class MovingAverage:
    """Mean of the last values; zeros before the first other value are skipped."""

    def __init__(self, size: int) -> None:
        self._window: deque[float] = deque(maxlen=size)
        self._seen = False

    def add(self, value: float) -> None:
        """One value."""
        if value != 0 or self._seen:
            self._seen = True
            self._window.append(value)

    @property
    def value(self) -> float:
        """The mean, 0 without values."""
        return sum(self._window) / len(self._window) if self._window else 0.0

    def state(self) -> list[float]:
        """The values."""
        return list(self._window)

    def restore(self, values: list[float]) -> None:
        """Continue from a `state()`."""
        self._window.clear()
        self._window.extend(values)
        self._seen = bool(values)


class Regression:
    """Time of a pass = intercept + slopes · features, by least squares over bucketed samples.

    Each axis is cut into equal buckets over the range seen; beyond `max_samples` the oldest sample of the fullest
    bucket goes, so that a long calm does not push out what a burst has taught. A negative slope (more work, less
    time) rejects the fit. Not ready below `min_observations`.
    """

    def __init__(self, axes: int, max_samples: int = 64, min_observations: int = 5, buckets: int = 16) -> None:
        self.axes, self.max_samples, self.min_observations = axes, max_samples, min_observations
        self.per_axis = buckets if axes == 1 else math.isqrt(buckets)
        self.reset()

    def reset(self) -> None:
        """Forget the samples."""
        self._buckets: dict[tuple[int, ...], deque[tuple[Point, float]]] = {}
        self._range = [(math.inf, -math.inf)] * self.axes
        self._moments = _Moments()
        self._fit: tuple[float, Point] | None = None
        self._stale = True

    def state(self) -> list[list[Any]]:
        """The samples, bucket by bucket."""
        return [[list(x), y] for x, y in self]

    def restore(self, samples: list[list[Any]]) -> None:
        """Continue from a `state()`."""
        self.reset()
        for x, _ in samples:
            self._widen(tuple(x))
        for x, y in samples:
            self._buckets.setdefault(self._key(tuple(x)), deque()).append((tuple(x), y))
            self._moments.move(tuple(x), y, +1)

    def __iter__(self) -> Iterator[tuple[Point, float]]:
        return (sample for bucket in self._buckets.values() for sample in bucket)

    def __len__(self) -> int:
        return self._moments.n

    def add(self, x: Point, wall_s: float) -> None:
        """One pass; a time of 0 is none."""
        if wall_s == 0:
            return
        if self._widen(x) and self._buckets:
            kept = list(self)
            self._buckets = {}
            for sample in kept:
                self._buckets.setdefault(self._key(sample[0]), deque()).append(sample)
        self._buckets.setdefault(self._key(x), deque()).append((x, wall_s))
        self._moments.move(x, wall_s, +1)
        if len(self) > self.max_samples:
            fullest = max(self._buckets, key=lambda key: len(self._buckets[key]))
            self._moments.move(*self._buckets[fullest].popleft(), -1)
        self._stale = True

    @property
    def ready(self) -> bool:
        """There are enough samples and they make a fit."""
        if self._stale:
            self._fit = self._moments.line(self.axes) if len(self) >= self.min_observations else None
            self._stale = False
        return self._fit is not None

    def predict(self, *x: float) -> float:
        """Seconds of a pass; only when `ready`."""
        assert self._fit is not None
        intercept, slopes = self._fit
        return max(LEAST_S, intercept + sum(slope * value for slope, value in zip(slopes, x, strict=True)))

    def _widen(self, x: Point) -> bool:
        before = self._range
        self._range = [(min(low, v), max(high, v)) for (low, high), v in zip(before, x, strict=True)]
        return self._range != before

    def _key(self, x: Point) -> tuple[int, ...]:
        cuts = self.per_axis
        return tuple(
            0 if high <= low else max(0, min(int((v - low) / (high - low) * cuts), cuts - 1))
            for (low, high), v in zip(self._range, x, strict=True)
        )


class _Moments:
    """Sums for a least-squares line over up to two features, kept as samples come and go.

    They are taken from the first sample on: of token counts in the millions the squares would swallow what differs.
    """

    def __init__(self) -> None:
        self.n = 0
        self._origin: Point = (0.0, 0.0, 0.0)
        self._sums = [0.0] * 8  # x, z, y, xx, xz, zz, xy, zy

    def move(self, x: Point, y: float, sign: int) -> None:
        """Add (+1) or take away (-1) a sample."""
        second = x[1] if len(x) > 1 else 0.0
        if self.n == 0:
            self._origin, self._sums = (x[0], second, y), [0.0] * 8
        self.n += sign
        u, v, w = x[0] - self._origin[0], second - self._origin[1], y - self._origin[2]
        terms = (u, v, w, u * u, u * v, v * v, u * w, v * w)
        self._sums = [total + sign * term for total, term in zip(self._sums, terms, strict=True)]

    def line(self, axes: int) -> tuple[float, Point] | None:
        """Intercept and slopes of least norm; None when a slope is negative."""
        x, z, y, xx, xz, zz, xy, zy = (total / self.n for total in self._sums)
        slopes = _two(xx - x * x, xz - x * z, zz - z * z, xy - x * y, zy - z * y)[:axes]
        if any(slope < 0 for slope in slopes):
            return None
        means = (x + self._origin[0], z + self._origin[1])
        return y + self._origin[2] - sum(s * mean for s, mean in zip(slopes, means, strict=False)), slopes


def _two(a: float, b: float, d: float, u: float, v: float) -> Point:
    """The solution of least norm of [[a, b], [b, d]] (s, t) = (u, v), `a` and `d` variances."""
    if a <= 0 or d <= 0:
        return (u / a if a > 0 else 0.0, v / d if d > 0 else 0.0)
    determinant = a * d - b * b
    if determinant <= 1e-9 * a * d:
        return ((a * u + b * v) / (a + d) ** 2, (b * u + d * v) / (a + d) ** 2)
    return ((d * u - b * v) / determinant, (a * v - b * u) / determinant)


class PrefillModel:
    """Engines that only prefill: time = f(prompt tokens of the pass)."""

    def __init__(self, max_samples: int = 64, min_observations: int = 5, buckets: int = 16) -> None:
        self.regression = Regression(1, max_samples, min_observations, buckets)

    def best_rate(self, isl: float, max_batched_tokens: float) -> float:
        """Requests per second of one engine: one over the time of a prompt, chunk by chunk; 0 when not ready."""
        if not self.regression.ready or isl <= 0:
            return 0.0
        chunk = max_batched_tokens if max_batched_tokens > 0 else isl
        whole = math.ceil(isl / chunk) - 1
        return 1.0 / (whole * self.regression.predict(chunk) + self.regression.predict(isl - whole * chunk))


class DecodeModel:
    """Engines that only decode: time = f(KV tokens of the decoding sequences)."""

    def __init__(self, max_samples: int = 64, min_observations: int = 5, buckets: int = 16) -> None:
        self.regression = Regression(1, max_samples, min_observations, buckets)

    def best_rate(
        self, itl_ms: float, context_tokens: float, osl: float, max_kv_tokens: float = 0.0, max_num_seqs: int = 0
    ) -> float:
        """Requests per second of one engine, batch / (OSL · step), at the largest batch whose step meets the ITL; that
        of a single sequence if none does; 0 when not ready."""
        if not self.regression.ready or osl <= 0:
            return 0.0
        most = max(1, int(max_kv_tokens / max(1.0, context_tokens))) if max_kv_tokens > 0 else KV_CAP
        batches = range(min(most, max_num_seqs or most), 1, -1)
        meets = (batch for batch in batches if self.regression.predict(batch * context_tokens) * 1000 <= itl_ms)
        batch = next(meets, 1)
        return batch / (osl * self.regression.predict(batch * context_tokens))


class AggregatedModel:
    """Engines that prefill in chunks beside decoding: time = f(prompt tokens, decoding KV tokens) of a pass."""

    def __init__(self, max_samples: int = 64, min_observations: int = 5, buckets: int = 16) -> None:
        self.regression = Regression(2, max_samples, min_observations, buckets)
        names = ("isl", "decode_tokens", "prefill_tokens")
        self.means = {name: MovingAverage(max_samples) for name in names}
        self._size = max_samples

    def reset(self) -> None:
        """Forget what was learnt."""
        self.regression.reset()
        self.means = {name: MovingAverage(self._size) for name in self.means}

    def state(self) -> dict[str, Any]:
        """Samples and averages, as plain values."""
        return {"samples": self.regression.state(), **{name: mean.state() for name, mean in self.means.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self.regression.restore(state["samples"])
        for name, mean in self.means.items():
            mean.restore(state[name])

    def observe(self, prompts: float, prefill_tokens: float, sequences: float, kv_tokens: float, wall_s: float) -> None:
        """One record of a pass: requests and tokens scheduled for prefill and for decode, and its time."""
        if prompts > 0:
            self.means["isl"].add(prefill_tokens / prompts)
        if sequences > 0:
            self.means["decode_tokens"].add(kv_tokens / sequences)
        self.means["prefill_tokens"].add(prefill_tokens)
        self.regression.add((prefill_tokens, kv_tokens), wall_s)

    def next_ttft_s(self, queued_tokens: float, max_batched_tokens: float, kv_tokens: float) -> float | None:
        """TTFT of a request that comes now: the queue and a mean prompt, chunk by chunk; None when not ready."""
        if not self.regression.ready or max_batched_tokens <= 0:
            return None
        tokens = queued_tokens + self.means["isl"].value
        whole = math.ceil(tokens / max_batched_tokens) - 1 if tokens > 0 else 0
        if tokens <= 0:
            return 0.0
        rest = tokens - whole * max_batched_tokens
        chunk_s = self.regression.predict(max_batched_tokens, kv_tokens)
        return whole * chunk_s + self.regression.predict(rest, kv_tokens)

    def next_itl_s(self, scheduled_kv_tokens: float, queued_kv_tokens: float) -> float | None:
        """ITL once a mean sequence joins; None when not ready."""
        if not self.regression.ready:
            return None
        joined = scheduled_kv_tokens + queued_kv_tokens + self.means["decode_tokens"].value
        return self.regression.predict(self.means["prefill_tokens"].value, joined)

    def best_rate(
        self,
        isl: float,
        osl: float,
        max_batched_tokens: float,
        ttft_ms: float,
        itl_ms: float,
        max_kv_tokens: float = 0.0,
        max_num_seqs: int = 0,
    ) -> float:
        """Requests per second of one engine, batch / (OSL · step), at the largest batch that meets both targets; that
        of a single sequence if none does; 0 when not ready."""
        if not self.regression.ready or min(isl, osl, max_batched_tokens) <= 0:
            return 0.0
        context = isl + osl / 2
        kv_cap = max(1, int(max_kv_tokens / max(1.0, context))) if max_kv_tokens > 0 else KV_CAP
        balance = osl * max_batched_tokens / (isl + osl)  # above it prompts come faster than they are prefilled
        most = max(1, min(kv_cap, max_num_seqs or kv_cap, int(max_batched_tokens) - 1, math.floor(balance)))
        best = 0.0
        for batch in range(1, most + 1):
            prefill = min(batch * isl / max(1.0, osl), max_batched_tokens)
            step_s = self.regression.predict(prefill, batch * context)
            ttft_s = self.next_ttft_s(int(prefill), max_batched_tokens, int(batch * context)) or 0.0
            met = step_s * 1000 <= itl_ms and ttft_s * 1000 <= ttft_ms
            if met or batch == 1:
                best = batch / (osl * step_s)
            if not met:
                break
        return best
