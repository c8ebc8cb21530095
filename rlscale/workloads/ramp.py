"""Ramp: a rate that moves in a straight line from one level to another and stays there."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from rlscale.types import Floats
from rlscale.workloads.family import Clock, Family, NotNegative, Positive


class Ramp(Family):
    """`rate_per_s` is the rate before the ramp: a mean would depend on how long one looks."""

    kind: Literal["ramp"] = "ramp"
    start_s: NotNegative = Field(600.0, description="when the ramp begins, seconds")
    length_s: Positive = Field(1800.0, description="how long it takes, seconds")
    to: NotNegative = Field(3.0, description="rate after the ramp over the rate before")

    def shape(self, rng: np.random.Generator, clock: Clock) -> Floats:
        """One before, `to` after, linear in between."""
        return np.interp(clock.mid_s, (self.start_s, self.start_s + self.length_s), (1.0, self.to))


WORKLOADS = {"ramp": Ramp}
