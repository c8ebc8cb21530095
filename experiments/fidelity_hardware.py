"""The iteration law against measured hardware: fitted on one half of the configurations, judged on the other.

Reads three published tables of TTFT and TPOT, none of which is part of this repository. The split (`calibrate_split`)
reads names only; forms of the benchmarks are compared on the fitted half alone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.calibrate import too_few
from experiments.calibrate_fit import TPOT, TTFT, Fit, Rows, fit
from experiments.calibrate_forms import Form, Measurements, merged, rows_of, take
from experiments.calibrate_read import ML_ENERGY_MEDIAN, Source, groups, read_measurements
from experiments.calibrate_split import doublings, fitted_on
from experiments.fidelity_hardware_figure import draw
from experiments.fidelity_hardware_report import in_words, summarise
from experiments.results import write_csv, write_json, write_text
from rlscale.errors import ResultError
from rlscale.sim.profiles import service_profile
from rlscale.workloads.table import content, read_csv

FILES = ("aic_silicon_ttft_tpot.csv", "splitwise_perf_median.csv", "mlenergy_llm_latency_power.csv")
FORMS: tuple[Form, ...] = ("static", "prompts-apart", "no-bursts", "closed-loop")
LEAVE_OUT = 5  # fitted configurations from which on one can be left out to compare forms
MIXTURE = re.compile(r"-A\d+B|A3B|gpt-oss|DeepSeek|Kimi|MiniMax|GLM|Maverick|Scout|Omni")  # of experts
NAMES = {TPOT: "tpot", TTFT: "ttft"}
OF_SHIPPED = ("profile", "table", "group", "time", "prompt_tokens", "output_tokens", "batch", "error")
# Shipped profiles and the groups of the tables that are the same model and GPUs at 16 bits; Llama 2 70B has the layers
# of Llama 3.1 70B. (profile, GPU in the label, model in the label, GPUs)
SHIPPED = (
    ("h100-8b", ("H100", "h100-80gb,"), ("Llama-3.1-8B-Instruct",), 1),
    ("h100-70b-tp4", ("H100", "h100-80gb,"), ("Llama-3.1-70B", "llama2-70b"), 4),
    ("h100-70b-tp8", ("H100", "h100-80gb,"), ("Llama-3.1-70B", "llama2-70b"), 8),
    ("a100-8b", ("A100", "a100-80gb,"), ("Llama-3.1-8B-Instruct",), 1),
    ("a100-70b-tp4", ("A100", "a100-80gb,"), ("Llama-3.1-70B", "llama2-70b"), 4),
    ("a100-70b-tp8", ("A100", "a100-80gb,"), ("Llama-3.1-70B", "llama2-70b"), 8),
    ("l40s-8b", ("L40S",), ("Llama-3.1-8B-Instruct",), 1),
)


@dataclass(frozen=True, slots=True)
class Judged:
    """One group of one table: its rows, which of them were fitted on, and what came of it."""

    source: Source
    seen: Measurements  # one row per configuration
    fitted: list[bool]
    law: Fit | None  # None: too few rows
    saturating: Fit | None
    refused: str


def run(folder: Path, out: Path) -> None:
    """Fit, judge, compare the shipped profiles; the tables are in `folder`, the results go to `out`."""
    judged = [one for name in FILES for one in of_file(_there(folder / name))]
    cells = [cell for one in judged for cell in cells_of(one)]
    shipped = [row for one in judged for row in of_shipped(one)]
    forms = [row for source in {one.source.name: one for one in judged} for row in
             compare_forms([one for one in judged if one.source.name == source])]  # fmt: skip
    summary = summarise(judged, cells, shipped, forms, ratios(folder / FILES[2]))
    summary = {"command": "python -m experiments fidelity hardware", **summary}
    out.mkdir(parents=True)
    write_csv(out / "cells.csv", cells, list(cells[0]))
    write_csv(out / "shipped.csv", shipped, OF_SHIPPED)
    write_text(out / "figure.svg", draw(cells))
    write_json(out / "summary.json", summary)
    write_text(out / "report.md", in_words(summary))
    print((out / "report.md").read_text(), end="")


def of_file(path: Path) -> Iterator[Judged]:
    """Every group of a table, fitted on its half; ML.ENERGY with its mean and its median time between tokens."""
    source, found = read_measurements(path)
    yield from (judge(source, seen) for seen in found)
    if source.name == "ML.ENERGY":
        again = groups(read_csv(path, content(path)), ML_ENERGY_MEDIAN)
        yield from (judge(ML_ENERGY_MEDIAN, seen) for seen in again)


def judge(source: Source, seen: Measurements) -> Judged:
    """A group fitted on its half of the configurations."""
    seen = merged(seen)
    fitted = fitted_on(seen.group, seen.configurations)
    half = take(seen, np.flatnonzero(fitted))
    rows, more = rows_of(half, source.form), rows_of(half, source.form, saturating=True)
    refused = too_few(rows) or ("" if not all(fitted) else "no configuration is left to be judged on")
    if refused:
        return Judged(source, seen, fitted, None, None, refused)
    law = fit(rows)
    return Judged(source, seen, fitted, law, law if too_few(more) else fit(more), "")


def cells_of(one: Judged) -> Iterator[dict[str, Any]]:
    """One row per configuration and kind of time; ML.ENERGY, whose licence is not stated, without any time."""
    if one.law is None or one.saturating is None:
        return
    seen, form = one.seen, one.source.form
    rows, more = rows_of(seen, form), rows_of(seen, form, saturating=True)
    predicted = one.law.predict_s(rows)
    errors = [values / rows.measured_s - 1.0 for values in (predicted, one.law.predict_s(rows, alone=True))]
    extended = one.saturating.predict_s(more if len(one.saturating.names) > len(one.law.names) else rows)
    known = [c for c, inside in zip(seen.configurations, one.fitted, strict=True) if inside]
    gpu, engine, model, precision = parts(one)
    experts = "mixture" if MIXTURE.search(model) else "dense"
    for i, (row, kind) in enumerate(_places(seen)):
        prompt, output, batch = seen.configurations[row]
        yield {
            "table": one.source.name, "group": seen.label, "gpu": gpu, "engine": engine, "model": model,
            "precision": precision, "experts": experts, "gpus": seen.gpus, "prompt_tokens": _known(prompt),
            "output_tokens": _known(output), "batch": batch, "time": NAMES[kind],
            "part": "fitted on" if one.fitted[row] else "held out",
            "doublings": round(doublings(seen.configurations[row], known), 4),
            "predicted_s": None if one.source.name.startswith("ML.ENERGY") else float(f"{predicted[i]:.5g}"),
            "error": round(errors[0][i], 5), "error_law_alone": round(errors[1][i], 5),
            "error_saturating": round(extended[i] / more.measured_s[i] - 1.0, 5),
        }  # fmt: skip


def parts(one: Judged) -> tuple[str, str, str, str]:
    """GPU, engine, model and precision of a group, as its table names them; empty: the table does not say."""
    words = [word.strip() for word in one.seen.label.split(",")]
    if one.source.name == "AIConfigurator":
        precision = words[3] if len(words) > 3 and not words[3].startswith(("TP", "DP", "MoE", "EP")) else ""
        return words[0], words[1], words[2], precision
    if one.source.name == "Splitwise":
        return words[0], "2023 stack", words[1], ""
    return words[0].split(" x ")[-1], "vLLM", words[1], words[2]


def of_shipped(one: Judged) -> Iterator[dict[str, Any]]:
    """Errors of the project's own profiles where a group is the same model on the same GPUs at 16 bits."""
    label, seen = one.seen.label, one.seen
    for name, gpus, models, count in SHIPPED:
        same = any(gpu in label for gpu in gpus) and any(model in label for model in models) and seen.gpus == count
        if not same or any(word in label for word in ("fp8", "fp4", "FP8", "FP4", "int4")):
            continue
        known = replace(seen, prompt=np.nan_to_num(seen.prompt, nan=0.0))
        rows, law = rows_of(known, one.source.form), service_profile(name).law
        values = np.array([law.c0_s, law.c1_s, law.c2_s, law.c3_s, law.c4_s])
        error = rows.base @ values / rows.measured_s - 1.0
        for (row, kind), off in zip(_places(seen), error, strict=True):
            prompt, output, batch = seen.configurations[row]
            yield {"profile": name, "table": one.source.name, "group": label, "time": NAMES[kind],
                   "prompt_tokens": _known(prompt), "output_tokens": _known(output), "batch": batch,
                   "error": round(float(off), 5)}  # fmt: skip


def _known(tokens: float) -> float | None:
    """A length, or None where `configurations` says 1: the table does not tell."""
    return tokens if tokens > 1.0 else None


def compare_forms(judged: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    """Median error per form on the fitted halves, every configuration left out in turn; needs prompt lengths."""
    halves = [take(one.seen, np.flatnonzero(one.fitted)) for one in judged]
    halves = [half for half in halves if len(half) >= LEAVE_OUT and np.isfinite(half.prompt).all()]
    for form in FORMS if halves else ():
        found: dict[int, list[float]] = {TPOT: [], TTFT: []}
        for half in halves:
            rows = rows_of(half, form)
            for cell in range(int(rows.cell.max()) + 1):
                _left_out(rows, cell, found)
        yield {"table": judged[0].source.name, "form": form, "groups": len(halves),
               **{NAMES[kind]: float(np.median(values)) for kind, values in found.items()}}  # fmt: skip


def ratios(path: Path) -> list[dict[str, float]]:
    """Mean over median time between tokens on the fitted half of ML.ENERGY, by prompts per iteration (B/m)."""
    _, found = read_measurements(path)
    median = groups(read_csv(path, content(path)), ML_ENERGY_MEDIAN)
    prompts: list[float] = []
    ratio: list[float] = []
    for mean_of, median_of in zip(found, median, strict=True):
        half = np.flatnonzero(fitted_on(mean_of.group, mean_of.configurations))
        prompts += list((mean_of.batch / mean_of.output)[half])
        ratio += list((mean_of.tpot_s / median_of.tpot_s)[half])
    edges = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, np.inf)
    bands = [(low, high, [r for p, r in zip(prompts, ratio, strict=True) if low <= p < high])
             for low, high in itertools.pairwise(edges)]  # fmt: skip
    return [{"from": low, "to": high, "rows": len(inside), "median": float(np.median(inside))}
            for low, high, inside in bands if inside]  # fmt: skip


def _left_out(rows: Rows, cell: int, found: dict[int, list[float]]) -> None:
    rest, one = rows.take(np.flatnonzero(rows.cell != cell)), rows.take(np.flatnonzero(rows.cell == cell))
    if too_few(rest):
        return
    error = np.abs(fit(rest).predict_s(one) / one.measured_s - 1.0)
    for kind, off in zip(one.kind, error, strict=True):
        found[int(kind)].append(float(off))


def _places(seen: Measurements) -> list[tuple[int, int]]:
    """(row, kind) of every row of `rows_of`."""
    return [(int(row), kind) for kind, times in ((TPOT, seen.tpot_s), (TTFT, seen.ttft_s))
            for row in np.flatnonzero(np.isfinite(times))]  # fmt: skip


def _there(path: Path) -> Path:
    if not path.exists():
        raise ResultError(f"{path}: no such file; --profiles names the folder that holds {', '.join(FILES)}")
    return path
