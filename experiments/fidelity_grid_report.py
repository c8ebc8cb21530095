"""What the grid of fluid against request engine found, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NAMES = {"ttft_mean": "mean TTFT", "ttft_p99": "p99 TTFT", "tpot_mean": "mean TPOT", "attainment": "attainment",
         "cost": "cost"}  # fmt: skip
AXES = {"all": "all", "load": "load", "cv": "CV", "replicas": "replicas", "startup_s": "start-up, s"}


def report(found: Mapping[str, Any]) -> str:
    """By half and band, then every judged cell that misses a goal."""
    judged = next(band for band in found["bands"] if band["half"] == "judged" and band["kind"] == "all")
    goals = ", ".join(f"{NAMES[name]} {_goal(name, value)}" for name, value in found["goals"].items())
    lines = [
        "# The fluid engine against the request engine", "",
        f"`{found['command']}`; means over {found['seeds']} seeds. Half of a fleet runs at the load of the cell; after "
        "ten minutes the arrivals double and an HPA orders the rest.", "",
        f"Goals: {goals}, all of them in {found['goal_within']:.0%} of the cells. "
        f"**Of {judged['cells']} judged cells {judged['within']:.0%} keep all of them.** Led by the targets of the "
        f"request engine's HPA instead of its own, the fluid keeps them in {judged['led_within']:.0%}: what is between "
        "the two are decisions that fall differently, the rest are errors of latency.", "",
        f"| half | axis | cells | {' | '.join(f'{name}: median, p90, within' for name in NAMES.values())} | all | led "
        "|",
        "|---|---|---|" + "---|" * (len(NAMES) + 2),
    ]  # fmt: skip
    for band in found["bands"]:
        axis = AXES[band["kind"]] + ("" if band["value"] is None else f" {band['value']:g}")
        parts = " | ".join(_spread(name, band[name]) for name in NAMES)
        lines.append(
            f"| {band['half']} | {axis} | {band['cells']} | {parts} | {band['within']:.0%} | {band['led_within']:.0%} |"
        )
    lines += ["", "## Judged cells outside a goal", "", "Error of the fluid; in brackets what the request engine says. "
              "Last, whether the cell keeps the goals when the fluid is led.",
              "", f"| load | CV | replicas | start-up | {' | '.join(NAMES.values())} | led |",
              "|---|---|---|---|" + "---|" * (len(NAMES) + 1)]  # fmt: skip
    for row in found["outside"]:
        parts = " | ".join(f"{_error(name, row[f'error_{name}'])} ({_value(name, row)})" for name in NAMES)
        lines.append(
            f"| {row['load']:g} | {row['cv']:g} | {row['replicas']} | {row['startup_s']:g} s | {parts} | "
            f"{'kept' if row['led_within'] else 'missed'} |"
        )
    return "\n".join(lines) + "\n"


def _goal(name: str, value: float) -> str:
    return f"within {100 * value:g} points" if name == "attainment" else f"within {100 * value:g} %"


def _spread(name: str, band: Mapping[str, Any]) -> str:
    unit = "" if name == "attainment" else " %"
    within = "" if band["within"] is None else f", {band['within']:.0%}"
    return f"{100 * band['median']:.1f}{unit}, {100 * band['p90']:.1f}{unit}{within}"


def _error(name: str, value: float) -> str:
    return f"{100 * value:+.1f}" + ("" if name == "attainment" else " %")


def _value(name: str, row: Mapping[str, Any]) -> str:
    value = row[f"request_{name}"]
    if name == "attainment":
        return f"{100 * value:.1f}"
    if name == "cost":
        return f"{value:.1f} USD"
    return "dropped" if math.isinf(value) else f"{1e3 * value:.0f} ms"
