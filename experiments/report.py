"""results.json as one HTML file that needs nothing else: no network, no script, no font, no image beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from experiments import figures
from experiments.analysis import MINUS, NBSP, percent

DASH = "\N{EN DASH}"
NO_INTERVAL = "no interval over loads"
MISSING: dict[str, Any] = {"status": "failed", "usd_per_h": None, "versus_best": None, "best_rule": False,
                           "frozen": None, "knob": []}  # fmt: skip
WORDS = {"never": "never reached", "above": "always above", "failed": "failed"}


def render(results: Mapping[str, Any]) -> str:
    """The report as text."""
    environment = Environment(
        loader=PackageLoader("experiments", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {"usd": usd, "share": share, "signed": signed, "count": count, "short": short, "percent": percent,
         "gpus": gpus, "rate": rate, "seconds": seconds, "span": span}
    )  # fmt: skip
    palette = figures.Palette(results["scalers"])
    return environment.get_template("report.html.j2").render(
        **results,
        palette=palette,
        swatch=lambda label: swatch(label, palette),
        sections=[_section(results, load, palette) for load in results["loads"]],
        learned=[scaler["label"] for scaler in results["scalers"] if scaler["kind"] == "learned"],
        words=WORDS,
        no_interval=NO_INTERVAL,
    )


def usd(value: float | None) -> str:
    """USD per hour with cents, whole dollars above a thousand."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"


def share(value: float | None) -> str:
    """A share near 1, with two digits of what is missing: 99.03 %, 99.912 %."""
    if value is None or not math.isfinite(value):
        return DASH
    missing = 100.0 * (1.0 - value)
    if missing < 1e-3:
        return f"> 99.999{NBSP}%"
    return f"{100.0 * value:.{max(2, 1 - math.floor(math.log10(missing)))}f}{NBSP}%"


def signed(value: float | None) -> str:
    """A relative difference in percent; beyond ten-fold it says so."""
    if value is None:
        return DASH
    return f"> +900{NBSP}%" if value > 9 else f"{100.0 * value:+.1f}{NBSP}%".replace("-", MINUS)


def count(value: float | None) -> str:
    """A count with thousands separated, millions shortened."""
    if value is None:
        return DASH
    return f"{value / 1e6:,.1f} M" if value >= 1e6 else f"{value:,.0f}"


def short(value: float | None) -> str:
    """Three significant digits."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rate(value: float | None) -> str:
    """Something per hour, with the same digits down a column."""
    return DASH if value is None else f"{value:.1f}"


def gpus(value: float | None) -> str:
    """A mean number of GPUs."""
    return DASH if value is None else f"{value:.2f}"


def seconds(value: float | None) -> str:
    """A latency with its unit; infinite where requests were dropped."""
    if value is None or not math.isfinite(value):
        return "∞"
    return f"{1e3 * value:.3g} ms" if value < 1.0 else f"{value:.3g} s"


def span(interval: Mapping[str, float | None] | None, form: str = "usd") -> str:
    """An interval, its unit said once; an end beyond every resample is infinite."""
    if interval is None:
        return ""
    show = {"usd": usd, "signed": signed, "share": share}[form]
    low, high = interval["low"], interval["high"]
    if low is None:
        return "not reached in most resamples"
    first, last = show(low), "∞" if high is None or math.isinf(high) else show(high)
    if first == last:
        return first
    return f"{first.removesuffix(f'{NBSP}%')} {'to' if form == 'signed' else DASH} {last}"


def swatch(label: str, palette: figures.Palette) -> Markup:
    """A short piece of a scaler's line with its marker, as the figures draw it."""
    style, marks = palette.line(label), {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "P": "✚", "X": "✖", "*": "★"}
    pattern = style["linestyle"][1] if style["linestyle"] != "-" else ()
    dash = f' stroke-dasharray="{" ".join(map(str, pattern))}"' if pattern else ""
    return Markup(
        '<svg class="swatch" width="30" height="12" aria-hidden="true">'
        f'<line x1="0" y1="6" x2="30" y2="6" stroke="{style["color"]}" stroke-width="{style["linewidth"]}"{dash}/>'
        f'<text x="15" y="10.2" text-anchor="middle" font-size="11" fill="{style["color"]}">'
        f"{marks[palette.marker(label)]}</text></svg>"
    )


def _section(results: Mapping[str, Any], load: Mapping[str, Any], palette: figures.Palette) -> dict[str, Any]:
    """Everything the template shows of one load."""
    name, own = load["name"], load["targets"][0]
    mine = {key: _of(results[key], name) for key in ("headline", "fronts", "rows", "latency", "examples", "verdicts")}
    test_rows = [row for row in mine["rows"] if row["split"] == "test"]
    marked = [row for row in test_rows if row["variant"] == "defaults" or row["target"] == own]
    test_fronts = [front for front in mine["fronts"] if front["split"] == "test"]
    by_target = {target: [e for e in mine["headline"] if e["target"] == target] for target in load["targets"]}
    return {
        "load": load,
        "own": own,
        "verdicts": mine["verdicts"],
        "headline": by_target,
        "entry": lambda target, label: next((e for e in by_target[target] if e["scaler"] == label), MISSING),
        "others": load["targets"][1:],
        "defaults": [row for row in test_rows if row["variant"] == "defaults"],
        "frozen": [row for row in test_rows if row["variant"] == "frozen"],
        "rows": test_rows,
        "volumes": sorted(((f["hypervolume"], f["scaler"]) for f in test_fronts), reverse=True),
        "latency": mine["latency"],
        "svg": {name: Markup(text) for name, text in _figures(load, mine, test_fronts, marked, palette).items()},
    }


def _figures(
    load: Mapping[str, Any],
    mine: Mapping[str, Sequence[Mapping[str, Any]]],
    test_fronts: Sequence[Mapping[str, Any]],
    marked: Sequence[Mapping[str, Any]],
    palette: figures.Palette,
) -> dict[str, str]:
    drawn = {"fronts": figures.fronts(load, test_fronts, marked, palette) if test_fronts else ""}
    drawn["differences"] = figures.differences(load, mine["headline"], palette)
    shown = [entry for entry in mine["latency"] if entry["variant"] != "defaults"]
    examples = [example for example in mine["examples"] if example["variant"] != "defaults"]
    drawn["timeline"] = figures.timeline(examples, palette) if examples else ""
    drawn["latency"] = figures.latency(shown, palette) if shown else ""
    drawn["bars"] = figures.bars(mine["latency"], palette) if mine["latency"] else ""
    return drawn


def _of(entries: Sequence[Mapping[str, Any]], load: str) -> list[Mapping[str, Any]]:
    return [entry for entry in entries if entry["load"] == load]
