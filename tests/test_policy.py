"""A policy folder is what was saved or it is refused; a policy decides as its network says and never guesses."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs import get_scenario
from envs.batch import ClusterBatch
from rlscale.actions import LEVELS, MAPS, Delta, Headroom, action_map
from rlscale.checks import check_scaler, limits_of, observation
from rlscale.errors import PolicyError
from rlscale.features import FEATURES, NAMES
from rlscale.loop import run
from rlscale.network import Network
from rlscale.policy import Policy, preferred, times_demand
from rlscale.policy_folder import MANIFEST, WEIGHTS, load_policy, save_policy, sealed
from rlscale.types import ScalerKind


def some_network(outputs: int, seed: int = 0, kind: str = "mlp", inputs: int = len(NAMES)) -> Network:
    """Random weights."""
    rng = np.random.default_rng(seed)
    wide, tensors = inputs, {}
    if kind != "mlp":
        stack = {"gru": 24, "lstm": 32}[kind]
        shapes = {"weight_ih": (stack, wide), "weight_hh": (stack, 8), "bias_ih": (stack,), "bias_hh": (stack,)}
        tensors = {f"rnn.{name}": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        wide = 8
    for i, (low, high) in enumerate([(wide, 8), (8, outputs)]):
        tensors[f"{i}.weight"] = rng.normal(size=(high, low)).astype(np.float32)
        tensors[f"{i}.bias"] = rng.normal(size=high).astype(np.float32)
    return Network(tensors, inputs, outputs, kind)


def always(action: int, outputs: int) -> Network:
    """Prefers one action whatever it sees."""
    tensors = {"0.weight": np.zeros((outputs, len(NAMES)), np.float32), "0.bias": np.zeros(outputs, np.float32)}
    tensors["0.bias"][action] = 1.0
    return Network(tensors, len(NAMES), outputs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_policy(tmp_path / "p", some_network(len(LEVELS)), Headroom(), 1, 15.0, {"algo": "test"})
    return tmp_path / "p"


def chat_limits() -> Any:
    return get_scenario("chat").limits


@pytest.mark.parametrize("kind", ["mlp", "gru", "lstm"])
@pytest.mark.parametrize("name", sorted(MAPS))
def test_a_folder_comes_back_as_the_policy_that_was_saved(kind: str, name: str, tmp_path: Path) -> None:
    chat = replace(get_scenario("chat-mixed"), horizon_s=900.0)
    actions, pools = action_map(name), len(chat.cluster.pools)
    network = some_network(max(1, sum(actions.sizes(pools))), kind=kind)
    save_policy(tmp_path / "p", network, actions, pools, 15.0, {})
    load = chat.sample_load("test", 0)
    there = run(chat, load_policy(tmp_path / "p", chat.limits), load, 0).series["target"]
    here = run(chat, Policy(network, actions, chat.limits, 15.0), load, 0).series["target"]
    np.testing.assert_array_equal(there, here)


def test_every_single_changed_byte_is_noticed(folder: Path, tmp_path: Path) -> None:
    limits, rng = chat_limits(), np.random.default_rng(5)
    for name in (WEIGHTS, MANIFEST):
        size = (folder / name).stat().st_size
        for at in rng.integers(0, size, 40):
            copy = tmp_path / "copy"
            shutil.copytree(folder, copy)
            data = bytearray((copy / name).read_bytes())
            data[at] ^= 1
            (copy / name).write_bytes(bytes(data))
            same_text = name == MANIFEST and _same_json(data, folder / name)
            if not same_text:
                with pytest.raises(PolicyError, match=name):
                    load_policy(copy, limits)
            shutil.rmtree(copy)


def _same_json(data: bytes, original: Path) -> bool:
    """A changed blank may leave the content as it was."""
    try:
        return bool(json.loads(data) == json.loads(original.read_text()))
    except ValueError:
        return False


Change = Callable[[dict[str, Any]], None]


def without(key: str) -> Change:
    return lambda manifest: manifest.__delitem__(key)


def put(key: str, value: Any) -> Change:
    return lambda manifest: manifest.__setitem__(key, value)


REVERSED = [list(feature) for feature in reversed(FEATURES)]
WIDER = [[name, unit, low, high + (name == "ttft")] for name, unit, low, high in FEATURES]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("schema", 99), "schema 99, expected 2"),
        (put("features", [["astrology", "", 0, 1]]), r"only there: \['astrology'\]"),
        (put("features", REVERSED), "another order"),
        (put("features", WIDER), "unit or range of ttft"),
        (put("pools", 3), "trained on 3 pools, this cluster has 1"),
        (put("actions", {"name": "delta", "steps": [-1, 0, 1]}), "the network has 12 outputs, the action map 3"),
        (put("actions", {"name": "teleport"}), "unknown action map 'teleport'"),
        (put("network", {"kind": "transformer", "activation": "tanh", "outputs": 12}), "network 'transformer'"),
        (without("interval_s"), "no interval_s"),
    ],
)
def test_a_manifest_for_something_else_is_refused_by_name(folder: Path, change: Change, message: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(sealed(manifest)))
    with pytest.raises(PolicyError, match=message):
        load_policy(folder, chat_limits())


def test_missing_files_broken_weights_and_existing_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="exists"):
        save_policy(folder, some_network(12), Headroom(), 1, 15.0, {})
    for name in (WEIGHTS, MANIFEST):
        copy = tmp_path / f"without-{name}"
        shutil.copytree(folder, copy)
        (copy / name).unlink()
        with pytest.raises(PolicyError, match=f"{name}: No such file"):
            load_policy(copy, chat_limits())
    (folder / MANIFEST).write_text("{")
    with pytest.raises(PolicyError, match="not JSON"):
        load_policy(folder, chat_limits())
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_nan_weights_are_refused_even_with_the_right_digest(tmp_path: Path) -> None:
    network = some_network(12)
    network.tensors["0.bias"][3] = np.nan
    save_policy(tmp_path / "nan", network, Headroom(), 1, 15.0, {})
    with pytest.raises(PolicyError, match=r"0\.bias hold NaN"):
        load_policy(tmp_path / "nan", chat_limits())


def test_loading_a_policy_needs_neither_torch_nor_gymnasium(folder: Path) -> None:
    import subprocess

    code = (
        "import sys\nfrom rlscale.checks import limits_of, observation\n"
        "from rlscale.policy_folder import load_policy\n"
        f"p = load_policy({str(folder)!r}, limits_of(1))\n"
        "print(p.decide(observation(limits_of(1), arrival_per_s=30.0)).target)\n"
        "assert not {'torch', 'gymnasium', 'stable_baselines3'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_a_policy_keeps_the_contract_of_scalers() -> None:
    def build(limits: Any, **values: Any) -> Policy:
        return Policy(always(LEVELS.index(1.2), len(LEVELS)), Headroom(), limits, 15.0, **values)

    check_scaler(ScalerKind(build, None, "a network that always prefers the calibrated level"))


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"arrival_per_s": math.nan}, "no value for arrival_per_s"),
        ({"waiting": math.inf}, "no value for waiting"),
        ({"age_s": 500.0}, "metrics are 500 s old"),
        ({"arrival_per_s": -3.0}, "arrival_per_s is -3"),
    ],
)
def test_missing_stale_and_impossible_metrics_mean_hold(broken: dict[str, float], why: str) -> None:
    limits = limits_of(1)
    policy = Policy(always(6, 7), Delta(), limits, 15.0)
    calm = observation(limits, arrival_per_s=20.0, ready=np.array([5]))
    assert policy.decide(calm).target == (9,)
    held = policy.decide(replace(calm, **broken))
    assert held.target == (5,)
    assert held.reason == f"hold: {why}"


def test_actions_that_the_limits_forbid_are_not_taken() -> None:
    limits = limits_of(1)
    outputs = np.array([[0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]])  # prefers +4, then +2, +1, standing still
    at_most = observation(limits, arrival_per_s=1.0, ready=np.array([39]))
    action = preferred(outputs, Delta().mask(at_most, limits), (7,))
    assert Delta().steps[action[0]] == 1


def test_the_multiplier_sizes_the_fleet_for_that_many_times_the_demand() -> None:
    limits = limits_of(1)
    seen = observation(limits, arrival_per_s=100.0, ready=np.array([12]))
    once = Policy(always(LEVELS.index(1.2), 12), Headroom(), limits, 15.0).decide(seen).target
    twice = Policy(always(LEVELS.index(1.2), 12), Headroom(), limits, 15.0, multiplier=2.0).decide(seen).target
    assert (once, twice) == ((12,), (24,))
    assert times_demand(seen, 2.0).arrival_per_s == 200.0
    with pytest.raises(Exception, match="multiplier"):
        Policy(always(0, 12), Headroom(), limits, 15.0, multiplier=0.0)


@pytest.mark.parametrize("kind", ["mlp", "gru"])
@pytest.mark.parametrize("name", sorted(MAPS))
def test_a_policy_in_the_loop_does_what_it_does_in_a_batch(kind: str, name: str) -> None:
    mixed = get_scenario("chat-mixed")
    blinking = replace(mixed.cluster, metric_missing_share=0.2, metric_noise=0.1)
    chat = replace(mixed, horizon_s=1800.0, cluster=blinking)
    actions, pools = action_map(name), len(chat.cluster.pools)
    sizes = actions.sizes(pools)
    network = some_network(max(1, sum(sizes)), seed=4, kind=kind)
    load = chat.sample_load("test", 3)
    series = run(chat, Policy(network, actions, chat.limits, 15.0), load, 3).series
    batch = ClusterBatch(chat, [load, load], 2, actions)
    both = np.array([0, 1])
    batch.begin(both, both, 0 * both, np.array([3, 9], np.uint64), np.full(2, 120))
    features, state = batch.look(), network.start(2)
    for i in range(1, 119):
        outputs, state = network.forward(features, state)
        batch.step(preferred(outputs, actions.mask(batch.seen, batch.known), sizes))
        features = batch.observation
        assert batch.world.pool["target"][0].sum() == series["target"][i]


def test_a_policy_of_fewer_features_takes_the_first_ones(tmp_path: Path) -> None:
    """Features are only ever added at the end: a policy from before sees what it was trained on."""
    network = some_network(12, inputs=len(FEATURES) - 5)
    save_policy(tmp_path / "older", network, Headroom(), 1, 15.0, {})
    manifest = json.loads((tmp_path / "older" / MANIFEST).read_text())
    assert [entry[0] for entry in manifest["features"]] == list(NAMES[:-5])
    policy = load_policy(tmp_path / "older", chat_limits())
    assert policy.decide(observation(chat_limits())).target
