"""The decisions of a trained policy, and the same as a scaler for rlscale."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.exported.cluster import NEEDED, OPTIONAL, Features, Known, number, of_rlscale, read
from experiments.exported.data import SPEC
from experiments.exported.models import Network, Tree
from experiments.exported.moves import ACTIONS, blind, held


class Policy:
    """The decisions of the policy. `multiplier` times the demand is what it sizes the fleet for; `limits`, in the form
    of limits.json, replace those of the cluster that it was exported for."""

    def __init__(self, multiplier: float = 1.0, limits: Mapping[str, Any] | None = None) -> None:
        if not (multiplier > 0 and math.isfinite(multiplier)):
            raise ValueError(f"multiplier = {multiplier!r}; expected a number above 0")
        self.multiplier, self.known = float(multiplier), Known(limits or SPEC["limits"])
        if len(self.known.least) != SPEC["pools"]:
            raise ValueError(f"limits of {len(self.known.least)} pools; the policy was trained on {SPEC['pools']}")
        self.reason, self.outputs = "", list[float]()
        self._model: Network | Tree = Tree() if SPEC["kind"] == "tree" else Network()
        self.reset()

    def reset(self) -> None:
        """Forget the history."""
        self._features = Features(self.known, float(SPEC["interval_s"]))
        self._model.reset()

    def warm_up(self, history_per_s: Iterable[Any], history_step_s: float) -> None:
        """Arrivals per second before now, oldest first, one per `history_step_s` seconds."""
        self._features.begin([self.multiplier * number(value) for value in history_per_s], float(history_step_s))

    def decide(self, observation: Mapping[str, Any]) -> tuple[int, ...]:
        """Replicas per pool."""
        seen = read(observation, len(self.known.least), self.multiplier)
        self.outputs = self._model.forward(self._features.push(seen)[: SPEC["inputs"]])
        why = blind(seen)
        if why:
            self.reason = f"hold: {why}"
            return tuple(held(seen))
        target, self.reason = ACTIONS[SPEC["actions"]["name"]](self.outputs, seen, self.known, SPEC["actions"])
        return tuple(target)


class Scaler:
    """The same for rlscale: `--scaler MODULE:Scaler`."""

    def __init__(self, limits: Any = None, multiplier: float = 1.0) -> None:
        self.policy = Policy(multiplier, None if limits is None else of_rlscale(limits))

    def reset(self) -> None:
        """Forget the history."""
        self.policy.reset()

    def warm_up(self, history_per_s: Iterable[Any], history_step_s: float) -> None:
        """Load before the run."""
        self.policy.warm_up(history_per_s, history_step_s)

    def decide(self, seen: Any) -> Any:
        """The policy's targets as a Decision."""
        from rlscale.types import Decision

        names = (*NEEDED, *OPTIONAL, "interval_s")
        target = self.policy.decide({name: getattr(seen, name) for name in names})
        return Decision(target, self.policy.reason)


def main() -> None:
    """An observation per line, as JSON, on standard input; targets and reason per line on standard output."""
    policy = Policy()
    for line in sys.stdin:
        print(json.dumps({"targets": policy.decide(json.loads(line)), "reason": policy.reason}), flush=True)
