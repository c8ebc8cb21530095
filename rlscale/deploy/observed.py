"""An observation as JSON and back, to the last bit: what the audit log holds is what was decided on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from rlscale.errors import RlscaleError
from rlscale.types import Observation, ScalingLimits

COUNTS = frozenset({"ready", "pending", "draining", "target", "ready_at_scrape", "standby"})
NAMES = tuple(field.name for field in fields(Observation) if field.name != "limits")
_REQUIRED = frozenset(field.name for field in fields(Observation) if field.default is field.default_factory)


class ObservedError(RlscaleError):
    """A record of an observation is incomplete or of another cluster."""


def to_json(seen: Observation) -> dict[str, Any]:
    """Every field but the limits; arrays as lists, what is no number as null."""
    return {name: _plain(getattr(seen, name)) for name in NAMES}


def from_json(record: Mapping[str, Any], limits: ScalingLimits) -> Observation:
    """The observation of a record. Raises ObservedError when it says something else than a cluster with these limits
    could have shown."""
    unknown, lacking = sorted(set(record) - set(NAMES)), sorted(_REQUIRED - set(record))
    if unknown or lacking:
        raise ObservedError(f"observation: unknown fields {unknown or 'none'}, missing fields {lacking or 'none'}")
    pools = len(limits.min_replicas)
    values = {name: _value(name, value) for name, value in record.items()}
    for name in COUNTS & set(values):
        if np.ndim(values[name]) == 1 and len(values[name]) != pools:
            raise ObservedError(f"observation: {name} has {len(values[name])} pools, expected {pools}")
    return Observation(**values, limits=limits)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, list):
        return [_plain(item) for item in value]
    number = float(value)
    return None if math.isnan(number) else "inf" if number == math.inf else int(value) if _whole(value) else number


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer)


def _value(name: str, value: Any) -> Any:
    if isinstance(value, list):
        try:
            return np.array(_numbers(value), dtype=np.int64 if name in COUNTS else np.float64)
        except (TypeError, ValueError):
            raise ObservedError(f"observation: {name} is {value!r}; expected numbers") from None
    if value is None:
        return math.nan
    if value == "inf":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ObservedError(f"observation: {name} is {value!r}; expected a number")
    return value


def _numbers(values: list[Any]) -> list[Any]:
    return [_numbers(item) if isinstance(item, list) else math.nan if item is None else float(item) for item in values]
