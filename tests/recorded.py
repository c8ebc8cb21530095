"""The same recorded intervals for every form of a policy: observations of scenario `chat`, and what was decided.

runs = chat_intervals(5000)             # the observations a policy met, with the load before them
assert targets(other, runs) == wanted(runs)
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from envs import get_scenario
from rlscale.actions import ActionMap, Headroom
from rlscale.features import NAMES
from rlscale.network import Network
from rlscale.policy import Policy
from rlscale.policy_folder import save_policy
from rlscale.record import Recorded, answers, plain, record
from rlscale.scenario import Scenario

INTERVALS = 5000
STATES = {"mlp": 0, "gru": 24, "lstm": 32}  # rows of the recurrent weights: 8 units


def steady_network(
    outputs: int, kind: str = "mlp", seed: int = 0, activation: str = "tanh", standard: bool = True
) -> Network:
    """Random weights of a trained network's size and scale: outputs differ enough for no two to tie by rounding."""
    rng = np.random.default_rng(seed)
    wide = len(NAMES)
    tensors: dict[str, Any] = {}
    if standard:
        tensors |= {"normalise.mean": 0.3 * rng.random(wide), "normalise.std": 0.1 + 0.5 * rng.random(wide)}
    if STATES[kind]:
        stack = STATES[kind]
        shapes = {"weight_ih": (stack, wide), "weight_hh": (stack, 8), "bias_ih": (stack,), "bias_hh": (stack,)}
        tensors |= {f"rnn.{name}": rng.normal(size=shape) / np.sqrt(shape[-1]) for name, shape in shapes.items()}
        wide = 8
    for i, (low, high) in enumerate([(wide, 32), (32, outputs)]):
        tensors[f"{i}.weight"] = rng.normal(size=(high, low)) * 2.0 / np.sqrt(low)
        tensors[f"{i}.bias"] = rng.normal(size=high) / 2.0
    single = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
    return Network(single, len(NAMES), outputs, kind, activation)


def saved(folder: Path, network: Network, actions: ActionMap, scenario: str = "chat") -> Path:
    """A policy folder for a built-in scenario."""
    spec = get_scenario(scenario)
    about = {"algo": "random", "scenario": spec.name, "scenario_hash": spec.hash}
    save_policy(folder, network, actions, len(spec.cluster.pools), spec.cluster.interval_s, about, spec.limits)
    return folder


def intervals_of(scenario: Scenario, scaler: Any, count: int = INTERVALS) -> list[Recorded]:
    """So many intervals that a scaler meets on test loads of a scenario."""
    return record(scenario, scaler, ((scenario.sample_load("test", seed), seed) for seed in itertools.count()), count)


@lru_cache(maxsize=4)
def chat_intervals(count: int = INTERVALS, seed: int = 0) -> tuple[Recorded, ...]:
    """Observations of `chat` as a network of random weights meets them: the fleet swings, so that much is seen."""
    chat = get_scenario("chat")
    network = steady_network(len(Headroom().levels), seed=seed)
    return tuple(intervals_of(chat, Policy(network, Headroom(), chat.limits, chat.cluster.interval_s), count))


def stretch(runs: Any, count: int) -> tuple[Recorded, ...]:
    """The part of the first run in which the load changes most, without what was before it: quicker than all of it."""
    one = runs[0]
    rates = np.array([seen.arrival_per_s for seen in one.seen])
    begins = range(0, len(rates) - count + 1, 50)
    first = max(begins, key=lambda at: np.ptp(rates[at : at + count]))
    part = slice(first, first + count)
    return (replace(one, history_per_s=np.zeros(0), seen=one.seen[part], targets=one.targets[part]),)


def targets(scaler: Any, runs: Any) -> list[tuple[int, ...]]:
    """What a scaler asks for when it sees recorded runs."""
    return [tuple(int(count) for count in one.target) for one in answers(scaler, runs)]


def wanted(runs: Any) -> list[tuple[int, ...]]:
    """What was asked for when they were recorded."""
    return [target for one in runs for target in one.targets]


def lines(runs: Any) -> list[str]:
    """Observations as JSON, one per line: what crosses a wire to a process or language of its own."""
    return [json.dumps(plain(seen)) for one in runs for seen in one.seen]
