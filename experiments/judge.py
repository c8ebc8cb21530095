"""How good a network is on loads it was not trained on: all of them at once, each from beginning to end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from envs.batch import ClusterBatch
from envs.reward import scale_of
from rlscale.actions import ActionMap
from rlscale.decide import carried_per_s
from rlscale.loop import need_series
from rlscale.network import Network
from rlscale.policy import preferred
from rlscale.scenario import Scenario
from rlscale.sim.histogram import quantile
from rlscale.types import Floats, Load

SHOWN_S = 4 * 3600.0  # of the first load, in the figure
STARTS = (0.5, 1.5)  # first fleet over that of a run
SETTLE_LEADS = 3  # p95 lead times until an evaluation counts
COUNTERS = ("arrived", "missed", "dropped", "churn", "output_tokens")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One evaluation. `scalars` by TensorBoard name; `series` of the first load; counts of actions."""

    reward: float  # mean per load, unscaled
    usd_per_hour: float
    attainment: float
    scalars: dict[str, float]
    series: dict[str, Floats] = field(repr=False)  # hour, need, ready, pending: replicas of the cheapest pool
    actions: Floats = field(repr=False)  # (choices,) how often each was taken; empty for a continuous map
    waiting: Floats = field(repr=False)  # (intervals x loads,) requests in the queue

    def words(self) -> str:
        """For a line on the terminal."""
        return f"validation {self.usd_per_hour:.2f} USD/h at {self.attainment:.3%} (reward {self.reward:.0f})"


class Judge:
    """Evaluates networks on the same loads, with the same luck.

    Loads begin in turn with half and one and a half times the fleet of a run, and count once that can be mended: a
    network that stands still, or that only knows good fleets, is not taken for a good one.
    """

    def __init__(self, scenario: Scenario, actions: ActionMap, loads: Sequence[Load], engine: str = "fluid") -> None:
        # A reward measured against a reference needs one; without it the price of the mean need stands in.
        self.scenario = replace(scenario, scale=scale_of(scenario, loads))
        self.actions, self.loads, self.engine = actions, list(loads), engine
        interval_s = scenario.cluster.interval_s
        self.intervals = min(int(load.duration_s / interval_s + 1e-9) for load in loads)
        mended = math.ceil(SETTLE_LEADS * float(scenario.limits.start_p95_s.max()) / interval_s)
        self.settle = min(mended, self.intervals // 3)
        self.starts = np.resize(STARTS, len(loads))

    def judge(self, network: Network) -> Verdict:
        """Run the policy that takes the best output on every load."""
        n = len(self.loads)
        batch = ClusterBatch(self.scenario, self.loads, n, self.actions, engine=self.engine)
        rows = np.arange(n)
        batch.begin(rows, rows, 0 * rows, rows.astype(np.uint64), np.full(n, self.intervals), self.starts)
        sizes = self.actions.sizes(batch.world.pools)
        counts, state, trail, waiting = np.zeros(sum(sizes)), network.start(n), [], []
        features, before = batch.look(), self._totals(batch)
        for i in range(1, self.intervals):
            outputs, state = network.forward(features, state)
            actions = preferred(outputs, self.actions.mask(batch.seen, batch.known), sizes)
            batch.step(actions)
            features = batch.observation
            if i == self.settle:
                before = self._totals(batch)
            if i > self.settle:
                _count(counts, actions, sizes)
                trail.append(self._now(batch))
                waiting.append(np.maximum(0.0, batch.world.cluster["queued"] - batch.world.cluster["left"]))
        cost, spent = batch.world.cost_usd(), batch.returns.copy()
        batch.world.finish()
        after = self._totals(batch) | {"cost": cost, "returns": spent}
        gained = {name: after[name] - before[name] for name in before}
        return self._verdict(gained, np.array(trail), counts, np.concatenate(waiting))

    def _totals(self, batch: ClusterBatch) -> dict[str, Any]:
        """Counters per load, (n,), and the latency histograms of all, (3, bins)."""
        world = batch.world
        counters = {name: np.array(world.cluster[name]) for name in COUNTERS}
        return counters | {
            "started": world.pool["started"].sum(axis=1),
            "cost": world.cost_usd(),
            "returns": batch.returns.copy(),
            "latency": world.hist.sum(axis=0),
        }

    def _now(self, batch: ClusterBatch) -> tuple[float, float]:
        """Ready and pending capacity of the first row, in replicas of the cheapest pool."""
        pool, known = batch.world.pool[0], batch.known
        ready, pending = (carried_per_s(pool[name], known) / known.reference_per_s for name in ("ready", "pending"))
        return ready, pending

    def _verdict(self, gained: dict[str, Any], trail: Floats, counts: Floats, waiting: Floats) -> Verdict:
        hours = (self.intervals - 1 - self.settle) * self.scenario.cluster.interval_s / 3600.0
        cost = float(gained["cost"].mean()) / hours
        arrived, missed = float(gained["arrived"].sum()), float(gained["missed"].sum())
        attainment = 1.0 - missed / max(arrived, 1.0)
        series = self._series(trail)
        surplus, need = series["ready"] - series["need"], series["need"].sum()
        reward = float(gained["returns"].mean())
        scalars = {
            "eval/mean_reward": reward,
            "cost/usd_per_hour": cost,
            "cost/usd_per_million_output_tokens":
                1e6 * float(gained["cost"].sum()) / max(1.0, float(gained["output_tokens"].sum())),
            "slo/attainment": attainment,
            "slo/missed_per_million": 1e6 * (1.0 - attainment),
            "slo/dropped": float(gained["dropped"].mean()),
            "capacity/over_share": float(np.maximum(surplus, 0.0).sum() / need),
            "capacity/under_share": float(np.maximum(-surplus, 0.0).sum() / need),
            "capacity/mean_ready": float(series["ready"].mean()),
            "action/churn": float(gained["churn"].mean()),
            "action/replicas_started": float(gained["started"].mean()),
        }  # fmt: skip
        # Where the percentile was dropped it is infinite; a chart shows it at the patience of the users.
        for i, name in enumerate(("ttft", "tpot")):
            for q in (0.5, 0.99):
                shown = min(quantile(gained["latency"][i], q), self.scenario.cluster.timeout_s)
                scalars[f"latency/{name}_p{100 * q:.0f}_s"] = shown
        return Verdict(reward, cost, attainment, scalars, series, counts, waiting)

    def _series(self, trail: Floats) -> dict[str, Floats]:
        spec = self.scenario.cluster
        first = self.settle + 1
        need = need_series(self.loads[0], spec, self.scenario.limits)[first : first + len(trail)]
        hour: Floats = np.arange(first, first + len(trail), dtype=np.float64) * (spec.interval_s / 3600.0)
        return {"hour": hour, "need": need, "ready": trail[:, 0], "pending": trail[:, 1]}


def _count(counts: Floats, actions: Any, sizes: tuple[int, ...]) -> None:
    if not sizes:
        return
    first = 0
    for choices, size in zip(np.atleast_2d(actions.T), sizes, strict=True):
        counts[first : first + size] += np.bincount(choices, minlength=size)
        first += size
