"""Many clusters at once as a native Gymnasium `VectorEnv`: one kernel call per control interval."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs import get_scenario
from envs.batch import EPISODE_INTERVALS, ClusterBatch, Windows
from envs.spaces import action_space, observation_space
from rlscale.actions import ActionMap, action_map
from rlscale.scenario import Scenario
from rlscale.scenario_file import Split


class ClusterVectorEnv(VectorEnv[Any, Any, Any]):
    """Rows share a bank of `loads`; an episode is a window of one that starts at a random moment.

    A row that ends begins anew in the same step (SAME_STEP): `infos["final_obs"]` holds what it saw last.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str | Scenario = "chat",
        split: Split = "train",
        action: str | ActionMap = "headroom",
        loads: int = 16,
        episode_intervals: int = EPISODE_INTERVALS,
        threads: int = 1,
        start_spread: float = 1.0,
        render_mode: str | None = None,
        engine: str = "fluid",
    ) -> None:
        self.engine = engine
        self.num_envs, self.render_mode, self.split, self.count = num_envs, render_mode, split, loads
        self.scenario = scenario if isinstance(scenario, Scenario) else get_scenario(scenario)
        self.length, self.threads, self.start_spread = episode_intervals, threads, start_spread
        self.actions = action_map(action) if isinstance(action, str) else action
        self.single_observation_space = observation_space()
        self.single_action_space = action_space(self.actions, len(self.scenario.cluster.pools))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.batch: ClusterBatch | None = None

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw the loads from the seed and begin every row, at an age of its own so that they do not end together."""
        base = seed[0] if isinstance(seed, list) else seed
        if base is not None or self.batch is None:
            number = int(np.random.default_rng().integers(0, 2**31)) if base is None else base
            self.rng = np.random.default_rng([number, 1])
            picked = [self.scenario.sample_load(self.split, number * self.count + i) for i in range(self.count)]
            self.batch = ClusterBatch(self.scenario, picked, self.num_envs, self.actions, self.threads,
                                      self.engine)  # fmt: skip
            self.windows = Windows(picked, self.batch.interval_cells, self.length, self.rng, self.start_spread)
        self.batch.begin(np.arange(self.num_envs), *self.windows.draw(self.num_envs))
        self.batch.age = self.rng.integers(1, max(2, self.length), self.num_envs)
        return self.batch.look(), {}

    def step(
        self, actions: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One control interval of every row."""
        batch = self.batch
        if batch is None:
            raise RuntimeError("step before reset")
        batch.step(np.asarray(actions))
        infos: dict[str, Any] = dict(batch.terms)
        ended = batch.ended
        if ended.any():
            rows = np.flatnonzero(ended)
            infos["episode"] = {"r": np.where(ended, batch.returns, 0.0), "l": np.where(ended, batch.age, 0)}
            infos["_episode"] = ended
            batch.restart(rows, *self.windows.draw(len(rows)))
            kept = np.empty(self.num_envs, dtype=object)
            assert batch.final is not None
            for r, seen in zip(rows, batch.final, strict=True):
                kept[r] = seen
            infos["final_obs"], infos["_final_obs"] = kept, ended
        never = np.zeros(self.num_envs, np.bool_)
        return batch.observation, batch.reward, never, ended, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """(n, choices) which actions change what they say, given the limits."""
        if self.batch is None:
            raise RuntimeError("action_masks before reset")
        return self.actions.mask(self.batch.seen, self.batch.known)
