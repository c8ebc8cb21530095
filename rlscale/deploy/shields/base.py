"""What a shield is. A gate says who decides; a shield changes what was decided. Neither talks to anyone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from rlscale.types import Floats, Observation, ScalingLimits

Target = tuple[int, ...]
Who = Literal["scaler", "fallback", "hold"]
State = dict[str, Any]  # what JSON can say


@dataclass(frozen=True, slots=True)
class Context:
    """What a shield knows beside the observation."""

    limits: ScalingLimits
    now_s: float  # never goes back, whatever the clock of observations does
    current: Target  # in force now
    blind: str = ""  # why the metrics of this observation cannot be decided upon; empty: they can
    tolerance: float = 0.0  # relative change up to which the actuator does nothing


class Ruling(NamedTuple):
    """Who decides now. A reason without another `who` than the scaler is a note for the log."""

    who: Who = "scaler"
    reason: str = ""
    only_out: bool = False  # the fallback may not take replicas away


class Verdict(NamedTuple):
    """The target after a shield, why, and what to count; no reason: not touched."""

    target: Target
    reason: str = ""
    counted: tuple[str, ...] = ()


class Gate(Protocol):
    """Says who decides. Judges every observation, also while another gate has ruled."""

    @property
    def counted(self) -> tuple[str, ...]:
        """Every name it counts under."""
        ...

    def reset(self) -> None:
        """Forget the previous run."""
        ...

    def warm_up(self, history_per_s: Floats, history_step_s: float) -> None:
        """Load before the run."""
        ...

    def judge(self, seen: Observation, context: Context) -> Ruling:
        """Who decides upon this observation."""
        ...

    def state(self) -> State:
        """What must survive a restart."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        ...


class Shield(Protocol):
    """Changes targets."""

    @property
    def counted(self) -> tuple[str, ...]:
        """Every name it counts under."""
        ...

    def reset(self) -> None:
        """Forget the previous run."""
        ...

    def apply(self, seen: Observation, wanted: Target, context: Context) -> Verdict:
        """What may be asked of the backend instead of `wanted`, (P,) whole replicas."""
        ...

    def state(self) -> State:
        """What must survive a restart."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        ...
