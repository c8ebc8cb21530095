"""The books of the toy service's fleet: nodes with one replica each, what they are doing, what they cost. No processes.

The rules are those of the simulator, in plain Python: scaling in cancels the youngest replica that is not ready, then
drains; a node without a replica is given back after `idle_s`; it is billed from the moment it is up, or ordered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlscale.deploy.base import Fleet
from rlscale.errors import ScenarioError
from rlscale.types import ClusterSpec, DelayLaw, Floats

State = Literal["absent", "ordered", "loading", "ready", "draining", "idle"]
ALIVE: tuple[State, ...] = ("ordered", "loading", "ready", "draining")  # with a replica
NEVER_S = math.inf
COUNTS = ("ready", "pending", "draining", "billed")


@dataclass(frozen=True, slots=True)
class FleetLaw:
    """How long everything takes, seconds, and what a node costs."""

    node_s: float
    cold_s: float
    warm_s: float
    drain_s: float
    idle_s: float
    usd_per_s: float
    bill_from_order: bool = False


@dataclass(slots=True)
class Node:
    """A machine and the replica on it. `due_s`: when its state ends by itself."""

    state: State = "absent"
    due_s: float = NEVER_S
    ordered_s: float = 0.0  # the replica
    billed_since_s: float = NEVER_S
    warm: bool = False  # has run the service before
    serves: bool = False  # its process is up


class Books:
    """The fleet of one pool. Times are the caller's and never go back."""

    def __init__(self, law: FleetLaw, nodes: int, can_serve: Callable[[int], bool] = lambda _: True) -> None:
        self.law, self._can_serve = law, can_serve
        self.nodes = [Node() for _ in range(nodes)]
        self.target, self.churn, self.started, self.late, self.failed = 0, 0, 0, 0, 0
        self.log: list[tuple[float, int, int, int, int]] = []  # time and COUNTS, at every change
        self._spent_s = 0.0

    def begin(self, replicas: int, now_s: float) -> None:
        """So many are ready on warm nodes."""
        for node in self.nodes[:replicas]:
            node.state, node.warm, node.billed_since_s = "ready", True, now_s
        self.target = replicas
        self._note(now_s)

    def order(self, target: int, now_s: float) -> None:
        """Have so many replicas. Comes before what is due at the same time: an idle node may still be taken."""
        self.churn += abs(target - self.target)
        self.target = target
        self._follow(now_s)

    def advance(self, now_s: float) -> None:
        """Let everything happen that was due."""
        for slot, node in enumerate(self.nodes):
            while node.due_s <= now_s and self._passes(slot, node, node.due_s, now_s):
                pass
        self._follow(now_s)

    def gone(self, slot: int, now_s: float) -> None:
        """A replica's process has ended: it has drained, or it died and another is started for it."""
        node = self.nodes[slot]
        if node.state in ALIVE:
            self.failed += node.state != "draining"
            self._empty(node, now_s)
            self._follow(now_s)

    def slots(self, *states: State) -> list[int]:
        """Numbers of the nodes in these states."""
        return [slot for slot, node in enumerate(self.nodes) if node.state in states]

    def fleet(self) -> Fleet:
        """As a control plane tells it."""
        ready, pending, draining, _ = self._counts()
        return Fleet((ready,), (pending,), (self.target,), (draining,))

    def cost_usd(self, now_s: float) -> float:
        """Of everything until now."""
        open_s = sum(now_s - node.billed_since_s for node in self.nodes if node.billed_since_s < NEVER_S)
        return (self._spent_s + open_s) * self.law.usd_per_s

    @property
    def next_s(self) -> float:
        """When something is due."""
        return min(node.due_s for node in self.nodes)

    def _passes(self, slot: int, node: Node, at_s: float, now_s: float) -> bool:
        """What was due at `at_s` happens; False where it cannot yet."""
        if node.state == "ordered":
            node.state, node.due_s = "loading", at_s + (self.law.warm_s if node.warm else self.law.cold_s)
            node.billed_since_s = min(node.billed_since_s, at_s)
        elif node.state == "loading":
            if not self._can_serve(slot):
                return False
            self.late += now_s - at_s > 1.0
            node.state, node.due_s, node.warm = "ready", NEVER_S, True
        elif node.state == "draining":
            self._empty(node, at_s)
        else:
            self._give_back(node, at_s)
        self._note(at_s if node.state != "ready" else now_s)
        return True

    def _follow(self, now_s: float) -> None:
        """Bring the fleet to the target."""
        alive = self.slots("ordered", "loading", "ready")
        before = len(alive)
        starting = sorted(self.slots("ordered", "loading"), key=lambda slot: (self.nodes[slot].ordered_s, slot))
        while before > self.target and starting:
            self._cancel(self.nodes[starting.pop()], now_s)
            before -= 1
        for slot in reversed(self.slots("ready")):
            if before <= self.target:
                break
            self.nodes[slot].state, self.nodes[slot].due_s = "draining", now_s + self.law.drain_s
            before -= 1
        for slot in [*self.slots("idle"), *self.slots("absent")][: max(0, self.target - before)]:
            self._start(self.nodes[slot], now_s)
        self._note(now_s)

    def _start(self, node: Node, now_s: float) -> None:
        self.started += 1
        node.ordered_s = now_s
        if node.state == "idle":
            node.state, node.due_s = "loading", now_s + (self.law.warm_s if node.warm else self.law.cold_s)
            return
        node.state, node.due_s, node.warm = "ordered", now_s + self.law.node_s, False
        if self.law.bill_from_order:
            node.billed_since_s = now_s

    def _cancel(self, node: Node, now_s: float) -> None:
        if node.state == "ordered":
            self._give_back(node, now_s)
        else:
            self._empty(node, now_s)

    def _empty(self, node: Node, now_s: float) -> None:
        if node.state == "ordered":  # the process died before its node was up
            self._give_back(node, now_s)
        else:
            node.state, node.due_s = "idle", now_s + self.law.idle_s

    def _give_back(self, node: Node, now_s: float) -> None:
        if node.billed_since_s < NEVER_S:
            self._spent_s += now_s - node.billed_since_s
        node.state, node.due_s, node.billed_since_s = "absent", NEVER_S, NEVER_S

    def _counts(self) -> tuple[int, int, int, int]:
        billed = sum(node.billed_since_s < NEVER_S for node in self.nodes)
        return (len(self.slots("ready")), len(self.slots("ordered", "loading")), len(self.slots("draining")), billed)

    def _note(self, now_s: float) -> None:
        counts = self._counts()
        if not self.log or self.log[-1][1:] != counts:
            self.log.append((max(now_s, self.log[-1][0] if self.log else now_s), *counts))


def averages(log: Sequence[tuple[float, int, int, int, int]], edges_s: Floats) -> dict[str, Floats]:
    """Mean counts between the edges, by name of `COUNTS`."""
    times = np.array([row[0] for row in log])
    found = {}
    for column, name in enumerate(COUNTS, 1):
        values = np.array([row[column] for row in log], dtype=np.float64)
        at = np.unique(np.concatenate([edges_s, times[(times > edges_s[0]) & (times < edges_s[-1])]]))
        level = values[np.maximum(np.searchsorted(times, at[:-1], side="right") - 1, 0)]
        area = np.concatenate([[0.0], np.cumsum(level * np.diff(at))])
        found[name] = np.diff(np.interp(edges_s, at, area)) / np.diff(edges_s)
    return found


def fleet_law(spec: ClusterSpec) -> FleetLaw:
    """The law of a scenario. ScenarioError where the toy service cannot play it."""
    if len(spec.pools) != 1 or spec.pools[0].slots_per_node != 1 or spec.pools[0].spot:
        raise ScenarioError(
            "the toy service has one pool of on-demand nodes, a replica on each; choose such a scenario"
        )
    pool = spec.pools[0]
    cold, warm = pool.profile.cold, pool.profile.warm
    if not pool.profile.batching or len(cold) + len(warm) > 2:
        raise ScenarioError("the toy service plays language models that start in one stage; choose such a scenario")
    return FleetLaw(_constant(pool.node.provisioning), _constant(cold[0]), _constant(warm[0]), spec.drain_s,
                    spec.node_idle_s, pool.usd_per_replica_s, spec.bill_from == "order")  # fmt: skip


def _constant(law: DelayLaw) -> float:
    if law.p95_s > law.median_s:
        raise ScenarioError(f"a start-up of {law.median_s:g} to {law.p95_s:g} s; those of the toy are always the same: "
                            "give p95_s the value of median_s")  # fmt: skip
    return law.median_s
