"""Contracts anyone can run on what they add. Knows a toy fleet and no simulator.

check_scaler(ScalerKind(MyScaler, knob=None, summary="mine"))
"""

from __future__ import annotations

from typing import Any

from rlscale.checks.bad_input import BAD_INPUT
from rlscale.checks.fleet import HOUR, INTERVAL_S, START_S, ToyFleet, drive, limits_of, observation, totals
from rlscale.checks.properties import CONDUCT, READABLE
from rlscale.checks.trial import Property, Trial, broken
from rlscale.types import ScalerKind, ScalingLimits

__all__ = [
    "HOUR",
    "INTERVAL_S",
    "PROPERTIES",
    "START_S",
    "ToyFleet",
    "check_scaler",
    "drive",
    "failures",
    "limits_of",
    "observation",
    "totals",
]

PROPERTIES: dict[str, Property] = CONDUCT | BAD_INPUT


def check_scaler(
    kind: ScalerKind, limits: ScalingLimits | None = None, *, reacts: bool = True, **parameters: Any
) -> None:
    """Raise AssertionError unless a scaler has every property, with one line per property it breaks.

    `reacts` False: it ignores the load. The maxima of `limits` should be ten times what the first replica carries or
    more, else nothing can overshoot. What the kind is declared to lack is left out.
    """
    found = failures(kind, limits, reacts=reacts, **parameters)
    if found:
        raise AssertionError("\n".join(found.values()))


def failures(
    kind: ScalerKind,
    limits: ScalingLimits | None = None,
    *,
    reacts: bool = True,
    declared: bool = True,
    **parameters: Any,
) -> dict[str, str]:
    """The broken properties and what was seen; with `declared` False those too that the kind is declared to lack."""
    lacks = lacking(kind, parameters)
    unknown = lacks.keys() - PROPERTIES.keys()
    if unknown:
        raise AssertionError(f"{sorted(unknown)} declared as lacking; the properties are {', '.join(PROPERTIES)}")
    trial = Trial(kind, limits or limits_of(), parameters)
    found = {}
    for name, wanted in PROPERTIES.items():
        if (wanted.needs_reaction and not reacts) or (declared and name in lacks):
            continue
        message = broken(name, wanted, trial)
        if message:
            found[name] = message
        if name in found and name == READABLE:
            break  # nothing else can be told from decisions that cannot be read
    return found


def lacking(kind: ScalerKind, parameters: dict[str, Any]) -> dict[str, str]:
    """Property -> why, of what a kind is declared to lack; with given settings also what only some of them lack."""
    return kind.lacks | (kind.lacks_at if parameters else {})
