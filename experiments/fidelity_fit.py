"""Finds the numbers of rlscale/sim/kappa.py: least squares over the fit half of the fidelity grid, all sub-steps."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import multiprocessing
from dataclasses import asdict, astuple, fields, replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from experiments import fidelity_steady as steady
from rlscale.sim.kappa import FITTED, Kappa
from rlscale.types import Floats

SEEDS = (0, 1)
WEIGHT = {"ttft_mean": 1.0, "ttft_p99": 0.8, "tpot_mean": 1.0, "tpot_p99": 0.4, "attainment": 1.0}
SCALE = {**steady.GOALS, "tpot_p99": 0.15}
OVERLOAD_WEIGHT = 0.4  # of loads above 0.9, where one seed differs from another by more than the goals
Point = tuple[str, int, float, float]  # profile, replicas, cv, load


def points(half: str) -> list[Point]:
    """Cells of the grid without their seed; they take turns between the halves."""
    grid = itertools.product(steady.PROFILES, steady.REPLICAS, steady.CVS, steady.LOADS)
    return [point for number, point in enumerate(grid) if (number % 2 == 0) == (half == "fit")]


@functools.lru_cache(maxsize=512)
def truth(point: Point, cache: Path) -> tuple[float, ...]:
    """Means over the seeds of the fit."""
    profile, replicas, cv, load = point
    cells = [steady.Cell(profile, load, cv, replicas, seed) for seed in SEEDS]
    return tuple(np.mean([steady.of_oracle(cell, cache) for cell in cells], axis=0))


def residuals_of(point: Point, kappa: Kappa, cache: Path) -> Floats:
    """Errors over their goals, for every measure and sub-step."""
    profile, replicas, cv, load = point
    found = []
    for h in steady.SUBSTEPS_S:
        fluid = np.mean(
            [steady.of_fluid(steady.Cell(profile, load, cv, replicas, s), h, kappa) for s in SEEDS],
            axis=0,
        )
        errors = steady.errors(fluid, np.array(truth(point, cache)))
        found += [WEIGHT[n] * e / SCALE[n] for n, e in zip(steady.MEASURES, errors, strict=True)]
    return np.array(found) * (OVERLOAD_WEIGHT if load > 0.9 else 1.0)


def run(cache: Path, workers: int) -> None:
    """Print the fitted constants; they are put into rlscale/sim/kappa.py by hand, because they change every result."""
    found = fit(cache, workers)
    for name, value in asdict(found).items():
        print(f"{name:14} {value:8.3f}   (now {getattr(FITTED, name):g})")


def fit(cache: Path, workers: int, start: Kappa = FITTED) -> Kappa:
    """Least squares with a soft loss: a few cells that no constant can reach do not pull the rest."""
    names = [field.name for field in fields(Kappa)]
    half = points("fit")
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(max(1, workers), mp_context=context) as pool:

        def residuals(x: Floats) -> Floats:
            kappa = Kappa(*np.exp(x).tolist())
            parts = pool.map(residuals_of, half, itertools.repeat(kappa), itertools.repeat(cache), chunksize=4)
            return np.concatenate(list(parts))

        begin = np.log(np.maximum(np.array(astuple(start)), 1e-3))
        found = least_squares(residuals, begin, loss="soft_l1", diff_step=0.05, x_scale=1.0, max_nfev=9, verbose=2,
                              bounds=(np.log(1e-4), np.log(30.0)))  # fmt: skip
    return replace(start, **dict(zip(names, np.round(np.exp(found.x), 4).tolist(), strict=True)))
