"""PPO by Stable-Baselines3 on a vector environment, and its network as plain arrays. Needs torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv


@dataclass(frozen=True, slots=True)
class Settings:
    """Hyper-parameters; gamma for intervals of 15 s and lead times of minutes."""

    steps: int = 600_000
    n_steps: int = 128
    batch_size: int = 4096
    n_epochs: int = 4
    gamma: float = 0.99
    gae_lambda: float = 0.985
    learning_rate: float = 5e-4
    ent_coef: float = 0.0005
    hidden: tuple[int, ...] = (64, 64)
    start_bias: float = 0.7  # logit of the level the untrained policy prefers over the others


class _Watch(BaseCallback):
    """Calls back every `every` steps with the model."""

    def __init__(self, every: int, act: Callable[[PPO], None]) -> None:
        super().__init__()
        self.every, self.act, self.next = every, act, every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self.next:
            self.next += self.every
            self.act(self.model)  # type: ignore[arg-type]


def train(
    env: VecEnv, seed: int, device: str, settings: Settings, start_level: int, watch: Callable[[PPO], None],
    watches: int, log_folder: str | None,
) -> PPO:  # fmt: skip
    """Train; the untrained policy prefers action `start_level`, so that learning starts at a sensible rule."""
    torch.set_num_threads(1)
    model = PPO(
        "MlpPolicy", env, learning_rate=settings.learning_rate, n_steps=settings.n_steps,
        batch_size=min(settings.batch_size, settings.n_steps * env.num_envs), n_epochs=settings.n_epochs,
        gamma=settings.gamma, gae_lambda=settings.gae_lambda, ent_coef=settings.ent_coef, seed=seed, device=device,
        policy_kwargs={"net_arch": list(settings.hidden), "activation_fn": torch.nn.Tanh},
        tensorboard_log=log_folder, verbose=0,
    )  # fmt: skip
    with torch.no_grad():
        head: Any = model.policy.action_net
        head.bias[start_level] += settings.start_bias
    model.learn(settings.steps, callback=_Watch(max(1, settings.steps // watches), watch), tb_log_name="ppo")
    return model


def weights(model: PPO) -> dict[str, NDArray[np.float32]]:
    """The policy network's layers, `<i>.weight` and `<i>.bias`, for `rlscale.policy`."""
    policy: Any = model.policy
    layers = [m for m in policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)] + [policy.action_net]
    arrays = {}
    for i, layer in enumerate(layers):
        arrays[f"{i}.weight"] = layer.weight.detach().cpu().numpy().astype(np.float32)
        arrays[f"{i}.bias"] = layer.bias.detach().cpu().numpy().astype(np.float32)
    return arrays
