"""KEDA: executor, activation, fallback, bounds of its autoscaler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.kinds import Refused

from agents.hpa_pods import MetricError
from agents.keda_executor import Executor, Fallback, Health, ScaledObject, hpa_bounds, is_active
from rlscale.errors import ScenarioError

SYSTEM = "keda"
LONG_S = 1_000_000.0


def fallback_of(given: Mapping[str, Any] | None) -> Fallback | None:
    if given is None:
        return None
    return Fallback(given["threshold"], given["replicas"], given.get("behavior") or "static")


def scaled_object(case: Mapping[str, Any]) -> ScaledObject:
    low, high = case.get("min"), case.get("max")
    paused = case.get("paused_replicas", case["current"] if case.get("paused") else None)
    return ScaledObject(
        low=low or 0,
        high=100 if high is None else high,
        idle=case.get("idle"),
        cooldown_s=case.get("cooldown_s", 300),
        initial_cooldown_s=case.get("initial_cooldown_s") or 0,
        paused=paused,
        paused_in=bool(case.get("paused_scale_in")),
        paused_out=bool(case.get("paused_scale_out")),
        force_activation=bool(case.get("force_activation")),
        fallback=fallback_of(case.get("fallback")),
    )


def executor(case: Mapping[str, Any]) -> dict[str, Any]:
    try:
        wanted = scaled_object(case)
    except ScenarioError as error:
        raise Refused(str(error)) from error
    running = Executor(wanted, created_s=-case.get("object_age_s", LONG_S))
    age_s = case.get("last_active_age_s")
    running.last_active_s = None if age_s is None else -age_s
    failed = any(case.get(name) for name in ("error", "is_error", "trigger_error", "errored", "failed"))
    step = running.poll(0.0, case["current"], case["active"], failed)
    refreshed = running.last_active_s == 0.0 and age_s != 0
    return {"replicas": step.replicas, "ready": step.ready, "status": step.ready, "last_active_refreshed": refreshed}


def activation(case: Mapping[str, Any]) -> dict[str, Any]:
    return {"active": is_active(case["value"], case.get("activation_threshold") or 0)}


def fallback(case: Mapping[str, Any]) -> dict[str, Any]:
    health = Health(case["failures"])
    ready = case.get("ready_replicas", case.get("ready", 0)) or 0
    kind = case.get("metric_type") or "AverageValue"
    value = None if case["error"] else case["value"]
    result: dict[str, Any]
    try:
        read = health.read(value, case["target"], fallback_of(case["fallback"]), kind, case.get("current") or 0, ready)
        result = {"metric_value": read}
    except MetricError:
        result = {"error": True}
    return result | {"failures_after": health.failures, "status": health.status}


def bounds(case: Mapping[str, Any]) -> dict[str, Any]:
    low, high = hpa_bounds(case.get("min"), case.get("max"))
    return {"hpa_min": low, "hpa_max": high}


KINDS = {"executor": executor, "activation": activation, "fallback": fallback, "hpa_bounds": bounds}
