"""The command `export`: complete or not there, says how far it agrees, and every form of it is a scaler again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import intervals_of, saved, steady_network, targets

from envs import get_scenario
from experiments import __main__ as cli
from experiments import export_tree
from experiments.cells import folder_digest
from experiments.export import imported
from experiments.export_source import read_source
from experiments.export_tree import chosen, distil
from rlscale.actions import Headroom, action_map
from rlscale.errors import PolicyError
from rlscale.manifest import MANIFEST, SEAL
from rlscale.policy_folder import WEIGHTS, load_policy, policy_limits, read_manifest
from rlscale.policy_tree import read_tree
from rlscale.record import observed, plain
from rlscale.tree import Tree

SCENARIO = "flash-crowd"  # an hour
QUICK = ("--intervals", "300", "--seeds", "2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "p", steady_network(len(Headroom().levels)), Headroom(), SCENARIO)


def export(*args: Any) -> int:
    return cli.main(["export", *map(str, args)])


def agreement(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "agreement.json").read_text()))


def test_a_folder_is_verified_copied_and_stripped(folder: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert export(folder, "--format", "folder", "--strip", "--out", out, *QUICK) == 0
    assert f"use it with --scaler policy:{out}" in capsys.readouterr().out
    assert (out / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    manifest, before = read_manifest(out), read_manifest(folder)
    assert manifest["exported"] == {"from_manifest_sha256": before[SEAL]}
    assert (manifest["features"], manifest["actions"]) == (before["features"], before["actions"])
    found = agreement(out)
    assert found["recorded"]["equal"] == found["recorded"]["intervals"] == 300
    assert found["simulated"]["difference"] == dict.fromkeys(
        ("usd_per_hour", "attainment"), {"mean": 0.0, "low": 0.0, "high": 0.0}
    )
    load_policy(out, policy_limits(out))


def test_a_python_file_says_how_far_it_agrees(folder: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert export(folder, "--format", "python", "--out", out, *QUICK) == 0
    assert sorted(path.name for path in out.iterdir()) == ["agreement.json", "exported_policy.py", "limits.json"]
    assert "equal targets on 300 of 300 recorded intervals (100.00%)" in capsys.readouterr().out
    found = agreement(out)
    assert found["recorded"]["share_equal"] == 1.0
    assert 0.0 < found["recorded"]["largest_difference_outputs"] < 1e-5
    assert found["policy"]["manifest_sha256"] == read_manifest(folder)[SEAL]
    with pytest.raises(PolicyError, match="importing a file runs it"):
        load_policy(out / "exported_policy.py", get_scenario(SCENARIO).limits)


def test_a_tree_is_a_scaler_as_json_and_as_python(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(export_tree, "LEAVES", (4, 64))
    monkeypatch.setattr(export_tree, "ROUNDS", 1)
    source, out = read_source(folder, SCENARIO), tmp_path / "out"
    out.mkdir()
    files, said = export_tree.files(source)
    for name, data in files.items():
        (out / name).write_bytes(data)
    tree, module = load_policy(out, source.known), imported(out / export_tree.FILE)
    assert said["leaves"] == tree.network.leaves  # type: ignore[attr-defined]
    runs = intervals_of(source.scenario, source.policy(), 400)
    ours = targets(tree, runs)
    assert targets(module.Scaler(), runs) == ours
    assert targets(load_policy(out / "tree.json", source.known), runs) == ours
    assert len(set(ours)) > 1
    assert np.mean([a == b for a, b in zip(ours, targets(source.policy(), runs), strict=True)]) > 0.5
    with pytest.raises(PolicyError, match="is an export itself"):
        read_source(out, SCENARIO)


def test_larger_trees_agree_more_and_the_smallest_good_one_is_taken(folder: Path) -> None:
    found = distil(read_source(folder, SCENARIO), sizes=(2, 32, 128), rounds=1, loads=1, validation=1)
    agreements = [one["agreement"] for one in found.candidates]
    assert agreements[0] < agreements[1]
    assert [one["leaves"] for one in found.candidates][:2] == [2, 32]
    judged = [
        {"agreement": 0.1, "reward": -120.0},
        {"agreement": 0.5, "reward": -100.4},
        {"agreement": 0.9, "reward": -100.0},
    ]
    assert chosen(judged, -99.0) == 1
    assert chosen([{**one, "reward": float("nan")} for one in judged], float("nan")) == 2


@pytest.mark.parametrize("name", ["continuous", "pool-deltas", "vertical"])
def test_trees_of_other_action_maps_decide(name: str, tmp_path: Path) -> None:
    actions = action_map(name)
    path = saved(tmp_path / "p", steady_network(max(1, sum(actions.sizes(2))), seed=1), actions, "chat-mixed")
    source = read_source(path, "chat-mixed")
    source = read_source(path, "chat-mixed").__class__(**{**vars(source), "scenario": short(source.scenario)})
    found = distil(source, sizes=(64,), rounds=0, loads=1, validation=1)
    assert found.tree.outputs == max(1, sum(actions.sizes(2)))
    assert found.candidates[0]["agreement"] > 0.1


def short(scenario: Any) -> Any:
    from dataclasses import replace

    return replace(scenario, horizon_s=3600.0)


def test_an_altered_or_impossible_tree_is_refused(folder: Path, tmp_path: Path) -> None:
    source = read_source(folder, SCENARIO)
    tree = Tree(np.array([0, -1, -1]), np.array([0.5, 0.0, 0.0]), np.array([1, -1, -1]), np.array([2, -1, -1]),
                np.eye(3, 12, dtype=np.float32), 37)  # fmt: skip
    assert (tree.leaves, tree.depth, tree.outputs) == (2, 1, 12)
    for name, value in (("left", [0, -1, -1]), ("right", [9, -1, -1]), ("feature", [40, -1, -1])):
        with pytest.raises(PolicyError, match="export the tree anew"):
            Tree(**{**{key: getattr(tree, key) for key in Tree.__slots__}, name: np.array(value)})
    files, _ = export_tree.files(source.__class__(**{**vars(source), "scenario": short(source.scenario)}))
    data = json.loads(files["tree.json"])
    data["nodes"]["threshold"][0] += 1.0
    (tmp_path / "tree.json").write_text(json.dumps(data))
    with pytest.raises(PolicyError, match="nodes that are not those of its manifest"):
        read_tree(tmp_path / "tree.json")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nowhere", "--format", "python"), "a policy folder holds"),
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
    assert export(folder, "--format", "folder", "--out", folder) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert folder_digest(folder) == before


def test_observations_go_through_json_unchanged() -> None:
    chat = get_scenario("chat")
    from recorded import chat_intervals

    seen = chat_intervals(100)[0].seen[50]
    back = observed(json.loads(json.dumps(plain(seen))), chat.limits)
    for name in ("arrival_per_s", "ready", "pending_by_age", "target", "compute_occupancy"):
        np.testing.assert_array_equal(getattr(back, name), getattr(seen, name))
    assert MANIFEST == "manifest.json"
