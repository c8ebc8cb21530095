"""Which node group grows, and by how many nodes: the estimator and the expanders of Cluster Autoscaler.

After cluster-autoscaler/estimator and cluster-autoscaler/expander of kubernetes/autoscaler at f7bb0c362375
(Apache-2.0). CPU in thousandths of a core, memory in bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

GPU_UNFITNESS = 1000.0  # whatever the size: unattractive for pods that need none
NOT_EXISTING = 2.0  # factor on the score of a group that would have to be created
PREFERRED_CPUS = ((2, 1), (6, 2), (20, 4), (60, 8), (200, 16))  # nodes in the cluster, at most: cores of a node
LARGEST_PREFERRED = 32


@dataclass(frozen=True, slots=True)
class Pod:
    """What a pod requests. An exclusive one bears no other exclusive one on its node (the same host port)."""

    cpu_milli: float
    memory: float = 0.0
    gpus: float = 0.0
    exclusive: bool = False
    price: float | None = 0.0  # per hour; None: not known


@dataclass(frozen=True, slots=True)
class Template:
    """A new node of a group."""

    cpu_milli: float
    memory: float = 0.0
    gpus: float = 0.0
    pods: int = 110
    price: float | None = 0.0  # per hour; None: not known


@dataclass(frozen=True, slots=True)
class Option:
    """A group could take these pods on so many new nodes."""

    group: str
    nodes: int
    pods: tuple[Pod, ...]
    template: Template
    exists: bool = True


class Draw(Protocol):
    """What draws among equals; a random.Random is one."""

    def choice(self, options: Sequence[Option], /) -> Option:
        """One of them."""
        ...


Expander = Callable[[Sequence[Option]], list[Option]]


class _Node:
    __slots__ = ("exclusive", "free", "pods", "slots")

    def __init__(self, template: Template) -> None:
        self.free = [template.cpu_milli, template.memory, template.gpus]
        self.slots, self.pods, self.exclusive = template.pods, 0, False

    def take(self, pod: Pod, count: int) -> int:
        """Place as many of `count` alike pods as fit; how many did."""
        room = min(count, self.slots - self.pods)
        needs = (pod.cpu_milli, pod.memory, pod.gpus)
        for free, need in zip(self.free, needs, strict=True):
            room = min(room, math.floor(free / need + 1e-9)) if need > 0 else room
        if pod.exclusive:
            room = min(room, 0 if self.exclusive else 1)
        if room > 0:
            self.free = [free - room * need for free, need in zip(self.free, needs, strict=True)]
            self.pods += room
            self.exclusive = self.exclusive or pod.exclusive
        return max(0, room)


def estimate(
    groups: Sequence[tuple[Pod, int]], template: Template, max_nodes: int = 0
) -> tuple[int, tuple[tuple[Pod, int], ...]]:
    """(new nodes with pods, pods placed by group) by first-fit decreasing; `groups` are (pod, how many alike).

    The largest first: cpu/node cpu + memory/node memory. `max_nodes` 0 is without limit. A pod that fits no empty
    node stays unplaced.
    """

    def size(group: tuple[Pod, int]) -> float:
        parts = ((group[0].cpu_milli, template.cpu_milli), (group[0].memory, template.memory))
        return sum(need / has for need, has in parts if has > 0)

    nodes: list[_Node] = []
    alike = 0  # nodes like the last one, which no later pod asks for
    placed = []
    room = max_nodes or math.inf
    for turn, (pod, count) in enumerate(sorted(groups, key=size, reverse=True), start=1):
        left = count
        for node in nodes:
            left -= node.take(pod, left)
        while left > 0 and not (nodes and nodes[-1].pods == 0) and len(nodes) + alike < room:
            nodes.append(_Node(template))
            taken = nodes[-1].take(pod, left)
            left -= taken
            if turn == len(groups) and taken and left:
                alike = int(min(left // taken, room - len(nodes)))
                left -= alike * taken
        placed.append((pod, count - left))
    return alike + sum(node.pods > 0 for node in nodes), tuple(placed)


def least_waste(options: Sequence[Option]) -> list[Option]:
    """Least sum of the unused shares of CPU and memory over all new nodes."""

    def waste(option: Option) -> float:
        cpu, memory = option.nodes * option.template.cpu_milli, option.nodes * option.template.memory
        asked_cpu, asked_memory = sum(pod.cpu_milli for pod in option.pods), sum(pod.memory for pod in option.pods)
        return _share(cpu - asked_cpu, cpu) + _share(memory - asked_memory, memory)

    return _least(options, waste)


def most_pods(options: Sequence[Option]) -> list[Option]:
    """Takes the most pods."""
    return _least(options, lambda option: -len(option.pods))


def least_nodes(options: Sequence[Option]) -> list[Option]:
    """Fewest new nodes; an option of none is no option."""
    return _least([option for option in options if option.nodes > 0], lambda option: option.nodes)


def priority(patterns: Mapping[int, Sequence[str]]) -> Expander:
    """Highest priority with a regular expression found in the group's name; a group counts by its highest.

    Groups no expression matches are dropped as soon as one group matches; if none does, or where an expression cannot
    be read, all options stay.
    """
    try:
        table = {int(rank): [re.compile(pattern) for pattern in several] for rank, several in patterns.items()}
    except (re.error, ValueError, TypeError):
        table = {}

    def best(options: Sequence[Option]) -> list[Option]:
        ranks = [
            max((rank for rank, several in table.items() if any(p.search(o.group) for p in several)), default=-1)
            for o in options
        ]
        highest = max(ranks, default=-1)
        return [option for option, rank in zip(options, ranks, strict=True) if rank == highest or highest < 0]

    return best


def preferred_cpu(cluster_nodes: int) -> int:
    """Cores of the node that suits a cluster of so many nodes."""
    return next((cpu for most, cpu in PREFERRED_CPUS if cluster_nodes <= most), LARGEST_PREFERRED)


def unfitness(preferred_milli: float, cpu_milli: float) -> float:
    """How far from the preferred size, at least 1."""
    if preferred_milli <= 0 or cpu_milli <= 0:
        return math.inf
    return max(preferred_milli / cpu_milli, cpu_milli / preferred_milli)


def price(preferred_milli: float, stabilization: float) -> Expander:
    """Least (nodes + s)/(pods + s) by price, times the unfitness of the node size, which counts less for many nodes.

    `stabilization` s is the price of a small pod, which keeps tiny demands from being judged by rounding. Groups
    without a node price are dropped, pods without one left out of the sum.
    """

    def score(option: Option) -> float:
        nodes = option.nodes * (option.template.price or 0.0)
        pods = sum(pod.price for pod in option.pods if pod.price is not None)
        fitness = GPU_UNFITNESS
        if option.template.gpus <= 0:
            fade = 1.0 - math.tanh((option.nodes - 1) / 15.0)
            fitness = (unfitness(preferred_milli, option.template.cpu_milli) - 1.0) * fade + 1.0
        score = fitness * (nodes + stabilization) / (pods + stabilization) if pods + stabilization > 0 else math.inf
        return score if option.exists else NOT_EXISTING * score

    return lambda options: _least([option for option in options if option.template.price is not None], score)


def choose(options: Sequence[Option], expanders: Sequence[Expander], rng: Draw) -> Option | None:
    """Each expander filters what the one before left; what is still equal is drawn at random. None: no option."""
    left = list(options)
    for expander in expanders:
        if len(left) <= 1:
            break
        left = expander(left)
    if not left:
        return None
    return left[0] if len(left) == 1 else rng.choice(left)


def _least(options: Sequence[Option], score: Callable[[Option], float]) -> list[Option]:
    scores = [score(option) for option in options]
    return [option for option, one in zip(options, scores, strict=True) if one == min(scores)]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
