"""Policy folders: weights as safetensors and a JSON manifest that says what they mean. No pickle, no torch.

The manifest names the features with their ranges, the network, the action map and the digest of every file; a folder
that differs in any of them from what this code computes is refused with the difference named. `limits.json` beside
them, where it is there, lets a process serve that knows no scenario.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlscale.actions import ActionMap
from rlscale.artefact import MIB, new_folder, read_limited
from rlscale.errors import PolicyError
from rlscale.limits_file import LIMITS, limits_text, load_limits
from rlscale.manifest import (
    MANIFEST,
    MOST_BYTES,
    SCHEMA,
    SEAL,
    actions_of,
    described_policy,
    parse_manifest,
    sealed,
    statistics_of,
)
from rlscale.network import Network
from rlscale.policy import Model, Policy
from rlscale.types import ScalingLimits

__all__ = ["LIMITS", "MANIFEST", "SCHEMA", "SEAL", "WEIGHTS", "load_policy", "network_entry",
           "policy_files", "policy_limits", "read_manifest", "read_model", "save_policy", "sealed"]  # fmt: skip

WEIGHTS, ONNX, TREE = "policy.safetensors", "policy.onnx", "tree.json"
MOST_WEIGHTS = 64 * MIB  # a hundred times the largest network that is trained here
# How files begin that are not a policy but look like one: loading them would run what is in them.
RUNS_CODE = {b"PK\x03\x04": "a zip archive, such as Stable-Baselines3's or torch's", b"\x80": "a pickle"}
TRAINED = "convert your own with `python -m experiments export FILE.zip --format folder --trust-pickle --out FOLDER`"


def save_policy(
    folder: Path, network: Network, actions: ActionMap, pools: int, interval_s: float, about: Mapping[str, Any],
    limits: ScalingLimits | None = None,
) -> None:  # fmt: skip
    """Write a policy folder; it appears under its name only when complete and overwrites nothing.

    `about` is kept in the manifest: algorithm, scenario and its hash, hyper-parameters, versions; what the manifest has
    no field for goes below `extra`. `limits` become a file beside the weights.
    """
    with new_folder(folder) as partial:
        for name, data in policy_files(network, actions, pools, interval_s, about, limits).items():
            (partial / name).write_bytes(data)


def policy_files(
    network: Network, actions: ActionMap, pools: int, interval_s: float, about: Mapping[str, Any],
    limits: ScalingLimits | None = None,
) -> dict[str, bytes]:  # fmt: skip
    """The files of a policy folder by name, the manifest last."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in network.tensors.items()}
    files = {WEIGHTS: bytes(save(arrays))}
    if limits is not None:
        files[LIMITS] = limits_text(limits, about.get("scenario"), about.get("scenario_hash")).encode()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = described_policy(actions, network.inputs, pools, interval_s, network_entry(network), digests, about)
    return {**files, MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode()}


def network_entry(network: Network) -> dict[str, Any]:
    """What a manifest says of a network."""
    shapes = {name: list(value.shape) for name, value in network.tensors.items()}
    return {"kind": network.kind, "activation": network.activation, "outputs": network.outputs, "shapes": shapes}


def load_policy(path: str | Path, known: ScalingLimits, multiplier: float = 1.0) -> Policy:
    """A policy folder, an exported `.onnx` or an exported tree as a scaler.

    Anything missing, altered or made for other features or pools is refused, and so is whatever would run code.
    """
    manifest, model, where = read_model(Path(path))
    pools = len(known.min_replicas)
    if manifest["pools"] != pools:
        raise PolicyError(f"{where}: trained on {manifest['pools']} pools, this cluster has {pools}; "
                          "train on a scenario with as many")  # fmt: skip
    actions = actions_of(manifest, where)
    wanted = max(1, sum(actions.sizes(pools)))
    if model.outputs != wanted:
        raise PolicyError(f"{where}: the network has {model.outputs} outputs, the action map {wanted}; "
                          "copy the folder again")  # fmt: skip
    return Policy(model, actions, known, float(manifest["interval_s"]), multiplier, statistics_of(manifest, where))


def read_model(place: Path) -> tuple[dict[str, Any], Model, Path]:
    """Manifest and model of a policy, and the file that says what they are."""
    place = _file_of(place)
    if place.name == MANIFEST:
        manifest = read_manifest(place.parent)
        return manifest, _network(place.parent, manifest), place
    if place.suffix == ".onnx":
        from rlscale.policy_onnx import read_onnx

        return *read_onnx(place), place
    from rlscale.policy_tree import read_tree

    return *read_tree(place), place


def read_manifest(folder: Path) -> dict[str, Any]:
    """The checked manifest of a policy folder."""
    path = folder / MANIFEST
    manifest = parse_manifest(_bytes(path, MOST_BYTES), path)
    names = sorted(manifest["files"])
    if WEIGHTS not in names or not set(names) <= {WEIGHTS, LIMITS}:
        raise PolicyError(f"{path}: names the files {names}; expected {WEIGHTS}, and {LIMITS} or not; "
                          "copy the folder again")  # fmt: skip
    return manifest


def policy_limits(path: str | Path) -> ScalingLimits:
    """The limits that lie beside a policy, in the file that its manifest names where it has one."""
    place = _file_of(Path(path))
    digest = read_manifest(place.parent)["files"].get(LIMITS) if place.name == MANIFEST else None
    if not (place.parent / LIMITS).exists():
        raise PolicyError(f"{place.parent / LIMITS} is missing; name a scenario, or export the policy anew with "
                          "`python -m experiments export FOLDER --format folder --out NEW`")  # fmt: skip
    return load_limits(place.parent / LIMITS, digest)


def _file_of(place: Path) -> Path:
    """The file that says what a policy is; what would run code is refused by what it begins with."""
    if place.is_dir():
        return next((place / name for name in (MANIFEST, ONNX, TREE) if (place / name).exists()), place / MANIFEST)
    if not place.exists():
        raise PolicyError(f"{place}: no such file or folder; a policy folder holds {WEIGHTS} and {MANIFEST}")
    if place.suffix in (".py", ".pyc", ".so"):
        raise PolicyError(f"{place}: importing a file runs it; name it as module:Scaler if you trust it")
    if place.is_file():
        with place.open("rb") as file:
            head = file.read(4)
        for magic, what in RUNS_CODE.items():
            if head.startswith(magic):
                raise PolicyError(f"{place}: {what}; loading it would run what is in it; {TRAINED}")
    if place.suffix not in (".onnx", ".json"):
        raise PolicyError(f"{place}: not a policy; expected a folder, a .onnx file or a tree.json")
    return place


def _network(folder: Path, manifest: Mapping[str, Any]) -> Network:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / WEIGHTS
    data = _bytes(path, MOST_WEIGHTS)
    digest, said = hashlib.sha256(data).hexdigest(), str(manifest["files"][WEIGHTS])
    if digest != said:
        raise PolicyError(f"{path}: content {digest[:12]}…, the manifest says {said[:12]}…; "
                          "copy the folder again or train anew")  # fmt: skip
    about = manifest["network"]
    try:
        tensors = load(data)
        other = sorted(name for name, value in tensors.items() if value.dtype != np.float32)
        if other:
            raise PolicyError(f"{', '.join(other)} are not of single precision; train anew")
        return Network(tensors, len(manifest["features"]), int(about["outputs"]), about["kind"], about["activation"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise PolicyError(f"{path}: cannot be read ({type(error).__name__}: {str(error)[:200]}); "
                          "copy the folder again or train anew") from None  # fmt: skip
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from None


def _bytes(path: Path, most: int) -> bytes:
    try:
        return read_limited(path, most, path.parent)
    except PolicyError as error:
        if path.exists():
            raise
        raise PolicyError(f"{error}; a policy folder holds {WEIGHTS} and {MANIFEST}") from None
