"""Exported trees: one JSON file, a manifest with the nodes beside it under one digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from rlscale.artefact import MIB, parse_json, read_limited
from rlscale.errors import PolicyError
from rlscale.manifest import parse_manifest
from rlscale.tree import Tree

KIND, NODES = "tree", "nodes"
MOST_BYTES = 16 * MIB
COLUMNS = ("feature", "threshold", "left", "right", "values")


def columns(tree: Tree) -> dict[str, list[Any]]:
    """The nodes as lists; every number comes back exactly."""
    return {name: getattr(tree, name).tolist() for name in COLUMNS}


def nodes_digest(nodes: dict[str, list[Any]]) -> str:
    """SHA-256 of the nodes, as the manifest keeps it."""
    return hashlib.sha256(json.dumps(nodes, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_tree(path: Path) -> tuple[dict[str, Any], Tree]:
    """Manifest and tree of an exported tree.json; raises PolicyError for anything altered."""
    data = parse_json(read_limited(path, MOST_BYTES, path.parent), path)
    if set(data) != {"manifest", NODES} or not isinstance(data[NODES], dict):
        raise PolicyError(f"{path}: holds {sorted(data)[:5]}, expected manifest and {NODES}; is it an exported tree?")
    manifest = parse_manifest(json.dumps(data["manifest"]).encode(), path)
    if manifest["network"].get("kind") != KIND or manifest["files"] != {NODES: nodes_digest(data[NODES])}:
        raise PolicyError(f"{path}: nodes that are not those of its manifest; copy it again or export it anew")
    return manifest, tree_of(data[NODES], len(manifest["features"]), path)


def tree_of(nodes: dict[str, list[Any]], inputs: int, where: object) -> Tree:
    """A tree out of lists."""
    try:
        whole = {name: np.array(nodes[name], np.int64) for name in ("feature", "left", "right")}
        values = np.array(nodes["values"], np.float32)
        if values.ndim != 2 or set(nodes) != set(COLUMNS):
            raise PolicyError(f"columns {sorted(nodes)}; expected {', '.join(COLUMNS)}")
        return Tree(threshold=np.array(nodes["threshold"], np.float64), values=values, inputs=inputs, **whole)
    except (KeyError, TypeError, ValueError, OverflowError, PolicyError) as error:
        raise PolicyError(f"{where}: not a tree ({str(error)[:200]}); export it anew") from None
