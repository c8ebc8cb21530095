"""What the comparison of the iteration law with measured hardware found: numbers, then Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from experiments.fidelity_hardware import Judged

GOALS = {"tpot": 0.07, "ttft": 0.15}
BANDS = ((0.0, 1.01, "up to 1"), (1.01, 2.01, "1 to 2"), (2.01, np.inf, "more than 2"))
HELD = "held out"
INTRODUCTION = f"""
Absolute relative errors. Half of the configurations (prompt, output, batch) of every group (GPU, model, engine and
version, precision, parallelism) were fitted on, chosen by a keyed hash of their names before any residual was seen; the
others were not. Repeated runs count once, by their median. Goals for the held-out half: a median of {GOALS["tpot"]:.0%}
for TPOT and {GOALS["ttft"]:.0%} for TTFT."""
COLUMNS = """
*With the saturating term* adds c5*(1 - exp(-B/32)), as experts wake with the batch; the engines do not have it. *Law
alone*: TTFT without what was fitted of the benchmark beside the law, which are time outside of iterations and prompts
sent at one moment."""
ABOUT_FORMS = """
Median errors on the fitted half, every configuration left out in turn. *static*: B prompts in one iteration, then
decoded to the end. *closed-loop*: every answer that ends is followed by a new prompt, whose work is in everybody's
TPOT. *prompts-apart*: a closed loop without that. *no-bursts*: one whose TTFT has neither time outside of iterations
nor prompts sent together."""
ABOUT_ML_ENERGY = """
ML.ENERGY tells no prompt lengths, so a law of two coefficients is fitted per task. Its mean time between tokens
(sequences over tokens per second) over its median, by new prompts per iteration (B/m), on the fitted half: the median
leaves out iterations with a prompt in them while they are few, and is no mean."""
ABOUT_SHIPPED = """
Groups of the same model and GPUs at 16 bits, or at a precision that the table does not name (AIConfigurator's Llama
3.1 8B). Nothing was fitted to these rows here; the shipped slopes were once calibrated on ML.ENERGY's H100 rows.
ML.ENERGY's contexts are counted without their prompts, TTFT is that of the law alone. *Bias*: median error with its
sign; below zero, the profile is too fast."""


def summarise(judged: Sequence[Judged], cells: list[dict[str, Any]], shipped: list[dict[str, Any]],
              forms: list[dict[str, Any]], ratios: list[dict[str, float]]) -> dict[str, Any]:  # fmt: skip
    """Medians and 95 % quantiles of absolute relative errors by table, distance, GPU and group."""
    held = [cell for cell in cells if cell["part"] == HELD]
    return {
        "goals": GOALS,
        "tables": [*spreads(cells, ("table", "part", "time"))],
        "distance": [*spreads([{**cell, "band": band(cell["doublings"])} for cell in held], ("table", "band", "time"))],
        "gpus": [*spreads(held, ("table", "gpu", "time"))],
        "experts": [*spreads(held, ("table", "experts", "time"))],
        "models": [*spreads(held, ("table", "gpu", "model", "engine_name", "precision", "time"))],
        "groups": [*spreads(held, ("table", "group", "time"))],
        "refused": [{"table": one.source.name, "group": one.seen.label, "configurations": len(one.seen),
                     "fitted_on": sum(one.fitted), "reason": one.refused} for one in judged if one.refused],
        "shipped": [*spreads(shipped, ("profile", "table", "group", "time"))],
        "forms": forms, "ratios": ratios,
    }  # fmt: skip


def spreads(cells: Sequence[dict[str, Any]], by: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Median and 95 % quantile of absolute errors for every value of `by`, in the order of the cells."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in cells:
        named = {**cell, "engine_name": cell.get("engine", "").split(" ")[0]}
        found.setdefault(tuple(named[name] for name in by), []).append(cell)
    for key, inside in found.items():
        row = {**dict(zip(by, key, strict=True)), "cells": len(inside)}
        for name, tag in (("error", ""), ("error_law_alone", "_law_alone"), ("error_saturating", "_saturating")):
            if name in inside[0]:
                off = np.abs([cell[name] for cell in inside])
                row[f"median{tag}"], row[f"p95{tag}"] = float(np.median(off)), float(np.quantile(off, 0.95))
        row["bias"] = float(np.median([cell["error"] for cell in inside]))
        yield row


def band(distance: float) -> str:
    """Distance in words, in doublings of lengths and batch."""
    return next(name for low, high, name in BANDS if low <= distance < high)


def in_words(summary: dict[str, Any]) -> str:
    """`report.md`."""
    lines = ["# The iteration law against measured hardware", "", f"`{summary['command']}`. {_flat(INTRODUCTION)}", "",
             _flat(COLUMNS), "", "![Error by distance from the fitted configurations](figure.svg)", ""]  # fmt: skip
    lines += [*_table(summary["tables"], ("table", "part", "time"), goals=True)]
    lines += ["", "## By distance from the nearest fitted configuration", "",
              "Doublings of prompt, output and batch (Euclidean), held out.", ""]  # fmt: skip
    lines += [*_table(summary["distance"], ("table", "band", "time"))]
    lines += ["", "## By GPU, held out", "", *_table(summary["gpus"], ("table", "gpu", "time"))]
    lines += ["", "## Dense models and mixtures of experts, held out", ""]
    lines += [*_table(summary["experts"], ("table", "experts", "time"), goals=True)]
    lines += ["", "## By GPU, model and engine, held out", ""]
    lines += [*_table(summary["models"], ("table", "gpu", "model", "engine_name", "precision", "time"), goals=True)]
    lines += ["", "## How the tables were measured", "", _flat(ABOUT_FORMS), "",
              "| table | form | groups | TPOT | TTFT |", "|---|---|---|---|---|"]  # fmt: skip
    for row in summary["forms"]:
        lines.append(f"| {row['table']} | {row['form']} | {row['groups']} | {row['tpot']:.1%} | {row['ttft']:.1%} |")
    lines += ["", _flat(ABOUT_ML_ENERGY), "", "| prompts per iteration | rows | mean over median |", "|---|---|---|"]
    for row in summary["ratios"]:
        lines.append(f"| {row['from']:g} to {row['to']:g} | {row['rows']} | {row['median']:.2f} |")
    lines += ["", "## The profiles that come with the project", "", _flat(ABOUT_SHIPPED), "",
              "| profile | table | group | time | rows | median | 95 % | bias |", f"|{'---|' * 8}"]  # fmt: skip
    for row in summary["shipped"]:
        names = " | ".join(str(row[name]) for name in ("profile", "table", "group", "time", "cells"))
        lines.append(f"| {names} | {row['median']:.1%} | {row['p95']:.1%} | {row['bias']:+.1%} |")
    return "\n".join([*lines, "", *_refused(summary["refused"])]) + "\n"


def _flat(text: str) -> str:
    return " ".join(text.split())


def _refused(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["## Groups without a law", "", f"{len(rows)} groups have too few configurations:", "",
             "| table | group | configurations | fitted on | reason |", "|---|---|---|---|---|"]  # fmt: skip
    return lines + [f"| {row['table']} | {row['group']} | {row['configurations']} | {row['fitted_on']} | "
                    f"{row['reason']} |" for row in rows]  # fmt: skip


def _table(rows: Sequence[dict[str, Any]], names: tuple[str, ...], goals: bool = False) -> Iterator[str]:
    heads = [name.removesuffix("_name") for name in names]
    yield (f"| {' | '.join(heads)} | rows | median | 95 % | with the saturating term | 95 % | law alone | "
           f"{'goal |' if goals else ''}")  # fmt: skip
    yield "|---" * (len(names) + 6 + goals) + "|"
    for row in rows:
        alone = f"{row['median_law_alone']:.1%}" if row["time"] == "ttft" else ""
        held = row.get("part", HELD) == HELD
        goal = [("met" if row["median"] <= GOALS[row["time"]] else "missed") if held else ""] if goals else []
        yield "| " + " | ".join([
            *(str(row[name]) for name in names), str(row["cells"]), f"{row['median']:.1%}", f"{row['p95']:.1%}",
            f"{row['median_saturating']:.1%}", f"{row['p95_saturating']:.1%}", alone, *goal]) + " |"  # fmt: skip
