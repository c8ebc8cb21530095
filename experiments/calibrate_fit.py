"""Fits the coefficients of an iteration law to measured times: robust, in ratios, none below zero. Knows no table.

What the measurements cannot tell apart is left at zero and named, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from rlscale.types import Floats, Ints, IterationLaw

LAW = ("c0_s", "c1_s", "c2_s", "c3_s", "c4_s")
TPOT, TTFT = 0, 1
RATIO_SCALE = 0.1  # residuals beyond about 10 % count less and less (soft L1): benchmarks hold outliers
TTFT_WEIGHT = 0.5  # of a TTFT beside a TPOT: arrivals of the benchmark move it, not the law alone
SQUARE_PENALTY = 0.1  # on the square's share of the longest prompt's work; matters with one long prompt only
INDEPENDENT = 0.05  # of a column that the columns before it cannot explain, else it is left out


@dataclass(frozen=True, slots=True)
class Rows:
    """What was measured, and by what every coefficient is multiplied in it.

    A measured time is `base @ c + burst_share * (burst @ c) + overhead_s * first`. The two last numbers describe the
    benchmark, not the engine: the share of the other prompts in flight that were sent at the same moment and come
    first, 0 to 1, and time outside of the engine.
    """

    names: tuple[str, ...]  # of the coefficients, `LAW` first
    base: Floats  # (rows, coefficients)
    burst: Floats  # (rows, coefficients)
    first: Floats  # (rows,) 1 where an overhead outside of the engine is in the time
    measured_s: Floats  # (rows,)
    kind: Ints  # (rows,) TPOT or TTFT
    cell: Ints  # (rows,) number of the configuration
    longest_prompt: float = 0.0  # tokens

    def __len__(self) -> int:
        return len(self.measured_s)

    def take(self, chosen: Floats | Ints) -> Rows:
        """Some of the rows."""
        parts = {name: getattr(self, name)[chosen] for name in ("base", "burst", "first", "measured_s", "kind", "cell")}
        return replace(self, **parts)


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients in seconds, what was left out and why not, and how sure they are."""

    names: tuple[str, ...]
    value: Floats  # (coefficients,)
    overhead_s: float
    burst_share: float
    fitted: tuple[str, ...]  # names that the rows can tell apart, those of the benchmark included
    std_error: Floats = field(default_factory=lambda: np.zeros(0))  # (coefficients,), by bootstrap
    low: Floats = field(default_factory=lambda: np.zeros(0))  # 5 % quantile
    high: Floats = field(default_factory=lambda: np.zeros(0))  # 95 % quantile

    @property
    def law(self) -> IterationLaw:
        """What the engines run."""
        return IterationLaw(*(float(value) for value in self.value[: len(LAW)]))

    def predict_s(self, rows: Rows, alone: bool = False) -> Floats:
        """Times of the rows; `alone` leaves the benchmark's overhead and bursts out."""
        times: Floats = rows.base @ self.value
        if not alone:
            times = times + self.burst_share * (rows.burst @ self.value) + self.overhead_s * rows.first
        return times


def fit(rows: Rows) -> Fit:
    """Least squares of log ratios; a column that others explain is left out, the simpler coefficient kept."""
    free = independent(rows)
    return _as_fit(rows, free, _solve(rows, free, np.ones(len(rows)), None))


def with_uncertainty(rows: Rows, found: Fit, seed: int, draws: int) -> Fit:
    """The fit with standard errors and 90 % intervals: a Bayesian bootstrap over configurations.

    Every draw weighs the configurations anew (exponential weights), so that none of them ever vanishes and what can be
    told apart stays so.
    """
    rng = np.random.default_rng(seed)
    free, start = independent(rows), np.append(found.value, [found.overhead_s, found.burst_share])
    drawn = []
    for _ in range(draws):
        weight = rng.exponential(size=int(rows.cell.max()) + 1)[rows.cell]
        drawn.append(_solve(rows, free, weight, start)[: len(rows.names)])
    values = np.array(drawn)
    values[values < _nothing(rows)] = 0.0
    low, high = np.quantile(values, [0.05, 0.95], axis=0)
    return replace(found, std_error=values.std(axis=0, ddof=1), low=low, high=high)


def independent(rows: Rows) -> list[bool]:
    """Which of (coefficients..., overhead_s, burst_share) the rows can tell apart, asked in the order of the law."""
    ratio = np.column_stack([rows.base, rows.first, rows.burst[:, 2]]) / rows.measured_s[:, None]
    kept: list[Floats] = []
    free = []
    for column in ratio.T:
        left, size = column.copy(), float(np.linalg.norm(column))
        for _ in range(2):  # twice: rounding of the first pass is removed by the second
            for direction in kept:
                left -= (direction @ left) * direction
        alone = float(np.linalg.norm(left))
        free.append(size > 0.0 and alone > INDEPENDENT * size and len(kept) < len(rows))
        if free[-1]:
            kept.append(left / alone)
    return free


def _as_fit(rows: Rows, free: list[bool], x: Floats) -> Fit:
    names = (*rows.names, "overhead_s", "burst_share")
    fitted = tuple(name for name, is_free in zip(names, free, strict=True) if is_free)
    x[:-2] = np.where(x[:-2] < _nothing(rows), 0.0, x[:-2])
    return Fit(rows.names, x[:-2], float(x[-2]), float(x[-1]), fitted)


def _solve(rows: Rows, free: list[bool], weight: Floats, start: Floats | None) -> Floats:
    """(coefficients + 2,) the least robust cost, from one start or the better of two."""
    from scipy.optimize import least_squares

    count = len(rows.names)
    scale, mask = _scales(rows), np.array(free)
    root = np.sqrt(weight / weight.mean()) * np.where(rows.kind == TTFT, TTFT_WEIGHT, 1.0)
    curved = free[2] and free[4]

    def full(x: Floats) -> Floats:
        parameters = np.zeros(count + 2)
        parameters[mask] = x * scale[mask]
        return parameters

    def times(p: Floats) -> Floats:
        predicted: Floats = rows.base @ p[:count] + p[-1] * (rows.burst @ p[:count]) + p[-2] * rows.first
        return np.maximum(predicted, 1e-12)

    def residuals(x: Floats) -> Floats:
        p = full(x)
        ratio = root * np.log(times(p) / rows.measured_s)
        return np.append(ratio, SQUARE_PENALTY * _square_share(p, rows.longest_prompt)) if curved else ratio

    def slopes(x: Floats) -> Floats:
        p = full(x)
        by = np.column_stack([rows.base + p[-1] * rows.burst, rows.first, rows.burst @ p[:count]])
        by *= (root / times(p))[:, None]
        if curved:
            by = np.vstack([by, SQUARE_PENALTY * _share_slope(p, rows.longest_prompt)])
        return np.asarray(by * scale)[:, mask]

    upper = np.append(np.full(count + 1, np.inf), 1.0 / scale[-1])[mask]
    starts = [np.full(mask.sum(), level) for level in (0.5, 0.1)]
    if start is not None:
        starts = [np.clip(start[mask] / scale[mask], 1e-6, np.where(np.isfinite(upper), 0.999 * upper, np.inf))]
    found = [
        least_squares(residuals, x, slopes, bounds=(0.0, upper), loss="soft_l1", f_scale=RATIO_SCALE, max_nfev=400)
        for x in starts
    ]
    return full(min(found, key=lambda result: float(result.cost)).x)


def _scales(rows: Rows) -> Floats:
    """Typical sizes: what each coefficient would be if it made the whole of a typical row."""
    sizes = []
    for column in rows.base.T:
        there = column > 0.0
        sizes.append(float(np.median(rows.measured_s[there] / column[there])) if there.any() else 1.0)
    first = rows.measured_s[rows.first > 0.0]
    return np.array([*sizes, float(first.min()) / 3.0 if len(first) else 1.0, 0.1])


def _nothing(rows: Rows) -> Floats:
    """(coefficients,) below which one is zero: less than 1e-5 of every row; a solver inside bounds never says 0."""
    most: Floats = (rows.base / rows.measured_s[:, None]).max(axis=0)
    return 1e-5 / np.maximum(most, 1e-300)


def _square_share(p: Floats, longest: float) -> float:
    linear, square = p[2] * longest, p[4] * longest**2
    return float(square / (linear + square + 1e-12))


def _share_slope(p: Floats, longest: float) -> Floats:
    linear, square = p[2] * longest, p[4] * longest**2
    slope = np.zeros(len(p))
    whole = (linear + square + 1e-12) ** 2
    slope[2], slope[4] = -square * longest / whole, (linear + 1e-12) * longest**2 / whole
    return slope
