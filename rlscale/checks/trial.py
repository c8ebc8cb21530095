"""A scaler under test, and what a property of it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rlscale.types import Decision, Scaler, ScalerKind, ScalingLimits


@dataclass(frozen=True, slots=True)
class Trial:
    """A kind with settings and limits, of which a property makes as many scalers as it needs."""

    kind: ScalerKind
    limits: ScalingLimits
    parameters: dict[str, Any] = field(default_factory=dict)

    def fresh(self, limits: ScalingLimits | None = None) -> Scaler:
        """A new scaler, for other limits where they are given."""
        return self.kind.build(limits or self.limits, **self.parameters)

    def with_setting(self, name: str, value: float) -> Scaler:
        """A new scaler with one setting changed."""
        return self.kind.build(self.limits, **(self.parameters | {name: value}))

    @property
    def name(self) -> str:
        """The scaler in words."""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"{getattr(self.kind.build, '__name__', repr(self.kind.build))}({settings})"


@dataclass(frozen=True, slots=True)
class Property:
    """What every scaler does. `check` raises AssertionError with what it saw and what it expected."""

    check: Callable[[Trial], None]
    needs_reaction: bool = False  # of no use for a scaler that ignores the load


def broken(name: str, wanted: Property, trial: Trial) -> str:
    """One line that names scaler, property, what was seen and what was expected; empty if nothing is wrong."""
    try:
        wanted.check(trial)
    except AssertionError as error:
        return f"{trial.name}: {name}: {error}"
    except Exception as error:
        return f"{trial.name}: {name}: raised {type(error).__name__}: {error}; expected a decision"
    return ""


def expect(kept: bool, otherwise: str) -> None:
    """An assert that `python -O` keeps."""
    if not kept:
        raise AssertionError(otherwise)


def readable(decision: Decision, pools: int) -> None:
    """A decision that says what it wants and why."""
    expect(isinstance(decision, Decision), f"decide returned {decision!r}; expected a Decision")
    expect(bool(decision.reason), f"{decision} gives no reason; expected one for the audit log")
    if len(decision.target) == 0:
        known = math.isfinite(decision.capacity_per_s)
        expect(known, f"{decision} asks for neither replicas nor a finite capacity; expected one of them")
    else:
        said = f"{decision} has {len(decision.target)} targets for {pools} pools"
        expect(len(decision.target) == pools, f"{said}; expected one each")
        known = all(math.isfinite(count) for count in decision.target)
        expect(known, f"{decision} has a target that is not finite; expected numbers")
