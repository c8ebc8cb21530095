"""A policy as a decision tree that can be read, fitted on states that policy and tree visit, labelled by the policy.

DAgger (Ross et al. 2011): a tree fitted only on the policy's own days meets states it was never shown. Every round lets
the newest tree drive further training loads while the policy, which looks over its shoulder, says what it would do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.export_python import written
from experiments.export_source import Source
from rlscale.decide import blind, hold
from rlscale.errors import PolicyError
from rlscale.features import FeatureExtractor
from rlscale.loop import run
from rlscale.manifest import described_policy
from rlscale.policy import Model, preferred
from rlscale.policy_folder import TREE
from rlscale.policy_tree import KIND, NODES, columns, nodes_digest
from rlscale.tree import LEAF, Tree
from rlscale.types import Decision, Floats, Ints, Observation

FILE = "exported_tree.py"
GIVEN_AWAY = 0.005  # what a smaller tree may lose against the best: of agreement, and of the policy's own reward


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a tree is looked for."""

    sizes: tuple[int, ...] = (8, 16, 32, 64, 128, 256)  # leaves
    rounds: int = 3  # that a tree drives, after the first, which the policy drives
    loads: int = 2  # training loads per round
    validation: int = 2  # loads


@dataclass(frozen=True, slots=True)
class Distilled:
    """The chosen tree, and what the other sizes reached."""

    tree: Tree
    candidates: list[dict[str, Any]]
    states: int


USUAL = Effort()


class Pupil:
    """Drives by a tree, or by the policy while there is none, and keeps what was seen and what the policy would do."""

    def __init__(self, source: Source, tree: Model | None) -> None:
        self.source, self.tree = source, tree
        self.features: list[Any] = []
        self.actions: list[Any] = []
        self.equal: list[bool] = []
        self.reset()

    def reset(self) -> None:
        """Begin a run; what was kept stays."""
        self._extractor = FeatureExtractor(self.source.known, float(self.source.manifest["interval_s"]))
        self._state = self.source.network.start(1)

    def warm_up(self, history_per_s: Floats, history_step_s: float) -> None:
        """Load before the run."""
        self._extractor.reset(slice(None), history_per_s, history_step_s)

    def decide(self, seen: Observation) -> Decision:
        """As `Policy.decide`, with two answers."""
        source = self.source
        row = self._extractor.push(seen)[:, : source.network.inputs]
        outputs, self._state = source.network.forward(row, self._state)
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        if why:
            return hold(seen, why)
        wanted, ours = self._targets(outputs, seen)
        self.features.append(row[0])
        self.actions.append(np.atleast_1d(wanted[0]))
        driven = ours if self.tree is None else self._targets(self.tree.forward(row)[0], seen)[1]
        self.equal.append(driven == ours)
        return Decision(driven, "distilled")

    def _targets(self, outputs: Any, seen: Observation) -> tuple[Any, tuple[int, ...]]:
        maps, known = self.source.actions, self.source.known
        sizes = maps.sizes(len(known.min_replicas))
        action = preferred(outputs, maps.mask(seen, known), sizes)
        return action, tuple(int(count) for count in maps.targets(action, seen, known)[0])


def files(source: Source, effort: Effort = USUAL) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The exported files by name, and how the tree was chosen."""
    found = distil(source, effort)
    nodes, tree = columns(found.tree), found.tree
    network = {"kind": KIND, "outputs": tree.outputs, "leaves": tree.leaves, "depth": tree.depth}
    manifest = described_policy(
        source.actions, tree.inputs, source.manifest["pools"], source.manifest["interval_s"], network,
        {NODES: nodes_digest(nodes)}, source.about(),
    )  # fmt: skip
    text = json.dumps({"manifest": manifest, NODES: nodes}, indent=1) + "\n"
    program = written(source, {"kind": KIND, "nodes": nodes}, {})
    said = {"leaves": tree.leaves, "depth": tree.depth, "states": found.states, "candidates": found.candidates}
    return {TREE: text.encode(), FILE: program.encode()}, said


def distil(source: Source, effort: Effort = USUAL) -> Distilled:
    """The smallest tree that does nearly as well as the best size. Fitting sees training loads only; sizes are judged
    on validation loads that the tree drives itself."""
    states: list[Any] = []
    actions: list[Any] = []
    tree: Tree | None = None
    seed = 0
    for _ in range(effort.rounds + 1):
        for _ in range(effort.loads):
            pupil = Pupil(source, tree)
            run(source.scenario, pupil, source.scenario.sample_load("train", seed), seed)
            states, actions, seed = states + pupil.features, actions + pupil.actions, seed + 1
        tree = fit(source, np.array(states), np.array(actions), max(effort.sizes))
    fitted = [fit(source, np.array(states), np.array(actions), leaves) for leaves in effort.sizes]
    judged = [_judged(source, own, effort.validation) for own in fitted]
    said = [{"leaves": own.leaves, "depth": own.depth, **{name: value if math.isfinite(value) else None
             for name, value in one.items()}} for own, one in zip(fitted, judged, strict=True)]  # fmt: skip
    return Distilled(fitted[chosen(judged, _judged(source, None, effort.validation)["reward"])], said, len(states))


def chosen(judged: Sequence[dict[str, float]], reward: float) -> int:
    """The first, which is the smallest, of those that agree nearly as often as the best one and lose no more of the
    policy's `reward` than the best of them: what is rare and dear counts as much as it costs."""
    best = max(one["agreement"] for one in judged)
    near = [i for i, one in enumerate(judged) if one["agreement"] >= best - GIVEN_AWAY]
    if not math.isfinite(reward):  # a scenario without a reference cost
        return near[0]
    least = max(judged[i]["reward"] for i in near) - GIVEN_AWAY * abs(reward)
    return next(i for i in near if judged[i]["reward"] >= least)


def _judged(source: Source, tree: Tree | None, loads: int) -> dict[str, float]:
    """Of a tree that drives validation loads, or of the policy: share of equal targets, mean reward, cost, misses."""
    pupil, totals = Pupil(source, tree), []
    for seed in range(loads):
        totals.append(run(source.scenario, pupil, source.scenario.sample_load("validation", seed), seed).totals)
    mean = {name: float(np.mean([one[name] for one in totals])) for name in ("reward", "usd_per_hour", "attainment")}
    return {"agreement": float(np.mean(pupil.equal)), **mean}


def fit(source: Source, states: Floats, actions: Ints, leaves: int) -> Tree:
    """A tree of at most so many leaves; its values are shares of the choices of every dimension, or a number."""
    try:
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
    except ImportError:
        raise PolicyError("distilling a tree needs scikit-learn: pip install 'rlscale[forecast]'") from None
    sizes = source.actions.sizes(len(source.known.min_replicas))
    kind = DecisionTreeClassifier if sizes else DecisionTreeRegressor
    fitted = kind(max_leaf_nodes=leaves, random_state=0).fit(states, actions)
    inner = fitted.tree_
    order = _parents_first(inner.children_left, inner.children_right)
    place = np.full(len(order), LEAF)
    place[order] = np.arange(len(order))
    asks = inner.children_left[order] >= 0
    values = inner.value[order] if not sizes else _shares(fitted, inner.value[order], sizes)
    return Tree(
        np.where(asks, inner.feature[order], LEAF).astype(np.int64),
        np.where(asks, inner.threshold[order], 0.0),
        np.where(asks, place[inner.children_left[order]], LEAF).astype(np.int64),
        np.where(asks, place[inner.children_right[order]], LEAF).astype(np.int64),
        np.ascontiguousarray(values.reshape(len(order), -1), np.float32),
        states.shape[1],
    )


def _shares(fitted: Any, values: Floats, sizes: tuple[int, ...]) -> Floats:
    """(nodes, choices of all dimensions): classes that never occurred have a share of 0."""
    classes = fitted.classes_ if len(sizes) > 1 else [fitted.classes_]
    shares = np.zeros((len(values), sum(sizes)))
    for dimension, (own, first) in enumerate(zip(classes, np.cumsum((0, *sizes)), strict=False)):
        counts = values[:, dimension, : len(own)]
        shares[:, first + np.asarray(own, np.int64)] = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _parents_first(left: Ints, right: Ints) -> list[int]:
    """Nodes from the root down."""
    order = [0]
    for node in order:
        if left[node] >= 0:
            order += [int(left[node]), int(right[node])]
    return order
