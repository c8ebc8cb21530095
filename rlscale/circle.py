"""The circle, once, for simulated and live worlds: an interval passes, then Monitor, Predict, Decide, Execute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from rlscale.execute import Bounded, bound
from rlscale.types import Floats, Observation, Scaler, ScalingLimits


class World(Protocol):
    """What the circle turns."""

    def wait(self) -> bool:
        """Let one control interval pass; False when no decision follows it."""
        ...

    def observe(self) -> Observation:
        """What can be seen now."""
        ...

    def apply(self, seen: Observation, bounded: Bounded) -> None:
        """Put targets in force that were decided on what was seen."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """Once round: what was seen, what came of it, and how long deciding took."""

    seen: Observation
    bounded: Bounded
    decision_s: float


def turns(world: World, scaler: Scaler, known: ScalingLimits) -> Iterator[Turn]:
    """Turn until the world says that it was enough."""
    while world.wait():
        yield turn(world, scaler, known)


def turn(world: World, scaler: Scaler, known: ScalingLimits) -> Turn:
    """Once round, after an interval has passed."""
    seen = world.observe()
    began = time.perf_counter()
    bounded = decide(scaler, seen, known)
    decision_s = time.perf_counter() - began
    world.apply(seen, bounded)
    return Turn(seen, bounded, decision_s)


def decide(scaler: Scaler, seen: Observation, known: ScalingLimits) -> Bounded:
    """Predict, Decide and Execute: the bounded targets and the reason for the audit log."""
    forecaster = getattr(scaler, "forecaster", None)
    if forecaster is not None:
        seen = replace(seen, forecast_per_s=forecaster.update(float(seen.arrival_per_s), seen.interval_s))
    decision = scaler.decide(seen)
    bounded = bound(decision, known, seen.target)
    reason = "; ".join(part for part in (decision.reason, bounded.reason) if part)
    return bounded._replace(reason=reason)


def begin(scaler: Scaler, history_per_s: Floats, history_step_s: float) -> None:
    """Make a scaler ready for a run, with the load before it."""
    scaler.reset()
    forecaster = getattr(scaler, "forecaster", None)
    if forecaster is not None:
        forecaster.reset(history_per_s, history_step_s)
    elif hasattr(scaler, "warm_up"):
        scaler.warm_up(history_per_s, history_step_s)
