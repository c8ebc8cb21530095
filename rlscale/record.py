"""What a scaler saw and answered, interval by interval, and the same observations for other scalers to answer.

An observation as a mapping of plain numbers and lists is what exports, servers of other languages and files take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rlscale.loop import run
from rlscale.scenario import Scenario
from rlscale.types import Decision, Floats, Load, Observation, Scaler, ScalingLimits

FIELDS = tuple(field.name for field in fields(Observation) if field.name != "limits")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One run as its scaler saw it: the load before it, every observation and every target it asked for."""

    history_per_s: Floats
    history_step_s: float
    seen: tuple[Observation, ...]
    targets: tuple[tuple[int, ...], ...]


class Recorder:
    """A scaler that answers as another one and keeps what it was asked."""

    def __init__(self, scaler: Scaler) -> None:
        self.scaler = scaler
        self.seen: list[Observation] = []
        self.decisions: list[Decision] = []
        self.history: tuple[Floats, float] = (np.zeros(0), 60.0)
        self.forecaster = getattr(scaler, "forecaster", None)

    def reset(self) -> None:
        """Begin anew."""
        self.seen, self.decisions = [], []
        self.scaler.reset()

    def warm_up(self, history_per_s: Floats, history_step_s: float) -> None:
        """Load before the run."""
        self.history = (history_per_s, history_step_s)
        warm_up(self.scaler, history_per_s, history_step_s)

    def decide(self, seen: Observation) -> Decision:
        """The other scaler's decision."""
        self.seen.append(seen)
        self.decisions.append(self.scaler.decide(seen))
        return self.decisions[-1]


def record(scenario: Scenario, scaler: Scaler, loads: Iterable[tuple[Load, int]], intervals: int) -> list[Recorded]:
    """Runs of a scaler over loads, each with the seed of its luck, until there are so many intervals."""
    runs: list[Recorded] = []
    missing = intervals
    for load, seed in loads:
        recorder = Recorder(scaler)
        run(scenario, recorder, load, seed)
        targets = tuple(tuple(int(count) for count in one.target) for one in recorder.decisions)
        runs.append(Recorded(*recorder.history, tuple(recorder.seen[:missing]), targets[:missing]))
        missing -= len(recorder.seen)
        if missing <= 0:
            break
    return runs


def answers(scaler: Scaler, runs: Sequence[Recorded]) -> list[Decision]:
    """What a scaler decides when it sees recorded runs from their beginning, one after the other."""
    found = []
    for one in runs:
        scaler.reset()
        warm_up(scaler, one.history_per_s, one.history_step_s)
        found += [scaler.decide(seen) for seen in one.seen]
    return found


def warm_up(scaler: Any, history_per_s: Floats, history_step_s: float) -> None:
    """Tell a scaler the load before a run, where it wants to know."""
    if hasattr(scaler, "warm_up"):
        scaler.warm_up(history_per_s, history_step_s)


def plain(seen: Observation) -> dict[str, Any]:
    """An observation as numbers and lists by the names of its fields, without the limits."""
    return {name: _plain(getattr(seen, name)) for name in FIELDS}


def observed(values: Mapping[str, Any], known: ScalingLimits | None = None) -> Observation:
    """The observation of such a mapping; lists become arrays."""
    arrays: dict[str, Any] = {
        name: np.asarray(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return Observation(**arrays, limits=known)


def _plain(value: Any) -> Any:
    return np.asarray(value).tolist()
