"""Pods as the HorizontalPodAutoscaler sees them: whose samples count, and what they asked for.

After pkg/controller/podautoscaler/replica_calculator.go of kubernetes/kubernetes, v1.33 and later (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass


class MetricError(Exception):
    """Nothing can be proposed from this metric."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod; `request_milli` None: none was set."""

    name: str
    request_milli: int | None
    restartable: bool = False  # init containers only: one that keeps running beside the others


@dataclass(frozen=True, slots=True)
class Pod:
    """What the calculator reads of a pod; times in seconds on the caller's clock."""

    name: str
    phase: str = "Running"  # Pending, Running, Succeeded, Failed or Unknown
    deleted: bool = False
    ready: bool | None = True  # None: no Ready condition yet
    start_s: float | None = -math.inf
    ready_transition_s: float = -math.inf  # since when the Ready condition is what it is
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    request_milli: int | None = None  # of the pod as a whole


@dataclass(frozen=True, slots=True)
class Sample:
    """One pod's metric, the mean over the `window_s` seconds before `t_s`."""

    value_milli: int = 0
    t_s: float = 0.0
    window_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """How long CPU samples of young pods are distrusted, seconds."""

    cpu_initialization_s: float = 300.0
    initial_delay_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Groups:
    """Pods by what their samples are worth."""

    ready: int
    unready: Set[str] = frozenset()
    missing: Set[str] = frozenset()
    ignored: Set[str] = frozenset()


def group_pods(
    pods: Iterable[Pod], samples: Mapping[str, Sample], resource: str, now_s: float, readiness: Readiness
) -> Groups:
    """Pods by the worth of their samples; readiness matters for the resource "cpu" alone."""
    ready, unready, missing, ignored = 0, set(), set(), set()
    for pod in pods:
        sample = samples.get(pod.name)
        if pod.deleted or pod.phase in ("Failed", "Succeeded"):
            ignored.add(pod.name)
        elif pod.phase == "Pending":
            unready.add(pod.name)
        elif sample is None:
            missing.add(pod.name)
        elif resource == "cpu" and _distrusted(pod, sample, now_s, readiness):
            unready.add(pod.name)
        else:
            ready += 1
    return Groups(ready, unready, missing, ignored)


def _distrusted(pod: Pod, sample: Sample, now_s: float, readiness: Readiness) -> bool:
    if pod.ready is None or pod.start_s is None:
        return True
    if pod.start_s + readiness.cpu_initialization_s > now_s:
        return not pod.ready or sample.t_s < pod.ready_transition_s + sample.window_s
    # Only a pod that has never been ready: its last transition is that of its birth.
    return not pod.ready and pod.start_s + readiness.initial_delay_s > pod.ready_transition_s


def pod_request_milli(pod: Pod, container: str | None = None, pod_level: bool = False) -> int:
    """Effective request of a pod, or of one container of it. MetricError where a container set none.

    `pod_level`: a request of the pod as a whole, where there is one, replaces those of its containers.
    """
    if pod_level and container is None and pod.request_milli is not None:
        return pod.request_milli
    counted = [*pod.containers, *(one for one in pod.init_containers if one.restartable)]
    if container is not None:
        counted = [one for one in counted if one.name == container]
        if not counted:
            raise MetricError(f"container {container} not found in pod {pod.name}")
    total = 0
    for one in counted:
        if one.request_milli is None:
            raise MetricError(f"missing request in container {one.name} of pod {pod.name}")
        total += one.request_milli
    return total


def scoped_usage_milli(usage_milli: Mapping[str, int | None], container: str | None = None) -> int | None:
    """A pod's usage from those of its containers, or of one of them; None, no sample, where one is not known."""
    values = list(usage_milli.values()) if container is None else [usage_milli.get(container)]
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
