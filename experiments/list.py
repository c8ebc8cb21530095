"""What there is: scalers with their knob, scenarios, forecasters, and the results that were kept."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from experiments.page import page
from experiments.run_folder import RUN
from rlscale.policy_folder import MANIFEST, SCHEMA
from rlscale.types import ScalerKind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments list`."""
    parser.add_argument("what", choices=["scalers", "scenarios", "forecasters", "runs"])
    parser.add_argument("--folder", type=Path, default=Path(), help="where results/ and runs/ lie (default: here)")


def run(args: argparse.Namespace) -> int:
    """Print a table."""
    from rich.table import Table

    if args.what == "runs":
        title, columns, rows = _runs(args.folder)
    else:
        title, columns, rows = {"scalers": _scalers, "scenarios": _scenarios, "forecasters": _forecasters}[args.what]()
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    page().print(table)
    return 0


def _scalers() -> tuple[str, list[str], list[list[str]]]:
    from rlscale.registry import scan

    rows = []
    for name, kind in sorted(scan("agents", "SCALERS").items()):
        knob = kind.knob
        text = (
            "-"
            if knob is None
            else f"{knob.name} {min(knob.values):g} to {max(knob.values):g}, default {knob.default:g}"
        )
        every = f"{kind.native_s:g} s" if kind.native_s else "-"
        rows.append([name, text, kind.summary, every, kind.stabilisation or "-", _lacks(kind)])
    return "scalers", ["name", "knob", "summary", "decides every", "waits by", "lacks"], rows


def _lacks(kind: ScalerKind) -> str:
    """The properties of the contract its model does not have, and why."""
    own = [f"{name}: {why}" for name, why in kind.lacks.items()]
    some = [f"{name}, with some settings: {why}" for name, why in kind.lacks_at.items()]
    return "; ".join([*own, *some]) or "-"


def _scenarios() -> tuple[str, list[str], list[list[str]]]:
    from envs import get_scenario, scenario_names

    rows = [[name, get_scenario(name).summary] for name in scenario_names()]
    return "scenarios", ["name", "what it tests"], rows


def _forecasters() -> tuple[str, list[str], list[list[str]]]:
    from rlscale.predict import FORECASTERS

    rows = [[name, " ".join(kind.parameters), kind.summary] for name, kind in FORECASTERS.items()]
    return "forecasters", ["name", "parameters", "summary"], rows


def _runs(folder: Path) -> tuple[str, list[str], list[list[str]]]:
    rows = []
    # A demonstration keeps its comparison one folder deeper.
    for path in sorted(
        found for where in ("results/*", "runs/*", "runs/*/*") for found in folder.glob(f"{where}/results.json")
    ):
        rows.append([str(path.parent), "comparison", json.loads(path.read_text()).get("study", {}).get("name", "")])
    for path in _below(folder / "runs", RUN):
        asked = json.loads(path.read_text())
        first, count = asked["seeds"]
        done = [seed for seed in range(first, first + count) if (path.parent / f"seed-{seed}").exists()]
        state = "" if len(done) == count else f", {len(done)} of {count} seeds done (--resume goes on)"
        rows.append([str(path.parent), "training", f"{asked['algo']} on {asked['scenario']}{state}"])
    for path in _below(folder / "runs", MANIFEST):
        manifest = json.loads(path.read_text())
        rows.append([str(path.parent), "policy", _policy_words(manifest)])
    return "results, trainings and policies", ["folder", "kind", "of"], rows


def _policy_words(manifest: dict[str, Any]) -> str:
    words = f"{manifest.get('algo')} on {manifest.get('scenario')}"
    if manifest.get("schema") != SCHEMA:
        return f"{words}, made by another version"
    found = manifest.get("validation", {})
    if not {"cost/usd_per_hour", "slo/attainment"} <= found.keys():
        return words
    return f"{words}: {found['cost/usd_per_hour']:.2f} USD/h at {found['slo/attainment']:.4f} on validation"


def _below(folder: Path, name: str) -> list[Path]:
    """Files of that name, up to three folders down: demonstrations and studies keep trainings in folders of theirs."""
    return sorted(path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(f"{depth}/{name}"))
