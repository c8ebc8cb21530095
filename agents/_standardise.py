"""Inputs of a network, standardised by a mean and a standard deviation that were measured once and never move."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv

from rlscale.network import CLIP

Statistics = dict[str, NDArray[np.float32]]  # mean and std, (features,) each
STEPS = 64  # of every cluster, with random actions
LEAST_STD = 0.05  # a feature that stood still while measuring must not explode when it moves


class Standardise(BaseFeaturesExtractor):
    """(x - mean) / std, clipped; exported with the weights, so that no statistics are lost on the way."""

    def __init__(self, observation_space: spaces.Box, mean: NDArray[Any], std: NDArray[Any]) -> None:
        super().__init__(observation_space, int(np.prod(observation_space.shape)))
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """(n, features)."""
        shifted = (observations - self.mean) / self.std  # type: ignore[operator]
        return torch.clamp(shifted, -CLIP, CLIP)


def measured(env: VecEnv, seed: int) -> Statistics:
    """Mean and standard deviation of the observations under random actions."""
    rng = np.random.default_rng([seed, 2])
    seen = [env.reset()]
    for _ in range(STEPS):
        env.step_async(_random(env.action_space, env.num_envs, rng))
        seen.append(env.step_wait()[0])
    every: NDArray[np.float32] = np.concatenate(seen)  # type: ignore[arg-type]
    return {
        "mean": every.mean(axis=0, dtype=np.float64).astype(np.float32),
        "std": np.maximum(every.std(axis=0, dtype=np.float64), LEAST_STD).astype(np.float32),
    }


def _random(space: spaces.Space[Any], n: int, rng: np.random.Generator) -> NDArray[Any]:
    if isinstance(space, spaces.Discrete):
        return rng.integers(0, space.n, n)
    if isinstance(space, spaces.MultiDiscrete):
        return rng.integers(0, space.nvec, (n, len(space.nvec)))
    assert isinstance(space, spaces.Box)
    return rng.uniform(-1.0, 1.0, (n, *space.shape)).astype(np.float32)
