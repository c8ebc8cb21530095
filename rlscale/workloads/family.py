"""What every load family shares: its settings, its clock, and how a realisation becomes a `Load`.

A family is a rate over time; most are Poisson processes whose rate is itself random. The counts below a cell are
then the world's to draw. Families that draw counts themselves (renewal processes) say so with `draws_counts`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from rlscale.errors import ScenarioError, nearest
from rlscale.types import Floats, Load, TokenLaw
from rlscale.workloads.tokens import TOKEN_LAWS

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
HISTORY_STEP_S = 60.0

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
NotNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1)]


class TokenKnots(BaseModel):
    """Lengths by quantile: probability -> tokens, or one number when every request is alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Positive | dict[Share, Positive] = Field(description="prompt tokens by probability")
    output: Positive | dict[Share, Positive] = Field(description="output tokens by probability")

    @property
    def law(self) -> TokenLaw:
        """The same as the engines take it."""
        return TokenLaw(*_knots(self.prompt), *_knots(self.output))

    def model_post_init(self, _: Any) -> None:
        """Refuse knots that are no quantile function."""
        for name, knots in (("prompt", self.prompt), ("output", self.output)):
            p, tokens = _knots(knots)
            if p[0] != 0.0 or p[-1] != 1.0:
                raise ScenarioError(f"tokens.{name}: knots from {p[0]} to {p[-1]}; expected from 0 to 1")
            if any(later < earlier for earlier, later in itertools.pairwise(tokens)):
                raise ScenarioError(f"tokens.{name}: {tokens} falls; expected tokens that rise with the probability")


def _knots(knots: float | dict[float, float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if isinstance(knots, dict):
        p = sorted(knots)
        return tuple(p), tuple(knots[at] for at in p)
    return (0.0, 1.0), (knots, knots)


def _token_choice(value: Any) -> Any:
    if isinstance(value, str) and value not in TOKEN_LAWS:
        raise ValueError(f"unknown token law '{value}'; {nearest(value, TOKEN_LAWS)}")
    if not isinstance(value, str | Mapping | TokenKnots):
        raise ValueError("expected the name of a token law or a mapping with prompt and output")
    return value


TokenChoice = Annotated[str | TokenKnots, BeforeValidator(_token_choice)]


def token_law(choice: str | TokenKnots) -> TokenLaw:
    """The law behind a name or explicit knots."""
    return TOKEN_LAWS[choice] if isinstance(choice, str) else choice.law


@dataclass(frozen=True, slots=True)
class Clock:
    """The cells of one realisation: a day of history before t = 0, then the run."""

    edges_s: Floats  # (cells + 1,)
    history_cells: int
    week_s: float  # seconds since Monday 00:00 at t = 0

    @property
    def mid_s(self) -> Floats:
        """Middle of every cell."""
        return 0.5 * (self.edges_s[1:] + self.edges_s[:-1])

    @property
    def run_edges_s(self) -> Floats:
        """Edges of the cells of the run, from 0."""
        return self.edges_s[self.history_cells :]


def make_clock(duration_s: float, step_s: float, week_s: float) -> Clock:
    """History in cells of a minute, the run in cells of `step_s` (the last one may end after `duration_s`)."""
    if not (0 < step_s <= duration_s < math.inf):
        raise ScenarioError(f"a load of {duration_s} s in cells of {step_s} s; expected 0 < cell <= duration < inf")
    cells = math.ceil(duration_s / step_s - 1e-9)
    history = np.arange(-DAY_S, 0.0, HISTORY_STEP_S)
    return Clock(np.concatenate([history, np.arange(cells + 1) * step_s]), len(history), week_s)


@dataclass(frozen=True, slots=True)
class Realisation:
    """Rates of all cells of a clock, and the counts of the run's cells where the family draws them."""

    rate_per_s: Floats  # (cells,) history first
    counts: Floats | None = None  # (run cells,)
    burstiness: float = 1.0


class Family(BaseModel):
    """Settings of every family. `rate_per_s` is the long-run mean, so that any family can be scaled."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    draws_counts: ClassVar[bool] = False

    kind: str
    rate_per_s: Positive = Field(1.0, description="mean requests per second")
    tokens: TokenChoice = Field("chat", description="a token law by name, or its knots")
    randomise_phase: bool = Field(False, description="start at a random moment of the week, not on Monday 00:00")

    def shape(self, rng: np.random.Generator, clock: Clock) -> Floats:
        """Rate over `rate_per_s` in every cell of the clock; its long-run mean is 1."""
        raise NotImplementedError(f"{type(self).__name__} has no shape")

    def realise(self, rng: np.random.Generator, clock: Clock) -> Realisation:
        """Rates, and counts if the family draws them."""
        return Realisation(self.rate_per_s * self.shape(rng, clock))

    def token_law(self) -> TokenLaw:
        """Lengths of the requests."""
        return token_law(self.tokens)

    def sample(self, rng: np.random.Generator, duration_s: float, step_s: float) -> Load:
        """One realisation; see `Workload`."""
        # Whole minutes: the hour of week then changes at the edge of a cell.
        week_s = 60.0 * float(rng.integers(round(WEEK_S / 60.0))) if self.randomise_phase else 0.0
        clock = make_clock(duration_s, step_s, week_s)
        real = self.realise(rng, clock)
        run = real.rate_per_s[clock.history_cells :] if real.counts is None else real.counts
        return Load(
            name=self.kind,
            step_s=step_s,
            values=run.astype(np.float32),
            law="poisson" if real.counts is None else "counts",
            tokens=(self.token_law(),),
            burstiness=real.burstiness,
            history_per_s=real.rate_per_s[: clock.history_cells].copy(),
            history_step_s=HISTORY_STEP_S,
            week_s=week_s,
        )
