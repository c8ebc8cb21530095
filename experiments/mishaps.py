"""What can go wrong around a scaler, for twenty minutes out of every two hours: in its metrics, or in itself.

METRICS change what everybody is shown, shields and fallback included; SCALERS what the scaler answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from rlscale.decide import hold
from rlscale.types import Decision, Observation, Scaler, ScalingLimits

PERIOD_S, LASTS_S = 7200.0, 1200.0
READINGS = ("arrival_per_s", "waiting", "running", "ttft_s", "tpot_s", "attainment", "dropped_per_s", "ttft_p90_s",
            "tpot_p90_s", "prompt_tokens", "answer_tokens", "compute_occupancy", "memory_occupancy")  # fmt: skip
AT_WORK = ("arrival_per_s", "waiting", "running", "dropped_per_s", "compute_occupancy", "memory_occupancy")
See = Callable[[Observation, Observation, float], Observation]
Say = Callable[[Decision, ScalingLimits, np.random.Generator], Decision]


class BrokenError(Exception):
    """What a scaler raises that is broken."""


def _standing(now: Observation, began: Observation, since_s: float) -> Observation:
    old = {name: getattr(began, name) for name in (*READINGS, "ready_at_scrape")}
    return replace(now, **old, age_s=began.age_s + since_s)


def _empty(now: Observation, began: Observation, since_s: float) -> Observation:
    return replace(now, **_times(now, READINGS, np.nan))


def _zero(now: Observation, began: Observation, since_s: float) -> Observation:
    return replace(now, **_times(now, AT_WORK, 0.0))


def _tenfold(now: Observation, began: Observation, since_s: float) -> Observation:
    return replace(now, **_times(now, ("arrival_per_s",), 10.0))


def _times(now: Observation, names: tuple[str, ...], factor: float) -> dict[str, Any]:
    return {name: factor * np.asarray(getattr(now, name), float) for name in names}


def _raises(decision: Decision, known: ScalingLimits, rng: np.random.Generator) -> Decision:
    raise BrokenError("a scaler that is broken")


def _to(counts: Any) -> Decision:
    return Decision(tuple(int(count) for count in counts), "broken")


METRICS: dict[str, See] = {
    "metrics stand still": _standing,
    "metrics are empty": _empty,
    "metrics say that nobody asks": _zero,
    "arrivals are told ten times too high": _tenfold,
}
SCALERS: dict[str, Say] = {
    "the scaler raises": _raises,
    "it wants the smallest fleet": lambda decision, known, rng: _to(known.min_replicas),
    "it wants the largest fleet": lambda decision, known, rng: _to(known.max_replicas),
    "it wants any fleet": lambda decision, known, rng: _to(rng.integers(known.min_replicas, known.max_replicas + 1)),
    "it wants NaN": lambda decision, known, rng: Decision((float("nan"),) * len(known.min_replicas), "broken"),  # type: ignore[arg-type]
}
NOTHING = "nothing"
NAMES = (NOTHING, *METRICS, *SCALERS)


class _Around:
    """Another scaler and all that it has."""

    def __init__(self, scaler: Scaler) -> None:
        self.scaler = scaler

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scaler, name)


class Misled(_Around):
    """Is shown metrics that are wrong. `offset_s`: when in every period."""

    def __init__(self, scaler: Scaler, see: See, offset_s: float) -> None:
        super().__init__(scaler)
        self._see, self._offset_s = see, offset_s
        self._began: Observation | None = None

    def decide(self, seen: Observation) -> Decision:
        """On what it is shown."""
        if not active(seen.t_s, self._offset_s):
            self._began = None
            return self.scaler.decide(seen)
        began = self._began = self._began or seen
        return self.scaler.decide(self._see(seen, began, seen.t_s - began.t_s))


class Broken(_Around):
    """Answers nonsense."""

    def __init__(self, scaler: Scaler, say: Say, known: ScalingLimits, offset_s: float, seed: int) -> None:
        super().__init__(scaler)
        self._say, self._known, self._offset_s = say, known, offset_s
        self._rng = np.random.default_rng([seed, 2])

    def decide(self, seen: Observation) -> Decision:
        """Its own answer, or none that is good."""
        decision = self.scaler.decide(seen)
        return self._say(decision, self._known, self._rng) if active(seen.t_s, self._offset_s) else decision


class Bare(_Around):
    """A loop that lives through what a scaler raises or answers, and does nothing else for it: the target stays."""

    def decide(self, seen: Observation) -> Decision:
        """As the scaler, or hold."""
        try:
            decision = self.scaler.decide(seen)
        except BrokenError:
            return hold(seen, "the scaler raised")
        return decision if np.all(np.isfinite(decision.target)) else hold(seen, "the scaler answered NaN")


def active(t_s: float, offset_s: float) -> bool:
    """Whether something is wrong at that time."""
    return (t_s - offset_s) % PERIOD_S < LASTS_S


def with_mishap(name: str, scaler: Scaler, known: ScalingLimits, guard: Callable[[Any], Any], seed: int) -> Any:
    """A scaler in what `guard` puts around it, and the mishap at its place: inside of that, or before it."""
    offset_s = float(np.random.default_rng([seed, 1]).uniform(0.0, PERIOD_S))
    if name in SCALERS:
        return guard(Broken(scaler, SCALERS[name], known, offset_s, seed))
    guarded = guard(scaler)
    return Misled(guarded, METRICS[name], offset_s) if name in METRICS else guarded
