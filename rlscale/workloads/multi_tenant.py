"""Multi-tenant load: many clients of very different size and burstiness behind one service.

Statistics of the ServeGen services: client rates lognormal, the largest client 200 times the median one; daily
profile and slow noise; inter-arrivals gamma with a coefficient of variation that differs from client to client.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from rlscale.errors import nearest
from rlscale.types import Z95, Floats
from rlscale.workloads.diurnal import PROFILES, Profile, ProfileChoice, day_sizes, weekly
from rlscale.workloads.family import Clock, Family, NotNegative, Positive, Realisation, TokenChoice
from rlscale.workloads.noise import ar1, lognormal
from rlscale.workloads.renewal import burstiness, counts_at
from rlscale.workloads.servegen import SERVICES


def _service_choice(value: Any) -> Any:
    if value is not None and value not in SERVICES:
        raise ValueError(f"unknown service '{value}'; {nearest(str(value), SERVICES)}")
    return value


class MultiTenant(Family):
    """The sum of `clients` gamma renewal processes. `service` presets the fields; those given beside it win.

    Without a service: ServeGen m-large as the scenarios have it, without days of different size.

    Who the clients are follows from `service_seed` alone, so that every realisation is the same service on another
    day. Its largest client holds 10 % of the requests, the first five 49 %, the first ten 70 %; the services measured
    have 14 to 30, 46 to 77 and 68 to 93 %, and `service` comes within a quarter of each. The noise all clients share
    makes the total vary as measured (0.26): the clients' own noise averages out.
    """

    draws_counts: ClassVar[bool] = True

    kind: Literal["multi-tenant"] = "multi-tenant"
    rate_per_s: Positive = 214.0
    tokens: TokenChoice = "api"
    service: Annotated[str | None, BeforeValidator(_service_choice)] = Field(
        None, description="a ServeGen service whose settings hold where none is given: " + ", ".join(SERVICES)
    )
    clients: Annotated[int, Field(strict=True, ge=1, le=5000)] = Field(139, description="number of clients")
    rate_sigma: NotNegative = Field(2.7, description="standard deviation of the log of a client's mean rate")
    largest: Annotated[float, Field(strict=True, ge=1)] = Field(200.0, description="largest client over the median")
    cv_median: Positive = Field(1.2, description="variation of inter-arrivals: median over the clients")
    cv_p95: Positive = Field(9.0, description="its 95th percentile over the clients")
    cv_rate_correlation: Annotated[float, Field(strict=True, ge=-1, le=1)] = Field(
        0.15, description="correlation between the logs of a client's rate and variation"
    )
    profile: ProfileChoice = Field("servegen-m-small", description="a named profile, or 24 hourly rates from 00:00")
    weekend: NotNegative | None = Field(None, description="level of Saturday and Sunday over a weekday; the profile's")
    client_sigma: NotNegative = Field(0.25, description="standard deviation of the log of a client's own noise")
    shared_sigma: NotNegative = Field(0.26, description="the same of the noise that all clients share")
    noise_s: Positive = Field(3300.0, description="correlation time of both, seconds")
    day_sigma: NotNegative = Field(0.0, description="standard deviation of the log of a day's size")
    service_seed: Annotated[int, Field(strict=True, ge=0)] = Field(0, description="which service: who its clients are")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        service = given.get("service") if isinstance(given, Mapping) else None
        return {**SERVICES[service], **given} if isinstance(service, str) and service in SERVICES else given

    @model_validator(mode="after")
    def _in_order(self) -> MultiTenant:
        if self.cv_p95 < self.cv_median:
            raise ValueError(f"cv_p95={self.cv_p95} is below cv_median={self.cv_median}; swap them")
        return self

    def client_rates(self) -> Floats:
        """Mean requests per second of every client, smallest first; they sum to `rate_per_s`.

        Quantiles of the lognormal, not draws from it: draws would let the largest client be half of one service
        and a tenth of another.
        """
        rate = np.minimum(np.exp(self.rate_sigma * self._rank()), self.largest)
        return np.asarray(self.rate_per_s * rate / rate.sum())

    def client_cvs(self) -> Floats:
        """Coefficient of variation of the inter-arrivals of every client, in the order of `client_rates`."""
        own = np.random.default_rng(self.service_seed).permutation(self._rank())
        rho = self.cv_rate_correlation
        z = rho * self._rank() + math.sqrt(1.0 - rho * rho) * own
        return np.asarray(self.cv_median * np.exp(math.log(self.cv_p95 / self.cv_median) / Z95 * z))

    def realise(self, rng: np.random.Generator, clock: Clock) -> Realisation:
        """Every client's own path, summed."""
        levels = self._levels(rng, clock)
        rates = self.client_rates()
        run = clock.run_edges_s
        counts = np.zeros(len(run) - 1)
        minutes = np.arange(levels.shape[0] - clock.history_cells + 1) * 60.0
        for level, rate, cv in zip(levels[clock.history_cells :].T, rates, self.client_cvs(), strict=True):
            so_far = np.concatenate([[0.0], np.cumsum(60.0 * rate * level)])
            counts += counts_at(rng, np.interp(run, minutes, so_far), float(cv))
        total = levels @ rates
        expected = np.diff(
            np.interp(run, minutes, np.concatenate([[0.0], np.cumsum(60.0 * total[clock.history_cells :])]))
        )
        rate_per_s = np.concatenate([total[: clock.history_cells], expected / np.diff(run)])
        return Realisation(rate_per_s, counts, burstiness(counts, expected))

    def _levels(self, rng: np.random.Generator, clock: Clock) -> Floats:
        """(minutes, clients): rate of every client over its mean; the history, then the run."""
        minutes = math.ceil(clock.run_edges_s[-1] / 60.0)
        at_s = 60.0 * (np.arange(-clock.history_cells, minutes) + 0.5)
        known = PROFILES[self.profile] if isinstance(self.profile, str) else Profile(self.profile)
        day = weekly(known.hours, known.weekend if self.weekend is None else self.weekend, clock.week_s + at_s)
        shared = lognormal(ar1(rng, at_s, self.noise_s)[:, 0], self.shared_sigma)
        own = lognormal(ar1(rng, at_s, self.noise_s, self.clients), self.client_sigma)
        if self.day_sigma > 0:
            shared = shared * day_sizes(rng, clock.week_s + at_s, self.day_sigma)
        return (day * shared)[:, None] * own

    def _rank(self) -> Floats:
        """Standard normal score of every client by size."""
        from scipy.special import ndtri

        return np.asarray(ndtri((np.arange(self.clients) + 0.5) / self.clients))


WORKLOADS = {"multi-tenant": MultiTenant}
