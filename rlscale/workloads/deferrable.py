"""Batch jobs that may wait: offline inference and elastic training beside the requests of users.

kind: deferrable
base: {kind: diurnal, rate_per_s: 150}   # what cannot wait
jobs_per_h: 2
tokens_per_job: 3.0e+7                   # tokens of decoding, or a training step's worth of it
deadline_s: 21600
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from rlscale.types import WORK_STEP_S, Floats, Load, TokenLaw
from rlscale.workloads.compose import Part
from rlscale.workloads.family import Family, NotNegative, Positive, TokenChoice


class Deferrable(Family):
    """A load with jobs that use what the replicas have left. Jobs come as a Poisson process, their sizes are lognormal.

    A job is a number of tokens that is there at once, can be interrupted at any token, and is late when it is not done
    `deadline_s` after it came.
    """

    kind: Literal["deferrable"] = "deferrable"
    rate_per_s: Positive | None = Field(None, description="mean requests per second of the base")  # type: ignore[assignment]
    tokens: TokenChoice | None = Field(None, description="lengths; by default the base's")  # type: ignore[assignment]
    base: Part = Field(description="the family of the requests that cannot wait")
    jobs_per_h: Positive = Field(2.0, description="jobs per hour")
    tokens_per_job: Positive = Field(3e7, description="mean size of a job, tokens")
    job_sigma: NotNegative = Field(0.8, description="standard deviation of the log of a job's size")
    deadline_s: Positive = Field(21_600.0, description="time until a job has to be done, seconds")

    def token_law(self) -> TokenLaw:
        """The given law or the base's."""
        return self.base.token_law() if self.tokens is None else super().token_law()

    def sample(self, rng: np.random.Generator, duration_s: float, step_s: float) -> Load:
        """The base's load, and the work beside it."""
        base = self.base
        if self.rate_per_s is not None:
            base = base.model_copy(update={"rate_per_s": self.rate_per_s})
        base = base.model_copy(update={"randomise_phase": base.randomise_phase or self.randomise_phase})
        load = base.sample(rng, duration_s, step_s)
        return replace(load, name=self.kind, tokens=(self.token_law(),), work_per_s=self._work(rng, duration_s),
                       deadline_s=self.deadline_s)  # fmt: skip

    def _work(self, rng: np.random.Generator, duration_s: float) -> Floats:
        cells = math.ceil(duration_s / WORK_STEP_S)
        jobs = rng.poisson(self.jobs_per_h * WORK_STEP_S / 3600.0, cells)
        median = self.tokens_per_job * math.exp(-0.5 * self.job_sigma**2)
        sizes = median * np.exp(self.job_sigma * rng.standard_normal(int(jobs.sum())))
        return np.asarray(np.bincount(np.repeat(np.arange(cells), jobs), sizes, cells) / WORK_STEP_S)


WORKLOADS = {"deferrable": Deferrable}
