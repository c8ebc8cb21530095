"""A Stable-Baselines3 archive becomes a policy folder on explicit trust only. Needs torch; trains nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import _dqn, _ppo
from agents._hyperparameters import settings_for
from envs import get_scenario
from envs.sb3 import ClusterVecEnv
from envs.vector import ClusterVectorEnv
from experiments import __main__ as cli
from experiments.results import write_json
from rlscale.actions import action_map
from rlscale.features import HIGHEST, LOWEST
from rlscale.policy_folder import load_policy, policy_limits, read_manifest


@pytest.mark.parametrize(("algo", "module"), [("ppo", _ppo), ("dqn", _dqn)])
def test_an_archive_is_converted_on_trust_and_says_the_same(
    algo: str, module: Any, tmp_path: Path, capsys: Any
) -> None:
    chat, actions = get_scenario("chat"), action_map("delta")
    settings = settings_for(algo, "chat", None, {"n_envs": 2, "action": "delta", "activation": "relu"})
    env = ClusterVecEnv(ClusterVectorEnv(2, chat, action=actions), 0)
    model = module.build(env, settings, actions, 0, "cpu", None)
    archive = tmp_path / "training" / "seed-0" / "model.zip"
    archive.parent.mkdir(parents=True)
    model.save(archive)
    write_json(tmp_path / "run.json", {"algo": algo, "scenario": "chat", "settings": settings.model_dump(mode="json")})
    asked = ["export", str(archive), "--format", "folder", "--out", str(tmp_path / "out")]
    assert cli.main(asked) == 2
    assert "add --trust-pickle" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert cli.main([*asked, "--trust-pickle"]) == 0
    manifest = read_manifest(tmp_path / "out")
    assert (manifest["algo"], manifest["actions"]["name"], manifest["scenario"]) == (algo, "delta", "chat")
    policy = load_policy(tmp_path / "out", policy_limits(tmp_path / "out"))
    rows = np.random.default_rng(0).uniform(LOWEST, HIGHEST, (50, len(LOWEST))).astype(np.float32)
    found, _ = policy.network.forward(rows)
    wanted, _ = module.network(model, settings).forward(rows)
    np.testing.assert_array_equal(found, wanted)


def test_an_archive_from_elsewhere_needs_algorithm_and_scenario(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "model.zip").write_bytes(b"PK\x03\x04 nothing")
    asked = [
        "export",
        str(tmp_path / "model.zip"),
        "--format",
        "folder",
        "--trust-pickle",
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.main(asked) == 2
    assert "in no training folder; say --algo and --scenario" in capsys.readouterr().err
    assert cli.main([*asked, "--algo", "ppo", "--scenario", "chat"]) == 2
    assert "cannot be read as ppo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]
