"""Policy folders: weights as safetensors and a JSON manifest that says what they mean. No pickle, no torch.

The manifest names the features with their ranges, the network, the action map and the digest of every file; a folder
that differs in any of them from what this code computes is refused with the difference named.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlscale.actions import ActionMap, described, from_manifest
from rlscale.errors import PolicyError
from rlscale.feature_statistics import FeatureStatistics
from rlscale.features import FEATURES
from rlscale.network import Network
from rlscale.policy import Policy
from rlscale.types import ScalingLimits

SCHEMA = 2
WEIGHTS, MANIFEST, SEAL = "policy.safetensors", "manifest.json", "manifest_sha256"
STATISTICS = "training_features"  # of the features in training; see rlscale.feature_statistics
NEEDED = ("files", "features", "network", "actions", "pools", "interval_s")


def save_policy(
    folder: Path, network: Network, actions: ActionMap, pools: int, interval_s: float, about: Mapping[str, Any]
) -> None:
    """Write a policy folder; it appears under its name only when complete and overwrites nothing.

    `about` is kept in the manifest as it is: algorithm, scenario and its hash, hyper-parameters, versions.
    """
    from safetensors.numpy import save

    if folder.exists():
        raise PolicyError(f"{folder} exists; give another name, nothing is overwritten")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        arrays = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in network.tensors.items()}
        data = save(arrays)
        (partial / WEIGHTS).write_bytes(data)
        manifest = {
            "schema": SCHEMA,
            "files": {WEIGHTS: hashlib.sha256(data).hexdigest()},
            "network": {"kind": network.kind, "activation": network.activation, "outputs": network.outputs,
                        "shapes": {name: list(value.shape) for name, value in arrays.items()}},
            "normalisation": "frozen mean and standard deviation, in the weights"
            if "normalise.mean" in arrays else "none: features are ratios within their ranges",
            "features": features_here()[: network.inputs],
            "actions": described(actions),
            "pools": pools,
            "interval_s": interval_s,
            **about,
        }  # fmt: skip
        (partial / MANIFEST).write_text(json.dumps(sealed(manifest), indent=2) + "\n")
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def load_policy(path: str | Path, known: ScalingLimits, multiplier: float = 1.0) -> Policy:
    """A policy folder as a scaler; anything missing, altered or made for other features or pools is refused."""
    folder = Path(path)
    manifest = read_manifest(folder)
    pools = len(known.min_replicas)
    if manifest["pools"] != pools:
        raise PolicyError(f"{folder / MANIFEST}: trained on {manifest['pools']} pools, this cluster has {pools}; "
                          "train on a scenario with as many")  # fmt: skip
    network, actions = _network(folder, manifest), _actions(folder, manifest)
    if network.outputs != max(1, sum(actions.sizes(pools))):
        raise PolicyError(f"{folder / MANIFEST}: the network has {network.outputs} outputs, the action map "
                          f"{max(1, sum(actions.sizes(pools)))}; copy the folder again")  # fmt: skip
    return Policy(network, actions, known, float(manifest["interval_s"]), multiplier, _statistics(folder, manifest))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The checked manifest of a policy folder."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(_bytes(path))
    except ValueError as error:
        raise PolicyError(f"{path}: not JSON ({error}); copy the folder again") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        got = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise PolicyError(f"{path}: schema {got!r}, expected {SCHEMA}; train anew with this version")
    if sealed(manifest)[SEAL] != manifest.get(SEAL):
        raise PolicyError(f"{path}: changed after it was written; copy the folder again or train anew")
    lacking = [key for key in NEEDED if key not in manifest]
    if lacking:
        raise PolicyError(f"{path}: no {', '.join(lacking)}; copy the folder again")
    _same_features(path, manifest["features"])
    return manifest


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with the digest of all of its other fields."""
    rest = {key: value for key, value in manifest.items() if key != SEAL}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return rest | {SEAL: hashlib.sha256(text.encode()).hexdigest()}


def features_here() -> list[list[Any]]:
    """[name, unit, lowest, highest] of every feature, in order, as manifests keep them."""
    return [list(feature) for feature in FEATURES]


def _same_features(path: Path, theirs: Any) -> None:
    ours = features_here()
    if theirs and theirs == ours[: len(theirs)]:
        return
    was, now = ({entry[0]: entry for entry in entries} for entries in (theirs, ours))
    gone, new = sorted(set(was) - set(now)), sorted(set(now) - set(was))
    changed = [name for name in was if name in now and was[name] != now[name]]
    if gone or new:
        detail = f"only there: {gone or 'none'}, only here: {new or 'none'}"
    else:
        detail = f"unit or range of {', '.join(changed)}" if changed else "another order"
    raise PolicyError(f"{path}: made for other features ({detail}); train anew")


def _network(folder: Path, manifest: Mapping[str, Any]) -> Network:
    from safetensors.numpy import load

    path = folder / WEIGHTS
    data = _bytes(path)
    digest, said = hashlib.sha256(data).hexdigest(), str(manifest["files"].get(WEIGHTS))
    if digest != said:
        raise PolicyError(f"{path}: content {digest[:12]}…, the manifest says {said[:12]}…; "
                          "copy the folder again or train anew")  # fmt: skip
    about = manifest["network"]
    try:
        return Network(load(data), len(manifest["features"]), int(about["outputs"]), about["kind"], about["activation"])
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from None


def _actions(folder: Path, manifest: Mapping[str, Any]) -> ActionMap:
    try:
        return from_manifest(manifest["actions"])
    except PolicyError as error:
        raise PolicyError(f"{folder / MANIFEST}: {error}") from None


def _statistics(folder: Path, manifest: Mapping[str, Any]) -> FeatureStatistics | None:
    if STATISTICS not in manifest:
        return None
    try:
        found = FeatureStatistics.from_json(manifest[STATISTICS])
    except PolicyError as error:
        raise PolicyError(f"{folder / MANIFEST}: {STATISTICS}: {error}") from None
    names = [entry[0] for entry in manifest["features"]]
    if list(found.names) != names:
        raise PolicyError(f"{folder / MANIFEST}: {STATISTICS} are of other features than the network's; train anew")
    return found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}; a policy folder holds {WEIGHTS} and {MANIFEST}") from None
