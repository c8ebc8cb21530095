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
from rlscale.beginning import MINUTE_S, Beginnings
from rlscale.features import FeatureExtractor
from rlscale.feedback import charged_usd, weighed
from rlscale.monitor import Monitor
from rlscale.scenario import Scenario
from rlscale.sim.luck import kernel
from rlscale.sim.worlds import make_world
from rlscale.types import Floats, Ints, Load, Observation

EPISODE_INTERVALS = 240
DRAWN_AHEAD = 256  # episodes: drawing a few at a time costs as much as drawing hundreds
# Of a reward: what was billed, missed and changed, the three shares of the reward, and what is charged beside the bill.
TERMS = (
    "cost_usd", "missed", "churn", "reward_cost", "reward_missed", "reward_churn", "carbon_g", "late_tokens",
)  # fmt: skip


class ClusterBatch:
    """State of n circles; `begin` rows, then `step` with one action each.

    After a step: `observation` (n, features), `reward` (n,), `ended` (n,), `final` (the last observations of the rows
    that ended, in their order) and `terms` (raw reward terms by name, see `TERMS`).
    """

    def __init__(
        self, scenario: Scenario, loads: Sequence[Load], n: int, actions: ActionMap | None = None, threads: int = 1,
        engine: str = "fluid",
    ) -> None:  # fmt: skip
        self.scenario, self.known, self.loads, self.n = scenario, scenario.limits, list(loads), n
        self.actions: ActionMap = Headroom() if actions is None else actions
        self.scale = scale_of(scenario, self.loads)
        self.interval_cells = scenario.cluster.substeps
        self._beginnings = Beginnings(self.loads, self.known)
        zero = np.zeros(n, np.int64)
        self.world = make_world(engine, scenario.cluster, self.loads, [0] * n, self.known.min_replicas, threads=threads)
        self.monitor = Monitor(self.world, self.known)
        self.features = FeatureExtractor(self.known, scenario.cluster.interval_s, n)
        self._price = np.array(
            [(pool.node.usd_per_s(pool.spot), pool.node.disk_usd_per_hour / 3600.0) for pool in scenario.cluster.pools]
        )
        self._all = np.arange(n)
        self._totals = np.zeros((5, n))  # cost, misses, churn, carbon and late tokens of each row since it began
        weights = scenario.weights
        self._scale = (self.scale.usd_per_interval, self.scale.requests_per_interval, weights.missed, weights.churn,
                       weights.usd_per_kg_carbon, weights.usd_per_million_late_tokens)  # fmt: skip
        self.which, self.first, self.luck = zero.copy(), zero.copy(), zero.astype(np.uint64)
        self.age, self.length = zero.copy(), np.full(n, EPISODE_INTERVALS)
        self.returns = np.zeros(n)
        self.ended = np.zeros(n, np.bool_)
        self.final: NDArray[np.float32] | None = None
        self.seen: Observation

    def begin(self, rows: Ints, which: Ints, first: Ints, luck: Any, length: Ints, share: Floats | None = None) -> None:
        """Start rows; one interval passes before their first observation, as in `loop.run`.

        `share`: the first fleet over that of a run, 1 by default.
        """
        self.which[rows], self.first[rows], self.luck[rows], self.length[rows] = which, first, luck, length
        fleets, minutes = self._beginnings.at(which, first)
        if share is not None:
            wrong = np.rint(share[:, None] * fleets).astype(np.int64)
            fleets = np.clip(wrong, self.known.min_replicas, self.known.max_replicas)
        self.world.reset(rows, luck, fleets, which, first)
        self.monitor.reset(rows)
        self.features.reset(rows, minutes, MINUTE_S)
        for i in np.flatnonzero(first == 0):  # as in `loop.run`: all of the load's own history
            load = self.loads[which[i]]
            self.features.reset(rows[i], load.history_per_s, load.history_step_s)
        self.world.wait_rows(rows)
        self._settle(rows)
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
        self.world.wait()
        terms, self.reward = self._settle(self._all)
        self.terms = dict(zip(TERMS, terms, strict=True))
        self.returns += self.reward
        self.look()
        self.age += 1
        self.ended = self.age >= self.length
        self.final = None

    def restart(self, rows: Ints, *episode: Any) -> None:
        """`begin` rows that have ended anew within the same step; `final` keeps what they saw last."""
        self.final = self.observation[rows]
        self.begin(rows, *episode)
        self.seen = self.monitor.observe_again(rows)
        self.observation[rows] = self.features.first(self.seen, rows)

    def _settle(self, rows: Ints) -> tuple[Floats, Floats]:
        """Terms, (8, n), and reward, (n,), of the given rows since they were last settled."""
        terms, value = np.empty((len(TERMS), self.n)), np.empty(self.n)
        _settle(rows, self.world.cluster, self.world.pool, self._price, *self._scale, self._totals, terms, value)
        return terms, value


_weighed = kernel(weighed)
_charged = kernel(charged_usd)


@kernel
def _settle(
    rows: Ints, cluster: Any, pool: Any, price: Floats, usd: float, requests: float, missed_weight: float,
    churn_weight: float, carbon_price: float, late_price: float, totals: Floats, terms: Floats, value: Floats,
) -> None:  # fmt: skip
    for r in rows:
        cost = carbon = 0.0
        for p in range(price.shape[0]):
            q = pool[r, p]
            cost += q.node_s * price[p, 0] + q.stopped_s * price[p, 1] + q.energy_usd
            carbon += q.carbon_g
        missed, churn, late = cluster[r].missed, cluster[r].churn, cluster[r].work_late
        terms[0, r] = cost - totals[0, r]
        terms[1, r] = missed - totals[1, r]
        terms[2, r] = churn - totals[2, r]
        totals[0, r] = cost
        totals[1, r] = missed
        totals[2, r] = churn
        terms[6, r] = carbon - totals[3, r]
        terms[7, r] = late - totals[4, r]
        totals[3, r] = carbon
        totals[4, r] = late
        charged = _charged(terms[0, r], terms[6, r], terms[7, r], carbon_price, late_price)
        relative, share, value[r] = _weighed(
            charged, terms[1, r], terms[2, r], usd, requests, missed_weight, churn_weight
        )
        terms[3, r] = -relative
        terms[4, r] = -missed_weight * share
        terms[5, r] = -churn_weight * terms[2, r]


class Windows:
    """Draws episodes: a load, a moment that leaves room for the episode, the luck, and how wrong the first fleet is.

    Half of the episodes begin with the fleet of a run; with a `start_spread` above 1 the others begin with one that is
    up to that many times too large or too small. An agent that has only seen good fleets cannot mend a bad one.
    """

    def __init__(
        self, loads: Sequence[Load], interval_cells: int, length: int, rng: np.random.Generator,
        start_spread: float = 1.0,
    ) -> None:  # fmt: skip
        self.count, self.length, self.rng, self.interval_cells = len(loads), length, rng, interval_cells
        self.start_spread = start_spread
        cells = min(len(load.values) for load in loads)
        self.last = max(0, cells // interval_cells - length - 1)

        self._drawn: tuple[Any, ...] = ()
        self._left = 0

    def draw(self, rows: int) -> tuple[Ints, Ints, NDArray[np.uint64], Ints, Floats]:
        """Which load, first cell, luck, length, and first fleet over that of a run, (rows,) each."""
        if rows > self._left:
            self._left = max(rows, DRAWN_AHEAD)
            self._drawn = self._draw(self._left)
        end = len(self._drawn[0]) - self._left + rows
        self._left -= rows
        which, first, luck, length, share = (values[end - rows : end] for values in self._drawn)
        return which, first, luck, length, share

    def _draw(self, count: int) -> tuple[Ints, Ints, NDArray[np.uint64], Ints, Floats]:
        which = self.rng.integers(0, self.count, count)
        first = self.interval_cells * self.rng.integers(0, self.last + 1, count)
        luck = self.rng.integers(0, 2**62, count).astype(np.uint64)
        wrong = self.rng.random(count) < 0.5
        share = np.where(wrong, self.start_spread ** self.rng.uniform(-1.0, 1.0, count), 1.0)
        return which, first, luck, np.full(count, self.length), share
