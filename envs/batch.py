"""n clusters under a bank of loads, the circle cut open at Decide. Every environment here is a face of this one.

An episode is a window of a load: row r runs load `which[r]` from cell `first[r]` for `length[r]` intervals. It ends by
truncation, because the load goes on; a row that ends begins anew in the same step, and its last observation is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.reward import scale_of
from rlscale.actions import ActionMap, Headroom
from rlscale.beginning import Moments, first_fleet, first_lead_s
from rlscale.features import FeatureExtractor
from rlscale.feedback import reward
from rlscale.monitor import Monitor
from rlscale.scenario import Scenario
from rlscale.sim.world import SimWorld
from rlscale.types import Floats, Ints, Load, Observation

EPISODE_INTERVALS = 240
TERMS = ("cost_usd", "missed", "churn", "reward_cost", "reward_missed", "reward_churn")


class ClusterBatch:
    """State of n circles; `begin` rows, then `step` with one action each.

    After a step: `observation` (n, features), `reward` (n,), `ended` (n,), `final` (the last observations of the rows
    that ended, in their order) and `terms` (raw reward terms by name, see `TERMS`).
    """

    def __init__(
        self, scenario: Scenario, loads: Sequence[Load], n: int, actions: ActionMap | None = None, threads: int = 1
    ) -> None:
        self.scenario, self.known, self.loads, self.n = scenario, scenario.limits, list(loads), n
        self.actions: ActionMap = Headroom() if actions is None else actions
        self.scale = scale_of(scenario, self.loads)
        self.interval_cells = scenario.cluster.substeps
        self._moments = [Moments(load) for load in self.loads]
        self._lead_s = first_lead_s(self.known)
        zero = np.zeros(n, np.int64)
        self.world = SimWorld(scenario.cluster, self.loads, [0] * n, self.known.min_replicas, threads=threads)
        self.monitor = Monitor(self.world, self.known)
        self.features = FeatureExtractor(self.known, scenario.cluster.interval_s, n)
        self._price = np.array([pool.node.usd_per_s(pool.spot) for pool in scenario.cluster.pools])
        self.which, self.first, self.luck = zero.copy(), zero.copy(), zero.astype(np.uint64)
        self.age, self.length = zero.copy(), np.full(n, EPISODE_INTERVALS)
        self.returns = np.zeros(n)
        self.ended = np.zeros(n, np.bool_)
        self.final: NDArray[np.float32] | None = None
        self.seen: Observation

    def begin(self, rows: Ints, which: Ints, first: Ints, luck: Any, length: Ints) -> None:
        """Start rows; one interval passes before their first observation, as in `loop.run`."""
        self.which[rows], self.first[rows], self.luck[rows], self.length[rows] = which, first, luck, length
        moments = [(self._moments[k], at) for k, at in zip(which.tolist(), first.tolist(), strict=True)]
        need = np.array([moment.first_need_per_s(at, self._lead_s) for moment, at in moments])
        self.world.reset(rows, luck, first_fleet(need, self.known), which, first)
        self.monitor.reset(rows)
        for r, (moment, at) in zip(rows, moments, strict=True):
            self.features.reset(r, *moment.history(at))
        self.world.wait_rows(rows)
        self.age[rows] = 1
        self.returns[rows] = 0.0

    def look(self) -> NDArray[np.float32]:
        """Features of all rows after an interval."""
        self.seen = self.monitor.observe()
        self.observation = self.features.push(self.seen)
        return self.observation

    def step(self, actions: NDArray[Any]) -> None:
        """Execute, one control interval, feedback, monitor. Rows that end stay where they are; see `restart`."""
        self.world.apply(self.actions.targets(actions, self.seen, self.known))
        before = self._totals()
        self.world.wait()
        cost, missed, churn = (after - then for after, then in zip(self._totals(), before, strict=True))
        value = reward(cost, missed, churn, self.scale, self.scenario.weights)
        self.reward = value.total
        self.returns += value.total
        weights = self.scenario.weights
        self.terms = dict(zip(TERMS, (cost, missed, churn, -value.cost, -weights.missed * value.missed,
                                      -weights.churn * value.churn), strict=True))  # fmt: skip
        self.look()
        self.age += 1
        self.ended = self.age >= self.length
        self.final = None

    def restart(self, rows: Ints, which: Ints, first: Ints, luck: Any, length: Ints) -> None:
        """Begin rows that have ended anew within the same step; `final` keeps what they saw last."""
        self.final = self.observation[rows].copy()
        self.begin(rows, which, first, luck, length)
        self.seen = self.monitor.observe_again(rows)
        self.observation[rows] = self.features.first(self.seen, rows)

    def _totals(self) -> tuple[Floats, Floats, Floats]:
        cluster = self.world.cluster
        return self.world.pool["node_s"] @ self._price, cluster["missed"].copy(), cluster["churn"].copy()


class Windows:
    """Draws episodes: a load, a moment that leaves room for the episode, and the luck."""

    def __init__(self, loads: Sequence[Load], interval_cells: int, length: int, rng: np.random.Generator) -> None:
        self.count, self.length, self.rng, self.interval_cells = len(loads), length, rng, interval_cells
        cells = min(len(load.values) for load in loads)
        self.last = max(0, cells // interval_cells - length - 1)

    def draw(self, rows: int) -> tuple[Ints, Ints, NDArray[np.uint64], Ints]:
        """Which load, first cell, luck and length, (rows,) each."""
        which = self.rng.integers(0, self.count, rows)
        first = self.interval_cells * self.rng.integers(0, self.last + 1, rows)
        luck = self.rng.integers(0, 2**62, rows).astype(np.uint64)
        return which, first, luck, np.full(rows, self.length)
