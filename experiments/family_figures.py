"""The figures by which a load family is compared with a trace: generated loads in, one number out.

Peaks and variations are those of one recorded span, so they are taken from every run and the median run counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlscale.types import Floats, Load, Workload
from rlscale.workloads.diurnal import PROFILES
from rlscale.workloads.multi_tenant import MultiTenant
from rlscale.workloads.renewal import epochs
from rlscale.workloads.requests import draw_requests
from rlscale.workloads.statistics import cv, idc, local_cv, log_residual, peak_per_s, regroup

HOUR_S, DAY_S = 3600.0, 86_400.0
GAPS_PER_CLIENT = 100_000.0  # a client of variation 15 bunches 200 requests: 500 bunches, 5 % of the variation


@dataclass(frozen=True)
class Made:
    """Realisations of one family, all of one length."""

    workload: Workload
    loads: tuple[Load, ...]
    counts: Floats  # (runs, cells); Poisson draws where the family gives rates
    cell_s: float
    seed: int

    @cached_property
    def arrivals_s(self) -> tuple[Floats, ...]:
        """Single requests of every run, drawn as for the request-level engines."""
        rng = np.random.default_rng(self.seed)
        return tuple(draw_requests(load, rng).arrival_s for load in self.loads)

    @cached_property
    def client_variations(self) -> Floats:
        """Variation of the inter-arrivals of every client, on its single requests at its mean rate."""
        rng = np.random.default_rng(self.seed)
        cvs = _service(self).client_cvs().tolist()
        return np.array([cv(epochs(rng, GAPS_PER_CLIENT, own, 1)[1]) for own in cvs])

    def windows(self, window_s: float) -> list[Floats]:
        """Counts of every run in windows of `window_s`."""
        return [regroup(run, round(window_s / self.cell_s)) for run in self.counts]


Figure = Callable[[Made], float]


def mean_per_s(made: Made) -> float:
    """Requests per second."""
    return float(made.counts.mean() / made.cell_s)


def dispersion(window_s: float) -> Figure:
    """Index of dispersion of windows, over all runs."""
    return lambda made: idc(np.concatenate(made.windows(window_s)))


def peak(window_s: float) -> Figure:
    """Busiest window of a run, requests per second."""
    return lambda made: float(np.median([peak_per_s(run, window_s) for run in made.windows(window_s)]))


def valley(window_s: float) -> Figure:
    """Quietest window of a run, requests per second."""
    return lambda made: float(np.median([run.min() / window_s for run in made.windows(window_s)]))


def variation(made: Made) -> float:
    """Coefficient of variation of the inter-arrivals of a run."""
    return float(np.median([cv(run) for run in made.arrivals_s]))


def local_variation(made: Made) -> float:
    """The same inside windows of five minutes."""
    return float(np.median([local_cv(run) for run in made.arrivals_s]))


def peak_over_mean(made: Made) -> float:
    """Busiest hour of the mean run, over its mean."""
    hours = _mean_hours(made)
    return float(hours.max() / hours.mean())


def peak_over_valley(made: Made) -> float:
    """Busiest over quietest hour of the mean run."""
    hours = _mean_hours(made)
    return float(hours.max() / hours.min())


def worst_hour(profile: str) -> Figure:
    """Hour of the mean day furthest from the published one, over the published one (`PROFILES` holds those)."""

    def figure(made: Made) -> float:
        hours, published = _mean_hours(made), np.array(PROFILES[profile].hours)
        ratio = hours / hours.mean() / published
        return float(ratio[np.argmax(np.abs(ratio - 1.0))])

    return figure


def _mean_hours(made: Made) -> Floats:
    return np.asarray(np.mean(made.windows(HOUR_S), axis=0))


def residual_sigma(made: Made) -> float:
    """Standard deviation of the log rate around the time of day, ten-minute windows."""
    return float(np.median([log_residual(run, 144)[0] for run in made.windows(600.0)]))


def residual_memory(made: Made) -> float:
    """Autocorrelation of the same at ten minutes."""
    return float(np.median([log_residual(run, 144)[1] for run in made.windows(600.0)]))


def day_sigma(made: Made) -> float:
    """Standard deviation of the log of daily totals."""
    return float(np.log(np.concatenate(made.windows(DAY_S))).std())


def largest_day_over_mean(made: Made) -> float:
    """Largest day of a run over the mean day."""
    return float(np.median([run.max() / run.mean() for run in made.windows(DAY_S)]))


def largest_day_over_quartile(made: Made) -> float:
    """Largest day of a run over the lower quartile of its days."""
    return float(np.median([run.max() / np.quantile(run, 0.25) for run in made.windows(DAY_S)]))


def largest_day_over_smallest(made: Made) -> float:
    """Largest over smallest day of a run."""
    return float(np.median([run.max() / run.min() for run in made.windows(DAY_S)]))


def base_per_s(made: Made) -> float:
    """The median minute, requests per second."""
    return float(np.median(np.concatenate(made.windows(60.0))) / 60.0)


def largest_minute(made: Made) -> float:
    """Busiest minute over the median one: the mean over the runs."""
    return float(np.mean([run.max() / np.median(run) for run in made.windows(60.0)]))


def crowds_per_day(made: Made) -> float:
    """Times a day the five-minute mean rises through 1.6 times the median."""
    return len(_crowds(made, 1.6)) / (made.counts.size * made.cell_s / DAY_S)


def crowd_minutes(quantile: float) -> Figure:
    """Minutes a crowd lasts: those in which the five-minute mean is above 2.5 times the median.

    With that threshold the recorded days give the published median and 95th percentile.
    """
    return lambda made: float(np.quantile([len(crowd) for crowd in _crowds(made, 2.5)], quantile))


def crowd_height(made: Made) -> float:
    """Busiest minute of a crowd over the median minute: the mean over the crowds."""
    return float(np.mean([crowd.max() for crowd in _crowds(made, 1.6)]))


def _crowds(made: Made, threshold: float) -> list[Floats]:
    """Minutes of every crowd, over the median minute of its run."""
    found: list[Floats] = []
    for run in made.windows(60.0):
        level = run / np.median(run)
        inside = np.convolve(level, np.full(5, 0.2), "same") > threshold
        edges = np.flatnonzero(np.diff(np.concatenate([[0], inside, [0]])))
        found += [level[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return found


def quiet_sigma(made: Made) -> float:
    """Standard deviation of the log of the minutes below 1.3 times the median one."""
    minutes = np.concatenate(made.windows(60.0))
    return float(np.log(minutes[minutes < 1.3 * np.median(minutes)]).std())


def step_from_minute_to_minute(made: Made) -> float:
    """Standard deviation of the change of the log rate from one minute to the next, in quiet times."""
    minutes = np.concatenate(made.windows(60.0))
    steps = np.diff(np.log(np.maximum(minutes, 1.0)))
    return float(steps[minutes[1:] < 1.3 * np.median(minutes)].std())


def share_of_first(clients: int) -> Figure:
    """Share of the requests that the largest clients hold: of the expected ones, those are the same in every run."""

    def figure(made: Made) -> float:
        rates = _service(made).client_rates()
        return float(rates[-clients:].sum() / rates.sum())

    return figure


def client_rate_sigma(made: Made) -> float:
    """Standard deviation of the log of the clients' mean rates."""
    return float(np.log(_service(made).client_rates()).std())


def weighted_client_variation(made: Made) -> float:
    """Variation of the inter-arrivals of a client, mean over the clients weighted by their rates."""
    rates = _service(made).client_rates()
    return float(made.client_variations @ rates / rates.sum())


def client_variation(quantile: float) -> Figure:
    """Variation of the inter-arrivals of a client, quantile over the clients."""
    return lambda made: float(np.quantile(made.client_variations, quantile))


def _service(made: Made) -> MultiTenant:
    if not isinstance(made.workload, MultiTenant):
        raise TypeError(f"{type(made.workload).__name__} has no clients; compare a multi-tenant load")
    return made.workload
