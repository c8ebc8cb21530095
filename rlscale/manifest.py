"""The manifest of a policy: what its numbers mean. Closed fields, its own digest, the features of this code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rlscale.actions import ActionMap, described, from_manifest
from rlscale.artefact import MIB, parse_json
from rlscale.errors import PolicyError, nearest
from rlscale.feature_statistics import FeatureStatistics
from rlscale.features import FEATURES

SCHEMA = 2
MANIFEST, SEAL = "manifest.json", "manifest_sha256"
MOST_BYTES = MIB
NEEDED: dict[str, type | tuple[type, ...]] = {
    "files": dict, "features": list, "network": dict, "actions": dict, "pools": int, "interval_s": (int, float),
}  # fmt: skip
# What else a manifest may say, of where a policy comes from. Anything further goes below `extra`.
ABOUT = ("algo", "seed", "steps", "trained_steps", "train_s", "scenario", "scenario_hash", "settings", "validation",
         "engine", "started_from", "versions")  # fmt: skip
STATISTICS = "training_features"  # of the features in training; see rlscale.feature_statistics
STRUCTURE = ("schema", SEAL, "normalisation", *NEEDED)
KNOWN = frozenset((*STRUCTURE, *ABOUT, STATISTICS, "extra", "exported"))
STANDARDISED, RAW = (
    "frozen mean and standard deviation, in the weights",
    "none: features are ratios within their ranges",
)
LONGEST_S = 86_400.0  # a control interval


def described_policy(
    actions: ActionMap, inputs: int, pools: int, interval_s: float, network: Mapping[str, Any],
    files: Mapping[str, str], about: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """A sealed manifest. `about` that has no field of its own goes below `extra`."""
    clash = sorted(set(about) & set(STRUCTURE))
    if clash:
        raise PolicyError(f"about: {', '.join(clash)} are fields of the manifest itself; rename them")
    named = {key: value for key, value in about.items() if key in KNOWN}
    extra = {key: value for key, value in about.items() if key not in KNOWN}
    standard = "normalise.mean" in network.get("shapes", ())
    return sealed({
        "schema": SCHEMA, "files": dict(files), "network": dict(network),
        "normalisation": STANDARDISED if standard else RAW,
        "features": features_here()[:inputs], "actions": described(actions), "pools": pools, "interval_s": interval_s,
        **named, **({"extra": {**named.get("extra", {}), **extra}} if extra else {}),
    })  # fmt: skip


def parse_manifest(data: bytes, where: object) -> dict[str, Any]:
    """A checked manifest out of its text; what is altered, unknown or for other features is refused by name."""
    manifest = parse_json(data, where)
    if manifest.get("schema") != SCHEMA:
        raise PolicyError(
            f"{where}: schema {manifest.get('schema')!r}, expected {SCHEMA}; train anew with this version"
        )
    if sealed(manifest)[SEAL] != manifest.get(SEAL):
        raise PolicyError(f"{where}: changed after it was written; copy the folder again or train anew")
    lacking = [key for key in NEEDED if key not in manifest]
    if lacking:
        raise PolicyError(f"{where}: no {', '.join(lacking)}; copy the folder again")
    for key in sorted(set(manifest) - KNOWN):
        raise PolicyError(f"{where}: unknown field '{key}'; {nearest(key, KNOWN)}; what is your own goes below 'extra'")
    for key, kind in NEEDED.items():
        if not isinstance(manifest[key], kind) or isinstance(manifest[key], bool):
            raise PolicyError(f"{where}: {key} is a {type(manifest[key]).__name__}; copy the folder again")
    if not 0.0 < manifest["interval_s"] <= LONGEST_S:
        raise PolicyError(f"{where}: interval_s = {manifest['interval_s']!r}; expected seconds, up to {LONGEST_S:g}")
    _same_features(where, manifest["features"])
    return manifest


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with the digest of all of its other fields."""
    rest = {key: value for key, value in manifest.items() if key != SEAL}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return rest | {SEAL: hashlib.sha256(text.encode()).hexdigest()}


def actions_of(manifest: Mapping[str, Any], where: object) -> ActionMap:
    """The action map."""
    try:
        return from_manifest(manifest["actions"])
    except PolicyError as error:
        raise PolicyError(f"{where}: {error}") from None


def statistics_of(manifest: Mapping[str, Any], where: object) -> FeatureStatistics | None:
    """Of the features in training; None where it does not tell."""
    if STATISTICS not in manifest:
        return None
    try:
        found = FeatureStatistics.from_json(manifest[STATISTICS])
    except PolicyError as error:
        raise PolicyError(f"{where}: {STATISTICS}: {error}") from None
    if list(found.names) != [entry[0] for entry in manifest["features"]]:
        raise PolicyError(f"{where}: {STATISTICS} are of other features than the network's; train anew")
    return found


def features_here() -> list[list[Any]]:
    """[name, unit, lowest, highest] of every feature, in order, as manifests keep them."""
    return [list(feature) for feature in FEATURES]


def _same_features(where: object, theirs: list[Any]) -> None:
    ours = features_here()
    if theirs and theirs == ours[: len(theirs)]:
        return
    if not all(isinstance(entry, list) and len(entry) == 4 and isinstance(entry[0], str) for entry in theirs):
        raise PolicyError(f"{where}: features are not lists of name, unit, lowest and highest; copy the folder again")
    was, now = ({entry[0]: entry for entry in entries} for entries in (theirs, ours))
    gone, new = sorted(set(was) - set(now)), sorted(set(now) - set(was))
    changed = [name for name in was if name in now and was[name] != now[name]]
    if gone or new:
        detail = f"only there: {gone or 'none'}, only here: {new or 'none'}"
    else:
        detail = f"unit or range of {', '.join(changed)}" if changed else "another order"
    raise PolicyError(f"{where}: made for other features ({detail}); train anew")
