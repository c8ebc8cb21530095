"""What the comparison of rankings found, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

INTRODUCTION = """\
Fluid against request engine, ranked by the scenario's reward per hour of load. The knob of every scaler was chosen in
the fluid engine on a training load; test loads and luck are the same in both engines. A pair counts where the request
engine tells it apart: the 95 % interval of the paired difference over load blocks leaves out zero."""


def report(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Tau by scenario, the pairs that swap, and every scaler's rank in both engines."""
    ranks = about["ranks"]
    known = [rank["tau"] for rank in ranks if rank["told_apart"]]
    swapped, both = sum(len(rank["swapped"]) for rank in ranks), sum(rank["told_apart_in_both"] for rank in ranks)
    lines = [
        "# Does the ranking of scalers survive the engine?", "", f"`{about['provenance']['command']}`", "",
        INTRODUCTION, "",
        f"**Mean tau {np.mean(known):.3f} over {len(known)} scenarios (goal {about['goal']:g}); {swapped} of {both} "
        "pairs that both engines tell apart swap.**", "",
        "| scenario | scalers | pairs | told apart | tau | tau of all pairs | swapped |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for rank in ranks:
        names = "; ".join(" and ".join(pair) for pair in rank["swapped"]) or "none"
        lines.append(
            f"| {rank['scenario']} | {rank['scalers']} | {rank['pairs']} | {rank['told_apart']} | {rank['tau']:.3f} | "
            f"{rank['tau_of_all']:.3f} | {names} |"
        )
    lines += ["", *(f"Left out: {name}, because it {why}." for name, why in about["left_out"].items())]
    lines += [f"{', '.join(scalers)} cannot scale the prefill and decode pools of {name}."
              for name, scalers in about["refusing"].items()]  # fmt: skip
    lines += [*(f"Failed: {text}" for text in about["failures"]), "", *_swaps(ranks), "## Every scaler", "",
              *_table(rows)]  # fmt: skip
    return "\n".join(lines) + "\n"


def _swaps(ranks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Who is in the pairs that swap, the most frequent first."""
    counts = Counter(name for rank in ranks for pair in rank["swapped"] for name in pair)
    if not counts:
        return []
    named = ", ".join(f"{name} in {count}" for name, count in counts.most_common())
    return ["## Who swaps", "", f"Of the {sum(counts.values()) // 2} pairs that swap: {named}.", ""]


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "Fluid / request engine: rank by reward, USD per hour, attainment, mean TTFT in ms.", "",
        "| scenario | scaler | knob | rank | USD/h | attainment | TTFT |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in sorted(rows, key=lambda one: (one["scenario"], one["request_rank"])):
        knob = "" if row["value"] is None else f"{row['value']:g}"
        lines.append(
            f"| {row['scenario']} | {row['scaler']} | {knob} | {row['fluid_rank']} / {row['request_rank']} | "
            f"{row['fluid_usd_per_hour']:.2f} / {row['request_usd_per_hour']:.2f} | "
            f"{row['fluid_attainment']:.4f} / {row['request_attainment']:.4f} | "
            f"{1e3 * row['fluid_ttft_mean_s']:.0f} / {1e3 * row['request_ttft_mean_s']:.0f} |"
        )
    return lines
