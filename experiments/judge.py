"""How good a network is on loads it was not trained on: all of them at once, each from beginning to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from envs.batch import ClusterBatch
from envs.reward import scale_of
from rlscale.actions import ActionMap
from rlscale.loop import need_series
from rlscale.network import Network
from rlscale.policy import preferred
from rlscale.scenario import Scenario
from rlscale.sim.histogram import quantile
from rlscale.types import Floats, Load

SHOWN_S = 4 * 3600.0  # of the first load, in the figure


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
    """Evaluates networks on the same loads, with the same luck."""

    def __init__(self, scenario: Scenario, actions: ActionMap, loads: Sequence[Load]) -> None:
        # A reward measured against a reference needs one; without it the price of the mean need stands in.
        self.scenario = replace(scenario, scale=scale_of(scenario, loads))
        self.actions, self.loads = actions, list(loads)
        self.intervals = min(int(load.duration_s / scenario.cluster.interval_s + 1e-9) for load in loads)

    def judge(self, network: Network) -> Verdict:
        """Run the policy that takes the best output on every load."""
        n = len(self.loads)
        batch = ClusterBatch(self.scenario, self.loads, n, self.actions)
        rows = np.arange(n)
        batch.begin(rows, rows, 0 * rows, rows.astype(np.uint64), np.full(n, self.intervals))
        sizes = self.actions.sizes(batch.world.pools)
        counts, state, trail, waiting = np.zeros(sum(sizes)), network.start(n), [], []
        features = batch.look()
        for _ in range(self.intervals - 1):
            outputs, state = network.forward(features, state)
            actions = preferred(outputs, self.actions.mask(batch.seen, batch.known), sizes)
            _count(counts, actions, sizes)
            batch.step(actions)
            features = batch.observation
            trail.append(self._now(batch))
            waiting.append(np.maximum(0.0, batch.world.cluster["queued"] - batch.world.cluster["left"]))
        return self._verdict(batch, np.array(trail), counts, np.concatenate(waiting))

    def _now(self, batch: ClusterBatch) -> tuple[float, float]:
        """Ready and pending capacity of the first row, in replicas of the cheapest pool."""
        pool, capacity = batch.world.pool[0], batch.known.capacity_per_s
        unit = capacity[np.argmin(batch.known.usd_per_replica_s / capacity)]
        return float(pool["ready"] @ capacity / unit), float(pool["pending"] @ capacity / unit)

    def _verdict(self, batch: ClusterBatch, trail: Floats, counts: Floats, waiting: Floats) -> Verdict:
        world, hours = batch.world, self.intervals * self.scenario.cluster.interval_s / 3600.0
        cost = float(world.cost_usd().mean()) / hours
        churn, started = float(world.cluster["churn"].mean()), float(world.pool["started"].sum(axis=1).mean())
        world.finish()
        arrived, missed = float(world.cluster["arrived"].sum()), float(world.cluster["missed"].sum())
        attainment = 1.0 - missed / max(arrived, 1.0)
        histogram = world.hist.sum(axis=0)
        series = self._series(trail)
        surplus = series["ready"] - series["need"]
        scalars = {
            "eval/mean_reward": float(batch.returns.mean()),
            "cost/usd_per_hour": cost,
            "cost/usd_per_million_output_tokens":
                1e6 * cost * hours * len(self.loads) / max(1.0, float(world.cluster["output_tokens"].sum())),
            "slo/attainment": attainment,
            "slo/missed_per_million": 1e6 * (1.0 - attainment),
            "slo/dropped": float(world.cluster["dropped"].mean()),
            "capacity/over_share": float(np.maximum(surplus, 0.0).sum() / series["need"].sum()),
            "capacity/under_share": float(np.maximum(-surplus, 0.0).sum() / series["need"].sum()),
            "capacity/mean_ready": float(series["ready"].mean()),
            "action/churn": churn,
            "action/replicas_started": started,
        }  # fmt: skip
        # Where the percentile was dropped it is infinite; a chart shows it at the patience of the users.
        for i, name in enumerate(("ttft", "tpot")):
            for q in (0.5, 0.99):
                shown = min(quantile(histogram[i], q), self.scenario.cluster.timeout_s)
                scalars[f"latency/{name}_p{100 * q:.0f}_s"] = shown
        return Verdict(float(batch.returns.mean()), cost, attainment, scalars, series, counts, waiting)

    def _series(self, trail: Floats) -> dict[str, Floats]:
        spec = self.scenario.cluster
        need = need_series(self.loads[0], spec, self.scenario.limits)[1 : len(trail) + 1]
        hour: Floats = np.arange(1, len(trail) + 1, dtype=np.float64) * (spec.interval_s / 3600.0)
        return {"hour": hour, "need": need, "ready": trail[:, 0], "pending": trail[:, 1]}


def _count(counts: Floats, actions: Any, sizes: tuple[int, ...]) -> None:
    if not sizes:
        return
    first = 0
    for choices, size in zip(np.atleast_2d(actions.T), sizes, strict=True):
        counts[first : first + size] += np.bincount(choices, minlength=size)
        first += size
