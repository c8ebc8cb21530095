"""Features, policy folders and training: through the seams that evaluation and deployment use."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs import get_scenario
from envs.batch import EPISODE_INTERVALS
from envs.sb3 import ClusterVecEnv
from envs.vector import ClusterVectorEnv
from experiments.__main__ import main
from rlscale.actions import LEVELS
from rlscale.checks import limits_of, observation
from rlscale.errors import PolicyError
from rlscale.features import FEATURES, NAMES, FeatureExtractor
from rlscale.loop import run
from rlscale.monitor import Monitor
from rlscale.monitor import row as one_row
from rlscale.policy import MANIFEST, WEIGHTS, load_policy, save_policy
from rlscale.sim.world import SimWorld


def some_weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = [len(NAMES), 8, len(LEVELS)]
    weights: dict[str, np.ndarray] = {}
    for i, (wide, high) in enumerate(itertools.pairwise(sizes)):
        weights[f"{i}.weight"] = rng.normal(size=(high, wide)).astype(np.float32)
        weights[f"{i}.bias"] = rng.normal(size=high).astype(np.float32)
    return weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_policy(tmp_path / "p", some_weights(), LEVELS, 15.0, {"algo": "test"})
    return tmp_path / "p"


def test_features_of_a_batch_row_are_those_of_the_single_cluster() -> None:
    chat = get_scenario("chat")
    load = chat.sample_load("train", 0)
    world = SimWorld(chat.cluster, [load], [1, 2, 3], np.array([6]))
    monitor = Monitor(world, chat.limits)
    batch = FeatureExtractor(chat.limits, 15.0, 3)
    single = FeatureExtractor(chat.limits, 15.0)
    batch.reset(slice(None), load.history_per_s, load.history_step_s)
    single.reset(slice(None), load.history_per_s, load.history_step_s)
    for step in range(30):
        world.apply(np.array([[4 + step % 3]] * 3))
        world.wait()
        seen = monitor.observe()
        rows = batch.push(seen)
        np.testing.assert_array_equal(single.push(one_row(seen, 1))[0], rows[1])
        for value, (name, _, low, high) in zip(rows[0], FEATURES, strict=True):
            assert low <= value <= high, name


def test_features_are_never_nan_and_flag_what_is_missing() -> None:
    limits = limits_of(1)
    extractor = FeatureExtractor(limits, 15.0)
    good = extractor.push(observation(limits, arrival_per_s=10.0))
    nothing = math.nan
    lost = extractor.push(observation(limits, arrival_per_s=nothing, waiting=nothing, ttft_s=nothing, tpot_s=nothing,
                                      attainment=nothing))  # fmt: skip
    assert np.isfinite(lost).all()
    assert lost[0, NAMES.index("missing")] == 1.0
    assert lost[0, 0] == good[0, 0]


def test_a_policy_folder_comes_back_as_it_was(folder: Path) -> None:
    policy = load_policy(folder, get_scenario("chat").limits)
    x = np.random.default_rng(1).normal(size=(5, len(NAMES))).astype(np.float32)
    w = some_weights()
    by_hand = np.tanh(x @ w["0.weight"].T + w["0.bias"]) @ w["1.weight"].T + w["1.bias"]
    np.testing.assert_allclose(policy.logits(x), by_hand, rtol=1e-6)


def test_a_changed_byte_is_noticed(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(PolicyError, match="the manifest says"):
        load_policy(folder, get_scenario("chat").limits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "schema 99, expected 1"),
        ({"features": ["load_now", "astrology"]}, "only there: \\['astrology'\\]"),
        ({"features": list(reversed(NAMES))}, "another order"),
    ],
)
def test_a_manifest_for_something_else_is_refused(folder: Path, change: dict[str, object], message: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | change))
    with pytest.raises(PolicyError, match=message):
        load_policy(folder, get_scenario("chat").limits)


def test_a_missing_file_nan_weights_and_an_existing_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    limits = get_scenario("chat").limits
    with pytest.raises(PolicyError, match="exists"):
        save_policy(folder, some_weights(), LEVELS, 15.0, {})
    (folder / WEIGHTS).unlink()
    with pytest.raises(PolicyError, match=r"safetensors"):
        load_policy(folder, limits)
    broken = some_weights()
    broken["0.bias"][0] = np.nan
    save_policy(tmp_path / "nan", broken, LEVELS, 15.0, {})
    with pytest.raises(PolicyError, match="NaN"):
        load_policy(tmp_path / "nan", limits)


def test_the_vector_environment_keeps_the_last_observation_of_an_episode() -> None:
    env = ClusterVecEnv(ClusterVectorEnv(8, "chat", loads=2), seed=0)
    first = env.reset()
    assert first.shape == (8, len(NAMES))
    ended = 0
    for _ in range(EPISODE_INTERVALS):
        env.step_async(np.full(8, 7))
        seen, value, done, infos = env.step_wait()
        assert np.isfinite(seen).all()
        assert np.isfinite(value).all()
        for r in np.flatnonzero(done):
            ended += 1
            assert infos[r]["TimeLimit.truncated"]
            assert not np.array_equal(infos[r]["terminal_observation"], seen[r])
    assert ended == 8  # ages were spread, so every row ends exactly once


@pytest.mark.timeout(300)
def test_train_writes_a_policy_that_runs_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--scenario", "chat", "--out", str(tmp_path / "run"), "-n", "2000", "--n-envs", "8"]
    assert main(words) == 0
    chat = replace(get_scenario("chat"), horizon_s=1800.0)
    policy = load_policy(tmp_path / "run" / "seed-0", chat.limits)
    assert run(chat, policy, chat.sample_load("test", 0), 0).totals["requests"] > 0
    assert list((tmp_path / "run" / "tensorboard").rglob("events*"))
    assert main(words) == 2
    assert "exists" in capsys.readouterr().err
