"""A trained network as a scaler: a folder of safetensors and a JSON manifest, run by numpy. No pickle, no torch.

The manifest names the features in their order, the levels of the action map and the digest of the weights; a folder
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
from numpy.typing import NDArray

from rlscale.decide import blind, demand_per_s, hold, positive
from rlscale.errors import PolicyError
from rlscale.features import NAMES, FeatureExtractor
from rlscale.types import Decision, Floats, Observation, ScalingLimits

SCHEMA = 1
WEIGHTS, MANIFEST = "policy.safetensors", "manifest.json"
DEMAND = "(rate + backlog/drain_s)"  # what the levels multiply


class Policy:
    """Headroom level by the largest logit; `multiplier` is the knob that trades cost for attainment."""

    def __init__(
        self, weights: Mapping[str, NDArray[np.float32]], levels: tuple[float, ...], known: ScalingLimits,
        interval_s: float, multiplier: float = 1.0,
    ) -> None:  # fmt: skip
        self.weights, self.levels, self.known, self.interval_s = dict(weights), levels, known, interval_s
        self.multiplier = positive("policy: multiplier", multiplier)
        self.layers = sum(name.endswith("weight") for name in self.weights)
        self.reset()

    def reset(self) -> None:
        """Forget the history."""
        self._features = FeatureExtractor(self.known, self.interval_s)

    def warm_up(self, history_per_s: Floats, history_step_s: float) -> None:
        """Load before the run."""
        self._features.reset(slice(None), history_per_s, history_step_s)

    def decide(self, seen: Observation) -> Decision:
        """The level the network prefers, times demand; hold when the metrics are missing."""
        features = self._features.push(seen)
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        if why:
            return hold(seen, why)
        level = self.levels[int(np.argmax(self.logits(features)[0]))]
        demand = demand_per_s(seen, self.known)
        return Decision(reason=f"{demand:.4g}/s demanded, level {level:g}",
                        capacity_per_s=self.multiplier * level * demand)  # fmt: skip

    def logits(self, features: Any) -> NDArray[np.float32]:
        """Forward pass of the network: tanh layers and a linear head."""
        x: NDArray[np.float32] = np.asarray(features, dtype=np.float32)
        for i in range(self.layers):
            x = x @ self.weights[f"{i}.weight"].T + self.weights[f"{i}.bias"]
            if i + 1 < self.layers:
                x = np.tanh(x)
        return x


def save_policy(
    folder: Path, weights: Mapping[str, Any], levels: tuple[float, ...], interval_s: float, about: Mapping[str, Any]
) -> None:
    """Write a policy folder; it appears under its name only when complete and overwrites nothing."""
    from safetensors.numpy import save

    if folder.exists():
        raise PolicyError(f"{folder} exists; give another name, nothing is overwritten")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        data = save({name: np.ascontiguousarray(value, dtype=np.float32) for name, value in weights.items()})
        (partial / WEIGHTS).write_bytes(data)
        manifest = {
            "schema": SCHEMA,
            "weights_sha256": hashlib.sha256(data).hexdigest(),
            "features": list(NAMES),
            "levels": list(levels),
            "levels_multiply": DEMAND,
            "activation": "tanh",
            "interval_s": interval_s,
            **about,
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def load_policy(path: str | Path, known: ScalingLimits, multiplier: float = 1.0) -> Policy:
    """A policy folder as a scaler; anything missing, altered or made for other features is refused."""
    from safetensors.numpy import load

    folder = Path(path)
    manifest = _manifest(folder)
    data = _bytes(folder / WEIGHTS)
    digest = hashlib.sha256(data).hexdigest()
    if digest != manifest["weights_sha256"]:
        raise PolicyError(f"{folder / WEIGHTS}: content {digest[:12]}…, the manifest says "
                          f"{str(manifest['weights_sha256'])[:12]}…; copy the folder again or train anew")  # fmt: skip
    weights = load(data)
    bad = sorted(name for name, value in weights.items() if not np.isfinite(value).all())
    if bad:
        raise PolicyError(f"{folder / WEIGHTS}: {', '.join(bad)} hold NaN or infinity; train anew")
    return Policy(weights, tuple(manifest["levels"]), known, float(manifest["interval_s"]), multiplier)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(_bytes(path))
    except ValueError as error:
        raise PolicyError(f"{path}: not JSON ({error}); copy the folder again") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        got = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise PolicyError(f"{path}: schema {got!r}, expected {SCHEMA}; train anew with this version")
    lacking = [key for key in ("weights_sha256", "features", "levels", "interval_s") if key not in manifest]
    if lacking:
        raise PolicyError(f"{path}: no {', '.join(lacking)}; copy the folder again")
    theirs, ours = list(manifest["features"]), list(NAMES)
    if theirs != ours:
        gone, new = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
        detail = f"only there: {gone or 'none'}, only here: {new or 'none'}" if gone or new else "another order"
        raise PolicyError(f"{path}: made for other features ({detail}); train anew")
    return manifest


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}; a policy folder holds {WEIGHTS} and {MANIFEST}") from None
