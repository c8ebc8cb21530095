"""The back-test of forecasters in words and tables (Markdown)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.backtest import best_of
from rlscale.types import DAY_S

REFERENCE = "last"
LOSSES = (("pinball_50", "pinball 0.5"), ("pinball_90", "pinball 0.9"), ("pinball_99", "pinball 0.99"))
GOALS = (("coverage_80", "10 to 90 %"), ("coverage_90", "below 90 %"), ("coverage_99", "below 99 %"))

FEW = 100  # scored intervals
SHORT = (
    "Some of these have fewer than 100 scored intervals, far too few for a 0.99 quantile and a single draw each; who"
    " lives on past errors has hardly any there. They rank nothing."
)
ABOUT = """\
A forecast is made after every interval, of the mean rate of the interval one lead time later, out of what came before
it. Scored is every measured interval after a warm-up of a day (a third of what lasts less than two days); cells with
a gap are not. Pinball losses are in % of the mean rate of the scored cells. MASE is the mean absolute error over that
of a naive forecast on the same cells: the same time a day ago, or the last value where no day is known (named per
series). Coverage is the share of the intervals inside 10 to 90 %, and below the 90 and the 99 % quantile: 0.8, 0.9
and 0.99 would be right. Kalman, ARIMA and quantile regression have quantiles of their own; the others those of their
errors over the last three days (200 to 1 440 of them). Update: median CPU microseconds; slowest: CPU milliseconds of
the slowest update, with a fit in it as a rule; training: CPU seconds of all fits together. Trace cells longer than
the interval (300 s to 30 minutes) are taken as they are, and the lead time is then the nearest whole number of them,
at least one.
"""


def report(series: Sequence[Mapping[str, Any]], rows: Sequence[dict[str, Any]], command: str) -> str:
    """Summary by kind of series, then a table for each."""
    lines = ["# Forecasters, one lead time ahead", "", f"`{command}`", "", ABOUT]
    for title, members in groups(series).items():
        mine = [row for row in rows if row["series"] in members]
        lines += [f"## {title}", "", *_summary(mine, len(members)), ""]
        if min(row["scored"] for row in mine) < FEW:
            lines += [SHORT, ""]
    for one in series:
        mine = [row for row in rows if row["series"] == one["name"]]
        lines += [f"## {one['name']}", "", *_table(one, mine), ""]
    return "\n".join(lines)


def groups(series: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Names of the series by what they can tell."""
    found: dict[str, list[str]] = {}
    for one in series:
        days = one["cells"] * one["interval_s"] / DAY_S
        if one["kind"] == "generated":
            title = "Generated days"
        else:
            title = "Recorded, two days and more" if days >= 2 else "Recorded, a day or less"
        found.setdefault(title, []).append(one["name"])
    return found


def relative(rows: Sequence[dict[str, Any]], measure: str) -> dict[str, float]:
    """Geometric mean over the series of each forecaster's loss over that of `last`; empty without `last`."""
    reference = {row["series"]: row[measure] for row in rows if row["forecaster"] == REFERENCE}
    found: dict[str, list[float]] = {}
    for row in rows:
        if reference.get(row["series"], 0.0) > 0 and row[measure] > 0:
            found.setdefault(row["forecaster"], []).append(math.log(row[measure] / reference[row["series"]]))
    return {name: math.exp(float(np.mean(logs))) for name, logs in found.items()}


def wins(rows: Sequence[dict[str, Any]], measure: str) -> dict[str, int]:
    """Series on which each forecaster has the least loss."""
    found: dict[str, int] = {}
    for name in dict.fromkeys(row["series"] for row in rows):
        best = best_of([row for row in rows if row["series"] == name], measure)["forecaster"]
        found[best] = found.get(best, 0) + 1
    return found


def _summary(rows: Sequence[dict[str, Any]], count: int) -> list[str]:
    names = list(dict.fromkeys(row["forecaster"] for row in rows))
    ratios = {measure: relative(rows, measure) for measure, _ in LOSSES}
    best = {measure: wins(rows, measure) for measure, _ in LOSSES}
    head = [f"{title} (best on)" for _, title in LOSSES] + [f"in {title}" for _, title in GOALS]
    head += ["update, µs", "slowest, ms", "training, s"]
    lines = [f"{count} series. Losses over those of `{REFERENCE}`, geometric mean; in brackets on how many series it is"
             " the best. Coverage: mean over the series.", "",
             f"| forecaster | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]  # fmt: skip
    for name in names:
        mine = [row for row in rows if row["forecaster"] == name]
        cells = []
        for measure, _ in LOSSES:
            ratio = ratios[measure].get(name, math.nan)
            cells.append(f"{_number(ratio, 3)} ({best[measure].get(name, 0)})")
        cells += [f"{np.mean([row[measure] for row in mine]):.3f}" for measure, _ in GOALS]
        cells += [f"{np.median([row['update_us'] for row in mine]):.0f}", f"{max(r['slowest_ms'] for r in mine):.0f}"]
        cells.append(f"{sum(row['trained_s'] for row in mine):.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _table(one: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> list[str]:
    first = rows[0]
    notes = "".join(f"; {note}" for note in one["notes"])
    lines = [f"{first['scored']} intervals of {first['interval_s']:g} s scored, {first['ahead_s']:g} s ahead, "
             f"{first['mean_per_s']:.4g} requests/s on average; MASE against {first['mase_naive']}{notes}.", "",
             f"![best and worst]({one['name']}.svg)", "",
             "| forecaster | pinball 0.5, % | 0.9, % | 0.99, % | MASE | 10 to 90 % | below 90 % | below 99 % | "
             "update, µs | training, s |", "|---" * 10 + "|"]  # fmt: skip
    least = {measure: best_of(rows, measure)[measure] for measure in (*(name for name, _ in LOSSES), "mase")}
    for row in rows:
        cells = [_least(row, measure, least, 100.0 / row["mean_per_s"]) for measure, _ in LOSSES]
        cells.append(_least(row, "mase", least, 1.0))
        cells += [f"{row[measure]:.3f}" for measure, _ in GOALS]
        lines.append(f"| {row['forecaster']} | {' | '.join(cells)} | {row['update_us']:.0f} | {row['trained_s']:.2f} |")
    return lines


def _least(row: Mapping[str, Any], measure: str, least: Mapping[str, float], unit: float) -> str:
    text = _number(row[measure] * unit, 3)
    return f"**{text}**" if row[measure] == least[measure] else text


def _number(value: float, digits: int) -> str:
    """Digits without an exponent."""
    if not math.isfinite(value):
        return "-"
    text = f"{value:.{digits}g}"
    return text if not re.search("e", text) else f"{value:.0f}"
