"""What a calibration found, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments.calibrate_fit import LAW

if TYPE_CHECKING:
    from experiments.calibrate import Calibrated


def report(done: Sequence[Calibrated], refused: Mapping[str, str], command: str, draws: int, seed: int) -> str:
    """`report.md`: coefficients with intervals, residuals, what the data could not tell."""
    lines = ["# Calibration", "",
             f"`{command}`. Microseconds, with the 90 % interval of a Bayesian bootstrap over configurations ({draws} "
             f"draws, seed {seed}); 0 without an interval: not told by the data, see below.", "",
             "| group | c0 | c1 per sequence | c2 per prompt token | c3 per resident token | c4 per token squared |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for one in done:
        lines.append(f"| {one.case.group} | {' | '.join(_cell(one, i) for i in range(len(LAW)))} |")
    lines += ["", "Residuals, fitted over measured less 1, of the rows the law was fitted to:", "",
              "| group | rows | TPOT: median error | 95 % | TTFT: median error | 95 % | outside of iterations, ms | "
              "waited for |", "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for one in done:
        errors = " | ".join(_spread(np.abs(values)) for values in one.residuals().values())
        lines.append(f"| {one.case.group} | {len(one.case.rows)} | {errors} | {1e3 * one.fit.overhead_s:.1f} | "
                     f"{one.fit.burst_share:.1%} |")  # fmt: skip
    lines += ["", "The two last columns describe the benchmark (its TTFT only) and are no part of the law: time "
              "outside of iterations, and the share of the other prompts in flight that come first.", "",
              "## What the data cannot tell", ""]  # fmt: skip
    told = [f"- {one.case.group}, {name.removesuffix('_s')}: {reason}." for one in done
            for name, reason in one.left_out.items()]  # fmt: skip
    zero = [f"- {one.case.group}, {name.removesuffix('_s')}: fitted as zero; the rows ask for none." for one in done
            for i, name in enumerate(LAW) if name in one.fit.fitted and one.fit.value[i] == 0.0]  # fmt: skip
    refusals = [f"- {group}: no profile; {reason}." for group, reason in refused.items()]
    lines += told + zero + refusals or ["Nothing: every coefficient has its own evidence."]
    lines += ["", "## Where the profiles hold", ""]
    lines += [f"- {one.case.group}: {_span(one)}." for one in done]
    return "\n".join(lines) + "\n"


def _cell(one: Calibrated, i: int) -> str:
    if LAW[i] in one.left_out:
        return "0"
    found = one.fit
    return f"{1e6 * found.value[i]:.4g} ({1e6 * found.low[i]:.4g} to {1e6 * found.high[i]:.4g})"


def _span(one: Calibrated) -> str:
    return ", ".join(f"{key} {low:g} to {high:g}" for key, (low, high) in one.case.span.items())


def _spread(errors: np.ndarray) -> str:
    if not len(errors):
        return "none | none"
    return f"{np.median(errors):.1%} | {np.quantile(errors, 0.95):.1%}"
