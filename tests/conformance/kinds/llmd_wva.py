"""Cases of the llm-d workload variant autoscaler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.llmd_capacity import (
    CapacityAnalyser,
    CapacityConfig,
    EngineLimits,
    ReplicaMetrics,
    StoredCapacity,
    VariantCapacity,
    cost_aware,
    median,
)
from agents.llmd_saturation import Replica, SaturationConfig, Variant, analyse, targets_v1

SYSTEM = "llm-d-wva"


def chosen(names: tuple[str, ...], case: Mapping[str, Any]) -> dict[str, Any]:
    return {name: case[name] for name in names if case.get(name) is not None}


def saturation(case: Mapping[str, Any]) -> Mapping[str, Any]:
    config = SaturationConfig(
        **chosen(("kv_threshold", "queue_threshold", "kv_spare_trigger", "queue_spare_trigger"), case)
    )
    found = analyse(
        [Replica(each["kv_usage"], each["queue"], str(each.get("variant", ""))) for each in case["replicas"]], config
    )
    return {
        "scale_up": found.scale_up,
        "scale_down_safe": found.scale_down_safe,
        "non_saturated": found.non_saturated,
        "saturated_indices": list(found.saturated_indices),
        "avg_spare_kv": found.spare_kv,
        "avg_spare_queue": found.spare_queue,
    }


def targets(case: Mapping[str, Any]) -> Mapping[str, Any]:
    variants = [
        Variant(each["name"], each["cost"], each["current"], each["desired"] or 0, each["metrics_count"],
                each.get("pending", 0))
        for each in case["variants"]
    ]  # fmt: skip
    return {"targets": targets_v1(variants, case["scale_up"], case["scale_down_safe"])}


def cheapest(case: Mapping[str, Any]) -> Mapping[str, Any]:
    variants = [
        VariantCapacity(each["name"], each["cost"], each["capacity"], each["replicas"], each.get("pending", 0))
        for each in case["variants"]
    ]
    return {"targets": cost_aware(case["required"], case["spare"], variants)}


def capacity(case: Mapping[str, Any]) -> Mapping[str, Any]:
    analyser = CapacityAnalyser(CapacityConfig(**chosen(("kv_threshold", "queue_threshold"), case)))
    engine = EngineLimits(case.get("max_batched_tokens") or 0, case.get("max_num_seqs") or 0)
    lengths = case.get("avg_input") or 0, case.get("avg_output") or 0
    for tokens in case.get("history_same_length_bucket") or []:
        analyser.remember("", lengths[1], tokens)
    if case.get("stored"):
        record = StoredCapacity(case["stored_capacity"], case["stored"], case.get("kv_total_tokens") or 0)
        live = case.get("compatible_live_capacity") or 0
        return {"per_replica_capacity": analyser.stored(record, engine, *lengths, live)}
    each = case.get("replicas", [case])
    each = each if isinstance(each, list) else [case] * each
    found = [
        analyser.replica(
            ReplicaMetrics(one["kv_tokens_in_use"], one["kv_total_tokens"], one["queue"],
                           one.get("avg_input", lengths[0]), one.get("avg_output", lengths[1])),
            engine,
        )
        for one in each
    ]  # fmt: skip
    known = [one for one in found if one is not None]
    return {
        "per_replica_capacity": median([one.capacity for one in known]),
        "memory_bound": known[0].k1 if known else None,
        "compute_bound": known[0].k2 if known else None,
        "demand": sum(one.demand for one in known),
    }


KINDS = {"saturation": saturation, "targets_v1": targets, "cost_aware_v2": cheapest, "capacity_v2": capacity}
