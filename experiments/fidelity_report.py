"""What the comparison of the fluid engine with the oracle found, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def in_words(summary: dict[str, Any], measures: Sequence[str]) -> str:
    """`report.md` of a summary as `fidelity.summarise` gives it."""
    lines = ["# The fluid engine against the oracle", "",
             f"`{summary['command']}`; 126 cells, 5 seeds of 20 000 requests.",
             "", "| half | band | sub-step s | measure | cells | median | p90 | largest | goal | within |",
             "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in summary["bands"]:
        goal = summary["goals"].get(row["measure"])
        within = "" if row["within_goal"] is None else f"{row['within_goal']:.0%}"
        cells = [row["half"], row["band"], f"{row['substep_s']:g}", row["measure"], str(row["cells"]),
                 *(f"{row[name]:.3f}" for name in ("median", "p90", "largest")), str(goal or ""), within]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Median error with its sign, judged half, 1 s sub-steps (load <= 0.9 unless a load is named):", "",
              f"| of | cells | {' | '.join(measures)} |", "|---|---|" + "---|" * len(measures)]  # fmt: skip
    for row in summary["by_kind"]:
        errors = " | ".join(f"{row[name]:+.3f}" for name in measures)
        lines.append(f"| {row['kind']} {row['value']} | {row['cells']} | {errors} |")
    lines += ["", "Distance to the result with 1 s sub-steps (load <= 0.9):", "",
              "| sub-step s | measure | median | p90 |", "|---|---|---|---|"]  # fmt: skip
    for row in summary["substep_independence"]:
        lines.append(f"| {row['substep_s']:g} | {row['measure']} | {row['median']:.3f} | {row['p90']:.3f} |")
    lines += ["", "Relative errors; attainment in differences of shares. Cells alternate between the half the",
              "constants were fitted on and the judged half."]  # fmt: skip
    return "\n".join(lines) + "\n"
