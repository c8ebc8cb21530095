"""Steady load: a Poisson process of constant rate."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rlscale.types import Floats
from rlscale.workloads.family import Clock, Family


class Steady(Family):
    """Requests arrive independently of each other and of the time of day."""

    kind: Literal["steady"] = "steady"

    def shape(self, rng: np.random.Generator, clock: Clock) -> Floats:
        """One everywhere."""
        return np.ones(len(clock.edges_s) - 1)


WORKLOADS = {"steady": Steady}
