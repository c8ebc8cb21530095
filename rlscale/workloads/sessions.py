"""Closed-loop sessions: a user reads the answer, thinks, and asks again, so that a slow service slows its own load.

kind: sessions
base: {kind: diurnal, rate_per_s: 30}   # first requests of sessions
continues: 0.75                         # share of the answers that are followed by another request
think_s: 45
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from rlscale.types import Load, TokenLaw
from rlscale.workloads.compose import Part
from rlscale.workloads.family import Family, Positive, TokenChoice


class Sessions(Family):
    """New sessions come by `base`; each finished answer is followed by another request with probability `continues`.

    Turns per session are geometric with mean 1 / (1 - continues); the time to the next request is exponential. Users
    whose request was dropped or lost leave.
    """

    kind: Literal["sessions"] = "sessions"
    rate_per_s: Positive | None = Field(None, description="mean requests per second, all turns")  # type: ignore[assignment]
    tokens: TokenChoice | None = Field(None, description="lengths; by default the base's")  # type: ignore[assignment]
    base: Part = Field(description="the family by which sessions begin")
    continues: Annotated[float, Field(strict=True, ge=0, lt=1)] = Field(0.75, description="share followed by another")
    think_s: Positive = Field(45.0, description="mean time between an answer and the next request, seconds")

    def token_law(self) -> TokenLaw:
        """The given law or the base's."""
        return self.base.token_law() if self.tokens is None else super().token_law()

    def sample(self, rng: np.random.Generator, duration_s: float, step_s: float) -> Load:
        """Beginnings of sessions; the world adds the later turns as answers are finished."""
        base = self.base
        if self.rate_per_s is not None:
            base = base.model_copy(update={"rate_per_s": self.rate_per_s * (1.0 - self.continues)})
        base = base.model_copy(update={"randomise_phase": base.randomise_phase or self.randomise_phase})
        load = base.sample(rng, duration_s, step_s)
        history = load.history_per_s / (1.0 - self.continues)
        return replace(load, name=self.kind, continues=self.continues, think_s=self.think_s,
                       tokens=(self.token_law(),), history_per_s=history)  # fmt: skip


WORKLOADS = {"sessions": Sessions}
