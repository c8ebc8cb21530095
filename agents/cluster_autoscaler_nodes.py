"""When nodes may leave, and when no group may grow: utilisation, timers and blocks of Cluster Autoscaler.

After cluster-autoscaler/simulator/utilization, core/scaledown and clusterstate of kubernetes/autoscaler at
f7bb0c362375 (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.cluster_autoscaler_expanders import Template

UTILISATION_THRESHOLD = 0.5
UNNEEDED_S, UNREADY_S = 600.0, 1200.0
AFTER_ADD_S, AFTER_FAILURE_S, SCAN_S = 600.0, 180.0, 10.0
RECHECK_S = 300.0  # of a node found impossible to remove
EMPTY_AT_ONCE, DRAINED_AT_ONCE = 10, 1
PROVISION_S = 900.0
UNREADY_SHARE, UNREADY_COUNT = 0.45, 3
BACKOFF_S, LONGEST_BACKOFF_S, FORGET_BACKOFF_S = 300.0, 1800.0, 10_800.0


@dataclass(frozen=True, slots=True)
class Requests:
    """What a pod on a node requests, not what it uses. `kind` is plain, daemonset or mirror."""

    cpu_milli: float
    memory: float
    gpus: float = 0.0
    kind: str = "plain"
    long_terminating: bool = False  # has been told to go for so long that it no longer counts


def utilisation(
    node: Template, pods: Iterable[Requests], ignore_daemonsets: bool = False, ignore_mirror: bool = False
) -> float:
    """Requests over what is allocatable: the larger of CPU and memory, on a node with GPUs the GPUs only.

    Ignored daemonset and mirror pods are left out of both. Nothing allocatable: 0.
    """
    ignored = {kind for kind, out in (("daemonset", ignore_daemonsets), ("mirror", ignore_mirror)) if out}
    listed = list(pods)

    def used(what: str) -> float:
        aside = sum(getattr(pod, what) for pod in listed if pod.kind in ignored)
        asked = sum(getattr(pod, what) for pod in listed if pod.kind not in ignored and not pod.long_terminating)
        left = getattr(node, what) - aside
        return asked / left if left > 0 else 0.0

    return used("gpus") if node.gpus > 0 else max(used("cpu_milli"), used("memory"))


def eligible(share: float, threshold: float = UTILISATION_THRESHOLD) -> bool:
    """Little enough is asked of a node for it to leave; the threshold itself is."""
    return share <= threshold


def healthy(nodes: int, unready: int) -> bool:
    """Few enough nodes are unready to act at all: not both more than 45 % and more than 3."""
    return unready <= UNREADY_COUNT or unready <= UNREADY_SHARE * nodes


class Unneeded:
    """Since when each node has been unneeded. A node that is needed once starts anew."""

    def __init__(self, unneeded_s: float = UNNEEDED_S, unready_s: float = UNREADY_S) -> None:
        self.unneeded_s, self.unready_s = unneeded_s, unready_s
        self._since: dict[Hashable, float] = {}

    def reset(self) -> None:
        """Forget all nodes."""
        self._since = {}

    def update(self, t_s: float, nodes: Iterable[Hashable]) -> None:
        """These nodes, and no others, are unneeded now."""
        self._since = {node: min(t_s, self._since.get(node, t_s)) for node in nodes}

    def over(self, t_s: float, node: Hashable, ready: bool = True) -> bool:
        """Whether the node has been unneeded for long enough."""
        since = self._since.get(node)
        return since is not None and t_s - since >= (self.unneeded_s if ready else self.unready_s)

    def state(self) -> list[list[Any]]:
        """[node, since when], as JSON can hold it; nodes are texts, numbers or tuples of them."""
        return [[node, since] for node, since in self._since.items()]

    def restore(self, state: Sequence[Sequence[Any]]) -> None:
        """Back to what `state` said."""
        self._since = {tuple(node) if isinstance(node, list) else node: float(since) for node, since in state}


class Blocks:
    """Scale-down waits 10 min after a scale-up, 3 min after a failed removal and a scan after one that worked."""

    def __init__(self, after_add_s: float = AFTER_ADD_S) -> None:
        self._wait_s = {"add": after_add_s, "failure": AFTER_FAILURE_S, "delete": SCAN_S}
        self._at_s: dict[str, float] = {}

    def reset(self) -> None:
        """Forget what happened."""
        self._at_s = {}

    def happened(self, what: str, t_s: float) -> None:
        """Remember an "add", a "failure" or a "delete"."""
        if what not in self._wait_s:
            raise KeyError(f"{what!r}; expected one of {', '.join(self._wait_s)}")
        self._at_s[what] = t_s

    def blocking(self, t_s: float) -> str:
        """What scale-down waits after; empty when it may act."""
        return next((what for what, at_s in self._at_s.items() if 0 <= t_s - at_s < self._wait_s[what]), "")

    def state(self) -> dict[str, float]:
        """When each last happened."""
        return dict(self._at_s)

    def restore(self, state: Mapping[str, float]) -> None:
        """Back to what `state` said."""
        self._at_s = {what: float(at_s) for what, at_s in state.items()}


class Backoff:
    """Groups that failed to bring a node up are left alone: 5 min, twice as long each time, at most 30 min."""

    def __init__(self) -> None:
        self._until_s: dict[str, tuple[float, float]] = {}  # group -> (end, length)

    def reset(self) -> None:
        """Forget all failures."""
        self._until_s = {}

    def fail(self, group: str, t_s: float) -> None:
        """A group failed; while it is being left alone, that says nothing new."""
        end_s, length_s = self._until_s.get(group, (-math.inf, 0.0))
        if t_s >= end_s:
            fresh = t_s - end_s >= FORGET_BACKOFF_S
            length_s = BACKOFF_S if fresh else min(2 * length_s, LONGEST_BACKOFF_S)
            self._until_s[group] = (t_s + length_s, length_s)

    def waiting(self, group: str, t_s: float) -> bool:
        """Whether the group is left alone now."""
        end_s, length_s = self._until_s.get(group, (-math.inf, 0.0))
        return end_s - length_s <= t_s < end_s

    def state(self) -> dict[str, list[float]]:
        """Group -> [end, length]."""
        return {group: list(entry) for group, entry in self._until_s.items()}

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        """Back to what `state` said."""
        self._until_s = {group: (float(end_s), float(length_s)) for group, (end_s, length_s) in state.items()}
