"""A trained model as a scaler: features, forward pass, action map. Knows no files and no training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rlscale.actions import ActionMap
from rlscale.decide import blind, hold, positive
from rlscale.feature_statistics import FeatureStatistics
from rlscale.features import FeatureExtractor
from rlscale.network import Array, State
from rlscale.types import Decision, Floats, Observation, ScalingLimits


class Model(Protocol):
    """Rows of features to rows of outputs: a network, an exported file, a tree."""

    @property
    def inputs(self) -> int:
        """Features it takes, from the front."""

    @property
    def outputs(self) -> int:
        """Choices of all dimensions, or 1 for a number."""

    def start(self, rows: int) -> State:
        """The state before the first observation."""

    def forward(self, features: NDArray[Any], state: State = ()) -> tuple[Array, State]:
        """(rows, outputs) for (rows, inputs), and the next state."""


class Policy:
    """Takes the action of the largest output among those the limits leave; holds when metrics are missing.

    `multiplier` is the knob that trades cost for attainment: the policy sees that many times the demand there is,
    and sizes the fleet for it. `statistics` are those of the features it was trained on, where they are known.
    """

    def __init__(
        self, network: Model, actions: ActionMap, known: ScalingLimits, interval_s: float, multiplier: float = 1.0,
        statistics: FeatureStatistics | None = None,
    ) -> None:  # fmt: skip
        self.network, self.actions, self.known, self.interval_s = network, actions, known, interval_s
        self.multiplier = positive("policy: multiplier", multiplier)
        self.statistics = statistics
        self.sizes = actions.sizes(len(known.min_replicas))
        self.reset()

    def reset(self) -> None:
        """Forget the history."""
        self._features = FeatureExtractor(self.known, self.interval_s)
        self._state = self.network.start(1)
        self.outputs: NDArray[Any] = np.full(self.network.outputs, np.nan, np.float32)  # of the last decision

    def warm_up(self, history_per_s: Floats, history_step_s: float) -> None:
        """Load before the run."""
        self._features.reset(slice(None), self.multiplier * history_per_s, history_step_s)

    def state(self) -> dict[str, Any]:
        """What it remembers, as JSON can say it, so that it goes on after a restart as if there had been none."""
        return {"features": self._features.state(), "network": [layer.tolist() for layer in self._state]}

    def restore(self, state: dict[str, Any]) -> None:
        """What `state` gave."""
        self._features.restore(state["features"])
        self._state = tuple(np.asarray(layer, np.float32) for layer in state["network"])

    def decide(self, seen: Observation) -> Decision:
        """The preferred action as targets."""
        seen = times_demand(seen, self.multiplier)
        features = self._features.push(seen)[:, : self.network.inputs]
        outputs, self._state = self.network.forward(features, self._state)
        self.outputs = outputs[0]
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        if why:
            return hold(seen, why)
        mask = self.actions.mask(seen, self.known)
        action = preferred(outputs, mask, self.sizes)
        target = self.actions.targets(action, seen, self.known)[0]
        return Decision(tuple(int(count) for count in target), self.actions.words(action[0]))


def preferred(outputs: NDArray[Any], mask: NDArray[np.bool_], sizes: tuple[int, ...]) -> NDArray[Any]:
    """Actions for rows of outputs: (n,) choices, (n, dimensions) choices, or (n, 1) numbers where there is no choice.

    `mask` (n, choices) says which are open; the first of equal outputs wins.
    """
    if not sizes:
        return outputs
    open_outputs = np.where(mask, outputs, -np.inf)
    ends = np.cumsum(sizes)[:-1]
    choices = [part.argmax(axis=1) for part in np.split(open_outputs, ends, axis=1)]
    return choices[0] if len(choices) == 1 else np.stack(choices, axis=1)


def times_demand(seen: Observation, factor: float) -> Observation:
    """The observation as it would be with `factor` times the demand."""
    if factor == 1.0:
        return seen
    names = ("arrival_per_s", "waiting", "running", "compute_occupancy", "memory_occupancy")
    return replace(seen, **{name: factor * getattr(seen, name) for name in names})
