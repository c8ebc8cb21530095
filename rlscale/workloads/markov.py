"""Markov-modulated load: a Poisson process that switches between levels, with a slow factor on top.

`code` and `chat` are fitted to the two hours of the Azure LLM inference trace 2023.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from rlscale.types import Floats
from rlscale.workloads.family import Clock, Family, NotNegative, Positive, Share, TokenChoice
from rlscale.workloads.noise import ar1, lognormal

Levels = Annotated[tuple[NotNegative, ...], Field(min_length=2)]


class Markov(Family):
    """A chain stepped every second chooses the level; a lognormal factor of mean 1 multiplies it.

    `levels` need no unit: only their ratios matter, `rate_per_s` sets the mean. The index of dispersion grows with
    `rate_per_s`: at k times the rate a window has k times the excess over 1. `copies` > 1 is the sum of that many
    independent chains (superposed users instead of amplified ones) and flattens the load accordingly.
    """

    kind: Literal["markov"] = "markov"
    levels: Levels = Field(description="rate in every state, any unit")
    transitions: tuple[tuple[Share, ...], ...] = Field(description="row i: probabilities per second to go i -> j")
    slow_sigma: NotNegative = Field(0.0, description="standard deviation of the log of the slow factor")
    slow_s: Positive = Field(240.0, description="correlation time of the slow factor, seconds")
    copies: Annotated[int, Field(strict=True, ge=1)] = Field(1, description="independent copies that sum to the load")

    @model_validator(mode="after")
    def _square_and_stochastic(self) -> Markov:
        n = len(self.levels)
        if len(self.transitions) != n or any(len(row) != n for row in self.transitions):
            raise ValueError(f"transitions must have {n} rows of {n} numbers, one for each level")
        for i, row in enumerate(self.transitions):
            if abs(sum(row) - 1.0) > 0.01:
                raise ValueError(f"transitions[{i}] sums to {sum(row):g}; expected 1")
            if row[i] > 0.9999999:
                raise ValueError(f"transitions[{i}] never leaves state {i}; expected a way out")
        if max(self.levels) <= 0:
            raise ValueError("all levels are zero; expected at least one above")
        return self

    def shape(self, rng: np.random.Generator, clock: Clock) -> Floats:
        """Mean over the copies of level x slow factor."""
        chain, stationary = self._chain()
        levels = np.array(self.levels) / float(stationary @ np.array(self.levels))
        total = np.zeros(len(clock.edges_s) - 1)
        for _ in range(self.copies):
            path = _walk(rng, chain, stationary, levels, clock.edges_s)
            if self.slow_sigma > 0:
                path *= lognormal(ar1(rng, clock.mid_s, self.slow_s)[:, 0], self.slow_sigma)
            total += path
        return total / self.copies

    def _chain(self) -> tuple[Floats, Floats]:
        """Transition matrix with rows of sum 1, and its stationary distribution."""
        chain = np.array(self.transitions)
        chain /= chain.sum(axis=1, keepdims=True)
        balance = np.vstack([chain.T - np.eye(len(chain)), np.ones(len(chain))])
        stationary = np.linalg.lstsq(balance, np.append(np.zeros(len(chain)), 1.0), rcond=None)[0]
        return chain, np.asarray(stationary)


def _walk(rng: np.random.Generator, chain: Floats, stationary: Floats, levels: Floats, edges_s: Floats) -> Floats:
    """Mean level in every cell along one path of the chain; it moves on whole seconds."""
    span_s = math.ceil(edges_s[-1] - edges_s[0])
    states, dwell_s = _path(rng, chain, stationary, span_s)
    at_s = edges_s[0] + np.concatenate([[0.0], np.cumsum(dwell_s)])
    area = np.concatenate([[0.0], np.cumsum(levels[states] * dwell_s)])
    return np.asarray(np.diff(np.interp(edges_s, at_s, area)) / np.diff(edges_s))


def _path(rng: np.random.Generator, chain: Floats, stationary: Floats, span_s: int) -> tuple[np.ndarray, np.ndarray]:
    """States visited and seconds spent in each, until `span_s` are filled."""
    stay = np.diag(chain)
    leave = (chain - np.diag(stay)) / (1.0 - stay)[:, None]
    cumulative = np.cumsum(leave, axis=1).tolist()
    log_stay = [math.log(p) if p > 0 else -math.inf for p in stay]
    state = int(rng.choice(len(chain), p=np.maximum(stationary, 0.0) / np.maximum(stationary, 0.0).sum()))
    states: list[int] = []
    dwell: list[int] = []
    filled = 0
    while filled < span_s:
        for u, v in zip(rng.random(1024).tolist(), rng.random(1024).tolist(), strict=True):
            seconds = 1 + int(math.log(1.0 - u) / log_stay[state])  # geometric
            states.append(state)
            dwell.append(seconds)
            filled += seconds
            if filled >= span_s:
                break
            row = cumulative[state]
            state = next((j for j, edge in enumerate(row) if v < edge), len(row) - 1)
    return np.array(states), np.array(dwell)


class Code(Markov):
    """Bursty code assistant: mean 2.57 requests/s, index of dispersion 13 / 72 / 164 at 1 / 10 / 60 s.

    Without the slow factor the chain alone reaches 12 / 60 / 95; 0.45 over four minutes gives 15 / 78 / 145.
    """

    kind: Literal["code"] = "code"  # type: ignore[assignment]
    rate_per_s: Positive = 2.57
    tokens: TokenChoice = "code"
    levels: Levels = (0.003, 6.8, 22.5)
    transitions: tuple[tuple[Share, ...], ...] = (
        (0.9542, 0.0439, 0.0019),
        (0.1439, 0.7833, 0.0728),
        (0.0510, 0.3028, 0.6462),
    )
    slow_sigma: NotNegative = 0.45
    slow_s: Positive = 240.0


class CodePauses(Code):
    """The code assistant with the long pauses of its hour: variation of the inter-arrivals 13 instead of 8.5.

    A fifth of the pauses lasts 75 s in the mean, the others 9 s, where `code` has one kind of 22 s: a third of the
    recorded hour is ten pauses of 78 to 217 s. They bring slow variance of their own, so the slow factor is smaller.
    """

    kind: Literal["code-pauses"] = "code-pauses"  # type: ignore[assignment]
    levels: Levels = (0.003, 0.003, 6.8, 22.5)
    transitions: tuple[tuple[Share, ...], ...] = (
        (1 - 1 / 9, 0.0, 0.9585 / 9, 0.0415 / 9),
        (0.0, 1 - 1 / 75, 0.9585 / 75, 0.0415 / 75),
        (0.8 * 0.1439, 0.2 * 0.1439, 0.7833, 0.0728),
        (0.8 * 0.0510, 0.2 * 0.0510, 0.3028, 0.6462),
    )
    slow_sigma: NotNegative = 0.3


class Chat(Markov):
    """Chat within the hour: mean 5.53 requests/s, index of dispersion 1.4 / 3.9 / 16 at 1 / 10 / 60 s.

    Levels and dwell times (17, 99, 71 s) are published; the way between the states is a maximum-likelihood fit to
    the counts per second, in which both outer states lead to the middle one.
    """

    kind: Literal["chat"] = "chat"  # type: ignore[assignment]
    rate_per_s: Positive = 5.53
    tokens: TokenChoice = "chat"
    levels: Levels = (2.1, 4.8, 7.2)
    transitions: tuple[tuple[Share, ...], ...] = (
        (1 - 1 / 17, 1 / 17, 0.0),
        (0.27 / 99, 1 - 1 / 99, 0.73 / 99),
        (0.0, 1 / 71, 1 - 1 / 71),
    )
    slow_sigma: NotNegative = 0.1
    slow_s: Positive = 300.0


WORKLOADS: dict[str, type[Family]] = {"markov": Markov, "code": Code, "code-pauses": CodePauses, "chat": Chat}
