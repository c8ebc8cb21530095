"""Decaying histograms of usage and their percentiles, as the recommender of the Vertical Pod Autoscaler keeps them.

After vertical-pod-autoscaler/pkg/recommender of kubernetes/autoscaler at 55c37cd5eb55 (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rlscale.errors import ScenarioError

CPU_FIRST, MEMORY_FIRST = 0.01, 1e7  # size of the first bucket: cores, bytes
RATIO = 1.05  # size of a bucket over the one before
HALF_LIFE_S = 86_400.0
TARGET, LOWER, UPPER = 0.9, 0.5, 0.95  # percentiles of the recommendation and of its bounds
MARGIN = 0.15  # added to every percentile
MIN_SAMPLE_WEIGHT = 0.1
EPSILON = 0.001 * MIN_SAMPLE_WEIGHT  # a bucket with less weight is empty
MAX_EXPONENT = 100  # half-lives after the reference before all weights are rescaled
MINUTES_PER_DAY = 1440


class Buckets(Protocol):
    """Where the buckets of a histogram lie."""

    @property
    def count(self) -> int:
        """Number of buckets; the last one has no end."""
        ...

    def find(self, value: float) -> int:
        """The bucket of a value; what lies outside goes to the first or last."""
        ...

    def start(self, bucket: int) -> float:
        """The smallest value of a bucket."""
        ...


@dataclass(frozen=True, slots=True)
class Linear:
    """Buckets of one size up to `most`."""

    most: float
    size: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.most) and self.most > 0 and 0 < self.size < math.inf):
            raise ScenarioError(f"buckets: most = {self.most}, size = {self.size}; expected numbers above 0")

    @property
    def count(self) -> int:
        """Number of buckets."""
        return math.ceil(self.most / self.size) + 1

    def find(self, value: float) -> int:
        """The bucket of a value."""
        if value < self.size:
            return 0
        if value / self.size >= self.count - 1:
            return self.count - 1
        return int(value / self.size)

    def start(self, bucket: int) -> float:
        """The smallest value of a bucket."""
        return bucket * self.size


@dataclass(frozen=True, slots=True)
class Exponential:
    """Buckets that grow by `ratio`; bucket n starts at first*(ratio^n - 1)/(ratio - 1)."""

    most: float
    first: float = CPU_FIRST
    ratio: float = RATIO

    def __post_init__(self) -> None:
        if not (math.isfinite(self.most) and self.most > 0 and 0 < self.first < math.inf and 1 < self.ratio < math.inf):
            what = f"most = {self.most}, first = {self.first}, ratio = {self.ratio}"
            raise ScenarioError(f"buckets: {what}; expected numbers above 0, the ratio above 1")

    @property
    def count(self) -> int:
        """Number of buckets."""
        return math.ceil(self._steps(self.most)) + 1

    def find(self, value: float) -> int:
        """The bucket of a value."""
        if value < self.first:
            return 0
        return int(min(self._steps(value), self.count - 1))

    def start(self, bucket: int) -> float:
        """The smallest value of a bucket."""
        return self.first * (self.ratio**bucket - 1.0) / (self.ratio - 1.0)

    def _steps(self, value: float) -> float:
        return math.log(value * (self.ratio - 1.0) / self.first + 1.0) / math.log(self.ratio)


class Histogram:
    """Weights per bucket. Buckets with a weight below `epsilon` at either end count as empty."""

    def __init__(self, buckets: Buckets, epsilon: float = EPSILON) -> None:
        self.buckets = buckets
        self.epsilon = epsilon
        self._weights = [0.0] * buckets.count
        self._total = 0.0
        self._low, self._high = len(self._weights) - 1, 0  # first and last bucket that is not empty

    @property
    def empty(self) -> bool:
        """No sample has any weight."""
        return self._weights[self._low] < self.epsilon

    def add(self, value: float, weight: float = 1.0) -> None:
        """Count a sample. ScenarioError for a weight below 0 and for NaN."""
        if not (weight >= 0 and math.isfinite(weight)) or math.isnan(value):
            raise ScenarioError(f"sample {value} of weight {weight}; expected a number and a weight of at least 0")
        bucket = self.buckets.find(value)
        self._weights[bucket] += weight
        self._total += weight
        if self._weights[bucket] >= self.epsilon:
            self._low, self._high = min(self._low, bucket), max(self._high, bucket)

    def percentile(self, share: float) -> float:
        """The end of the bucket that holds the percentile, `share` 0 to 1; of the last bucket, its start. Empty: 0."""
        if self.empty:
            return 0.0
        wanted, below, bucket = share * self._total, 0.0, self._low
        while bucket < self._high:
            below += self._weights[bucket]
            if below >= wanted:
                break
            bucket += 1
        return self.buckets.start(min(bucket + 1, len(self._weights) - 1))

    def scale(self, factor: float) -> None:
        """Multiply all weights."""
        self._weights = [weight * factor for weight in self._weights]
        self._total *= factor
        last = len(self._weights) - 1
        while self._weights[self._low] < self.epsilon and self._low < last:
            self._low += 1
        while self._weights[self._high] < self.epsilon and self._high > 0:
            self._high -= 1

    def state(self) -> dict[str, Any]:
        """All it knows, as JSON can hold it: weights by bucket and their sum."""
        weights = {str(bucket): weight for bucket, weight in enumerate(self._weights) if weight}
        return {"weights": weights, "total": self._total, "ends": [self._low, self._high]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said; the buckets must be the same."""
        self._weights = [float(state["weights"].get(str(bucket), 0.0)) for bucket in range(len(self._weights))]
        self._total = float(state["total"])
        self._low, self._high = (int(bucket) for bucket in state["ends"])


class Decaying:
    """A histogram in which a sample counts twice as much as one that is a half-life older.

    Newer samples get larger weights, 2^((t - reference)/half-life), so that old ones need no change. When the exponent
    passes 100, the reference moves to a whole number of half-lives and all weights are rescaled.
    """

    def __init__(self, buckets: Buckets, half_life_s: float = HALF_LIFE_S, epsilon: float = EPSILON) -> None:
        if not (half_life_s > 0 and math.isfinite(half_life_s)):
            raise ScenarioError(f"histogram: half_life_s = {half_life_s}; expected a number above 0")
        self.half_life_s = half_life_s
        self.histogram = Histogram(buckets, epsilon)
        self.reference_s = 0.0

    def add(self, value: float, t_s: float, weight: float = 1.0) -> None:
        """Count a sample taken at `t_s`; older ones than the last are welcome."""
        if t_s > self.reference_s + MAX_EXPONENT * self.half_life_s:
            self._move_reference(t_s)
        self.histogram.add(value, weight * 2.0 ** ((t_s - self.reference_s) / self.half_life_s))

    def percentile(self, share: float) -> float:
        """As the histogram's; time alone changes no percentile."""
        return self.histogram.percentile(share)

    def state(self) -> dict[str, Any]:
        """All it knows, as JSON can hold it."""
        return {"reference_s": self.reference_s, **self.histogram.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        self.reference_s = float(state["reference_s"])
        self.histogram.restore(state)

    def _move_reference(self, t_s: float) -> None:
        halves = math.floor(t_s / self.half_life_s + 0.5)
        exponent = round(self.reference_s / self.half_life_s) - halves
        # A shift beyond what a float can hold leaves nothing of the old weights.
        self.histogram.scale(math.ldexp(1.0, exponent) if exponent > -1074 else 0.0)
        self.reference_s = halves * self.half_life_s


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Target and the bounds within which a request may stay."""

    target: float
    lower: float
    upper: float


def confidence(samples: int, life_s: float) -> float:
    """Days of data: the smaller of the time between first and last sample and the samples at one a minute."""
    return min(life_s / 86_400.0, samples / MINUTES_PER_DAY)


def recommend(histogram: Histogram | Decaying, confident: float, margin: float = MARGIN) -> Recommendation:
    """Percentiles plus margin; the bounds are wider the less `confident` one can be: without data, 0 and infinite."""
    target, lower, upper = (histogram.percentile(share) * (1.0 + margin) for share in (TARGET, LOWER, UPPER))
    if confident <= 0:
        return Recommendation(target, 0.0, math.inf)
    return Recommendation(target, lower * (1.0 + 0.001 / confident) ** -2, upper * (1.0 + 1.0 / confident))
