"""Cases of Ray Serve's autoscaler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from agents.ray_serve_metrics import aggregate, merge, window_start_s
from agents.ray_serve_policy import (
    AutoscalingConfig,
    DeploymentAutoscaler,
    LegacyAutoscaler,
    apply_factor,
    bounded,
)

SYSTEM = "ray-serve"
ABSENT = {
    "min_replicas": 0,
    "max_replicas": math.inf,
    "target_ongoing_requests": 1.0,
    "upscale_delay_s": 0.0,
    "downscale_delay_s": 0.0,
}


def config(words: Mapping[str, Any]) -> AutoscalingConfig:
    """A case's config; what is absent or null is as the cases' README says."""
    return AutoscalingConfig(**(ABSENT | {name: value for name, value in words.items() if value is not None}))


def factor(case: Mapping[str, Any]) -> Mapping[str, Any]:
    factors = {name: case[name] for name in case if name.endswith("factor")}
    return {"replicas": apply_factor(config(factors), case["desired"], case["current"])}


def turn(scaler: DeploymentAutoscaler, step: Mapping[str, Any], now_s: float) -> int:
    running, target = step["current"], step["target"]
    if step.get("desired") is not None:
        return scaler.decide_desired(running, target, step["desired"], now_s, step.get("total") or 0)
    return scaler.decide(running, target, step["total"], now_s)


def sequence(case: Mapping[str, Any]) -> Mapping[str, Any]:
    scaler = DeploymentAutoscaler(config(case.get("config", {})))
    return {"decisions": [turn(scaler, step, step.get("t", 0.0)) for step in case["steps"]]}


def delay_flow(case: Mapping[str, Any]) -> Mapping[str, Any]:
    scaler = DeploymentAutoscaler(config(case.get("config", {})))
    held = {turn(scaler, case, k * case["loop_s"]) for k in range(case["held_turns"])}
    after = turn(scaler, case, case["held_turns"] * case["loop_s"])
    return {"decision_while_held": held.pop() if len(held) == 1 else sorted(held), "decision_next": after}


def gang(case: Mapping[str, Any]) -> Mapping[str, Any]:
    words = {"gang_size": case["gang_size"], "min_replicas": case.get("min"), "max_replicas": case.get("max")}
    return {"replicas": bounded(config(words), case["replicas"])}


def legacy(case: Mapping[str, Any]) -> Mapping[str, Any]:
    scaler = LegacyAutoscaler(config(case.get("config", {})))
    return {"replicas": scaler.decide(case["current"], case["target"], case["total"])}


def merged(case: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"merged": [list(point) for point in merge(case["series"])]}


def average(case: Mapping[str, Any]) -> Mapping[str, Any]:
    points, start_s = case.get("merged"), case.get("window_start")
    if points is None:
        points, start_s = merge(case["series"]), window_start_s(case["series"]) if start_s is None else start_s
    last_s = case.get("last_window_s", 1.0)
    return {"average": aggregate(points, case.get("aggregation", "mean"), start_s, last_s)}


KINDS = {
    "scaling_factor": factor,
    "delay_flow": delay_flow,
    "gang_rounding": gang,
    "legacy_single": legacy,
    "merge_series": merged,
    "time_weighted_average": average,
    **dict.fromkeys(
        (
            "cold_start",
            "to_zero",
            "target_not_running",
            "fluctuation",
            "fractional_delay",
            "slow_loop",
            "warm_up",
            "policy_delay_bypass",
            "custom_policy",
            "sequence",
            "target_capacity",
        ),
        sequence,
    ),
}
