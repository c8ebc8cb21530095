"""Long-context chat: nearly Poisson, with a slow swing of a tenth. Fitted to the Mooncake conversation trace."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from rlscale.types import Floats
from rlscale.workloads.family import Clock, Family, NotNegative, Positive, TokenChoice
from rlscale.workloads.noise import ar1, lognormal


class LongContext(Family):
    """Mean 3.4 requests/s, index of dispersion 1.1 / 1.5 / 2.8 at 1 / 10 / 60 s.

    The published fit is a plain Poisson process, which stays at 1; the slow factor makes up for it.
    """

    kind: Literal["long-context"] = "long-context"
    rate_per_s: Positive = 3.4
    tokens: TokenChoice = "long-context"
    slow_sigma: NotNegative = Field(0.1, description="standard deviation of the log of the slow factor")
    slow_s: Positive = Field(300.0, description="correlation time of the slow factor, seconds")

    def shape(self, rng: np.random.Generator, clock: Clock) -> Floats:
        """The slow factor."""
        return lognormal(ar1(rng, clock.mid_s, self.slow_s)[:, 0], self.slow_sigma)


WORKLOADS = {"long-context": LongContext}
