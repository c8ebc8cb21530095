"""ONNX exports through onnxruntime: the same targets, the same outputs to rounding, and refusals by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import chat_intervals, saved, steady_network

from envs import get_scenario
from experiments import export_onnx
from experiments.export_agreement import heard
from experiments.export_source import read_source
from rlscale.actions import Headroom
from rlscale.errors import PolicyError
from rlscale.policy_folder import load_policy

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'rlscale[export]'")
ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'rlscale[export]'")
pytestmark = pytest.mark.live
OUTPUTS = len(Headroom().levels)


def exported(folder: Path, **network: Any) -> tuple[Path, Path]:
    path = saved(folder / "p", steady_network(OUTPUTS, **network), Headroom())
    for name, data in export_onnx.files(read_source(path, "chat")).items():
        (folder / name).write_bytes(data)
    return path, folder / "policy.onnx"


@pytest.mark.parametrize(
    ("network", "count"),
    [({}, 5000), ({"kind": "gru", "seed": 3}, 5000), ({"kind": "lstm", "seed": 4}, 5000),
     ({"activation": "relu", "standard": False, "seed": 5}, 1000)],
    ids=["mlp", "gru", "lstm", "relu"],
)  # fmt: skip
def test_recorded_intervals_have_the_same_targets(network: dict[str, Any], count: int, tmp_path: Path) -> None:
    path, file = exported(tmp_path, **network)
    known = get_scenario("chat").limits
    ours, said, _ = heard(load_policy(path, known), chat_intervals(count))
    theirs, told, _ = heard(load_policy(file, known), chat_intervals(count))
    assert len(ours) == count
    assert theirs == ours
    np.testing.assert_allclose(told, said, rtol=0, atol=3e-6 * np.abs(said).max())


@pytest.mark.parametrize("kind", ["mlp", "gru", "lstm"])
def test_rows_are_a_dynamic_axis(kind: str, tmp_path: Path) -> None:
    path, file = exported(tmp_path, kind=kind)
    known, rng = get_scenario("chat").limits, np.random.default_rng(0)
    network, model = load_policy(path, known).network, load_policy(file, known).network
    for rows in (1, 2, 7):
        x, ours, theirs = rng.random((rows, 37), np.float32), network.start(rows), model.start(rows)
        for _ in range(3):
            wanted, ours = network.forward(x, ours)
            found, theirs = model.forward(x, theirs)
            np.testing.assert_allclose(found, wanted, atol=1e-5)
            for a, b in zip(theirs, ours, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_file_says_what_it_is_and_keeps_its_weights(tmp_path: Path) -> None:
    path, file = exported(tmp_path)
    model = onnx.load(str(file))
    onnx.checker.check_model(model, full_check=True)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 17)]
    said = {item.key: item.value for item in model.metadata_props}
    manifest = json.loads(said["rlscale.manifest"])
    theirs = json.loads((path / "manifest.json").read_text())
    for key in ("features", "actions", "interval_s", "pools", "network"):
        assert manifest[key] == theirs[key]
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_what_is_altered_foreign_or_elsewhere_is_refused(tmp_path: Path) -> None:
    _, file = exported(tmp_path)
    known, data = get_scenario("chat").limits, file.read_bytes()
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(data), 60):
        changed = bytearray(data)
        changed[at] ^= 1
        file.write_bytes(bytes(changed))
        with pytest.raises(PolicyError, match=r"policy\.onnx"):
            load_policy(file, known)
    model = onnx.load_from_string(data)
    del model.metadata_props[:]
    file.write_bytes(model.SerializeToString())
    with pytest.raises(PolicyError, match="says nothing of features and actions"):
        load_policy(file, known)
    model = onnx.load_from_string(data)
    onnx.save(model, str(file), save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(PolicyError, match="keeps weights in another file"):
        load_policy(file, known)
    file.write_bytes(b"not a model")
    with pytest.raises(PolicyError, match="not an ONNX model"):
        load_policy(file, known)


def test_the_command_writes_it(tmp_path: Path) -> None:
    from experiments import __main__ as cli

    path = saved(tmp_path / "p", steady_network(OUTPUTS), Headroom(), "flash-crowd")
    out = tmp_path / "out"
    args = ["export", str(path), "--format", "onnx", "--out", str(out), "--intervals", "300", "--seeds", "1"]
    assert cli.main(args) == 0
    found = json.loads((out / "agreement.json").read_text())
    assert found["recorded"]["equal"] == 300
    assert sorted(item.name for item in out.iterdir()) == ["agreement.json", "limits.json", "policy.onnx"]
