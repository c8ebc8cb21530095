"""Cases of the histogram of the Vertical Pod Autoscaler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.histogram import Buckets, Decaying, Exponential, Histogram, Linear

SYSTEM = "k8s-vpa"
EPSILON = 1e-15  # of upstream's own tests


def _buckets(given: Mapping[str, Any]) -> Buckets:
    if given["type"] == "linear":
        return Linear(given["max"], given["size"])
    return Exponential(given["max"], given["first"], given["ratio"])


def percentile(given: Mapping[str, Any]) -> dict[str, Any]:
    histogram = Histogram(_buckets(given["buckets"]), EPSILON)
    for sample in given["samples"]:
        histogram.add(sample["value"], sample["weight"])
    return {"value": histogram.percentile(given["percentile"])}


def decaying_percentile(given: Mapping[str, Any]) -> dict[str, Any]:
    histogram = Decaying(_buckets(given["buckets"]), given["half_life_s"], EPSILON)
    for sample in given["samples"]:
        histogram.add(sample["value"], sample["t"], sample["weight"])
    return {"value": histogram.percentile(given["percentile"])}


def buckets(given: Mapping[str, Any]) -> dict[str, Any]:
    found = _buckets(given)
    return {
        "count": found.count,
        "starts": [found.start(bucket) for bucket in range(given.get("starts", found.count))],
        "find": [[value, found.find(value)] for value in given.get("find", ())],
    }


KINDS = {"percentile": percentile, "decaying_percentile": decaying_percentile, "buckets": buckets}
