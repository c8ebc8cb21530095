"""Hand a trained policy on: as a folder, as ONNX, as one Python file without dependencies, or as a decision tree.

Every export is a new folder that appears when it is complete: the policy in its form, limits.json of the scenario's
cluster, so that whoever serves it needs no simulator, and agreement.json, which says how far it decides as the
policy does and what that costs in simulation.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from rlscale.errors import PolicyError

FORMATS = ("folder", "onnx", "python", "tree")
AGREEMENT = "agreement.json"
ABOUT_KEPT = ("algo", "scenario", "scenario_hash")  # by --strip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments export`."""
    parser.add_argument("policy", type=Path, help="policy folder of a training, OUT/seed-<n>")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--scenario", default=None, help="for its cluster and test loads (default: the policy's own)")
    parser.add_argument("--intervals", type=int, default=5000, help="recorded intervals to compare on (default 5000)")
    parser.add_argument("--seeds", type=int, default=5, help="test loads to simulate (default 5)")
    parser.add_argument("--strip", action="store_true", help="folder: leave settings, versions and validation out")
    parser.add_argument("--trust-pickle", action="store_true", help="folder: convert a Stable-Baselines3 archive, "
                        "running the pickles in it; only your own")  # fmt: skip
    parser.add_argument("--algo", choices=("ppo", "dqn"), default=None, help="of an archive outside of its training")
    parser.add_argument("--action", default=None, help="action map of an archive outside of its training")


def run(args: argparse.Namespace) -> int:
    """Write one export."""
    from rlscale.artefact import new_folder

    for name in ("intervals", "seeds"):
        if getattr(args, name) < 1:
            raise PolicyError(f"--{name} {getattr(args, name)}; expected at least 1")
    if args.policy.suffix == ".zip":
        return _convert(args)
    if args.trust_pickle:
        raise PolicyError(f"--trust-pickle is for archives (.zip), {args.policy} is none; leave it out")

    from experiments.export_agreement import agreement, words
    from experiments.export_source import read_source

    source = read_source(args.policy, args.scenario)
    with new_folder(args.out) as partial:
        files, more = written(args, source)
        for name, data in files.items():
            (partial / name).write_bytes(data)
        found = agreement(source, _maker(partial, args.format, source), args.intervals, args.seeds)
        _write(partial / AGREEMENT, _about(args, source) | found | more)
    print(words(found))
    if more:
        print(f"{more['distilled']['leaves']} leaves, {more['distilled']['depth']} questions deep, chosen from "
              f"{', '.join(str(one['leaves']) for one in more['distilled']['candidates'])}")  # fmt: skip
    print(f"{args.format}: {args.out}; use it with --scaler {_named(args)}")
    return 0


def written(args: argparse.Namespace, source: Any) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of an export by name, and what else is to be said of it."""
    from rlscale.limits_file import LIMITS, limits_text

    of = source.scenario
    beside = {LIMITS: limits_text(source.known, of.name, of.hash, of.cluster.interval_s).encode()}
    if args.format == "folder":
        return _folder(args, source), {}
    if args.format == "tree":
        from experiments import export_tree

        files, chosen = export_tree.files(source)
        return files | beside, {"distilled": chosen}
    from experiments import export_onnx, export_python

    make = {"onnx": export_onnx.files, "python": export_python.files}[args.format]
    return make(source) | beside, {}


def _folder(args: argparse.Namespace, source: Any) -> dict[str, bytes]:
    from rlscale.manifest import ABOUT
    from rlscale.policy_folder import policy_files

    kept = ABOUT_KEPT if args.strip else (*ABOUT, "extra")
    about = {key: source.manifest[key] for key in kept if key in source.manifest}
    return policy_files(source.network, source.actions, source.manifest["pools"], source.manifest["interval_s"],
                        about | {"exported": source.about()["exported"]}, source.known)  # fmt: skip


def _convert(args: argparse.Namespace) -> int:
    """A Stable-Baselines3 archive as a policy folder; there is no other policy to compare it with."""
    from experiments import export_sb3
    from rlscale.artefact import new_folder

    if not (args.trust_pickle and args.format == "folder"):
        raise PolicyError(f"{args.policy}: {export_sb3.REFUSED}")
    with new_folder(args.out) as partial:
        for name, data in export_sb3.files(args.policy, args.algo, args.action, args.scenario).items():
            (partial / name).write_bytes(data)
    print(f"folder: {args.out}; use it with --scaler policy:{args.out}")
    return 0


def _maker(folder: Path, kind: str, source: Any) -> Callable[[], Any]:
    """Builds the export as a scaler, in the way it is going to be used."""
    from rlscale.policy_folder import load_policy

    if kind != "python":
        return lambda: load_policy(folder, source.known)
    from experiments.export_python import FILE

    module = imported(folder / FILE)
    return lambda: module.Scaler(source.known)


def imported(path: Path) -> Any:
    """A Python file that this process has just written, as a module of its own; nothing is kept beside it."""
    spec = importlib.util.spec_from_file_location(path.stem, path, loader=_Unkept(path.stem, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Unkept(SourceFileLoader):
    """Keeps no compiled copy: it would become part of the export."""

    def set_data(self, path: Any, data: Any, *, _mode: int = 0) -> None:
        """Not kept."""


def _about(args: argparse.Namespace, source: Any) -> dict[str, Any]:
    from rlscale.manifest import SEAL

    packages = ("rlscale", "numpy", *(("onnx", "onnxruntime") if args.format == "onnx" else ()))
    return {
        "format": args.format,
        "policy": {"name": args.policy.name, "manifest_sha256": source.manifest[SEAL]},
        "scenario": {"name": source.scenario.name, "hash": source.scenario.hash},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "versions": {name: _version(name) for name in packages},
    }


def _named(args: argparse.Namespace) -> str:
    """How the export is named as a scaler."""
    if args.format == "onnx":
        return f"policy:{args.out / 'policy.onnx'}"
    if args.format == "python":
        return f"exported_policy:Scaler, with PYTHONPATH={args.out}"
    return f"policy:{args.out}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n")
