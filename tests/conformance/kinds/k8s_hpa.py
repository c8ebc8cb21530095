"""Kubernetes HPA: replica calculator, behaviour, reconciliation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from conformance.kinds import Refused

from agents.hpa_behavior import (
    Behavior,
    Events,
    Policy,
    Recommendation,
    Rules,
    ScaleEvent,
    changed_within,
    down_limit,
    legacy_normalize,
    legacy_stabilize,
    rate_limited,
    stabilize,
    store_event,
    up_limit,
    with_defaults,
)
from agents.hpa_calculator import (
    Calculator,
    Proposal,
    Tolerance,
    by_value,
    by_value_per_pod,
)
from agents.hpa_pods import (
    Container,
    MetricError,
    Pod,
    Readiness,
    Sample,
    group_pods,
    pod_request_milli,
    scoped_usage_milli,
)
from agents.hpa_reconcile import HorizontalAutoscaler, Metric

SYSTEM = "k8s-hpa"
Case = Mapping[str, Any]


def before(age_s: float | None, otherwise: float = -math.inf) -> float:
    return otherwise if age_s is None else -float(age_s)


def container_of(given: Case) -> Container:
    policy = given.get("restart_policy", given.get("restartPolicy"))
    return Container(
        given.get("name", ""), given.get("request_milli"), bool(given.get("restartable") or policy == "Always")
    )


def pod_of(given: Case) -> Pod:
    containers = [container_of(one) for one in given.get("containers", ())]
    containers += [Container(name, milli) for name, milli in (given.get("requests_milli") or {}).items()]
    inits = [container_of(one) for one in given.get("init_containers") or ()]
    inits += [replace(container_of(one), restartable=True) for one in given.get("restartable_init_containers") or ()]
    start = given.get("start_age_s")
    return Pod(
        name=given.get("name", ""),
        phase=given.get("phase", "Running"),
        deleted=bool(given.get("deleted", False)),
        ready=given.get("ready"),
        start_s=None if start is None else -float(start),
        ready_transition_s=before(given.get("ready_transition_age_s")),
        containers=tuple(containers),
        init_containers=tuple(inits),
        request_milli=given.get("pod_request_milli"),
    )


def samples_of(given: Sequence[Case], container: str | None = None) -> dict[str, Sample]:
    found = {}
    for one in given:
        value = one.get("value_milli", 0)
        if "usage_milli" in one:
            value = scoped_usage_milli(one["usage_milli"], container)
        if value is not None:
            found[one["pod"]] = Sample(value, before(one.get("age_s"), 0.0), float(one.get("window_s", 60)))
    return found


def readiness_of(case: Case) -> Readiness:
    default = Readiness()
    return Readiness(
        case.get("cpu_initialization_period_s", default.cpu_initialization_s),
        case.get("initial_readiness_delay_s", default.initial_delay_s),
    )


def tolerance_of(case: Case) -> Tolerance:
    default = Tolerance()
    return Tolerance(case.get("tolerance_down", default.down), case.get("tolerance_up", default.up))


def propose(case: Case, kind: str, current: int, tolerance: Tolerance) -> Proposal:
    """One metric's proposal; a metric of a reconciliation is named and described as a case of the calculator is."""
    if kind in ("resource", "resource_utilization", "pods", "pods_average"):
        pods = [pod_of(one) for one in case["pods"]]
        container = case.get("container")
        samples = samples_of(case["metrics"], container)
        level = bool(case.get("pod_level_resources_enabled", True))
        calculator = Calculator(tolerance, readiness_of(case), level)
        resource = case.get("resource") or ("" if kind.startswith("pods") else "cpu")
        if case.get("target_utilization_pct") is not None:
            target = case["target_utilization_pct"]
            return calculator.resource_utilization(pods, samples, target, current, 0.0, resource, container)
        return calculator.pods_average(pods, samples, case["target_average_milli"], current, 0.0, resource)
    values = case.get("values_milli") or []
    if kind in ("object_value", "external_value"):
        running = [one for one in case.get("pods", ()) if one.get("phase") == "Running" and one.get("ready")]
        ready = case.get("ready_replicas", len(running) if "pods" in case else current)
        return by_value(values, case["target_value_milli"], current, ready, tolerance)
    if kind in ("object_per_pod", "external_per_pod", "object_average", "external_average"):
        return by_value_per_pod(values, case["target_average_milli"], case.get("status_replicas", current), tolerance)
    raise MetricError(f"a metric of type {kind}")


def proposal(kind: str, case: Case) -> dict[str, Any]:
    try:
        made = propose(case, kind, case["current_replicas"], tolerance_of(case))
    except MetricError as error:
        raise Refused(str(error)) from error
    percent = {} if made.utilization_pct is None else {"utilization_pct": made.utilization_pct}
    return {"replicas": made.replicas, "average_milli": made.usage_milli, "usage_milli": made.usage_milli} | percent


def calculator_kind(kind: str) -> Any:
    return lambda case: proposal(kind, case)


def grouping(case: Case) -> dict[str, Any]:
    pods = [pod_of(one) for one in case["pods"]]
    groups = group_pods(pods, samples_of(case["metrics"]), case["resource"], 0.0, readiness_of(case))
    names = {name: sorted(getattr(groups, name)) for name in ("unready", "missing", "ignored")}
    return {"ready_count": groups.ready} | names


def requests(case: Case) -> dict[str, Any]:
    try:
        total = pod_request_milli(pod_of(case["pod"]), case.get("container"), case["pod_level_resources_enabled"])
    except MetricError as error:
        raise Refused(str(error)) from error
    return {"request_milli": total}


# Behaviour.
def rules_of(given: Case | None) -> Rules:
    if given is None:
        return Rules()
    policies = given.get("policies")
    return Rules(
        None if policies is None else tuple(Policy(one["type"], one["value"], one["period_s"]) for one in policies),
        given.get("select"),
        given.get("window_s", given.get("stabilization_window_s")),
        given.get("tolerance"),
    )


def events_of(given: Sequence[Case] | None) -> list[ScaleEvent]:
    return [ScaleEvent(one["change"], -one["age_s"], bool(one.get("outdated", False))) for one in given or ()]


def log_of(given: Sequence[Case]) -> list[Recommendation]:
    return [Recommendation(one["replicas"], -one["age_s"]) for one in given]


def normalized(case: Case) -> dict[str, Any]:
    replicas, reason = legacy_normalize(case["current"], case["desired"], case["min"], case["max"])
    return {"replicas": replicas, "reason": reason}


def legacy_stabilized(case: Case) -> dict[str, Any]:
    log = log_of(case["recommendations"])
    replicas = legacy_stabilize(log, 0.0, case["proposal"], case["window_s"])
    return {"replicas": replicas, "stored_count_after": len(log), "stored_after": [one.replicas for one in log]}


def limited(case: Case) -> dict[str, Any]:
    behavior = with_defaults(Behavior(rules_of(case.get("scale_up")), rules_of(case.get("scale_down"))))
    events = Events(events_of(case.get("up_events")), events_of(case.get("down_events")))
    replicas, reason = rate_limited(behavior, events, 0.0, case["current"], case["proposal"], case["min"], case["max"])
    return {"replicas": replicas, "reason": reason}


def limit(case: Case) -> dict[str, Any]:
    events = Events(events_of(case.get("up_events")), events_of(case.get("down_events")))
    by = up_limit if case["direction"] == "up" else down_limit
    return {"limit": by(rules_of(case["rule"]), events, 0.0, case["current"])}


def stored(case: Case) -> dict[str, Any]:
    up = case["direction"] == "up"
    side, change = events_of(case["events"]), case["applied_change"]
    events = Events(side, []) if up else Events([], side)
    earlier = changed_within(side, 0.0, case["query_period_s"])
    rules = None if case["rule"] is None else rules_of(case["rule"])
    behavior = None if rules is None else Behavior(rules, Rules()) if up else Behavior(Rules(), rules)
    store_event(behavior, events, 0.0, 1000, 1000 + (change if up else -change))
    after = [{"change": event.change, "outdated": event.outdated} for event in side]
    return {"change_in_query_period_before": earlier, "stored_after": after}


def stabilized(case: Case) -> dict[str, Any]:
    log = log_of(case["recommendations"])
    windows = case["up_window_s"], case["down_window_s"]
    replicas = stabilize(log, 0.0, case["current"], case["proposal"], *windows)
    return {"replicas": replicas, "stored_after": [one.replicas for one in log]}


# Reconciliation.
def reconcile(case: Case) -> dict[str, Any]:
    given = case.get("behavior")
    behavior = None
    if given is not None:
        behavior = Behavior(rules_of(given.get("scale_up")), rules_of(given.get("scale_down")))
    low = 1 if case.get("min") is None else case["min"]
    scaler = HorizontalAutoscaler(
        low, case["max"], behavior, tolerance_of(case), case.get("downscale_stabilization_s", 300)
    )
    if case.get("recommendations") is not None:
        scaler.log = log_of(case["recommendations"])
    outcome = scaler.sync(0.0, case["current_replicas"], [metric_of(one) for one in case["metrics"]])
    return {"replicas": outcome.replicas, "scaled": outcome.scaled, "limit_reason": outcome.reason}


def metric_of(given: Case) -> Metric:
    return lambda current, tolerance: propose(given, given["type"], current, tolerance)


CALCULATOR = (
    "resource_utilization",
    "pods_average",
    "object_value",
    "external_value",
    "object_per_pod",
    "external_per_pod",
)
KINDS = {kind: calculator_kind(kind) for kind in CALCULATOR} | {
    "group_pods": grouping,
    "pod_requests": requests,
    "legacy_normalize": normalized,
    "legacy_stabilize": legacy_stabilized,
    "rate_policies": limited,
    "policy_limit": limit,
    "store_events": stored,
    "behavior_stabilize": stabilized,
    "reconcile": reconcile,
}
