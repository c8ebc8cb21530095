"""Recorded loads: list those of a folder, describe one in figures a newcomer can read, fetch public ones."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments import fetch
from experiments.page import page
from rlscale.errors import RlscaleError, TraceError

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
MEANINGS = {
    "format": "format",
    "requests": "requests",
    "span_s": "span, seconds",
    "mean_per_s": "mean rate, requests/s",
    "peak_per_s": "peak rate by window (seconds), requests/s",
    "cv": "variation of inter-arrivals (standard deviation / mean; 1 = Poisson)",
    "local_cv": "the same inside 5-minute windows, median",
    "idc": "index of dispersion by window (variance / mean of counts; 1 = Poisson)",
    "prompt": "prompt tokens",
    "output": "output tokens",
    "clients": "clients",
    "notes": "what the reader did",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments traces`."""
    commands = parser.add_subparsers(dest="what", required=True)
    listing = commands.add_parser("list", help="trace files of a folder and the format of each")
    listing.add_argument("folder", nargs="?", type=Path, default=Path("../shared/traces"))
    one = commands.add_parser("describe", help="statistics of one trace")
    one.add_argument("path", type=Path)
    one.add_argument("--format", default="auto", help="format; found out by default")
    one.add_argument("--json", action="store_true", help="print JSON instead of a table")
    fetch.add_arguments(commands.add_parser("fetch", help="download a public trace, or list them (--list)"))
    check = commands.add_parser("families", help="generate every load family and compare it with published statistics")
    check.add_argument("--out", type=Path, required=True, help="new folder for the table")
    check.add_argument("--seed", type=int, default=1)


def run(args: argparse.Namespace) -> int:
    """List, describe, fetch, or check the generators."""
    if args.what == "fetch":
        return fetch.run(args)
    if args.what == "families":
        from experiments.families import run as check_families

        return check_families(args)
    return _list(args.folder) if args.what == "list" else _describe(args.path, args.format, args.json)


def _list(folder: Path) -> int:
    from rich.table import Table

    from rlscale.workloads.readers import detect

    if not folder.is_dir():
        raise TraceError(f"{folder}: no such folder; expected one with trace files ({', '.join(SUFFIXES)})")
    table = Table(title=str(folder))
    for column in ("file", "bytes", "format"):
        table.add_column(column)
    for path in sorted(item for item in folder.iterdir() if item.name.endswith(SUFFIXES)):
        try:
            found = detect(path)
        except RlscaleError:
            found = "not a load"
        table.add_row(path.name, f"{path.stat().st_size:,}", found)
    page().print(table)
    return 0


def _describe(path: Path, form: str, as_json: bool) -> int:
    from rich.table import Table

    from rlscale.workloads.describe import describe
    from rlscale.workloads.readers import read

    figures = {name: value for name, value in asdict(describe(read(path, form))).items() if value not in (None, {}, ())}
    if as_json:
        print(json.dumps(figures, indent=2, default=str))
        return 0
    table = Table(title=path.name, show_header=False)
    table.add_column("figure")
    table.add_column("value")
    figures.pop("source", None)
    for name, value in figures.items():
        for label, text in _rows(MEANINGS.get(name, name.replace("_", " ")), value):
            table.add_row(label, text)
    page().print(table)
    return 0


def _rows(label: str, value: Any) -> list[tuple[str, str]]:
    """A figure as one row; a group of figures as one row each."""
    if isinstance(value, dict):
        return [row for key, inner in value.items() for row in _rows(f"{label}: {_short(key)}", inner)]
    if isinstance(value, tuple | list):
        return [(label, "; ".join(_short(item) for item in value))]
    return [(label, _short(value))]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("_", " ")
