"""Cases of knative_aggregation.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.knative_config import Config, activator_count, resolve_target, sample_size
from agents.knative_windows import SlidingMax, TimedBuckets, WeightedBuckets, smoothing_coefficient

SYSTEM = "knative-aggregation"

Input = Mapping[str, Any]


def _averages(window: TimedBuckets, given: Input) -> dict[str, Any]:
    """The expected averages stand in the operations themselves, so they are compared here."""
    got, wanted = [], []
    for op in given["ops"]:
        if op["op"] == "record":
            window.record(op["t"], op["value"])
        else:
            got.append(window.average(op["t"]))
            wanted.append(op["expect"])
    tolerance = 5e-4 if isinstance(window, WeightedBuckets) else 1e-5
    wrong = [pair for pair in zip(got, wanted, strict=True) if abs(pair[0] - pair[1]) > tolerance]
    assert not wrong, f"(got, expected): {wrong}"
    return {"averages": got}


def _sliding_max(given: Input) -> dict[str, Any]:
    window, after_each = SlidingMax(given["size"]), []
    for record in given["records"]:
        window.record(record["index"], record["value"])
        after_each.append(window.current)
    return {"current_after_each": after_each, "final": window.current}


def _target(given: Input) -> dict[str, Any]:
    config = given["config"]
    percent = given.get("utilization_annotation_pct")
    target, total = resolve_target(
        Config(
            container_concurrency_target_fraction=config["cc_fraction"],
            container_concurrency_target_default=config["cc_default"],
            rps_target_default=config["rps_default"],
            target_utilization=config["target_utilization"],
        ),
        given["metric"],
        given.get("container_concurrency") or 0,
        given.get("target_annotation"),
        None if percent is None else percent / 100.0,
    )
    return {"target": target, "total": total}


def _activators(given: Input) -> dict[str, Any]:
    names = ("ready_pods", "total_value", "target_burst_capacity", "activator_capacity")
    return {"activators": activator_count(*(given[name] for name in names))}


KINDS = {
    "window_average": lambda given: _averages(TimedBuckets(given["window_s"], given["granularity_s"]), given),
    "weighted_average": lambda given: _averages(WeightedBuckets(given["window_s"], given["granularity_s"]), given),
    "smoothing_coefficient": lambda given: {"coefficient": smoothing_coefficient(given["buckets"])},
    "sliding_max": _sliding_max,
    "sample_size": lambda given: {"sample": sample_size(given["population"])},
    "resolve_target": _target,
    "activator_count": _activators,
}
