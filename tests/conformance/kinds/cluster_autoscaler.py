"""Cases of Cluster Autoscaler: expanders, estimator and utilisation of nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agents.cluster_autoscaler_expanders import (
    Option,
    Pod,
    Template,
    estimate,
    least_nodes,
    least_waste,
    most_pods,
    preferred_cpu,
    price,
    priority,
    unfitness,
)
from agents.cluster_autoscaler_nodes import UTILISATION_THRESHOLD, Requests, eligible, utilisation

SYSTEM = "k8s-cluster-autoscaler"
ANY = Template(1000.0, 1.0)


def _names(options: Sequence[Option]) -> list[str]:
    return [option.group for option in options]


def expander_least_waste(given: Mapping[str, Any]) -> dict[str, Any]:
    options = []
    for option in given["options"]:
        pods = tuple(Pod(pod["cpu_milli"], pod["memory"]) for pod in option["pods"] for _ in range(pod.get("count", 1)))
        template = Template(option["node_cpu_milli"], option["node_memory"])
        options.append(Option(option["id"], option["node_count"], pods, template))
    return {"best": _names(least_waste(options))}


def expander_price(given: Mapping[str, Any]) -> dict[str, Any]:
    options = []
    for option in given["options"]:
        node = option["node"]
        template = Template(
            given["node_cpu_milli"][node], gpus=float(option.get("gpu", 0)), price=given["node_price"].get(node)
        )
        pods = tuple(Pod(0, price=given["pod_price"].get(pod)) for pod in option["pods"])
        options.append(Option(option["id"], option["node_count"], pods, template, option.get("exists", True)))
    return {"best": _names(price(given["preferred_cpu_milli"], given["stabilization_price"])(options))}


def expander_priority(given: Mapping[str, Any]) -> dict[str, Any]:
    best = priority(given["priorities"] or {})([Option(name, 1, (), ANY) for name in given["options"]])
    return {"best": _names(best)}


def expander_least_nodes(given: Mapping[str, Any]) -> dict[str, Any]:
    best = least_nodes([Option(str(i), count, (), ANY) for i, count in enumerate(given["node_counts"])])
    return {"best_indices": [int(option.group) for option in best]}


def expander_most_pods(given: Mapping[str, Any]) -> dict[str, Any]:
    best = most_pods([Option(str(i), 1, (Pod(1),) * count, ANY) for i, count in enumerate(given["pod_counts"])])
    return {"best_indices": [int(option.group) for option in best]}


def node_utilization(given: Mapping[str, Any]) -> dict[str, Any]:
    node = Template(
        given["allocatable_cpu_milli"], given["allocatable_memory"], given.get("allocatable_gpu", given.get("gpus", 0))
    )
    pods = [
        Requests(
            pod["cpu_milli"],
            pod["memory"],
            pod.get("gpu", pod.get("gpus", 0)),
            pod["kind"],
            "terminat" in pod["kind"] or bool(pod.get("long_terminating")),
        )
        for pod in given["pods"]
        for _ in range(pod.get("count", 1))
    ]
    share = utilisation(node, pods, given.get("ignore_daemonsets", False), given.get("ignore_mirror", False))
    return {"utilization": share}


def binpacking_estimate(given: Mapping[str, Any]) -> dict[str, Any]:
    template = Template(given["node_cpu_milli"], given["node_memory"], pods=given["pods_per_node"])
    groups = [
        (Pod(group["cpu_milli"], group["memory"], exclusive=group.get("exclusive_host_port", False)), group["count"])
        for group in given["pod_groups"]
    ]
    nodes, placed = estimate(groups, template, given["max_nodes"])
    return {"nodes": nodes, "pods": sum(count for _, count in placed)}


KINDS = {
    "expander_least_waste": expander_least_waste,
    "expander_price": expander_price,
    "expander_priority": expander_priority,
    "expander_least_nodes": expander_least_nodes,
    "expander_most_pods": expander_most_pods,
    "preferred_node": lambda given: {"preferred_cpu": preferred_cpu(given["cluster_nodes"])},
    "node_unfitness": lambda given: {
        "unfitness": unfitness(given["preferred_cpu_milli"], given["evaluated_cpu_milli"])
    },
    "node_utilization": node_utilization,
    "scale_down_eligible": lambda given: {
        "eligible": eligible(given["utilization"], given.get("threshold", UTILISATION_THRESHOLD))
    },
    "binpacking_estimate": binpacking_estimate,
}
