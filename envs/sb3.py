"""The same clusters as a Stable-Baselines3 `VecEnv`. Info dicts are reused and filled only when an episode ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from envs.vector import ClusterVectorEnv

REWARD_SHARE = 0.1  # keeps value targets near 1
# Rewards are about -1 per interval, the cost of the reference fleet. Counted from there they are about 0, and values
# need not first learn a constant a hundred times larger than what one action changes.
REWARD_ZERO = -1.0
DRAINED = ("cost_usd", "missed", "churn")


class ClusterVecEnv(VecEnv):
    """Adapter of a `ClusterVectorEnv`.

    Rewards are (reward - REWARD_ZERO) x `reward_share`; returns in `info["episode"]` are the environment's own.
    """

    def __init__(self, vector: ClusterVectorEnv, seed: int = 0, reward_share: float = REWARD_SHARE) -> None:
        self.vector, self.reward_share, self._seed = vector, reward_share, seed
        self.render_mode = None
        super().__init__(vector.num_envs, vector.single_observation_space, vector.single_action_space)
        self._infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self._filled: NDArray[Any] = np.zeros(0, np.int64)
        self._sums = dict.fromkeys(DRAINED, 0.0)
        self._intervals = 0

    def reset(self) -> NDArray[np.float32]:
        """Begin every row anew."""
        observation, _ = self.vector.reset(seed=self._seed)
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions until `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """One control interval; new episodes where the old ones ended."""
        observation, value, _, done, found = self.vector.step(self._actions)
        for name in self._sums:
            self._sums[name] += float(found[name].sum())
        self._intervals += self.num_envs
        for r in self._filled:
            self._infos[r].clear()
        self._filled = np.flatnonzero(done)
        for r in self._filled:
            episode = {"r": float(found["episode"]["r"][r]), "l": int(found["episode"]["l"][r]), "t": 0.0}
            self._infos[r].update(
                {"terminal_observation": found["final_obs"][r], "TimeLimit.truncated": True, "episode": episode}
            )
        return observation, (self.reward_share * (value - REWARD_ZERO)).astype(np.float32), done, self._infos

    def drain(self) -> dict[str, float]:
        """Means per interval since the last call, by TensorBoard name; empty when nothing happened."""
        if self._intervals == 0:
            return {}
        means = {f"rollout/{name}": total / self._intervals for name, total in self._sums.items()}
        self._sums, self._intervals = dict.fromkeys(DRAINED, 0.0), 0
        return means

    @property
    def scenario(self) -> Any:
        """What the clusters are."""
        return self.vector.scenario

    def action_masks(self) -> NDArray[np.bool_]:
        """For maskable agents."""
        return self.vector.action_masks()

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
        """Called once; every row gets its part of what comes back, or all of it."""
        rows = list(self._get_indices(indices))
        found = getattr(self, method_name)(*args, **kwargs)
        return [found[r] for r in rows] if isinstance(found, np.ndarray) else [found] * len(rows)

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Never wrapped."""
        return [False] * len(list(self._get_indices(indices)))

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Loads, moments and luck from the next reset on."""
        self._seed = 0 if seed is None else seed
        return [seed] * self.num_envs
