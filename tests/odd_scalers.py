"""Scalers that misbehave, named from outside as `odd_scalers:SLOW`."""

from __future__ import annotations

import os
import time

from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits


class Odd:
    """Keeps `replicas`; at the given time it does what its kind says."""

    def __init__(self, limits: ScalingLimits, replicas: float = 4, act: str = "", from_s: float = 600.0) -> None:
        self.replicas, self.act, self.from_s = int(replicas), act, from_s

    def reset(self) -> None:
        """Nothing to forget."""

    def decide(self, seen: Observation) -> Decision:
        """The same as ever, except for the odd thing."""
        if seen.t_s >= self.from_s:
            if self.act == "raise":
                raise ZeroDivisionError("a decision divided by zero")
            if self.act == "die":
                os._exit(3)
        if self.act == "sleep":
            time.sleep(0.003)
        return Decision((self.replicas,), "odd")


def _kind(act: str) -> ScalerKind:
    return ScalerKind(
        lambda limits, replicas=4, **params: Odd(limits, replicas, act, **params),
        Knob("replicas", (3, 4, 5, 6), 4),
        f"a constant fleet that will {act}",
    )


SLOW, BROKEN, DEADLY = _kind("sleep"), _kind("raise"), _kind("die")
