"""Loads made of loads: the product of a rate with shapes, and the sum of components.

kind: product                       kind: sum
rate_per_s: 150                     components:
factors:                              - {kind: chat, rate_per_s: 100}
  - {kind: diurnal}                   - {kind: code, rate_per_s: 50}
  - {kind: chat}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, model_validator

from rlscale.types import Floats, TokenLaw
from rlscale.workloads.family import Clock, Family, Positive, Realisation, TokenChoice, token_law
from rlscale.workloads.tokens import pool


def _part(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, Mapping):
        return value
    from rlscale.workloads.build import build  # build finds the families, so it knows this file

    where = (info.context or {}).get("where", "workload")
    return build(value, f"{where}, {info.field_name}")


Part = SerializeAsAny[Annotated[Family, BeforeValidator(_part)]]


class Product(Family):
    """`rate_per_s` times the shapes of the factors, which vary independently. The factors' own rates do not count."""

    kind: Literal["product"] = "product"
    factors: Annotated[tuple[Part, ...], Field(min_length=1)] = Field(description="families whose shapes multiply")

    @model_validator(mode="after")
    def _only_shapes(self) -> Product:
        for factor in self.factors:
            if factor.draws_counts:
                raise ValueError(f"'{factor.kind}' draws its own requests and has no shape; use it in a sum")
        return self

    def shape(self, rng: np.random.Generator, clock: Clock) -> Floats:
        """Product of the shapes."""
        return np.asarray(np.prod([factor.shape(rng, clock) for factor in self.factors], axis=0))


class Sum(Family):
    """All components together. `rate_per_s`, if given, rescales their rates to that total.

    Lengths are the mixture of the components' laws by their mean rates, unless `tokens` is given.
    """

    kind: Literal["sum"] = "sum"
    rate_per_s: Positive | None = Field(None, description="mean requests per second of the total")  # type: ignore[assignment]
    tokens: TokenChoice | None = Field(None, description="lengths; by default the components', pooled")  # type: ignore[assignment]
    components: Annotated[tuple[Part, ...], Field(min_length=1)] = Field(description="families that add up")

    @property
    def scaled(self) -> tuple[Family, ...]:
        """The components at their rates in the total."""
        if self.rate_per_s is None:
            return self.components
        factor = self.rate_per_s / sum(part.rate_per_s for part in self.components)
        return tuple(part.model_copy(update={"rate_per_s": part.rate_per_s * factor}) for part in self.components)

    def token_law(self) -> TokenLaw:
        """The given law or the mixture."""
        if self.tokens is not None:
            return token_law(self.tokens)
        return pool([part.token_law() for part in self.components], [part.rate_per_s for part in self.components])

    def realise(self, rng: np.random.Generator, clock: Clock) -> Realisation:
        """Rates add; as soon as one component draws its requests, the others' are drawn here too."""
        parts = [part.realise(rng, clock) for part in self.scaled]
        rate = np.sum([part.rate_per_s for part in parts], axis=0)
        if all(part.counts is None for part in parts):
            return Realisation(rate)
        step_s = np.diff(clock.run_edges_s)
        counts = np.zeros(len(step_s))
        excess = 0.0
        for part in parts:
            run = part.rate_per_s[clock.history_cells :]
            counts += rng.poisson(run * step_s) if part.counts is None else part.counts
            excess += (part.burstiness - 1.0) * float(run.sum())
        return Realisation(rate, counts, 1.0 + excess / float(rate[clock.history_cells :].sum()))


WORKLOADS: dict[str, type[Family]] = {"product": Product, "sum": Sum}
