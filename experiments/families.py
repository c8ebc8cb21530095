"""Load families against the published statistics they stand for: generate, measure, compare.

Every check draws independent realisations of a family at random moments of the week, at least fifty hours of them,
and compares one figure with the published one. The sources are those named in the family's module.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from experiments.results import write_csv, write_text
from rlscale.errors import ResultError
from rlscale.types import Floats
from rlscale.workloads.build import build
from rlscale.workloads.statistics import idc, log_residual, regroup

HOUR_S, DAY_S = 3600.0, 86_400.0
Figure = Callable[[Floats, float], float]  # (realisations, cells) counts, cell length s -> one figure


@dataclass(frozen=True)
class Check:
    """One figure of one family."""

    family: str  # what it stands for
    spec: tuple[tuple[str, Any], ...]
    runs: int
    run_s: float
    cell_s: float
    figure: str
    of: Figure
    published: float
    tolerance: float  # relative, unless `at_most`
    at_most: bool = False  # the published figure is the largest one seen

    @property
    def hours(self) -> float:
        """Generated hours."""
        return self.runs * self.run_s / HOUR_S


def dispersion(window_s: float) -> Figure:
    """Index of dispersion of windows, over all runs."""
    return lambda counts, cell_s: idc(regroup(counts.ravel(), round(window_s / cell_s)))


def mean_per_s(counts: Floats, cell_s: float) -> float:
    """Requests per second."""
    return float(counts.mean() / cell_s)


def peak_over_mean(counts: Floats, cell_s: float) -> float:
    """Busiest hour of the mean week."""
    hours = _mean_week(counts, cell_s)
    return float(hours.max() / hours.mean())


def peak_over_valley(counts: Floats, cell_s: float) -> float:
    """Busiest over quietest hour of the mean week."""
    hours = _mean_week(counts, cell_s)
    return float(hours.max() / hours.min())


def _mean_week(counts: Floats, cell_s: float) -> Floats:
    hours = np.stack([regroup(run, round(HOUR_S / cell_s)) for run in counts])
    return np.asarray(hours.mean(axis=0))


def residual_sigma(counts: Floats, cell_s: float) -> float:
    """Standard deviation of the log rate around the time of day, ten-minute windows."""
    return log_residual(_ten_minutes(counts, cell_s), 144)[0]


def residual_memory(counts: Floats, cell_s: float) -> float:
    """Autocorrelation of the same at ten minutes."""
    return log_residual(_ten_minutes(counts, cell_s), 144)[1]


def _ten_minutes(counts: Floats, cell_s: float) -> Floats:
    return regroup(counts.ravel(), round(600.0 / cell_s)) / 600.0


def day_sigma(counts: Floats, cell_s: float) -> float:
    """Standard deviation of the log of daily totals."""
    days = regroup(counts.ravel(), round(DAY_S / cell_s))
    return float(np.log(days).std())


def largest_minute(counts: Floats, cell_s: float) -> float:
    """Busiest minute over the median one: the mean over the runs."""
    minutes = [regroup(run, round(60.0 / cell_s)) for run in counts]
    return float(np.mean([run.max() / np.median(run) for run in minutes]))


def crowds_per_day(counts: Floats, cell_s: float) -> float:
    """Times a day the five-minute mean rises through 1.6 times the median."""
    found = 0
    for run in counts:
        minutes = regroup(run, round(60.0 / cell_s))
        smooth = np.convolve(minutes, np.full(5, 0.2), "same") > 1.6 * np.median(minutes)
        found += int((smooth[1:] & ~smooth[:-1]).sum())
    return found / (counts.size * cell_s / DAY_S)


def step_from_minute_to_minute(counts: Floats, cell_s: float) -> float:
    """Standard deviation of the change of the log rate from one minute to the next, in quiet times."""
    minutes = regroup(counts.ravel(), round(60.0 / cell_s))
    steps = np.diff(np.log(np.maximum(minutes, 1.0)))
    quiet = minutes[1:] < 1.3 * np.median(minutes)
    return float(steps[quiet].std())


def _checks() -> list[Check]:
    checks: list[Check] = []

    def add(family: str, spec: dict[str, Any], runs: int, run_s: float, cell_s: float,
            *figures: tuple[str, Figure, float, float]) -> None:  # fmt: skip
        for name, of, published, tolerance in figures:
            checks.append(Check(family, tuple(spec.items()), runs, run_s, cell_s, name, of, published, abs(tolerance),
                                tolerance < 0))  # fmt: skip

    def three(one: float, ten: float, sixty: float) -> list[tuple[str, Figure, float, float]]:
        return [(f"index of dispersion {w:g} s", dispersion(w), value, 0.30)
                for w, value in ((1.0, one), (10.0, ten), (60.0, sixty))]  # fmt: skip

    add("steady Poisson", {"kind": "steady", "rate_per_s": 20.0}, 60, HOUR_S, 1.0,
        ("mean, 1/s", mean_per_s, 20.0, 0.03), *three(1.0, 1.0, 1.0))  # fmt: skip
    add("Azure 2023 code", {"kind": "code"}, 120, HOUR_S, 1.0,
        ("mean, 1/s", mean_per_s, 2.57, 0.06), *three(13.2, 71.6, 164.0))  # fmt: skip
    add("Azure 2023 chat", {"kind": "chat"}, 120, HOUR_S, 1.0,
        ("mean, 1/s", mean_per_s, 5.53, 0.03), *three(1.39, 3.86, 16.1))  # fmt: skip
    add("Mooncake conversation", {"kind": "long-context"}, 120, HOUR_S, 1.0,
        ("mean, 1/s", mean_per_s, 3.40, 0.03), *three(1.1, 1.5, 2.8))  # fmt: skip
    add("gamma-bursty, CV 3.5", {"kind": "gamma", "rate_per_s": 20.0, "cv": 3.5}, 60, HOUR_S, 1.0,
        ("mean, 1/s", mean_per_s, 20.0, 0.03), *three(10.9, 12.1, 12.2))  # fmt: skip
    week = 7 * DAY_S
    for profile, peak, valley in (("office-code", 3.07, 34.5), ("office-chat", 1.67, 3.6)):
        add(f"Azure 2024 {profile[7:]}, week", {"kind": "diurnal", "rate_per_s": 30.0, "profile": profile,
                                                "noise_sigma": 0.0}, 2, week, 60.0,
            ("hourly peak / mean", peak_over_mean, peak, 0.05),
            ("hourly peak / valley", peak_over_valley, valley, 0.15))  # fmt: skip
    add("BurstGPT, hours", {"kind": "diurnal", "rate_per_s": 30.0, "profile": "burstgpt", "noise_sigma": 0.0}, 4,
        DAY_S, 60.0, ("hourly peak / valley", peak_over_valley, 11.7, 0.10))  # fmt: skip
    add("NASA 1995, weekdays", {"kind": "diurnal", "rate_per_s": 30.0, "profile": "nasa", "noise_sigma": 0.0}, 4,
        DAY_S, 60.0, ("hourly peak / mean", peak_over_mean, 1.58, 0.05),
        ("hourly peak / valley", peak_over_valley, 4.0, 0.05))  # fmt: skip
    add("ServeGen, slow noise", {"kind": "diurnal", "rate_per_s": 200.0, "profile": "servegen-m-small"}, 1, 28 * DAY_S,
        60.0, ("log residual sigma", residual_sigma, 0.25, 0.15),
        ("its autocorrelation at 10 min", residual_memory, 0.88, 0.05))  # fmt: skip
    add("BurstGPT, rare huge days", {"kind": "diurnal", "rate_per_s": 30.0, "profile": "flat", "day_sigma": 1.2}, 1,
        2000 * DAY_S, 3600.0, ("log sigma of daily totals", day_sigma, 1.23, 0.10))  # fmt: skip
    add("Twitter, flash crowds", {"kind": "flash-crowd", "rate_per_s": 65.0}, 12, 12 * HOUR_S, 1.0,
        ("mean, 1/s", mean_per_s, 65.0, 0.05), ("crowds per day", crowds_per_day, 12.0, 0.30),
        ("largest minute / median", largest_minute, 5.8, -0.10),
        ("log step from minute to minute", step_from_minute_to_minute, 0.06, 0.25),
        *three(26.0, 249.0, 1451.0))  # fmt: skip
    add("ServeGen m-large, multi-tenant", {"kind": "multi-tenant", "rate_per_s": 214.0}, 1, 8 * DAY_S, 10.0,
        ("mean, 1/s", mean_per_s, 214.0, 0.10), ("log residual sigma", residual_sigma, 0.26, 0.20),
        ("its autocorrelation at 10 min", residual_memory, 0.88, 0.05))  # fmt: skip
    return checks


CHECKS = _checks()


@lru_cache(maxsize=4)  # checks of one family stand side by side
def counts_of(spec: tuple[tuple[str, Any], ...], runs: int, run_s: float, cell_s: float, seed: int) -> Floats:
    """(runs, cells) counts; Poisson draws where the family gives rates."""
    workload = build(dict(spec), "families")
    rng = np.random.default_rng(seed)
    loads = [workload.sample(rng, run_s, cell_s) for _ in range(runs)]
    values = np.stack([load.values.astype(np.float64) for load in loads])
    return rng.poisson(values * cell_s).astype(np.float64) if loads[0].law == "poisson" else values


def measure(check: Check, seed: int) -> dict[str, Any]:
    """One row of the table."""
    found = check.of(counts_of(check.spec, check.runs, check.run_s, check.cell_s, seed), check.cell_s)
    ratio = found / check.published
    within = ratio <= 1.0 + check.tolerance if check.at_most else abs(ratio - 1.0) <= check.tolerance
    return {"family": check.family, "figure": check.figure, "hours": check.hours, "generated": found,
            "published": check.published, "ratio": ratio, "tolerance": check.tolerance,
            "at_most": check.at_most, "within": within}  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Measure everything, print the table, write it into a new folder."""
    if args.out.exists():
        raise ResultError(f"{args.out} exists; give --out a new folder, nothing is overwritten")
    rows = [measure(check, args.seed) for check in CHECKS]
    text = report(rows, args.seed)
    args.out.mkdir(parents=True)
    write_csv(args.out / "families.csv", rows, list(rows[0]))
    write_text(args.out / "report.md", text)
    print(text)
    return 0 if all(row["within"] for row in rows) else 1


def report(rows: list[dict[str, Any]], seed: int) -> str:
    """Markdown table."""
    lines = ["# Load families against published statistics", "",
             f"`python -m experiments traces families --seed {seed}`; tolerances are relative, `at most` bounds from "
             "above.", "", "| family | figure | hours | generated | published | ratio | tolerance | within |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        bound = f"{'at most +' if row['at_most'] else ''}{row['tolerance']:.0%}"
        cells = [row["family"], row["figure"], f"{row['hours']:.0f}", f"{row['generated']:.4g}",
                 f"{row['published']:.4g}", f"{row['ratio']:.2f}", bound, ("no", "yes")[row["within"]]]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
