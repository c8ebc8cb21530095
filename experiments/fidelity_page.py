"""One report of all fidelity comparisons that are there: a page and a Markdown file, figures drawn where they lack."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from experiments import fidelity_figures as figures
from experiments.fidelity_words import WORDS
from experiments.results import RESULTS, read_json, write_text

SUMMARY, FIGURE = "summary.json", "figure.svg"


def finished(folder: Path) -> bool:
    """Whether a comparison is complete; its summary is written last or, where it can be resumed, its results."""
    return (folder / RESULTS).exists() or ((folder / SUMMARY).exists() and (folder / "report.md").exists())


def write_page(out: Path, left_out: Mapping[str, str]) -> Path:
    """report.html and report.md of the comparisons in `out`; `left_out`: why others are not there."""
    parts = []
    for name, (title, words) in WORDS.items():
        folder = out / name
        if not finished(folder):
            parts.append({"name": name, "title": title, "words": left_out.get(name, "Not run yet."), "figure": None,
                          "command": f"python -m experiments fidelity {name}"})  # fmt: skip
            continue
        found = read_json(folder / (RESULTS if (folder / RESULTS).exists() else SUMMARY))
        if not (folder / FIGURE).exists():
            write_text(folder / FIGURE, FIGURES[name](folder, found))
        command = found["command"] if "command" in found else found["provenance"]["command"]
        parts.append({"name": name, "title": title, "words": words(found), "command": command,
                      "figure": f"{name}/{FIGURE}"})  # fmt: skip
    environment = Environment(loader=PackageLoader("experiments", "."), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    write_text(out / "report.md", _markdown(parts))
    write_text(out / "report.html", environment.get_template("fidelity.html.j2").render(parts=parts))
    return out / "report.html"


def _markdown(parts: list[dict[str, Any]]) -> str:
    lines = ["# How far the engines can be trusted", ""]
    for part in parts:
        lines += [f"## {part['title']}", "", str(part["words"]), ""]
        if part["figure"] is not None:
            lines += [f"![{part['title']}]({part['figure']})", "",
                      f"`{part['command']}`, [tables]({part['name']}/report.md)", ""]  # fmt: skip
    return "\n".join(lines)


def _rows(path: Path) -> list[dict[str, Any]]:
    """A table with numbers where there are numbers."""
    with path.open() as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> Any:
    try:
        number = float(text)
    except ValueError:
        return text
    return int(text) if text.isdigit() else number


def _judged(folder: Path) -> list[dict[str, Any]]:
    return [row for row in _rows(folder / "cells.csv") if row["half"] == "judged"]


FIGURES: dict[str, Callable[[Path, Mapping[str, Any]], str]] = {
    "theory": lambda _, found: figures.theory(found["cases"]),
    "steady": lambda folder, found: figures.by_load(_judged(folder), "h1_error_{}", found["goals"], "steady"),
    "fleet": lambda folder, found: figures.by_case(
        _rows(folder / "cells.csv"), {"service": "one queue", "replica": "a queue per replica"}, found["goals"], "fleet"
    ),
    "roles": lambda folder, _: figures.by_lengths(_rows(folder / "cells.csv"), "roles"),
    "grid": lambda folder, found: figures.by_load(_judged(folder), "error_{}", found["goals"], "grid"),
    "ranking": lambda folder, found: figures.ranking(found["ranks"], _rows(folder / "scores.csv")),
}
