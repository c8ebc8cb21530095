"""Steps: a rate that jumps at given times."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from rlscale.types import Floats
from rlscale.workloads.family import Clock, Family, NotNegative


class Step(Family):
    """`rate_per_s` is the rate before the first jump; cells that a jump cuts get the mean of both sides."""

    kind: Literal["step"] = "step"
    at_s: Annotated[tuple[NotNegative, ...], Field(min_length=1)] = Field((600.0,), description="jumps, seconds")
    levels: Annotated[tuple[NotNegative, ...], Field(min_length=1)] = Field(
        (3.0,), description="rate after each jump over the rate before the first"
    )

    @model_validator(mode="after")
    def _one_level_per_jump(self) -> Step:
        if len(self.at_s) != len(self.levels):
            raise ValueError(f"{len(self.at_s)} jumps in at_s and {len(self.levels)} levels; expected as many of each")
        if any(later <= earlier for earlier, later in zip(self.at_s, self.at_s[1:], strict=False)):
            raise ValueError(f"at_s {self.at_s} does not rise; sort the jumps by time")
        return self

    def shape(self, rng: np.random.Generator, clock: Clock) -> Floats:
        """Mean level of every cell, from the integral of the levels at its edges."""
        knots = np.array([clock.edges_s[0], *self.at_s, max(clock.edges_s[-1], self.at_s[-1]) + 1.0])
        area = np.concatenate([[0.0], np.cumsum(np.array([1.0, *self.levels]) * np.diff(knots))])
        return np.asarray(np.diff(np.interp(clock.edges_s, knots, area)) / np.diff(clock.edges_s))


WORKLOADS = {"step": Step}
