"""What is compared: families with their settings, figures, published numbers and tolerances.

Published figures are of the traces named; tolerances are relative: 3 % of a mean, 30 % of dispersions and peaks,
10 % of lengths, and less where a figure is a setting of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from experiments.family_figures import (
    DAY_S,
    HOUR_S,
    Figure,
    Made,
    base_per_s,
    client_rate_sigma,
    client_variation,
    crowd_height,
    crowd_minutes,
    crowds_per_day,
    day_sigma,
    dispersion,
    largest_day_over_mean,
    largest_day_over_quartile,
    largest_day_over_smallest,
    largest_minute,
    local_variation,
    mean_per_s,
    peak,
    peak_over_mean,
    peak_over_valley,
    quiet_sigma,
    residual_memory,
    residual_sigma,
    share_of_first,
    step_from_minute_to_minute,
    valley,
    variation,
    weighted_client_variation,
    worst_hour,
)
from rlscale.workloads.build import build

Row = tuple[str, Figure, float, float]  # figure, how, published, relative tolerance; below 0: at most


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


def _family(name: str, spec: dict[str, Any], runs: int, run_s: float, cell_s: float, *rows: Row) -> Iterator[Check]:
    for figure, of, published, tolerance in rows:
        yield Check(name, tuple(spec.items()), runs, run_s, cell_s, figure, of, published, abs(tolerance),
                    tolerance < 0)  # fmt: skip


def _mean(per_s: float) -> Row:
    return "mean, 1/s", mean_per_s, per_s, 0.03


def _three(one: float, ten: float, sixty: float) -> list[Row]:
    return [(f"index of dispersion {w:g} s", dispersion(w), value, 0.30)
            for w, value in ((1.0, one), (10.0, ten), (60.0, sixty))]  # fmt: skip


def _peaks(ten: float, sixty: float) -> list[Row]:
    return [(f"largest {w:g} s, 1/s", peak(w), value, 0.30) for w, value in ((10.0, ten), (60.0, sixty))]


def _variation(whole: float) -> Row:
    return "variation of inter-arrivals", variation, whole, 0.30


def _local(median: float) -> Row:
    return "variation within 5 min, median", local_variation, median, 0.30


def _hours() -> Iterator[Check]:
    """Families of an hour and less."""
    yield from _family("steady Poisson", {"kind": "steady", "rate_per_s": 20.0}, 60, HOUR_S, 1.0,
                       _mean(20.0), *_three(1.0, 1.0, 1.0))  # fmt: skip
    # The mean of 120 hours of code has a standard error of 2.1 %, that of 60 days of 0.5 %.
    yield from _family("Azure 2023 code", {"kind": "code"}, 60, DAY_S, 60.0, _mean(2.57))
    yield from _family("Azure 2023 code", {"kind": "code"}, 120, HOUR_S, 1.0, *_three(13.2, 71.6, 164.0),
                       *_peaks(32.7, 10.5), _local(9.9))  # fmt: skip
    yield from _family("Azure 2023 code, with its pauses", {"kind": "code-pauses"}, 60, DAY_S, 60.0, _mean(2.57))
    yield from _family("Azure 2023 code, with its pauses", {"kind": "code-pauses"}, 120, HOUR_S, 1.0,
                       *_three(13.2, 71.6, 164.0), *_peaks(32.7, 10.5), _variation(13.2), _local(9.9))  # fmt: skip
    yield from _family("Azure 2023 chat", {"kind": "chat"}, 120, HOUR_S, 1.0, _mean(5.53), *_three(1.39, 3.86, 16.1),
                       *_peaks(9.8, 8.45), _variation(1.09), _local(1.04))  # fmt: skip
    yield from _family("Mooncake conversation", {"kind": "long-context"}, 120, HOUR_S, 1.0, _mean(3.40),
                       *_three(1.1, 1.5, 2.8), *_peaks(6.0, 4.1), _variation(1.01))  # fmt: skip
    yield from _family("gamma-bursty, CV 3.5", {"kind": "gamma", "rate_per_s": 20.0, "cv": 3.5}, 60, HOUR_S, 1.0,
                       _mean(20.0), *_three(10.9, 12.1, 12.2))  # fmt: skip


def _profiles() -> Iterator[Check]:
    """Hours of the day and the week, without noise."""
    for profile, mean, over_mean, over_valley in (("office-code", 27.8, 3.07, 34.5), ("office-chat", 45.1, 1.67, 3.6)):
        yield from _family(f"Azure 2024 {profile[7:]}, week",
                           {"kind": "diurnal", "rate_per_s": mean, "profile": profile, "noise_sigma": 0.0},
                           2, 7 * DAY_S, 60.0, _mean(mean),
                           ("hourly peak / mean", peak_over_mean, over_mean, 0.05),
                           ("hourly peak / valley", peak_over_valley, over_valley, 0.15))  # fmt: skip
    weekdays: dict[str, list[Row]] = {
        "burstgpt": [("hourly peak / valley", peak_over_valley, 11.7, 0.10)],
        "nasa": [("hourly peak / mean", peak_over_mean, 1.58, 0.05),
                 ("hourly peak / valley", peak_over_valley, 4.0, 0.05)],
        "servegen-m-small": [],
        "servegen-deepseek-r1": [],
    }  # fmt: skip
    for profile, rows in weekdays.items():
        yield from _family(f"Hours of a weekday, {profile}",
                           {"kind": "diurnal", "rate_per_s": 30.0, "profile": profile, "noise_sigma": 0.0},
                           4, DAY_S, 60.0, *rows,
                           ("hour furthest from the published one / that", worst_hour(profile), 1.0, 0.05))  # fmt: skip


def _days() -> Iterator[Check]:
    """Slow noise and days of different size."""
    yield from _family("ServeGen, slow noise", {"kind": "diurnal", "rate_per_s": 200.0, "profile": "servegen-m-small"},
                       1, 28 * DAY_S, 60.0, ("log residual sigma", residual_sigma, 0.25, 0.15),
                       ("its autocorrelation at 10 min", residual_memory, 0.88, 0.05))  # fmt: skip
    # 1.18: with the 1.2 of the daily totals the median of the largest day is 7.9 times the mean.
    yield from _family("BurstGPT, 61 days",
                       {"kind": "diurnal", "rate_per_s": 0.27, "profile": "burstgpt", "day_sigma": 1.18,
                        "noise_sigma": 0.0}, 400, 61 * DAY_S, HOUR_S, _mean(0.27),
                       ("log sigma of daily totals", day_sigma, 1.23, 0.10),
                       ("largest day / mean", largest_day_over_mean, 6.0, 0.30),
                       ("largest day / lower quartile", largest_day_over_quartile, 44.0, 0.30))  # fmt: skip
    # Weekend, slow noise and profile together: 27 days of July 1995.
    yield from _family("NASA 1995, month",
                       {"kind": "diurnal", "rate_per_s": 0.80, "profile": "nasa", "noise_sigma": 0.45}, 12, 28 * DAY_S,
                       10.0, _mean(0.80), *_three(1.0, 5.4, 22.0)[1:], *_peaks(8.3, 6.8))  # fmt: skip
    yield from _family("NAB load balancer",
                       {"kind": "diurnal", "rate_per_s": 0.206, "profile": "flat", "noise_sigma": 0.77,
                        "noise_s": 1800.0}, 24, 14 * DAY_S, 300.0, _mean(0.206),
                       ("index of dispersion 300 s", dispersion(300.0), 52.0, 0.30),
                       ("largest 300 s, 1/s", peak(300.0), 2.19, 0.30))  # fmt: skip
    images = {"kind": "diurnal", "rate_per_s": 0.011, "profile": "gentd26", "day_sigma": 0.5, "noise_sigma": 0.4}
    # Whole days: the profile begins with its busiest half.
    yield from _family("GenTD26 image requests", images, 60, 28 * DAY_S, HOUR_S, _mean(0.011))
    yield from _family("GenTD26 image requests", images, 6, 16.5 * DAY_S, 1.0, *_three(1.04, 1.33, 3.2),
                       *_peaks(0.6, 0.22), _variation(11.7), _local(0.85))  # fmt: skip


def _crowds() -> Iterator[Check]:
    """The Twitter stream: the family's defaults, and crowds of less different size, whose largest second is nearer."""
    yield from _family("Twitter, flash crowds", {"kind": "flash-crowd", "rate_per_s": 65.0}, 6, 13 * DAY_S, 60.0,
                       _mean(65.0))  # fmt: skip
    yield from _family("Twitter, flash crowds", {"kind": "flash-crowd", "rate_per_s": 65.0}, 12, 12 * HOUR_S, 1.0,
                       ("crowds per day", crowds_per_day, 12.0, 0.30),
                       ("largest minute / median", largest_minute, 5.8, -0.10),
                       ("log step from minute to minute", step_from_minute_to_minute, 0.06, 0.25),
                       *_three(26.0, 249.0, 1451.0))  # fmt: skip
    yield from _family("Twitter, crowds of 2.6 to 5 times the base",
                       {"kind": "flash-crowd", "rate_per_s": 65.0, "peak_low": 2.6, "peak_high": 5.0}, 6, 13 * DAY_S,
                       1.0, _mean(65.0), ("base, 1/s", base_per_s, 52.0, 0.10),
                       ("log sigma of quiet minutes", quiet_sigma, 0.11, 0.30),
                       ("crowds per day", crowds_per_day, 12.0, 0.30),
                       ("crowd peak / base", crowd_height, 3.8, 0.10),
                       ("largest minute / median", largest_minute, 5.8, -0.10),
                       ("minutes of a crowd, median", crowd_minutes(0.5), 8.0, 0.30),
                       ("minutes of a crowd, p95", crowd_minutes(0.95), 17.0, 0.30),
                       *_three(26.0, 249.0, 1451.0), *_peaks(319.0, 300.0))  # fmt: skip


@dataclass(frozen=True)
class Published:
    """One row of the ServeGen services."""

    service: str
    days: int
    runs: int
    mean_per_s: float
    low_per_s: float  # quietest ten minutes; 0: outages
    high_per_s: float
    shares: tuple[float, float, float]  # of the first 1, 5, 10 clients
    weighted_cv: float
    cv_median: float
    cv_p95: float
    sigma: float
    memory: float
    rate_sigma: float  # 0: none is published


SERVICES = (
    Published("m-small", 14, 8, 1174.0, 0.0, 3880.0, (0.30, 0.77, 0.93), 3.6, 1.2, 9.1, 0.22, 0.89, 2.7),
    Published("m-large", 8, 6, 214.0, 93.0, 583.0, (0.16, 0.46, 0.69), 3.5, 1.15, 9.4, 0.26, 0.88, 2.7),
    Published("deepseek-r1", 1, 30, 16.0, 4.3, 42.5, (0.29, 0.52, 0.68), 2.3, 1.0, 5.8, 0.26, 0.64, 1.8),
    Published("mm-image", 1, 30, 9.5, 4.9, 13.3, (0.14, 0.56, 0.83), 2.2, 1.4, 6.4, 0.12, 0.62, 0.0),
)


def _services() -> Iterator[Check]:
    """Multi-tenant services by name."""
    for told in SERVICES:
        rows: list[Row] = [
            _mean(told.mean_per_s),
            ("largest 600 s, 1/s", peak(600.0), told.high_per_s, 0.30),
            ("log residual sigma", residual_sigma, told.sigma, 0.20),
            ("its autocorrelation at 10 min", residual_memory, told.memory, 0.20),
            *[(f"share of the first {n}", share_of_first(n), share, 0.30)
              for n, share in zip((1, 5, 10), told.shares, strict=True)],
            ("variation of inter-arrivals, rate-weighted", weighted_client_variation, told.weighted_cv, 0.30),
            ("the same, median client", client_variation(0.5), told.cv_median, 0.30),
            ("the same, p95 of the clients", client_variation(0.95), told.cv_p95, 0.30),
        ]  # fmt: skip
        if told.low_per_s > 0:
            rows.append(("smallest 600 s, 1/s", valley(600.0), told.low_per_s, 0.30))
        if told.rate_sigma > 0:
            rows.append(("log sigma of client rates", client_rate_sigma, told.rate_sigma, 0.10))
        if told.service == "m-large":
            rows.append(("largest / smallest of 8 days", largest_day_over_smallest, 279.0 / 175.0, 0.30))
        yield from _family(f"ServeGen {told.service}, multi-tenant", {"kind": "multi-tenant", "service": told.service},
                           told.runs, told.days * DAY_S, 60.0, *rows)  # fmt: skip
    # The settings without a service are those of the scenarios.
    yield from _family("ServeGen m-large, multi-tenant without a service",
                       {"kind": "multi-tenant", "rate_per_s": 214.0}, 8, 8 * DAY_S, 60.0, _mean(214.0),
                       ("log residual sigma", residual_sigma, 0.26, 0.20),
                       ("its autocorrelation at 10 min", residual_memory, 0.88, 0.05))  # fmt: skip


CHECKS = [*_hours(), *_profiles(), *_days(), *_crowds(), *_services()]


@lru_cache(maxsize=2)  # checks of one family stand side by side
def made_of(spec: tuple[tuple[str, Any], ...], runs: int, run_s: float, cell_s: float, seed: int) -> Made:
    """Independent realisations of one family."""
    workload = build(dict(spec), "families")
    rng = np.random.default_rng(seed)
    loads = tuple(workload.sample(rng, run_s, cell_s) for _ in range(runs))
    values = np.stack([load.values.astype(np.float64) for load in loads])
    counts = rng.poisson(values * cell_s).astype(np.float64) if loads[0].law == "poisson" else values
    return Made(workload, loads, counts, cell_s, seed)


def measure(check: Check, seed: int) -> dict[str, Any]:
    """One row of the table."""
    found = check.of(made_of(check.spec, check.runs, check.run_s, check.cell_s, seed))
    ratio = found / check.published
    within = ratio <= 1.0 + check.tolerance if check.at_most else abs(ratio - 1.0) <= check.tolerance
    return {"family": check.family, "figure": check.figure, "hours": check.hours, "generated": found,
            "published": check.published, "ratio": ratio, "tolerance": check.tolerance,
            "at_most": check.at_most, "within": within}  # fmt: skip
