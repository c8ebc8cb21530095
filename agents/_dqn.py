"""DQN by Stable-Baselines3 on a vector environment: every cluster explores by itself. Needs torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecEnv

from agents._hyperparameters import DqnSettings, rates
from agents._network import to_network
from agents._ppo import policy_kwargs
from agents._standardise import Statistics
from rlscale.actions import ActionMap
from rlscale.network import Network

EPSILON = 1e-2


class BatchDQN(DQN):
    """Stable-Baselines3's DQN throws one coin for all clusters at once and takes the maximum of the target network.

    Here every cluster throws its own, and the network that learns picks the action that the target network judges
    (double Q-learning), which keeps the values of equally good actions from creeping up. With `squash` the network
    learns a compressed value (Pohlen et al. 2018, Observe and Look Further): one replica more costs a fortieth per
    interval, a fleet that misses everything twenty, and a plain value network resolves the latter only.
    """

    double = True
    squash = True
    coins: np.random.Generator

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """Greedy actions, some of them replaced by random ones unless `deterministic`."""
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        if not deterministic and np.ndim(actions):
            explore = self.coins.random(len(actions)) < self.exploration_rate
            other = self.coins.integers(0, self.action_space.n, len(actions))  # type: ignore[attr-defined]
            actions = np.where(explore, other, actions)
        return actions, state

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Temporal-difference updates on batches of the replay buffer."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        assert self.replay_buffer is not None
        losses, values = [], []
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size)
            target = self._targets(batch)
            value = self.q_net(batch.observations).gather(1, batch.actions.long())
            loss = torch.nn.functional.smooth_l1_loss(value, target)
            self.policy.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            losses.append(loss.detach())
            values.append(value.detach().mean())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(torch.stack(losses).mean()))
        self.logger.record("train/q_mean", float(torch.stack(values).mean()))

    def _targets(self, batch: Any) -> torch.Tensor:
        discount = self.gamma if batch.discounts is None else batch.discounts
        with torch.no_grad():
            judged = self.q_net_target(batch.next_observations)
            chooser = self.q_net(batch.next_observations) if self.double else judged
            best = judged.gather(1, chooser.argmax(dim=1, keepdim=True))
            future = (1 - batch.dones) * discount * (stretched(best) if self.squash else best)
            target: torch.Tensor = batch.rewards + future
        return squashed(target) if self.squash else target


def squashed(x: torch.Tensor) -> torch.Tensor:
    """sign(x) (sqrt(|x| + 1) - 1) + EPSILON x: nearly x/2 around 0, a square root far from it."""
    return torch.sign(x) * (torch.sqrt(torch.abs(x) + 1.0) - 1.0) + EPSILON * x


def stretched(y: torch.Tensor) -> torch.Tensor:
    """The inverse of `squashed`."""
    root = torch.sqrt(1.0 + 4.0 * EPSILON * (torch.abs(y) + 1.0 + EPSILON)) - 1.0
    return torch.sign(y) * ((root / (2.0 * EPSILON)) ** 2 - 1.0)


def build(
    env: VecEnv, settings: DqnSettings, actions: ActionMap, seed: int, device: str, statistics: Statistics | None
) -> BatchDQN:
    """An untrained model."""
    kwargs = policy_kwargs(settings, statistics)
    model = BatchDQN(
        "MlpPolicy", env, learning_rate=rates(settings.learning_rate), buffer_size=settings.buffer_size,
        learning_starts=settings.learning_starts, batch_size=settings.batch_size, gamma=settings.gamma,
        train_freq=(settings.train_freq, "step"), gradient_steps=settings.gradient_steps,
        n_steps=settings.n_step_return, target_update_interval=max(settings.target_update_interval, env.num_envs),
        exploration_fraction=settings.exploration_fraction, exploration_final_eps=settings.exploration_final_eps,
        max_grad_norm=settings.max_grad_norm, policy_kwargs=kwargs, seed=seed, device=device, verbose=0,
    )  # fmt: skip
    model.double, model.squash = settings.double, settings.squash
    model.coins = np.random.default_rng([seed, 3])
    return model


def load(path: Path) -> BatchDQN:
    """A model out of an archive: the pickles in it run, so only your own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the replay buffer keeps its own length of returns
        return BatchDQN.load(path, device="cpu")


def network(model: DQN, settings: DqnSettings) -> Network:
    """The Q network; its outputs are values of actions."""
    q_net: Any = model.q_net
    return to_network(q_net.features_extractor, list(q_net.q_net), settings.activation)
