"""Load families and token laws against the published statistics they stand for: measure, print and write the table.

Every check draws independent realisations of a family, at least fifty hours of them, and compares one figure with
the published one; what is compared stands in `family_checks` and `family_tokens`.
"""

from __future__ import annotations

import argparse
from typing import Any

from experiments import family_checks, family_tokens
from experiments.results import write_csv, write_text
from rlscale.errors import ResultError

# Published, and in no table: one line of reason each.
LEFT_OUT = (
    "Azure 2023 code, variation 13.2 with the family `code`: one kind of pause gives 8.5; `code-pauses` has two.",
    "Azure 2024, prompts: only the mean of prompt and answer is published, so the 2023 prompt law is scaled to it.",
    "Mooncake, 37 % of the prefix blocks reusable: no engine caches prefixes, so requests carry none.",
    "BurstGPT, smallest day of 1.6 k requests: the least of 61 draws of one trace, which no law of the days fixes.",
    "ServeGen m-small, 37 empty windows, and the outages of NASA: events of the recording, not of the demand.",
    "ServeGen, inter-arrivals gamma in 70-84 % of the windows and Weibull in the others: all are gamma here.",
    "ServeGen mm-image, lengths: none are published; the service takes those of m-large.",
    "deepseek-r1, 74 % of the answer is reasoning: engines know output tokens of one kind.",
    "Log correlation of prompt and answer, -0.004 and 0.09: drawn independent, so 0.",
    "Rates and dwell times of chains, rise times, sizes of fleets of clients: settings, not results.",
)


def run(args: argparse.Namespace) -> int:
    """Measure everything, print the tables, write them into a new folder."""
    if args.out.exists():
        raise ResultError(f"{args.out} exists; give --out a new folder, nothing is overwritten")
    loads = [family_checks.measure(check, args.seed) for check in family_checks.CHECKS]
    lengths = [family_tokens.measure(check, args.seed) for check in family_tokens.CHECKS]
    text = report(loads, lengths, args.seed)
    args.out.mkdir(parents=True)
    write_csv(args.out / "families.csv", loads, list(loads[0]))
    write_csv(args.out / "tokens.csv", lengths, list(lengths[0]))
    write_text(args.out / "report.md", text)
    print(text)
    return 0 if all(row["within"] for row in (*loads, *lengths)) else 1


def report(loads: list[dict[str, Any]], lengths: list[dict[str, Any]], seed: int) -> str:
    """Two Markdown tables and what is in neither."""
    within = sum(row["within"] for row in (*loads, *lengths))
    lines = ["# Load families against published statistics", "",
             f"`python -m experiments traces families --seed {seed}`; tolerances are relative, `at most` bounds from "
             f"above. {within} of {len(loads) + len(lengths)} figures are within theirs. Peaks and variations are "
             "the median over runs about as long as the trace.",
             "", "## Arrivals", "",
             "| family | figure | hours | generated | published | ratio | tolerance | within |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    lines += [_line(row["family"], row["figure"], f"{row['hours']:.0f}", row) for row in loads]
    lines += ["", "## Lengths", "", "| law | figure | requests | generated | published | ratio | tolerance | within |",
              "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    lines += [_line(f"`{row['law']}`, {row['source']}", row["figure"], f"{row['requests']}", row) for row in lengths]
    lines += ["", "## Published and not compared", "", *[f"- {reason}" for reason in LEFT_OUT]]
    return "\n".join(lines) + "\n"


def _line(name: str, figure: str, size: str, row: dict[str, Any]) -> str:
    bound = f"{'at most +' if row.get('at_most') else ''}{row['tolerance']:.0%}"
    cells = [name, figure, size, f"{row['generated']:.4g}", f"{row['published']:.4g}", f"{row['ratio']:.2f}", bound,
             ("no", "yes")[row["within"]]]  # fmt: skip
    return f"| {' | '.join(cells)} |"
