"""The league's rows as standings, as Markdown and as one page. Runs nothing and decides nothing beyond the order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

Row = Mapping[str, Any]
DEFAULT_COLUMNS = ("load", "scaler", "usd_per_h", "attainment", "requests", "churn_per_h", "decision_us")
STEPS = (0.01, 0.05, 0.1, 0.2, 0.4, 0.8)  # shares above the cheapest at which a cell's colour changes
NONE = "never"


def standings(rows: Sequence[Row], target: float) -> list[dict[str, Any]]:
    """One row per scaler, the smallest median first: what it costs above the cheapest scaler of each load.

    A load on which it never reaches the target counts as infinitely dear, so a median over half of the loads is
    infinite as well; ties go by the loads reached. Loads that nobody reaches tell scalers not apart and do not count. A
    front that lies above the target as a whole counts with the cost of its cheapest point, which can only be too much.
    """
    loads = {name: entries for name, entries in by_load(rows, target).items() if reachable(entries)}
    ranks: dict[str, list[float]] = {}
    for entries in loads.values():
        for entry in entries:
            ranks.setdefault(entry["scaler"], []).append(_above(entry, entries))
    found = []
    for scaler, shares in ranks.items():
        mine = [entry for entries in loads.values() for entry in entries if entry["scaler"] == scaler]
        reached = [row for row in mine if row["usd_per_h"] is not None]
        found.append({
            "scaler": scaler, "loads": len(mine), "reached": len(reached),
            "cheapest": sum(share == 0.0 for share in shares), "within_5_percent": sum(s <= 0.05 for s in shares),
            "median_above_cheapest": float(np.median(shares)),
            "median_regret": _median(reached, "regret"), "median_churn_per_h": _median(reached, "churn_per_h"),
            "median_decision_us": _median(reached, "decision_us"),
        })  # fmt: skip
    return sorted(found, key=lambda row: (row["median_above_cheapest"], -row["reached"], -row["within_5_percent"]))


def reachable(entries: Sequence[Row]) -> bool:
    """Whether anybody reaches the target on this load."""
    return any(row["usd_per_h"] is not None for row in entries)


def by_load(rows: Sequence[Row], target: float) -> dict[str, list[Row]]:
    """Rows at one target by load, the cheapest first, those that never reach it last."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["target"] == target:
            found.setdefault(row["load"], []).append(row)
    return {name: sorted(some, key=lambda row: (row["usd_per_h"] is None, row["usd_per_h"] or 0.0))
            for name, some in found.items()}  # fmt: skip


def report(about: Mapping[str, Any]) -> str:
    """Markdown: how it was done, the standings, the three cheapest of every load, own pace, default settings."""
    made, loads, rows = about["provenance"], about["loads"], about["rows"]
    lines = ["# The league", "",
             f"`{made['command']}`; {len({row['scaler'] for row in rows})} scalers on {len(loads)} loads, "
             f"{about['budget']:,} simulated control intervals per scaler and load to tune with; {made['busy_h']:.1f} "
             f"hours over all runs with {made['workers']} workers on {made['cores']} cores. Training loads: "
             f"{made['seeds']['train']}, test loads (or luck on a recorded load): {made['seeds']['test']}. "
             f"{len(about['failures'])} cells failed.", "",
             "Costs are read off each scaler's front on the test loads at equal attainment; ≤ where its nearest "
             "cheaper setting is too far away. Regret is the cost above the clairvoyant bound; it is added up from "
             "windows of constant fleets and can be a little too high, hence a regret below zero. Loads on which "
             "nobody reaches the target do not count in the standings. Behind a name: 95 % interval of what it "
             "costs above the first, over load blocks. Churn is that of the settings which the training loads "
             "chose."]  # fmt: skip
    for target in about["standings"]:
        table = standings(rows, float(target))
        lines += ["", f"## At {float(target):.2%} of requests within the SLO", "",
                  "| scaler | loads reached | cheapest | within 5 % | median above cheapest | median regret | "
                  "churn/h | us/decision |", "|---|---|---|---|---|---|---|---|"]  # fmt: skip
        lines += [f"| {row['scaler']} | {row['reached']} of {row['loads']} | {row['cheapest']} | "
                  f"{row['within_5_percent']} | {_share(row['median_above_cheapest'])} | "
                  f"{_share(row['median_regret'])} | {_number(row['median_churn_per_h'])} | "
                  f"{_number(row['median_decision_us'])} |" for row in table]  # fmt: skip
        lines += ["", "| load | bound, USD/h | first | second | third |", "|---|---|---|---|---|"]
        lines += [_line(name, entries) for name, entries in by_load(rows, float(target)).items()]
    lines += _own_pace(rows) + _at_defaults(about["defaults"])
    return "\n".join(lines) + "\n"


def page(about: Mapping[str, Any]) -> str:
    """The league as one HTML file: scalers by loads, coloured by what they cost above the cheapest."""
    environment = Environment(loader=PackageLoader("experiments", "."), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    rows = about["rows"]
    tables = [_matrix(rows, float(target), standings(rows, float(target))) for target in about["standings"]]
    return environment.get_template("league.html.j2").render(tables=tables, about=about, steps=STEPS)


def _matrix(rows: Sequence[Row], target: float, table: Sequence[Row]) -> dict[str, Any]:
    loads = by_load(rows, target)
    cells = {}
    for name, entries in loads.items():
        for entry in entries:
            cells[entry["scaler"], name] = _cell(entry, entries)
    lines = [{"scaler": row["scaler"], "median": _share(row["median_above_cheapest"]),
              "regret": _share(row["median_regret"]), "reached": row["reached"],
              "cells": [cells[row["scaler"], name] for name in loads]} for row in table]  # fmt: skip
    return {"target": f"{target:.6g}", "words": f"{100.0 * target:.6g} %", "loads": list(loads), "lines": lines}


def _cell(entry: Row, entries: Sequence[Row]) -> dict[str, Any]:
    above = _above(entry, entries)
    if math.isinf(above):
        said = f"never: at most {entry['highest_attainment']:.2%}"
        return {"text": "", "grade": "none", "said": said}
    regret = "" if entry["regret"] is None else f"; {entry['regret']:+.1%} on the bound"
    sign = "at most " if entry["status"] == "above" else ""
    cost = f"{sign}{entry['usd_per_h']:.2f} USD/h; {above:+.1%}{_difference(entry)} on the cheapest{regret}"
    mark = "≤" if entry["status"] == "above" else ""
    return {"text": f"{mark}{100.0 * above:.0f}", "grade": str(sum(above > step for step in STEPS)), "said": cost}


def _above(entry: Row, entries: Sequence[Row]) -> float:
    """Cost above the cheapest of the same load, as a share; infinite where the target is never reached."""
    costs = [row["usd_per_h"] for row in entries if row["usd_per_h"] is not None]
    return math.inf if entry["usd_per_h"] is None else float(entry["usd_per_h"] / min(costs) - 1.0)


def _line(name: str, entries: Sequence[Row]) -> str:
    """The three cheapest on a load."""
    bound = _number(entries[0]["bound_usd_per_h"], 2)
    if reachable(entries):
        return f"| {name} | {bound} | {' | '.join(_podium(row) for row in entries[:3])} |"
    best = max(entries, key=lambda row: row["highest_attainment"])
    return f"| {name} | {bound} | nobody, at most {best['highest_attainment']:.2%} ({best['scaler']}) | | |"


def _podium(row: Row) -> str:
    if row["usd_per_h"] is None:
        return f"{row['scaler']}: never, at most {row['highest_attainment']:.2%}"
    above = "≤ " if row["status"] == "above" else ""
    return f"{row['scaler']} {above}{row['usd_per_h']:.2f}{_difference(row)}"


def _difference(row: Row) -> str:
    """95 % interval of the cost above the best rule; an end is open where one of the two misses the target there."""
    low, high = row["above_best_low"], row["above_best_high"]
    if low is None and high is None:
        return ""
    ends = ("open" if low is None or low <= -0.99 else f"{100.0 * low:+.1f}",
            "open" if high is None or not math.isfinite(high) else f"{100.0 * high:+.1f} %")  # fmt: skip
    return f" ({ends[0]} to {ends[1]})"


def _own_pace(rows: Sequence[Row]) -> list[str]:
    """Products that decide more often than the cluster's interval, with the same settings, as medians over loads."""
    paced = [row for row in rows if row["own_pace_usd_per_h"] is not None]
    lines = ["", "## At the product's own pace", "",
             "The settings chosen for 99 %, deciding as often as the product does; medians over loads.", "",
             "| scaler | every, s | loads | cost | attainment, points | churn |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for scaler in sorted({row["scaler"] for row in paced}):
        mine = [row for row in paced if row["scaler"] == scaler]
        cost = np.median([row["own_pace_usd_per_h"] / row["at_15_s_usd_per_h"] - 1.0 for row in mine])
        met = np.median([row["own_pace_attainment"] - row["at_15_s_attainment"] for row in mine])
        churn = np.median([row["own_pace_churn_per_h"] / max(row["at_15_s_churn_per_h"], 1e-9) - 1.0 for row in mine])
        lines.append(f"| {scaler} | {mine[0]['own_pace_s']:g} | {len(mine)} | {cost:+.1%} | {100.0 * met:+.2f} | "
                     f"{churn:+.0%} |")  # fmt: skip
    return lines if paced else []


def _at_defaults(defaults: Sequence[Row]) -> list[str]:
    """Products at their default settings, which nobody has tuned."""
    lines = ["", "## At default settings", "", "Not tuned; medians over loads.", "",
             "| scaler | attainment | worst load | loads at 99 % | USD/h | churn/h |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    there = [row for row in defaults if row.get("cells")]
    for scaler in sorted({row["scaler"] for row in there}):
        mine = [row for row in there if row["scaler"] == scaler]
        worst = min(mine, key=lambda row: row["attainment"])
        lines.append(
            f"| {scaler} (defaults) | {np.median([row['attainment'] for row in mine]):.2%} | {worst['load']} "
            f"{worst['attainment']:.1%} | {sum(row['attainment'] >= 0.99 for row in mine)} of {len(mine)} | "
            f"{np.median([row['usd_per_h'] for row in mine]):.2f} | {_median(mine, 'churn_per_h'):.1f} |"
        )
    return lines if there else []


def _median(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return float(np.median(values)) if values else None


def _share(value: float | None) -> str:
    return "" if value is None else NONE if math.isinf(value) else f"{value:+.1%}"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
