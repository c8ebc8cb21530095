"""Kubernetes Cluster Autoscaler over the pools: which of them grows, and when a replica has been idle long enough.

After cluster-autoscaler/core of kubernetes/autoscaler at f7bb0c362375 (Apache-2.0). What asks for pods is a
proportional rule like that of the Horizontal Pod Autoscaler; Cluster Autoscaler itself looks at requests only.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from agents.averages import Averages, from_zero, seat_share
from agents.cluster_autoscaler_expanders import (
    Expander,
    Option,
    Pod,
    Template,
    choose,
    estimate,
    least_nodes,
    least_waste,
    most_pods,
    price,
    priority,
)
from agents.cluster_autoscaler_nodes import (
    AFTER_ADD_S,
    EMPTY_AT_ONCE,
    SCAN_S,
    UNNEEDED_S,
    UTILISATION_THRESHOLD,
    Backoff,
    Blocks,
    Unneeded,
    eligible,
    healthy,
    utilisation,
)
from agents.threshold import OCCUPANCIES
from rlscale.decide import hold, positive, within
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

_PODS = 4  # a pod is the work of a quarter of the smallest replica
_CPU_MILLI = 1000.0  # requested per pod; a node has as much as its capacity in pods
_AT_ONCE = 1000  # new nodes of one scale-up, upstream's limit; and the idle ones whose time is taken
EXPANDERS = ("price", "least-waste", "most-pods", "least-nodes", "priority", "random")


class ClusterAutoscaler:
    """Every pool is a node group, a replica a node; the load asks for pods, each a quarter of the smallest replica.

    Pods wanted: ceil(used capacity / target / pod), kept within the tolerance. They sit on nodes that may not leave
    first, then in order of price, on ready nodes before upcoming ones. What finds no place, upcoming nodes counted,
    grows the group the expanders choose. A ready node without pods leaves after `unneeded_s`. A group with replicas
    that have been starting for longer than 15 min is left alone for a while (start-up includes loading the model,
    which upstream's node provisioning time does not).
    """

    def __init__(
        self,
        limits: ScalingLimits,
        target: float = 0.5,
        expander: str = "price",
        tolerance: float = 0.1,
        scan_s: float = SCAN_S,
        unneeded_s: float = UNNEEDED_S,
        after_add_s: float = AFTER_ADD_S,
        utilisation_threshold: float = UTILISATION_THRESHOLD,
        seed: int = 0,
    ) -> None:
        self.limits = limits
        self.target = positive("cluster-autoscaler: target", target)
        self.tolerance, self.threshold, self.seed = tolerance, utilisation_threshold, seed
        self._scan = Averages(positive("cluster-autoscaler: scan_s", scan_s))
        self._unneeded, self._blocks, self._backoff = Unneeded(unneeded_s), Blocks(after_add_s), Backoff()
        capacity = [float(each) for each in limits.capacity_per_s]
        self._pod_per_s = min((each for each in capacity if each > 0), default=math.nan) / _PODS
        each = [math.floor(one / self._pod_per_s + 1e-9) if one > 0 else 0 for one in capacity]
        usd = [3600.0 * float(one) for one in limits.usd_per_replica_s]
        per_pod = min((usd[pool] / count for pool, count in enumerate(each) if count), default=0.0)
        self._pod = Pod(_CPU_MILLI, gpus=1.0, price=per_pod)
        self._nodes = [
            Template(_CPU_MILLI * count, gpus=float(count), price=cost) for count, cost in zip(each, usd, strict=True)
        ]
        self._each = each
        self._least, self._most = limits.min_replicas.tolist(), limits.max_replicas.tolist()
        self._empty_may_leave = eligible(utilisation(self._nodes[0], ()), self.threshold)
        self._order = sorted(
            (pool for pool, count in enumerate(each) if count), key=lambda pool: usd[pool] / each[pool]
        )
        self._expanders = _chain(expander, per_pod, self._order)
        self.reset()

    def reset(self) -> None:
        """A restart: timers, blocks and backoffs are forgotten."""
        for part in (self._scan, self._unneeded, self._blocks, self._backoff):
            part.reset()
        self._pods = -1  # wanted; below 0: not known yet

    def state(self) -> dict[str, Any]:
        """All it knows, as JSON can hold it."""
        return {
            "pods": self._pods,
            "scan": self._scan.state(),
            "unneeded": self._unneeded.state(),
            "blocks": self._blocks.state(),
            "backoff": self._backoff.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        self._pods = int(state["pods"])
        self._scan.restore(state["scan"])
        self._unneeded.restore(state["unneeded"])
        self._blocks.restore(state["blocks"])
        self._backoff.restore(state["backoff"])

    def decide(self, seen: Observation) -> Decision:
        """One scan: up if pods have no place, else down."""
        called = from_zero(seen, self.limits)
        if called:
            return called
        if self._scan.take(seen.t_s, 0.0) is None:
            return hold(seen, "between scans")
        share, why = seat_share(seen, self.limits)
        if not why and not math.isfinite(self._pod_per_s):
            why = "no pool carries anything within the SLO"
        late = seen.pending_by_age[:, -1].tolist()
        if not why and not healthy(sum(seen.target.tolist()), sum(late)):
            why = f"{sum(late)} replicas do not become ready"
        if why:
            return hold(seen, why)
        for pool, count in enumerate(late):
            if count:
                self._backoff.fail(str(pool), seen.t_s)
        return self._act(self._wanted(share, seen), seen)

    def _wanted(self, share: float, seen: Observation) -> int:
        """Pods the load asks for."""
        used_per_s = share * float(seen.ready_at_scrape @ self.limits.capacity_per_s)
        pods = math.ceil(used_per_s / (self.target * self._pod_per_s) - 1e-9)
        if self._pods <= 0 or not within(pods / self._pods, self.tolerance):
            self._pods = pods
        return self._pods

    def _act(self, pods: int, seen: Observation) -> Decision:
        target, ready = seen.target.tolist(), seen.ready.tolist()
        used, left = self._place(pods, target)
        idle = {(pool, i) for pool in self._order for i in self._removable(pool, used[pool], ready[pool], target[pool])}
        self._unneeded.update(seen.t_s, idle)
        if left > 0:
            return self._grow(left, target, pods, seen)
        return self._shrink(idle, target, pods, seen)

    def _place(self, pods: int, target: Sequence[int]) -> tuple[list[int], int]:
        """(nodes with pods per pool, pods without a place). Nodes of the minimum are filled first, then by price."""
        used, left = [0] * len(target), pods
        for only_minimum in (True, False):
            for pool in self._order:
                most = min(target[pool], self._least[pool]) if only_minimum else target[pool]
                nodes = min(most - used[pool], math.ceil(left / self._each[pool])) if left > 0 else 0
                nodes = max(0, nodes)
                used[pool] += nodes
                left -= nodes * self._each[pool]
        return used, max(0, left)

    def _removable(self, pool: int, used: int, ready: int, target: int) -> range:
        """Ready nodes without pods; upcoming ones are not there to be removed."""
        last = min(ready, target)
        first = max(used, self._least[pool], last - _AT_ONCE)  # they leave from the end
        return range(first, last) if self._empty_may_leave else range(0)

    def _grow(self, left: int, target: list[int], pods: int, seen: Observation) -> Decision:
        options = []
        for pool in self._order:
            room = min(self._most[pool] - target[pool], _AT_ONCE)
            if room > 0 and not self._backoff.waiting(str(pool), seen.t_s):
                nodes, placed = estimate([(self._pod, left)], self._nodes[pool], room)
                if nodes:
                    options.append(Option(str(pool), nodes, (self._pod,) * placed[0][1], self._nodes[pool]))
        # The draw among equals depends on seed and time alone, so that a restart changes nothing.
        best = choose(options, self._expanders, _Draw(f"{self.seed}:{seen.t_s}"))
        if best is None:
            return hold(seen, f"{left} of {pods} pods pending and no group can grow")
        target[int(best.group)] += best.nodes
        self._blocks.happened("add", seen.t_s)
        return Decision(tuple(target), f"{left} of {pods} pods pending: {best.nodes} more in pool {best.group}")

    def _shrink(self, idle: set[tuple[int, int]], target: list[int], pods: int, seen: Observation) -> Decision:
        why = self._blocks.blocking(seen.t_s)
        if why:
            return hold(seen, f"{pods} pods placed, {len(idle)} nodes idle; no removal soon after {why}")
        # The dearest pools first; within a pool from the end, as nodes are filled from the start.
        over = [node for node in sorted(idle, key=self._dearest) if self._unneeded.over(seen.t_s, node)]
        for pool, _ in over[:EMPTY_AT_ONCE]:
            target[pool] -= 1
        if over:
            self._blocks.happened("delete", seen.t_s)
        return Decision(tuple(target), f"{pods} pods placed, {len(idle)} nodes idle, {len(over)} for long enough")

    def _dearest(self, node: tuple[int, int]) -> tuple[int, int]:
        return -self._order.index(node[0]), -node[1]


class _Draw:
    """A generator that is seeded when it is asked for something: most choices are no draw."""

    def __init__(self, seed: str) -> None:
        self.seed = seed

    def choice(self, options: Sequence[Option]) -> Option:
        """One of them at random."""
        return random.Random(self.seed).choice(options)


def _chain(names: str, pod_price: float, by_price: Sequence[int]) -> list[Expander]:
    """Expanders by name, separated by commas. Priority prefers the pools listed first; random is what remains."""
    ranks = {len(by_price) - pool: [f"^{pool}$"] for pool in by_price}
    known: dict[str, Expander] = {
        "least-waste": least_waste,
        "most-pods": most_pods,
        "least-nodes": least_nodes,
        "priority": priority(ranks),
        "price": price(_CPU_MILLI, pod_price / 2),
    }
    chosen = [name.strip() for name in names.split(",")]
    wrong = [name for name in chosen if name not in EXPANDERS]
    if wrong:
        raise ScenarioError(f"cluster-autoscaler: expander {wrong[0]!r}; expected {', '.join(EXPANDERS)}")
    return [known[name] for name in chosen if name != "random"]


SCALERS = {
    "cluster-autoscaler": ScalerKind(
        ClusterAutoscaler,
        Knob("target", OCCUPANCIES, 0.5, "running + waiting requests per seat at l_SLO that pods are asked for by"),
        "Kubernetes Cluster Autoscaler under a proportional rule: expanders choose the pool, idle replicas leave late",
        stabilisation="unneeded_s",
        native_s=SCAN_S,
        upstream={"target": 0.8, "expander": "least-waste", "scan_s": SCAN_S, "unneeded_s": UNNEEDED_S},
        roles=False,
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "cluster-autoscaler": {
        "target": ("log", 0.07, 1.0),
        "expander": ("choice", *EXPANDERS),
        "tolerance": ("float", 0.0, 0.3),
        "unneeded_s": ("float", 60.0, 1800.0),
        "after_add_s": ("float", 0.0, 1800.0),
    }
}
