"""A scaler that may fail: asked within a deadline, its answer read with care, its failures put into words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from rlscale.circle import begin
from rlscale.deploy.shields.base import State, Target
from rlscale.deploy.worker import Late, Stuck, Worker
from rlscale.execute import whole
from rlscale.types import Decision, Floats, Observation, Scaler, ScalingLimits

T = TypeVar("T")
MOST_REPLICAS = 10**9  # more than this is no count
UNKNOWN: tuple[Floats, float] = (np.zeros(0), 60.0)  # load before a run, where nothing is known of it
WORDS = 300  # characters of a reason that are kept


@dataclass(frozen=True, slots=True)
class Answer:
    """What a scaler wants, (P,) whole replicas; or why that cannot be told, and which kind of failure it is."""

    target: Target = ()
    reason: str = ""
    standby: tuple[int, ...] = ()
    failure: str = ""  # one of shields.breaker.FAILURES


class Member:
    """A scaler with its forecaster. `deadline_s` None: it is called in the caller's thread and may block it.

    Beginning a run is left to the next question, within its deadline, so that it neither blocks nor raises by itself.
    """

    def __init__(self, name: str, scaler: Scaler, limits: ScalingLimits, deadline_s: float | None) -> None:
        self.name, self.scaler, self.limits, self.deadline_s = name, scaler, limits, deadline_s
        self._worker = Worker(f"rlscale {name}")
        self._history: tuple[Floats, float] | None = None
        self._saved: State | None = None
        self._begun = False

    def reset(self) -> None:
        """Forget the previous run at the next question."""
        self._begun, self._history, self._saved = False, None, None

    def warm_up(self, history_per_s: Floats, history_step_s: float) -> None:
        """Load before the run."""
        self._history = history_per_s, history_step_s

    def ask(self, seen: Observation) -> Answer:
        """Its answer; never raises."""
        try:
            return self._within(lambda: self._answer(seen))
        except Late:
            return Answer(reason=f"{self.name}: no decision within {self.deadline_s:g} s", failure="slow")
        except Stuck:
            return Answer(reason=f"{self.name}: an earlier decision is still running", failure="stuck")
        except Exception as error:
            return Answer(reason=f"{self.name}: {_words(error)}", failure="error")

    def state(self) -> State | None:
        """What the scaler wants to survive a restart; None where it keeps nothing, or cannot tell now."""
        if not self._begun:
            return self._saved
        keep = getattr(self.scaler, "state", None)
        if keep is None:
            return None
        try:
            kept = self._within(keep)
        except Exception:
            return None
        return kept if isinstance(kept, dict) else None

    def restore(self, state: State | None) -> None:
        """Go on from there at the next question."""
        self._saved, self._begun = state, False

    def _within(self, act: Callable[[], T]) -> T:
        return act() if self.deadline_s is None else self._worker.call(act, self.deadline_s)

    def _answer(self, seen: Observation) -> Answer:
        if not self._begun:
            self._begin()
        forecaster = getattr(self.scaler, "forecaster", None)
        if forecaster is not None:
            rate = forecaster.update(float(seen.arrival_per_s), seen.interval_s)
            seen = replace(seen, forecast_per_s=rate)
        return read(self.scaler.decide(seen), self.limits, current(seen), self.name)

    def _begin(self) -> None:
        begin(self.scaler, *(self._history or UNKNOWN))
        if self._saved is not None and hasattr(self.scaler, "restore"):
            self.scaler.restore(self._saved)
        self._begun = True


def current(seen: Observation) -> Target:
    """The target in force."""
    return tuple(int(float(count)) for count in np.atleast_1d(seen.target))


def read(decision: Any, limits: ScalingLimits, now: Target, name: str) -> Answer:
    """A decision as whole replicas, or a failure: no Decision, another number of pools, NaN, infinite or negative."""
    fault = _fault(decision, len(now))
    if fault:
        return Answer(reason=f"{name}: {fault}", failure="invalid")
    target, reasons = whole(decision, limits, now)
    reason = "; ".join(part for part in (str(decision.reason)[:WORDS], *reasons) if part)
    standby = decision.standby if len(decision.standby) == len(now) else ()
    return Answer(target, reason, tuple(standby))


def _fault(decision: Any, pools: int) -> str:
    if not isinstance(decision, Decision):
        return f"answered {type(decision).__name__}, expected a Decision"
    counts = decision.target if len(decision.target) else (decision.capacity_per_s,)
    if len(decision.target) not in (0, pools):
        return f"answered {len(decision.target)} targets for {pools} pools"
    wrong = [count for count in counts if not _counts(count)]
    return f"asked for {str(wrong[0])[:40]} {'replicas' if len(decision.target) else 'requests/s'}" if wrong else ""


def _counts(asked: Any) -> bool:
    if not isinstance(asked, int | float | np.integer | np.floating):
        return False
    number = float(asked)
    return math.isfinite(number) and 0.0 <= number <= MOST_REPLICAS


def _words(error: BaseException) -> str:
    """Kind and first line: the rest is for the log of the scaler's own author."""
    text = str(error).strip().splitlines()
    return f"raised {type(error).__name__}{f': {text[0]}' if text else ''}"[:WORDS]
