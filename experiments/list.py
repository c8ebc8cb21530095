"""What there is: scalers with their knob, scenarios, and the results that were kept."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments list`."""
    parser.add_argument("what", choices=["scalers", "scenarios", "runs"])
    parser.add_argument("--folder", type=Path, default=Path(), help="where results/ and runs/ lie (default: here)")


def run(args: argparse.Namespace) -> int:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    if args.what == "runs":
        title, columns, rows = _runs(args.folder)
    else:
        title, columns, rows = _scalers() if args.what == "scalers" else _scenarios()
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
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
        rows.append([name, text, kind.summary])
    return "scalers", ["name", "knob", "summary"], rows


def _scenarios() -> tuple[str, list[str], list[list[str]]]:
    from envs import get_scenario, scenario_names

    rows = [[name, get_scenario(name).summary] for name in scenario_names()]
    return "scenarios", ["name", "what it tests"], rows


def _runs(folder: Path) -> tuple[str, list[str], list[list[str]]]:
    rows = []
    # A demonstration keeps its comparison one folder deeper.
    for path in sorted(
        found for where in ("results/*", "runs/*", "runs/*/*") for found in folder.glob(f"{where}/results.json")
    ):
        rows.append([str(path.parent), "comparison", json.loads(path.read_text()).get("study", {}).get("name", "")])
    for path in sorted(folder.glob("runs/*/*/manifest.json")):
        manifest = json.loads(path.read_text())
        rows.append([str(path.parent), "policy", f"{manifest.get('algo')} on {manifest.get('scenario')}"])
    return "results and policies", ["folder", "kind", "of"], rows
