"""PPO by Stable-Baselines3 on a vector environment. Needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from agents._hyperparameters import PpoSettings, rates
from agents._network import to_network
from agents._standardise import Standardise, Statistics
from rlscale.actions import ActionMap
from rlscale.network import Network

ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


def policy_kwargs(settings: Any, statistics: Statistics | None) -> dict[str, Any]:
    """Shape of the networks, and the standardisation in front of them when there are `statistics`."""
    kwargs: dict[str, Any] = {"net_arch": list(settings.hidden), "activation_fn": ACTIVATIONS[settings.activation]}
    if statistics is not None:
        kwargs |= {"features_extractor_class": Standardise, "features_extractor_kwargs": statistics}
    return kwargs


def build(
    env: VecEnv, settings: PpoSettings, actions: ActionMap, seed: int, device: str, statistics: Statistics | None
) -> PPO:
    """An untrained model; it prefers to stand still by `start_bias`, so that learning starts at a sensible rule."""
    kwargs = policy_kwargs(settings, statistics)
    model = PPO(
        "MlpPolicy", env, learning_rate=rates(settings.learning_rate), n_steps=settings.n_steps,
        batch_size=min(settings.batch_size, settings.n_steps * env.num_envs), n_epochs=settings.n_epochs,
        gamma=settings.gamma, gae_lambda=settings.gae_lambda, clip_range=rates(settings.clip_range),
        ent_coef=settings.ent_coef, vf_coef=settings.vf_coef, max_grad_norm=settings.max_grad_norm, seed=seed,
        device=device, policy_kwargs=kwargs, verbose=0,
    )  # fmt: skip
    with torch.no_grad():
        head: Any = model.policy.action_net
        start, offset = actions.neutral(), 0
        for size in actions.sizes(_pools(env)):
            head.bias[offset + start] += settings.start_bias
            offset += size
    return model


def load(path: Path) -> PPO:
    """A model out of an archive: the pickles in it run, so only your own."""
    return PPO.load(path, device="cpu")


def network(model: PPO, settings: PpoSettings) -> Network:
    """The policy network (its outputs are logits, or the mean of a continuous action)."""
    policy: Any = model.policy
    return to_network(
        policy.features_extractor, [*policy.mlp_extractor.policy_net, policy.action_net], settings.activation
    )


def _pools(env: VecEnv) -> int:
    return len(env.get_attr("scenario")[0].cluster.pools)
