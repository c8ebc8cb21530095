"""Series for the back-test of forecasters: recorded loads as measured rates, and days of generated scenarios."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.backtest import Series
from rlscale.types import DAY_S, Floats
from rlscale.workloads.readers import read

SUFFIXES = (".gz", ".csv", ".jsonl", ".parquet")


def recorded(path: Path, interval_s: float, format: str = "auto") -> Series:
    """A trace in intervals, or in its own cells where those are longer. A cell with a gap in it is not measured."""
    trace = read(path, format)
    step_s = max(interval_s, trace.grid_s)
    rates = trace.rates(step_s)
    notes = list(trace.notes)
    if step_s > interval_s:
        notes.append(f"its cells of {step_s:g} s instead of {interval_s:g} s")
    if trace.series is not None and trace.series.missing.any():
        absent = averaged(trace.series.missing.astype(np.float64), trace.series.step_s, step_s)[: len(rates)]
        rates = np.where(absent > 1e-9, np.nan, rates)
    return Series(stem(path), "recorded", step_s, rates, tuple(notes))


def generated(scenario: str, days: int, interval_s: float, seed: int) -> Series:
    """A scenario's test load over `days`, after the day of history that comes with it: counts, not their means."""
    from envs import get_scenario

    found = replace(get_scenario(scenario), horizon_s=days * DAY_S)
    load = found.sample_load("test", seed)
    rng = np.random.default_rng([seed, days])
    burstiness = max(1.0, load.burstiness)
    past = _counts(averaged(load.history_per_s, load.history_step_s, interval_s) * interval_s, burstiness, rng)
    counts = averaged(load.rate_per_s, load.step_s, interval_s) * interval_s
    if load.law == "poisson":
        counts = _counts(counts, burstiness, rng)
    notes = (f"{days} test days, seed {seed}, after a day of history",)
    return Series(scenario, "generated", interval_s, np.concatenate([past, counts]) / interval_s, notes)


def averaged(values: Floats, cell_s: float, step_s: float) -> Floats:
    """Means over whole steps of values that stand for cells of another length."""
    area = np.concatenate([[0.0], np.cumsum(values)]) * cell_s
    edges_s = np.arange(int(len(values) * cell_s / step_s + 1e-9) + 1) * step_s
    return np.asarray(np.diff(np.interp(edges_s, np.arange(len(area)) * cell_s, area)) / step_s)


def stem(path: Path) -> str:
    """A file's name without what says how it is packed."""
    name = path.name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _counts(means: Floats, burstiness: float, rng: np.random.Generator) -> Floats:
    """Counts with these means and a variance of `burstiness` times them: Poisson, or negative binomial."""
    if burstiness <= 1.0 + 1e-6:
        return np.asarray(rng.poisson(means), dtype=np.float64)
    shape: NDArray[np.float64] = np.maximum(means, 1e-12) / (burstiness - 1.0)
    return np.asarray(rng.negative_binomial(shape, 1.0 / burstiness), dtype=np.float64)
