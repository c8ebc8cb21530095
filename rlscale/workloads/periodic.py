"""Periodic load: a Poisson process whose rate is a sine of any period. Nothing about it is random but the counts."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from rlscale.types import Floats
from rlscale.workloads.family import Clock, Family, Positive, Share


class Periodic(Family):
    """Rises and falls around its mean; the phase is that of the week, so `randomise_phase` moves it."""

    kind: Literal["periodic"] = "periodic"
    period_s: Positive = Field(3600.0, description="seconds")
    swing: Share = Field(0.5, description="amplitude over mean, 0 to 1")

    def shape(self, rng: np.random.Generator, clock: Clock) -> Floats:
        """1 + swing * sin."""
        return 1.0 + self.swing * np.sin(2.0 * np.pi * (clock.week_s + clock.mid_s) / self.period_s)


WORKLOADS = {"periodic": Periodic}
