"""results.json, report.md, report.html and tables of a live demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from experiments import figures, palette
from experiments.collect import ccdf
from experiments.live_demo import compared
from experiments.live_demo.compared import Pair
from experiments.live_demo.figures import over_time
from experiments.page import page
from experiments.palette import Palette
from experiments.results import RESULTS, plain, provenance, write_csv, write_json, write_text
from experiments.svg import Styles

if TYPE_CHECKING:
    from experiments.live_demo.conductor import Demo
    from rlscale.loop import RunResult

LATENCIES = ("ttft", "tpot", "e2e")
COLUMNS = ("scaler", "measure", "unit", "simulated", "simulated_least", "simulated_most", "live", "live_least",
           "live_most", "error", "goal", "within")  # fmt: skip
NOTE = ("The toy replicas obey the simulator's own iteration law. What this comparison checks is everything around it: "
        "processes, HTTP, clocks, metrics, the loop, its shields and its orders. It says nothing about how well the "
        "law describes a GPU.")  # fmt: skip
CHANCE = ("Spans are those of the simulation and {perturbed} more of them, whose metrics are as far off as the live "
          "ones were (arrival rates by {off}), and of the live runs where there are several. How wide the simulations' "
          "span is tells what chance makes of a fleet that follows its metrics.")  # fmt: skip


def compare(out: Path, demo: Demo, pairs: Sequence[Pair], began: datetime, seed: int) -> None:
    """Write everything and say the result."""
    results = plain(results_of(demo, pairs, began, seed))
    write_csv(out / "comparison.csv", results["rows"], COLUMNS)
    for pair in pairs:
        _write_series(out / pair.played[0].folder / "series-simulated.csv", pair.simulated)
        for played, live in zip(pair.played, pair.live, strict=True):
            _write_series(out / played.folder / "series-live.csv", live)
    write_json(out / RESULTS, results)
    write_text(out / "report.md", markdown(results))
    write_text(out / "report.html", html(results))
    _tell(results)
    print(f"\nreport: {(out / 'report.html').resolve()}")


def _write_series(path: Path, result: RunResult) -> None:
    series = plain(compared.series(result))
    table = [dict(zip(series, values, strict=True)) for values in zip(*series.values(), strict=True)]
    write_csv(path, table, list(series))


def results_of(demo: Demo, pairs: Sequence[Pair], began: datetime, seed: int) -> dict[str, Any]:
    """Everything that the reports say."""
    scenario, spec = demo.scenario, demo.scenario.cluster
    found = [row for pair in pairs for row in compared.rows(pair)]
    runs = len(pairs[0].live)
    off = ", ".join(f"{100 * pair.told_error:.1f} % with {pair.simulated.scaler}" for pair in pairs)
    return {
        "live_demo": {
            "scenario": scenario.name, "summary": scenario.summary, "hash": scenario.hash, "speed": demo.speed,
            "metrics": demo.metrics, "scrape_wall_s": demo.scrape_s, "window_wall_s": demo.window_s,
            "lag_s": demo.lag_s, "runs": runs,
            "minutes": demo.recorded.load.duration_s / 60.0, "requests": len(demo.recorded.requests),
            "interval_s": spec.interval_s, "initial": demo.recorded.initial, "seed": seed,
            "capacity_per_s": float(scenario.limits.capacity_per_s[0]), "faults": list(demo.faults),
        },
        "note": NOTE, "chance": CHANCE.format(perturbed=len(pairs[0].perturbed), off=off),
        "verdict": compared.verdict(found, runs), "rows": found,
        "runs": [_run(pair, demo) for pair in pairs], "provenance": provenance(began, {"requests": seed}),
    }  # fmt: skip


def _run(pair: Pair, demo: Demo) -> dict[str, Any]:
    name = pair.simulated.scaler
    both = {"live": pair.live[0], "simulated": pair.simulated}
    return {
        "scaler": name, "labels": [f"{name}, live", f"{name}, simulated"], "told_error": pair.told_error,
        **{world: compared.series(result) for world, result in both.items()},
        "latency": {world: _latency(result) for world, result in both.items()},
        "played": [{"folder": played.folder, "plumbing": compared.plumbing(pair, i, demo.speed)}
                   for i, played in enumerate(pair.played)],
    }  # fmt: skip


def _latency(result: Any) -> dict[str, Any]:
    found = result.summary()
    marks = {f"{name}_{p}_s": found[f"{name}_{p}_s"] for name in LATENCIES for p in ("p50", "p95", "p99")}
    return {"ccdf": {name: ccdf(row) for name, row in zip(LATENCIES, result.histograms, strict=True)}, **marks}


def html(results: Mapping[str, Any]) -> str:
    """One page that needs nothing else."""
    runs = results["runs"]
    looks = Palette([{"label": label, "kind": "rule"} for run in runs for label in run["labels"]])
    styles = Styles()
    curves = [{"scaler": label, **run["latency"][world]} for run in runs
              for label, world in zip(run["labels"], ("live", "simulated"), strict=True)]  # fmt: skip
    panels = [{"scaler": label, "value": None, "knob": None, "variant": "frozen", "series": run[world]} for run in runs
              for label, world in zip(run["labels"], ("live", "simulated"), strict=True)]  # fmt: skip
    drawn = {"over_time": over_time(runs, looks), "timeline": figures.timeline(panels, looks),
             "latency": figures.latency(curves, looks)}  # fmt: skip
    environment = Environment(loader=PackageLoader("experiments.live_demo", "."), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    environment.filters.update({"value": shown, "span": span, "signed": signed, "kept": kept})
    labels = [label for run in runs for label in run["labels"]]
    return environment.get_template("report.html.j2").render(
        **results, svg={name: Markup(styles.shortened(text)) for name, text in drawn.items()},
        figure_style=Markup(styles.css()),
        style=Markup((files("experiments") / "report.css").read_text()), colours=palette.css(),
        swatch=partial(palette.swatch, looks), swatches=palette.swatches(looks, labels), labels=labels,
    )  # fmt: skip


def markdown(results: Mapping[str, Any]) -> str:
    """The same as text."""
    demo = results["live_demo"]
    played = f"{demo['requests']} requests in {demo['minutes']:g} simulated minutes, {demo['speed']:g} times as fast"
    scraped = f"metrics by {demo['metrics']}, scraped every {1e3 * demo['scrape_wall_s']:.0f} ms"
    lines = ["# Live demo: simulated and live side by side", "", results["verdict"], "", results["note"], "",
             results["chance"], "",
             f"{played}, on {results['provenance']['cores']} cores; {scraped}.", ""]  # fmt: skip
    for run in results["runs"]:
        lines += [f"## {run['scaler']}", "", "| | simulated | live | difference | 15 % |", "|---|---:|---:|---:|---|"]
        lines += [f"| {row['name']} | {ranged(row, 'simulated')} | {ranged(row, 'live')} | "
                  f"{signed(row['error'])} | {kept(row['within'])} |" for row in results["rows"]
                  if row["scaler"] == run["scaler"]]  # fmt: skip
        for played in run["played"]:
            lines += ["", f"{played['folder']}: {kept_time(played['plumbing'])}"]
        lines += [""]
    return "\n".join([*lines, f"Made by `{results['provenance']['command']}`.", ""])


def kept_time(plumbing: Mapping[str, Any]) -> str:
    """The machinery in a sentence."""
    p = plumbing
    return (
        f"{p['http_per_s']:.0f} HTTP requests per second of wall time; {p['decisions']:.0f} of "
        f"{p['decisions_expected']:.0f} decisions, 99 % at most {p['decision_late_p99_ms']:.0f} ms late, on metrics "
        f"{p['metrics_age_mean_s']:.1f} simulated seconds old on average; requests sent "
        f"{p['sent_late_p50_ms']:.1f} ms late (median; p99 {p['sent_late_p99_ms']:.1f} ms). Both worlds had the same "
        f"target in {100 * p['same_target_share']:.0f} % of the intervals; the mean difference is "
        f"{p['target_difference']:.2f} replicas. Replicas up late: {p['late_starts']}, died: {p['replicas_died']}, "
        f"restarts of the loop: {p['loop_restarts']}."
    )


def shown(value: float | None, unit: str) -> str:
    """A number with its unit."""
    if value is None:
        return "not served"
    if unit == "share":
        return f"{100 * value:.2f} %"
    digits = {"USD": f"{value:.2f}", "s": f"{value:.3g}"}
    return f"{digits.get(unit, f'{value:.0f}')} {unit}" if unit in digits else f"{value:.0f}"


def ranged(row: Mapping[str, Any], world: str) -> str:
    """A number with its unit, and its span in brackets where it has one."""
    value, between = shown(row[world], row["unit"]), span(row, world)
    return f"{value} ({between})" if between else value


def span(row: Mapping[str, Any], world: str) -> str:
    """The least and the greatest of several runs; nothing where they are one."""
    least, most = row[f"{world}_least"], row[f"{world}_most"]
    if least == most:
        return ""
    known = least is not None and most is not None
    unit = {"share": " %"}.get(row["unit"], f" {row['unit']}")  # once is enough
    first = shown(least, row["unit"])
    return f"{first.removesuffix(unit) if known else first} to {shown(most, row['unit'])}"


def signed(value: float | None) -> str:
    """A relative difference."""
    return "-" if value is None else "0.0 %" if abs(value) < 0.0005 else f"{100 * value:+.1f} %"


def kept(within: bool | None) -> str:
    """Whether a goal was met."""
    return "no goal" if within is None else "within" if within else "OUTSIDE"


def _tell(results: Mapping[str, Any]) -> None:
    from rich.table import Table

    for run in results["runs"]:
        table = Table(title=f"{run['scaler']}: the same requests, simulated and live")
        for column in ("", "simulated", "live", "difference", "15 %"):
            table.add_column(column, justify="left" if column in ("", "15 %") else "right")
        for row in results["rows"]:
            if row["scaler"] == run["scaler"]:
                table.add_row(row["name"], ranged(row, "simulated"), ranged(row, "live"),
                              signed(row["error"]), kept(row["within"]))  # fmt: skip
        page().print(table)
        for played in run["played"]:
            print(f"{played['folder']}: {kept_time(played['plumbing'])}")
    print(results["verdict"])
    print(results["note"])
    print(results["chance"])
