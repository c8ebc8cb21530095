"""One cluster as a Gymnasium environment: the circle cut open at Decide, bit-equal to `loop.run`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs import get_scenario
from envs.actions import LEVELS, headroom_targets
from envs.reward import scale_of
from rlscale.features import HIGHEST, LOWEST, FeatureExtractor
from rlscale.feedback import reward
from rlscale.loop import initial_replicas
from rlscale.monitor import Monitor
from rlscale.sim.world import SimWorld


class ClusterEnv(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Actions are headroom levels over the demand estimate; one episode is one whole load, ended by truncation."""

    metadata: dict[str, Any] = {"render_modes": ["ansi"]}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(self, scenario: str = "chat", split: str = "train", render_mode: str | None = None) -> None:
        self.scenario, self.split, self.render_mode = get_scenario(scenario), split, render_mode
        self.known = self.scenario.limits
        self.observation_space = spaces.Box(LOWEST, HIGHEST, dtype=np.float32)
        self.action_space = spaces.Discrete(len(LEVELS))
        self._price = np.array([pool.node.usd_per_s(pool.spot) for pool in self.scenario.cluster.pools])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A load of the split and its luck, both from the seed; `options={"load_seed": n}` fixes the load."""
        super().reset(seed=seed)
        load_seed = int((options or {}).get("load_seed", self.np_random.integers(0, 1_000_000)))
        luck = int((options or {}).get("luck_seed", load_seed))
        spec = self.scenario.cluster
        self.load = self.scenario.sample_load(self.split, load_seed)  # type: ignore[arg-type]
        self.scale = scale_of(self.scenario, [self.load])
        self.world = SimWorld(spec, [self.load], [luck], np.array([initial_replicas(self.load, self.known)]))
        self.monitor = Monitor(self.world, self.known)
        self.features = FeatureExtractor(self.known, spec.interval_s)
        self.features.reset(slice(None), self.load.history_per_s, self.load.history_step_s)
        self.intervals = max(1, int(self.load.duration_s / spec.interval_s + 1e-9))
        self.passed = 1
        self.world.wait()
        return self._look(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Execute, one control interval, Feedback, Monitor."""
        before = self._totals()
        self.world.apply(headroom_targets(np.array([LEVELS[int(action)]]), self._seen, self.known))
        self.world.wait()
        self.passed += 1
        cost, missed, churn = (float(now - then) for now, then in zip(self._totals(), before, strict=True))
        value = reward(cost, missed, churn, self.scale, self.scenario.weights)
        info = {
            "cost_usd": cost,
            "missed": missed,
            "churn": churn,
            "reward_cost": -value.cost,
            "reward_missed": -self.scenario.weights.missed * value.missed,
            "reward_churn": -self.scenario.weights.churn * value.churn,
            "target": tuple(int(count) for count in self.world.pool["target"][0]),
        }
        return self._look(), float(value.total), False, self.passed >= self.intervals, info

    def render(self) -> str | None:
        """One line of text."""
        if self.render_mode != "ansi":
            return None
        pool, cluster = self.world.pool[0], self.world.cluster[0]
        waiting = max(0.0, float(cluster["queued"] - cluster["left"]))
        return (
            f"t={self.world.t_s[0]:.0f}s ready={pool['ready'].tolist()} pending={pool['pending'].tolist()} "
            f"target={pool['target'].tolist()} waiting={waiting:.0f} running={pool['running'].sum():.0f}"
        )

    def _look(self) -> NDArray[np.float32]:
        self._seen = self.monitor.observe()
        vector: NDArray[np.float32] = self.features.push(self._seen)[0]
        return vector

    def _totals(self) -> tuple[float, float, float]:
        cluster = self.world.cluster[0]
        return float(self.world.pool["node_s"][0] @ self._price), float(cluster["missed"]), float(cluster["churn"])
