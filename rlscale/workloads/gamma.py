"""Gamma-bursty load: the whole service is one renewal process with gamma distances of a given variation."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from rlscale.types import Floats
from rlscale.workloads.family import Clock, Family, Positive, Realisation
from rlscale.workloads.renewal import burstiness, counts_at


class Gamma(Family):
    """Constant rate; the distances between requests have the coefficient of variation `cv` (1 is Poisson)."""

    draws_counts: ClassVar[bool] = True

    kind: Literal["gamma"] = "gamma"
    cv: Positive = Field(3.5, description="coefficient of variation of the inter-arrival times")

    def shape(self, rng: np.random.Generator, clock: Clock) -> Floats:
        """One everywhere."""
        return np.ones(len(clock.edges_s) - 1)

    def realise(self, rng: np.random.Generator, clock: Clock) -> Realisation:
        """Counts of one renewal process over the run."""
        expected = self.rate_per_s * clock.run_edges_s
        counts = counts_at(rng, expected, self.cv)
        return Realisation(self.rate_per_s * self.shape(rng, clock), counts, burstiness(counts, np.diff(expected)))


WORKLOADS = {"gamma": Gamma}
