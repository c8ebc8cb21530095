"""What comes from elsewhere is refused before it is read, by name, and nothing in it ever runs."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import saved, steady_network

from envs import get_scenario
from rlscale.actions import Headroom
from rlscale.artefact import new_folder, read_limited
from rlscale.errors import PolicyError
from rlscale.limits_file import LIMITS
from rlscale.manifest import MOST_BYTES
from rlscale.policy_folder import MANIFEST, MOST_WEIGHTS, WEIGHTS, load_policy, policy_limits, sealed

OUTPUTS = len(Headroom().levels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "p", steady_network(OUTPUTS), Headroom())


def refused(path: Path, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        load_policy(path, get_scenario("chat").limits)


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A manifest that was changed and sealed again, as someone with bad intent would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(sealed(manifest)))


@pytest.mark.parametrize(("name", "most"), [(WEIGHTS, MOST_WEIGHTS), (MANIFEST, MOST_BYTES)])
def test_a_file_that_is_too_large_is_not_read(name: str, most: int, folder: Path) -> None:
    """A sparse file of a terabyte: reading it would end the process."""
    os.truncate(folder / name, 1 << 40)
    refused(folder, f"{name}: 1099511627776 bytes, at most {most} are read")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "policy.safetensors/../x", "model.pkl"])
def test_a_manifest_names_no_other_files(name: str, folder: Path) -> None:
    rewritten(folder, lambda manifest: manifest["files"].update({name: "0" * 64}))
    refused(folder, "names the files")


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_followed(folder: Path, tmp_path: Path) -> None:
    """Kubernetes mounts a ConfigMap as links into a folder beside them."""
    weights = (folder / WEIGHTS).read_bytes()
    inside = folder / "..2024"
    inside.mkdir()
    (inside / WEIGHTS).write_bytes(weights)
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(Path("..2024") / WEIGHTS)
    load_policy(folder, get_scenario("chat").limits)
    (tmp_path / "elsewhere").write_bytes(weights)
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    refused(folder, "a link that leads out of its folder")
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(WEIGHTS)
    refused(folder, f"{WEIGHTS}: ")


def test_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(PolicyError, match="not a regular file"):
            read_limited(path, 100)


class Bomb:
    """A pickle of this leaves a trace when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def test_pickles_and_archives_are_refused_unopened(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    (tmp_path / "policy.pkl").write_bytes(pickle.dumps(Bomb(trace)))
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("data", pickle.dumps(Bomb(trace)))
    refused(tmp_path / "policy.pkl", "a pickle; loading it would run what is in it; convert your own with")
    refused(tmp_path / "model.zip", "a zip archive, such as Stable-Baselines3's")
    (tmp_path / "model.onnx").write_bytes((tmp_path / "model.zip").read_bytes())
    refused(tmp_path / "model.onnx", "a zip archive")
    (tmp_path / "mine.py").write_text(f"import pathlib; pathlib.Path({str(trace)!r}).touch()")
    refused(tmp_path / "mine.py", "importing a file runs it; name it as module:Scaler")
    (folder / WEIGHTS).write_bytes((tmp_path / "policy.pkl").read_bytes())
    refused(folder, f"{WEIGHTS}: content")
    assert not trace.exists()


def test_weights_with_the_right_digest_that_are_none_are_refused(folder: Path) -> None:
    import hashlib

    from safetensors.numpy import save

    for data, message in (
        (b"\xff" * 100, "cannot be read"),
        (save({"0.weight": np.zeros((OUTPUTS, 37), np.float64)}), "not of single precision"),
        (save({"0.weight": np.full((OUTPUTS, 37), np.nan, np.float32)}), "hold NaN or infinity"),
    ):
        (folder / WEIGHTS).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        rewritten(folder, lambda manifest, digest=digest: manifest["files"].update({WEIGHTS: digest}))  # type: ignore[misc]
        refused(folder, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(command="rm"), "unknown field 'command'"),
        (lambda m: m.update(files=[]), "files is a list"),
        (lambda m: m.update(pools=True), "pools is a bool"),
        (lambda m: m.update(interval_s=float("nan")), "interval_s = nan"),
        (lambda m: m.update(features=["load_now"]), "features are not lists"),
        (lambda m: m["network"].update(outputs="many"), "cannot be read"),
        (lambda m: m["network"].pop("kind"), "cannot be read"),
        (lambda m: m.update(actions={"name": "headroom", "levels": [1.0], "eval": "1"}), "action map 'headroom'"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(change: Any, message: str, folder: Path) -> None:
    rewritten(folder, change)
    refused(folder, message)


def test_what_training_says_of_itself_stays_and_the_rest_goes_below_extra(tmp_path: Path) -> None:
    from rlscale.policy_folder import read_manifest, save_policy

    save_policy(tmp_path / "p", steady_network(OUTPUTS), Headroom(), 1, 15.0, {"algo": "x", "note": "mine"})
    manifest = read_manifest(tmp_path / "p")
    assert (manifest["algo"], manifest["extra"]) == ("x", {"note": "mine"})
    with pytest.raises(PolicyError, match="pools are fields of the manifest itself"):
        save_policy(tmp_path / "q", steady_network(OUTPUTS), Headroom(), 1, 15.0, {"pools": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_limits_beside_a_policy_are_those_of_its_manifest(folder: Path) -> None:
    known = policy_limits(folder)
    np.testing.assert_array_equal(known.capacity_per_s, get_scenario("chat").limits.capacity_per_s)
    (folder / LIMITS).write_text((folder / LIMITS).read_text().replace('"max_replicas": 40', '"max_replicas": 400'))
    with pytest.raises(PolicyError, match=f"{LIMITS}: content"):
        policy_limits(folder)


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "new") as partial:
        (partial / "file").write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with new_folder(tmp_path / "new") as partial:
        assert not (tmp_path / "new").exists()
    with pytest.raises(PolicyError, match="nothing is overwritten"), new_folder(tmp_path / "new"):
        pass
