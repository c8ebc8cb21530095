"""The command `export`: complete or not there, says how far it agrees, and every form of it is a scaler again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import chat_intervals, intervals_of, saved, steady_network, targets

from envs import get_scenario, scenario_path
from experiments import __main__ as cli
from experiments import export_tree
from experiments.cells import folder_digest
from experiments.export import imported
from experiments.export_source import read_source
from experiments.export_tree import Effort, Pupil, chosen, distil, fit
from rlscale.actions import Headroom, action_map
from rlscale.errors import PolicyError
from rlscale.loop import run
from rlscale.manifest import MANIFEST, SEAL
from rlscale.policy import preferred
from rlscale.policy_folder import WEIGHTS, load_policy, policy_limits, read_manifest
from rlscale.policy_tree import read_tree
from rlscale.record import observed, plain
from rlscale.tree import Tree

QUICK = ("--intervals", "300", "--seeds", "2")
QUICKLY = Effort(sizes=(4, 64), rounds=1, loads=1, validation=1)


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A scenario of one hour."""
    path = tmp_path_factory.mktemp("scenario") / "crowd-hour.yaml"
    path.write_text(scenario_path("flash-crowd").read_text() + "\nhorizon_s: 3600\n")
    return str(path)


@pytest.fixture
def folder(tmp_path: Path, hour: str) -> Path:
    return saved(tmp_path / "p", steady_network(len(Headroom().levels)), Headroom(), hour)


def export(*args: Any) -> int:
    return cli.main(["export", *map(str, args)])


def agreement(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "agreement.json").read_text()))


def test_a_folder_is_verified_copied_and_stripped(folder: Path, hour: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert export(folder, "--format", "folder", "--strip", "--out", out, "--scenario", hour, *QUICK) == 0
    assert f"use it with --scaler policy:{out}" in capsys.readouterr().out
    assert (out / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    manifest, before = read_manifest(out), read_manifest(folder)
    assert manifest["exported"] == {"from_manifest_sha256": before[SEAL]}
    assert (manifest["features"], manifest["actions"]) == (before["features"], before["actions"])
    found = agreement(out)
    assert found["recorded"]["equal"] == found["recorded"]["intervals"] == 300
    none = {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert found["simulated"]["difference"] == {"usd_per_hour": none, "attainment": none}
    load_policy(out, policy_limits(out))


def test_a_python_file_says_how_far_it_agrees(folder: Path, hour: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert export(folder, "--format", "python", "--out", out, "--scenario", hour, *QUICK) == 0
    assert sorted(path.name for path in out.iterdir()) == ["agreement.json", "exported_policy.py", "limits.json"]
    assert "equal targets on 300 of 300 recorded intervals (100.00%)" in capsys.readouterr().out
    found = agreement(out)
    assert found["recorded"]["share_equal"] == 1.0
    assert 0.0 < found["recorded"]["largest_difference_outputs"] < 1e-5
    assert found["policy"]["manifest_sha256"] == read_manifest(folder)[SEAL]
    with pytest.raises(PolicyError, match="importing a file runs it"):
        load_policy(out / "exported_policy.py", get_scenario(hour).limits)


def test_a_tree_is_a_scaler_as_json_and_as_python(folder: Path, hour: str, tmp_path: Path) -> None:
    source, out = read_source(folder, hour), tmp_path / "out"
    out.mkdir()
    files, said = export_tree.files(source, QUICKLY)
    for name, data in files.items():
        (out / name).write_bytes(data)
    tree, module = load_policy(out, source.known), imported(out / export_tree.FILE)
    assert said["leaves"] == tree.network.leaves  # type: ignore[attr-defined]
    runs = intervals_of(source.scenario, source.policy(), 400)
    ours = targets(tree, runs)
    assert targets(module.Scaler(), runs) == ours
    assert targets(load_policy(out / "tree.json", source.known), runs) == ours
    assert len(set(ours)) > 1
    with pytest.raises(PolicyError, match="is an export itself"):
        read_source(out, hour)


def test_the_smallest_tree_that_does_nearly_as_well_is_taken(folder: Path, hour: str) -> None:
    found = distil(read_source(folder, hour), Effort((2, 32, 128), 1, 1, 1))
    leaves = [one["leaves"] for one in found.candidates]
    assert leaves == sorted(leaves)
    assert leaves[0] == 2
    assert found.tree.leaves in leaves
    assert found.states == 2 * 239
    assert {one["reward"] for one in found.candidates} == {None}  # without a reference cost, agreement decides
    rows = ((0.1, -90.0), (0.898, -120.0), (0.899, -100.4), (0.9, -100.0))
    judged = [{"agreement": share, "reward": reward} for share, reward in rows]
    assert chosen(judged, -99.0) == 2
    assert chosen([{**one, "reward": float("nan")} for one in judged], float("nan")) == 1


@pytest.mark.parametrize("name", ["continuous", "pool-deltas", "vertical"])
def test_trees_of_other_action_maps_say_what_the_policy_said(name: str, tmp_path: Path) -> None:
    """On the states they were fitted on, an hour of two pools, with a leaf for nearly each."""
    actions = action_map(name)
    path = saved(tmp_path / "p", steady_network(max(1, sum(actions.sizes(2))), seed=1), actions, "chat-mixed")
    source = read_source(path, "chat-mixed")
    pupil = Pupil(source, None)
    run(short(source.scenario), pupil, short(source.scenario).sample_load("train", 0), 0)
    tree = fit(source, np.array(pupil.features), np.array(pupil.actions), 200)
    outputs, _ = tree.forward(np.array(pupil.features))
    found = preferred(outputs, np.ones(outputs.shape, np.bool_), actions.sizes(2)).reshape(len(outputs), -1)
    assert np.mean(np.abs(found - np.array(pupil.actions)) < 0.05) > 0.9
    assert min(pupil.equal)


def short(scenario: Any) -> Any:
    return replace(scenario, horizon_s=3600.0)


def test_an_altered_or_impossible_tree_is_refused(folder: Path, hour: str, tmp_path: Path) -> None:
    source = read_source(folder, hour)
    tree = Tree(np.array([0, -1, -1]), np.array([0.5, 0.0, 0.0]), np.array([1, -1, -1]), np.array([2, -1, -1]),
                np.eye(3, 12, dtype=np.float32), 37)  # fmt: skip
    assert (tree.leaves, tree.depth, tree.outputs) == (2, 1, 12)
    for name, value in (("left", [0, -1, -1]), ("right", [9, -1, -1]), ("feature", [40, -1, -1])):
        with pytest.raises(PolicyError, match="export the tree anew"):
            Tree(**{**{key: getattr(tree, key) for key in Tree.__slots__}, name: np.array(value)})
    files, _ = export_tree.files(source, QUICKLY)
    data = json.loads(files["tree.json"])
    data["nodes"]["threshold"][0] += 1.0
    (tmp_path / "tree.json").write_text(json.dumps(data))
    with pytest.raises(PolicyError, match="nodes that are not those of its manifest"):
        read_tree(tmp_path / "tree.json")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nowhere", "--format", "python"), "no such file or folder; a policy folder holds"),
        (("model.zip", "--format", "folder"), "archives hold pickles, and reading one runs whatever is in it"),
        (("model.zip", "--format", "onnx", "--trust-pickle"), "add --trust-pickle to `--format folder`"),
        (("p", "--format", "folder", "--trust-pickle"), "--trust-pickle is for archives"),
        (("p", "--format", "folder", "--intervals", "0"), "--intervals 0; expected at least 1"),
        (("p", "--format", "folder", "--scenario", "chat-mixed"), "trained on 1 pools, this cluster has 2"),
        (("p", "--format", "folder", "--scenario", "chet"), "did you mean 'chat'"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_refused_and_leaves_nothing(
    args: tuple[str, ...], message: str, folder: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    (tmp_path / "model.zip").write_bytes(b"PK\x03\x04")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert export(*args, "--out", "out") == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_overwritten(folder: Path, capsys: Any) -> None:
    before = folder_digest(folder)
    assert export(folder, "--format", "folder", "--out", folder, "--scenario", "chat") == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert folder_digest(folder) == before


def test_observations_go_through_json_unchanged() -> None:
    chat = get_scenario("chat")
    seen = chat_intervals(100)[0].seen[50]
    back = observed(json.loads(json.dumps(plain(seen))), chat.limits)
    for name in ("arrival_per_s", "ready", "pending_by_age", "target", "compute_occupancy"):
        np.testing.assert_array_equal(getattr(back, name), getattr(seen, name))
    assert MANIFEST == "manifest.json"
