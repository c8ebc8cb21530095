"""Two scalers as one: the second decides where the first one cannot, and the target is held where neither can."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rlscale.decide import blind, hold
from rlscale.deploy.contained import Contained
from rlscale.types import Decision, Observation, Scaler

SCALER, FALLBACK, NOBODY = "scaler", "fallback", "nobody"


class ServeRule:
    """What Ray Serve itself would do: replicas = requests present / target_ongoing_requests, rounded up."""

    def __init__(self, ongoing: float) -> None:
        self.ongoing = ongoing

    def reset(self) -> None:
        """There is nothing to forget."""

    def decide(self, seen: Observation) -> Decision:
        """Holds while metrics are missing."""
        why = blind(seen, waiting=seen.waiting, running=seen.running)
        if why:
            return hold(seen, why)
        present = float(seen.waiting + seen.running)
        wanted = math.ceil(present / self.ongoing)
        return Decision((wanted,), f"{present:.4g} requests, {self.ongoing:g} per replica")


class HandsBack:
    """A scaler that always decides. Both are asked every time, so that the windows of the fallback are never cold."""

    def __init__(self, scaler: Contained, fallback: Contained) -> None:
        self._scaler, self._fallback = scaler, fallback
        self.errors = 0
        self.last_error = ""  # of the last time; empty when nothing went wrong
        self.decided_by = NOBODY
        self.beside: Decision | None = None  # what the fallback would have done

    def reset(self) -> None:
        """The scalers begin when they are built."""

    def decide(self, seen: Observation) -> Decision:
        """The first decision there is."""
        answers = {SCALER: self._scaler.ask(seen), FALLBACK: self._fallback.ask(seen)}
        self.beside = answers[FALLBACK].decision
        faults = [f"{who}: {answer.error}" for who, answer in answers.items() if answer.error]
        self.errors += len(faults)
        self.last_error = "; ".join(faults)
        for who, answer in answers.items():
            if answer.decision is not None:
                self.decided_by = who
                return answer.decision
        self.decided_by = NOBODY
        return hold(seen, "no scaler could decide")

    def note(self, error: str) -> None:
        """Something else went wrong."""
        self.errors += 1
        self.last_error = error


def guarded(build: Callable[[], Scaler], fallback: Callable[[], Scaler], patience_s: float) -> Any:
    """The scaler with its fallback, as the policy asks it."""
    return HandsBack(Contained(build, patience_s), Contained(fallback, patience_s))
