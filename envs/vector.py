"""Many clusters at once as a Stable-Baselines3 `VecEnv`: one kernel call per control interval.

The circle cut open at Decide. Rows share a bank of training loads; an episode is a window of one of them that starts
at a random moment. Info dicts are reused and filled only when an episode ends (by truncation: the load goes on).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from envs.actions import LEVELS, headroom_targets
from envs.reward import scale_of
from rlscale.features import HIGHEST, LOWEST, FeatureExtractor
from rlscale.feedback import reward
from rlscale.loop import initial_replicas
from rlscale.monitor import Monitor
from rlscale.scenario import Scenario
from rlscale.sim.world import SimWorld

EPISODE_INTERVALS = 240
REWARD_SHARE = 0.1  # rewards are about -1 per interval; this keeps value targets near 1


class ClusterVecEnv(VecEnv):
    """`n` clusters of one scenario under its training loads."""

    def __init__(self, scenario: Scenario, n: int, seed: int = 0, loads: int = 16) -> None:
        self.scenario, self.known = scenario, scenario.limits
        self.loads = [scenario.sample_load("train", seed * loads + i) for i in range(loads)]
        self.scale = scale_of(scenario, self.loads)
        self.rng = np.random.default_rng([seed, 1])
        self.steps_per_interval = scenario.cluster.substeps
        start = [initial_replicas(load, self.known) for load in self.loads]
        self.world = SimWorld(scenario.cluster, self.loads, list(range(n)), np.array(start[0]))
        self.monitor = Monitor(self.world, self.known)
        self.features = FeatureExtractor(self.known, scenario.cluster.interval_s, n)
        self.render_mode = None
        super().__init__(
            n,
            spaces.Box(LOWEST, HIGHEST, dtype=np.float32),
            spaces.Discrete(len(LEVELS)),
        )
        self.age = np.zeros(n, np.int64)
        self._infos: list[dict[str, Any]] = [{} for _ in range(n)]
        self._levels = np.array(LEVELS)
        self._price = np.array([pool.node.usd_per_s(pool.spot) for pool in scenario.cluster.pools])
        self._returns = np.zeros(n)

    def reset(self) -> NDArray[np.float32]:
        """Begin every row anew, each at a random age so that episodes do not end together."""
        self._begin(np.arange(self.num_envs))
        self.age = self.rng.integers(0, EPISODE_INTERVALS, self.num_envs)
        return self._look()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Execute: bounded targets for the coming interval."""
        self.world.apply(headroom_targets(self._levels[actions], self._seen, self.known))

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """One control interval, feedback, and new episodes where the old ones ended."""
        before = self._totals()
        self.world.wait()
        cost, missed, churn = (after - then for after, then in zip(self._totals(), before, strict=True))
        value = reward(cost, missed, churn, self.scale, self.scenario.weights).total
        self._returns += value
        observation = self._look()
        self.age += 1
        done = self.age >= EPISODE_INTERVALS
        for info in self._infos:
            if info:
                info.clear()
        if done.any():
            ended = np.flatnonzero(done)
            for r in ended:
                self._infos[r].update(
                    {
                        "terminal_observation": observation[r].copy(),
                        "TimeLimit.truncated": True,
                        "episode": {"r": float(self._returns[r]), "l": int(self.age[r]), "t": 0.0},
                    }
                )
            self._begin(ended)
            self._seen = self.monitor.observe()
            observation[ended] = self.features.first(self._seen, ended)
        return observation, (REWARD_SHARE * value).astype(np.float32), done, self._infos

    def _totals(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        cluster = self.world.cluster
        return self.world.pool["node_s"] @ self._price, cluster["missed"].copy(), cluster["churn"].copy()

    def _begin(self, rows: NDArray[Any]) -> None:
        """New load, moment and luck for the rows; one interval passes before their first observation."""
        cells = min(len(load.values) for load in self.loads)
        span = (EPISODE_INTERVALS + 2) * self.steps_per_interval
        load = self.rng.integers(0, len(self.loads), len(rows))
        first = self.rng.integers(0, max(1, cells - span), len(rows))
        first -= first % self.steps_per_interval
        fleets = [
            initial_replicas(self.loads[int(which)], self.known, int(at)) for which, at in zip(load, first, strict=True)
        ]
        self.world.reset(rows, self.rng.integers(0, 2**62, len(rows)), np.array(fleets), load, first)
        self.monitor.reset(rows)
        for r, which, at in zip(rows, load, first, strict=True):
            self.features.reset(int(r), *self._history(int(which), int(at)))
        self.world.wait_rows(rows)  # as in loop.run: an interval passes before the first decision
        self.age[rows] = 0
        self._returns[rows] = 0.0

    def _history(self, which: int, at: int) -> tuple[NDArray[np.float64], float]:
        """Rates before a moment of a load, in cells of a minute: of the load itself, then of its history."""
        load = self.loads[which]
        width = round(60.0 / load.step_s)
        begin = max(0, at - 60 * width)
        own = load.values[begin:at].astype(np.float64)
        own = own[len(own) % width :].reshape(-1, width).mean(axis=1)
        if load.law == "counts":
            own = own / load.step_s
        older = load.history_per_s[-max(0, 60 - len(own)) :] if len(own) < 60 else np.zeros(0)
        return np.concatenate([older, own]) if len(older) + len(own) else np.zeros(1), 60.0

    def _look(self) -> NDArray[np.float32]:
        self._seen = self.monitor.observe()
        return self.features.push(self._seen)

    # What Stable-Baselines3 asks of every VecEnv.
    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute, once per row."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set on all rows: they share one object."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call once per row."""
        return [getattr(self, method_name)(*args, **kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Never wrapped."""
        return [False] * len(list(self._get_indices(indices)))

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Reseed the choice of loads and moments."""
        self.rng = np.random.default_rng([0 if seed is None else seed, 1])
        return [seed] * self.num_envs
