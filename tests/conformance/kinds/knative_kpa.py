"""Cases of knative_kpa.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from agents.knative_kpa import Autoscaler, DeciderSpec

SYSTEM = "knative-kpa"

Input = Mapping[str, Any]


def _spec(given: Input) -> DeciderSpec:
    names = DeciderSpec.__dataclass_fields__
    return DeciderSpec(**{name: value for name, value in given.items() if name in names})


def _ready(step: Input) -> int | None:
    """A count that is not found is none; one that failed is unknown."""
    error = step.get("pod_count_error")
    return 0 if error == "not_found" else None if error else step["ready"]


def _steps(given: Input) -> dict[str, Any]:
    steps, spec = given["steps"], dict(given["spec"])
    scaler = Autoscaler(_spec(spec), given.get("initial_ready"), steps[0]["t"])
    start = given.get("initial_state") or {}
    scaler.restore({{"panic_time": "panic_time_s"}.get(name, name): value for name, value in start.items()})
    results = []
    for step in steps:
        if step.get("update_spec"):
            spec |= step["update_spec"]
            scaler.update(_spec(spec))
        stable, panic = (math.nan, math.nan) if step.get("metric_error") else (step["stable"], step["panic"])
        result = scaler.scale(step["t"], _ready(step), stable, panic)
        results.append(
            {
                "valid": result.valid,
                "desired": result.desired,
                "ebc": result.excess_burst_capacity,
                "in_panic": scaler.in_panic,
                "panic_time": scaler.panic_time_s,
                "max_panic_pods": scaler.max_panic_pods,
            }
        )
    return {"steps": results}


def _construction(given: Input) -> dict[str, Any]:
    scaler = Autoscaler(_spec(given["spec"]), given.get("initial_ready"), 0.0)
    return {"in_panic": scaler.in_panic, "max_panic_pods": scaler.max_panic_pods}


KINDS = {"single": _steps, "sequence": _steps, "construction": _construction}
