"""How far an observation is from those a policy was trained on: ranges of features, and a score. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.errors import PolicyError
from rlscale.types import Floats

TAIL = 0.001  # share of the rows beyond either end of a range
USUAL = 0.99  # share of the training rows that are within the usual distance
LEAST_SCALE = 0.02  # of what a feature can take: one that never moved in training must not cry at a rounding error
CALENDAR = ("day_sin", "day_cos", "week_sin", "week_cos")  # a Saturday is no fault of the service
ARRAYS = ("low", "high", "mean", "std", "scale")
MOST = 10.0  # scales, beyond which farther is no farther


@dataclass(frozen=True, slots=True, eq=False)
class FeatureStatistics:
    """Of every feature, (F,): the range that training covered, mean, standard deviation, and the unit of distance."""

    names: tuple[str, ...]
    low: Floats
    high: Floats
    mean: Floats
    std: Floats
    scale: Floats
    usual: float  # distance that one training row in a hundred exceeds, by ranges of other training days
    rows: int

    def score(self, features: NDArray[Any]) -> float:
        """Distance of one observation's features, (>= F,), from the training ranges; 1: as far as training days go."""
        return float(np.sqrt(np.sum(self._beyond(features) ** 2)) / max(1.0, self.usual))

    def farthest(self, features: NDArray[Any], count: int = 3) -> list[str]:
        """`name value (low to high)` of the features farthest out of range, at most `count` of them."""
        beyond = self._beyond(features)
        order = [int(k) for k in np.argsort(-beyond, kind="stable")[:count] if beyond[k] > 0.0]
        return [f"{self.names[k]} {features[k]:.3g} ({self.low[k]:.3g} to {self.high[k]:.3g})" for k in order]

    def _beyond(self, features: NDArray[Any]) -> Floats:
        return _beyond(features[: len(self.names)], self.low, self.high, self.scale)

    def to_json(self) -> dict[str, Any]:
        """For a manifest."""
        arrays = {name: getattr(self, name).tolist() for name in ARRAYS}
        return {"names": list(self.names), **arrays, "usual": self.usual, "rows": self.rows}

    @classmethod
    def from_json(cls, entry: Any) -> FeatureStatistics:
        """What `to_json` gave. Raises PolicyError for anything else."""
        try:
            names = tuple(str(name) for name in entry["names"])
            arrays = {name: np.array(entry[name], np.float64) for name in ARRAYS}
            found = cls(names, **arrays, usual=float(entry["usual"]), rows=int(entry["rows"]))
        except (KeyError, TypeError, ValueError) as error:
            raise PolicyError(f"no feature statistics ({type(error).__name__}: {error}); train anew") from None
        lengths = {name: len(values) for name, values in arrays.items() if values.shape != (len(names),)}
        numbers = all(np.isfinite(values).all() for values in arrays.values()) and np.isfinite(found.usual)
        if lengths or not numbers or not (found.scale > 0.0).all() or not (found.low <= found.high).all():
            raise PolicyError(f"{len(names)} features; expected as many finite numbers each, a scale above 0 and "
                              f"low <= high{f', got {lengths}' if lengths else ''}; train anew")  # fmt: skip
        return found


def fit(features: NDArray[Any], names: Sequence[str], span: Floats) -> FeatureStatistics:
    """Statistics of training rows, (n, F), day after day; `span` (F,) is how far each feature can move at all.

    The calendar counts as covered: what a time unseen in training brings with it, the other features show.
    The usual distance is cross-fitted: each half of the rows against the ranges of the other, so that a new day of the
    same kind counts as usual. Raises PolicyError below 4 rows.
    """
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or len(rows) < 4 or rows.shape[1] != len(names):
        raise PolicyError(f"features of shape {rows.shape}; expected (rows, {len(names)}) with at least 4 rows")
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    scale = np.maximum(std, LEAST_SCALE * np.asarray(span, np.float64))
    rows = np.where(np.isin(names, CALENDAR), 0.0, rows)
    low, high = np.quantile(rows, [TAIL, 1.0 - TAIL], axis=0)
    usual = float(np.quantile(_cross_fitted(rows, scale), USUAL))
    low, high = (np.where(np.isin(names, CALENDAR), sign * span, end) for sign, end in ((-1.0, low), (1.0, high)))
    return FeatureStatistics(tuple(names), low, high, mean, std, scale, usual, len(rows))


def _cross_fitted(rows: Floats, scale: Floats) -> Floats:
    halves = np.array_split(rows, 2)
    distances = []
    for own, other in (halves, halves[::-1]):
        low, high = np.quantile(other, [TAIL, 1.0 - TAIL], axis=0)
        distances.append(np.sqrt(np.sum(_beyond(own, low, high, scale) ** 2, axis=1)))
    return np.concatenate(distances)


def _beyond(features: NDArray[Any], low: Floats, high: Floats, scale: Floats) -> Floats:
    """How far out of range, in scales, 0 to MOST; what is no number is as far as can be."""
    out = np.maximum(low - features, features - high) / scale
    return np.clip(np.where(np.isnan(out), MOST, out), 0.0, MOST)
