"""The numpy forward pass is torch's, for every kind of network, on every observation a policy can meet."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents import _dqn, _ppo
from agents._hyperparameters import settings_for
from agents._standardise import measured
from envs import get_scenario
from envs.sb3 import ClusterVecEnv
from envs.vector import ClusterVectorEnv
from rlscale.errors import PolicyError
from rlscale.features import NAMES
from rlscale.network import Network

SAME = 1e-5
OBSERVATIONS = 10_000


def dense(rng: np.random.Generator, sizes: list[int]) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for i, (wide, high) in enumerate(itertools.pairwise(sizes)):
        tensors[f"{i}.weight"] = (rng.normal(size=(high, wide)) / np.sqrt(wide)).astype(np.float32)
        tensors[f"{i}.bias"] = rng.normal(size=high).astype(np.float32)
    return tensors


@pytest.fixture(scope="module")
def recorded() -> np.ndarray:
    """(10 000, features) of clusters whose metrics are noisy, missing, stale, negative and absurd (seed 7)."""
    chat = get_scenario("chat")
    scenario = replace(chat, cluster=replace(chat.cluster, metric_noise=0.3, metric_missing_share=0.3))
    env = ClusterVectorEnv(100, scenario, loads=2)
    rng = np.random.default_rng(7)
    env.reset(seed=7)
    kept = []
    for _ in range(OBSERVATIONS // 100):
        env.step(rng.integers(0, 12, 100))
        assert env.batch is not None
        seen = env.batch.seen
        broken = rng.choice([1.0, 1.0, 1.0, np.nan, -1.0, 1e12, np.inf], 100)
        stale = rng.choice([0.0, 0.0, 600.0, 1e6], 100)
        with np.errstate(invalid="ignore"):  # infinity times zero is one of the absurd values
            odd = replace(seen, arrival_per_s=seen.arrival_per_s * broken, waiting=seen.waiting * broken[::-1],
                          ttft_s=seen.ttft_s * broken, age_s=seen.age_s + stale)  # fmt: skip
        kept.append(env.batch.features.push(odd))
    features = np.concatenate(kept)
    assert features.shape == (OBSERVATIONS, len(NAMES))
    assert np.isfinite(features).all()
    return features


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
@pytest.mark.parametrize("action", ["headroom", "delta"])
def test_logits_of_a_trained_policy_are_those_of_torch(algo: str, action: str, recorded: np.ndarray) -> None:
    changes: dict[str, Any] = {"action": action, "n_envs": 8, "batch_size": 64}
    changes |= {"n_steps": 16} if algo == "ppo" else {"learning_starts": 64, "buffer_size": 2000}
    settings = settings_for(algo, "chat", changes=changes)
    env = ClusterVecEnv(ClusterVectorEnv(8, "chat", loads=2, action=action), seed=0)
    module: Any = _ppo if algo == "ppo" else _dqn
    model = module.build(env, settings, env.vector.actions, 0, "cpu", measured(env, 0))
    model.learn(512)
    ours, _ = module.network(model, settings).forward(recorded)
    with torch.no_grad():
        inputs = torch.as_tensor(recorded)
        theirs = model.q_net(inputs) if algo == "dqn" else model.policy.get_distribution(inputs).distribution.logits
    theirs = theirs.numpy()
    if algo == "ppo":  # torch's categorical logits are normalised; equal up to a constant per row
        ours = (
            ours - np.log(np.exp(ours - ours.max(1, keepdims=True)).sum(1, keepdims=True)) - ours.max(1, keepdims=True)
        )
    np.testing.assert_allclose(ours, theirs, atol=SAME, rtol=0)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_recurrent_layers_are_those_of_torch(kind: str, recorded: np.ndarray) -> None:
    torch.manual_seed(3)
    cell: Any = (torch.nn.GRUCell if kind == "gru" else torch.nn.LSTMCell)(len(NAMES), 16)
    head = torch.nn.Linear(16, 5)
    tensors = {f"rnn.{name}": value.detach().numpy() for name, value in cell.named_parameters()}
    tensors |= {"0.weight": head.weight.detach().numpy(), "0.bias": head.bias.detach().numpy()}
    network = Network(tensors, len(NAMES), 5, kind)
    state, theirs = network.start(100), None
    for step in range(20):
        x = recorded[100 * step : 100 * step + 100]
        ours, state = network.forward(x, state)
        with torch.no_grad():
            theirs = cell(torch.as_tensor(x), theirs)
            hidden = theirs[0] if kind == "lstm" else theirs
            expected = head(hidden).numpy()
        np.testing.assert_allclose(ours, expected, atol=SAME, rtol=0)


def test_standardised_inputs_are_clipped_in_standard_deviations() -> None:
    rng = np.random.default_rng(0)
    tensors = dense(rng, [3, 2]) | {
        "normalise.mean": np.ones(3, np.float32),
        "normalise.std": np.full(3, 2, np.float32),
    }
    network = Network(tensors, 3, 2)
    far, limit = np.full((1, 3), 1e9), np.full((1, 3), 1.0 + 2.0 * 10.0)
    np.testing.assert_array_equal(network.forward(far)[0], network.forward(limit)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"1.weight": np.zeros((3, 9), np.float32)}, r"tensor 1.weight has shape \(3, 9\), expected \(3, 8\)"),
        ({"1.bias": np.zeros(2, np.float32)}, r"tensor 1.bias has shape \(2,\), expected \(3,\)"),
        ({"0.bias": np.full(8, np.nan, np.float32)}, "0.bias hold NaN"),
        ({"spare": np.zeros(1, np.float32)}, "unexpected tensors spare"),
        ({"normalise.mean": np.zeros(4, np.float32)}, "tensor normalise.std has shape None"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Network(dense(np.random.default_rng(0), [4, 8, 3]) | change, 4, 3)


def test_unknown_kinds_are_refused() -> None:
    tensors = dense(np.random.default_rng(0), [4, 3])
    with pytest.raises(PolicyError, match="network 'transformer'"):
        Network(tensors, 4, 3, "transformer")
    with pytest.raises(PolicyError, match="activation 'gelu'"):
        Network(tensors, 4, 3, activation="gelu")
