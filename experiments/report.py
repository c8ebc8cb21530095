"""results.json as one HTML file that needs nothing else: no network, no font, no script, no image beside it.

`compare` writes it, `run` draws it anew from the results.json of a finished comparison. Tables and a still picture of
every figure need no script; a script in the page adds hovering, zooming and filters. It is a few hundred lines of our
own (report*.js) because the libraries that pip can provide are too much for this page: plotly's script is 4.8 MB of
the 5 MB a report may have; Bokeh's 1.3 MB took 10.7 s for the 120 panels of ten loads and twelve scalers, on canvases
that neither the keyboard nor the page's colours reach; Vega's 0.9 MB come with an 84 MB package.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from experiments import figures, league, palette, report_data
from experiments import report_words as words
from experiments.analysis import percent
from experiments.palette import Palette
from experiments.results import RESULTS, clear_disk_errors, read_json, write_text
from experiments.svg import Styles
from rlscale.errors import ResultError

REPORT = "report.html"
SCRIPTS = ("report_plot.js", "report_figures.js", "report.js")
MISSING: dict[str, Any] = {"status": "failed", "usd_per_h": None, "versus_best": None, "best_rule": False,
                           "frozen": None, "knob": []}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments report`."""
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="folder with a results.json")


def run(args: argparse.Namespace) -> int:
    """Draw the reports anew; results.json is read, report.html is replaced, nothing else is touched."""
    for folder in args.folders:
        results = _finished(folder)
        if "league" in results:
            league.draw(folder, results)
            print(f"{folder / REPORT}: {(folder / REPORT).stat().st_size / 1e6:.2f} MB")
            continue
        page = render(results)
        with clear_disk_errors(folder):
            write_text(folder / REPORT, page)
        print(f"{folder / REPORT}: {len(page.encode()) / 1e6:.2f} MB")
    return 0


def render(results: Mapping[str, Any]) -> str:
    """The report as text."""
    environment = Environment(
        loader=PackageLoader("experiments", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    forms = (words.usd, words.share, words.signed, words.count, words.short, words.gpus, words.rate, words.seconds,
             words.span, percent)  # fmt: skip
    environment.filters.update({form.__name__: form for form in forms})
    looks = Palette(results["scalers"])
    points = report_data.points_for(report_data.shown_examples(results), report_data.STILL_NUMBERS)
    styles = Styles()
    sections = [_section(results, load, looks, points, styles) for load in results["loads"]]
    return environment.get_template("report.html.j2").render(
        **results,
        swatch=partial(palette.swatch, looks),
        swatches=palette.swatches(looks, [scaler["label"] for scaler in results["scalers"]]),
        colours=palette.css(),
        style=_beside("report.css"),
        script=Markup("\n").join(map(_beside, SCRIPTS)),
        data=report_data.embedded(results, looks),
        sections=sections,
        figure_style=Markup(styles.css()),
        learned=[scaler["label"] for scaler in results["scalers"] if scaler["kind"] == "learned"],
        bottom_line=words.bottom_line(results),
        outcome=words.outcome,
        words=words.STATUS,
        no_interval=words.NO_INTERVAL,
    )


def _finished(folder: Path) -> dict[str, Any]:
    path = folder / RESULTS
    if not path.is_file():
        raise ResultError(f"{folder} holds no {RESULTS}; give the folder of a finished comparison, see `list runs`")
    results = read_json(path)
    missing = {"rows", "standings"} if "league" in results else {"loads", "headline", "scalers", "rows"}
    missing -= results.keys()
    if missing:
        raise ResultError(f"{path} is not of a comparison (no {', '.join(sorted(missing))}); give another folder")
    return results


def _beside(name: str) -> Markup:
    """A file of this package, as it stands."""
    return Markup(files("experiments").joinpath(name).read_text(encoding="utf-8"))


def _section(
    results: Mapping[str, Any], load: Mapping[str, Any], looks: Palette, points: int, styles: Styles
) -> dict[str, Any]:
    """Everything the template shows of one load."""
    name, own = load["name"], load["targets"][0]
    mine = {key: _of(results[key], name) for key in ("headline", "fronts", "rows", "latency", "examples", "verdicts")}
    test_rows = [row for row in mine["rows"] if row["split"] == "test"]
    marked = [row for row in test_rows if row["variant"] == "defaults" or row["target"] == own]
    test_fronts = [front for front in mine["fronts"] if front["split"] == "test"]
    by_target = {target: [e for e in mine["headline"] if e["target"] == target] for target in load["targets"]}
    drawn = _figures(load, mine, test_fronts, marked, looks, points)
    return {
        "load": load,
        "own": own,
        "verdicts": mine["verdicts"],
        "headline": by_target,
        "bounded": next((entry.get("bound_usd_per_h") for entry in by_target[load["targets"][0]]), None),
        "entry": lambda target, label: next((e for e in by_target[target] if e["scaler"] == label), MISSING),
        "others": load["targets"][1:],
        "defaults": [row for row in test_rows if row["variant"] == "defaults"],
        "frozen": [row for row in test_rows if row["variant"] == "frozen"],
        "rows": test_rows,
        "volumes": sorted(((f["hypervolume"], f["scaler"]) for f in test_fronts), reverse=True),
        "latency": mine["latency"],
        "svg": {name: Markup(styles.shortened(text)) for name, text in drawn.items()},
    }


def _figures(
    load: Mapping[str, Any],
    mine: Mapping[str, Sequence[Mapping[str, Any]]],
    test_fronts: Sequence[Mapping[str, Any]],
    marked: Sequence[Mapping[str, Any]],
    looks: Palette,
    points: int,
) -> dict[str, str]:
    drawn = {"fronts": figures.fronts(load, test_fronts, marked, looks) if test_fronts else ""}
    drawn["differences"] = figures.differences(load, mine["headline"], looks)
    shown = [entry for entry in mine["latency"] if entry["variant"] != "defaults"]
    entries = [entry for entry in mine["headline"] if entry["target"] == load["targets"][0]]
    examples = report_data.still_examples(report_data.shown_examples(mine), entries, points)
    drawn["timeline"] = figures.timeline(examples, looks) if examples else ""
    drawn["latency"] = figures.latency(shown, looks) if shown else ""
    drawn["bars"] = figures.bars(mine["latency"], looks) if mine["latency"] else ""
    return drawn


def _of(entries: Sequence[Mapping[str, Any]], load: str) -> list[Mapping[str, Any]]:
    return [entry for entry in entries if entry["load"] == load]
