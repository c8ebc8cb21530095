"""Puts finished cells together into results.json and its tables. Decides nothing: the claims come from analysis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import analysis, stats
from experiments.cases import ScalerCase
from experiments.cells import HISTOGRAMS, Cell
from experiments.fronts import Frozen, attainment_of
from experiments.grid import FrozenKnobs, Grid, Source, flat, setting_words
from experiments.pool import Failure
from experiments.results import Finished
from rlscale.sim.histogram import BINS, edges_s, quantile
from rlscale.types import Floats

FORMAT = 1
SUMS = ("requests", "missed", "dropped", "lost", "over_gpu_h", "under_gpu_h", "churn", "started")
PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
CCDF_POINTS = 90
ROLE = ("load", "scaler", "variant", "target", "member", "knob", "split")
ROW_COLUMNS = (
    *ROLE, "seed", "cost_usd", "hours", "attainment", "requests", "missed", "dropped", "lost", "goodput_per_s",
    "usd_per_million_output_tokens", "usd_per_million_tokens", "over_gpu_h", "under_gpu_h", "churn", "started",
    "reward", *(f"{name}_{p}_s" for name in HISTOGRAMS for p in PERCENTILES), "decision_us", "cell",
)  # fmt: skip
BLOCK_COLUMNS = (*ROLE, "seed", "block", "hours", "cost_usd", "requests", "missed")
FRONT_COLUMNS = ("load", "scaler", "split", "member", "knob", "usd_per_h", "attainment", "requests", "on_front")
FAILURE_COLUMNS = ("load", "scaler", "split", "seed", "error")

Role = dict[str, Any]


def roles(grid: Grid, frozen: FrozenKnobs) -> Iterator[tuple[Role, list[Cell]]]:
    """Every row of the comparison: what it stands for, and its cells, one per seed."""
    for source in grid.sources:
        for scaler in grid.scalers:
            for split in ("train", "test"):
                for s, row in enumerate(grid.sweep(source, scaler, split)):
                    for cells in row:
                        yield _role(source, scaler, "sweep", s, cells), cells
            for target in source.targets:
                knobs = frozen[source.case.name, scaler.label, target]
                for s, row in enumerate(grid.frozen(source, scaler, knobs)):
                    if row[0]:
                        yield {**_role(source, scaler, "frozen", s, row[0]), "target": target}, row[0]
            if scaler.upstream is not None:
                cells = grid.upstream(source, scaler)
                yield _role(source, scaler, "defaults", 0, cells), cells


def results(
    grid: Grid, stored: Finished, frozen: FrozenKnobs, failures: Sequence[Failure[Cell]], resamples: int
) -> dict[str, Any]:
    """Everything the report shows, in plain values."""
    rows = [{**role, **pooled(stored, cells)} for role, cells in roles(grid, frozen)]
    return {
        "format": FORMAT,
        **claims(grid, stored, frozen, resamples),
        "scalers": [_scaler_entry(scaler) for scaler in grid.scalers],
        "rows": [row for row in rows if row["cells"]],
        "latency": _latency(grid, stored, frozen),
        "examples": _examples(grid, stored, frozen),
        "failures": [_failure_entry(failure) for failure in failures],
    }


def claims(
    grid: Grid, stored: Finished, frozen: FrozenKnobs, resamples: int, widest: float = math.inf
) -> dict[str, list[Any]]:
    """What is said of every load: who is cheapest at which attainment, and the fronts behind it.

    `widest`: see `fronts.cost_at`.
    """
    found: dict[str, list[Any]] = {name: [] for name in ("loads", "headline", "verdicts", "fronts")}
    for source in grid.sources:
        _one_load(grid, source, stored, frozen, resamples, widest, found)
    return found


def tables(grid: Grid, stored: Finished, frozen: FrozenKnobs) -> tuple[list[Role], list[Role]]:
    """The rows of rows.csv (one per run and role) and of blocks.csv."""
    rows, blocks = [], []
    for role, cells in roles(grid, frozen):
        for cell in cells:
            kept = stored.get(cell.key)
            if kept is None:
                continue
            one = {**role, "seed": cell.seed}
            hours = kept["blocks"]["hours"]
            rows.append({**one, **kept["summary"], "hours": sum(hours), "cell": cell.key})
            for i, _ in enumerate(hours):
                values = {name: kept["blocks"][name][i] for name in ("hours", "cost_usd", "requests", "missed")}
                blocks.append({**one, "block": i, **values})
    return rows, blocks


def _one_load(
    grid: Grid,
    source: Source,
    stored: Finished,
    frozen: FrozenKnobs,
    resamples: int,
    widest: float,
    found: dict[str, list[Any]],
) -> None:
    name = source.case.name
    sweeps: dict[str, analysis.Sweep] = {}
    for scaler in grid.scalers:
        for split in ("train", "test"):
            recorded = source.recorded and split == "test"
            sweep = grid.measured(source, scaler, grid.sweep(source, scaler, split), stored, recorded)
            if sweep is None:
                continue
            points = analysis.front_points(sweep)
            found["fronts"].append({"load": name, "scaler": scaler.label, "split": split, "points": points})
            if split == "test":
                sweeps[scaler.label] = sweep
    volumes = analysis.hypervolumes(sweeps)
    blocks = max((len(sweep.hours) for sweep in sweeps.values()), default=0)
    draws = stats.resample(blocks, 0, resamples)
    for front in found["fronts"]:
        if front["load"] == name and front["split"] == "test":
            front["hypervolume"] = volumes[front["scaler"]]
            _add_intervals(front["points"], sweeps[front["scaler"]], draws)
    found["loads"].append(_load_entry(grid, source, stored, sweeps))
    for target in source.targets:
        knobs = {scaler.label: frozen[name, scaler.label, target] for scaler in grid.scalers}
        measured = {
            scaler.label: grid.measured(
                source, scaler, grid.frozen(source, scaler, knobs[scaler.label]), stored, source.recorded
            )
            for scaler in grid.scalers
        }
        entries = analysis.headline(sweeps, measured, target, draws, widest)
        for entry in entries:
            found["headline"].append({"load": name, **entry, "knob": _knob_entry(knobs[entry["scaler"]])})
        found["verdicts"].append({"load": name, "target": target, "text": analysis.verdict(entries, target)})


def _add_intervals(points: Sequence[dict[str, Any]], sweep: analysis.Sweep, draws: stats.Resampling | None) -> None:
    """95 % interval of every swept point's attainment over resampled load blocks; None with too few of them."""
    levels = None if draws is None else sweep.points(draws.weights)[1]  # (R, S, K)
    complete = np.argwhere(sweep.complete)  # in the order of the points
    for point, (s, k) in zip(points, complete, strict=True):
        point["attainment_interval"] = None
        if levels is not None:
            ends = stats.percentile_interval(levels[:, s, k])
            low, high = (float(attainment_of(end)) for end in (ends.low, ends.high))
            point["attainment_interval"] = {"low": low, "high": high}


def _role(source: Source, scaler: ScalerCase, variant: str, member: int, cells: list[Cell]) -> Role:
    cell = cells[0]
    return {
        "load": source.case.name, "scaler": scaler.label, "variant": variant, "target": None, "member": member,
        "knob": cell.setting.value, "split": cell.split,
    }  # fmt: skip


def pooled(stored: Finished, cells: Sequence[Cell]) -> dict[str, Any]:
    """Totals over the cells of a row; percentiles from merged histograms."""
    there = [kept for cell in cells if (kept := stored.get(cell.key)) is not None]
    if not there:
        return {"cells": 0}
    hours = sum(sum(cell["blocks"]["hours"]) for cell in there)
    total = {name: sum(cell["summary"][name] for cell in there) for name in (*SUMS, "cost_usd")}
    return {
        "cells": len(there),
        "failed": len(cells) - len(there),
        "hours": hours,
        "usd_per_h": total["cost_usd"] / hours,
        "attainment": 1.0 - total["missed"] / max(total["requests"], 1.0),
        "requests": total["requests"],
        "goodput_per_s": (total["requests"] - total["missed"]) / (3600.0 * hours),
        "usd_per_million_output_tokens": _per_million(there, "usd_per_million_output_tokens"),
        "usd_per_million_tokens": _per_million(there, "usd_per_million_tokens"),
        **{f"{name}_per_h": total[name] / hours for name in ("over_gpu_h", "under_gpu_h", "churn", "started")},
        "decision_us": float(np.mean([cell["summary"]["decision_us"] for cell in there])),
        **(_percentiles(_merged(stored, cells)) if cells[0].split == "test" else {}),
    }


def _per_million(cells: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Total cost over total tokens; a run without tokens has no price."""
    priced = [c["summary"] for c in cells if c["summary"].get(name)]
    millions = sum(s["cost_usd"] / s[name] for s in priced)
    return sum(s["cost_usd"] for s in priced) / millions if millions else None


def _percentiles(merged: Mapping[str, Floats]) -> dict[str, float]:
    return {f"{name}_{p}_s": quantile(merged[name], q) for name in HISTOGRAMS for p, q in PERCENTILES.items()}


def _merged(stored: Finished, cells: Sequence[Cell]) -> dict[str, Floats]:
    """Histograms added up over cells."""
    merged = {name: np.zeros(BINS) for name in HISTOGRAMS}
    for cell in cells:
        kept = stored.full(cell.key) or {"histograms": {}}
        for name, (bins, held) in kept["histograms"].items():
            merged[name][np.array(bins, int)] += held
    return merged


def _shown(grid: Grid, source: Source, frozen: FrozenKnobs, stored: Finished) -> Iterator[tuple[Role, list[Cell]]]:
    """The rows that figures show: every scaler at the knob frozen for the scenario's own target, and the defaults.

    A scaler without such a knob is shown at its best attainment on the test loads.
    """
    for scaler in grid.scalers:
        knobs = frozen[source.case.name, scaler.label, source.targets[0]]
        cells = flat(grid.frozen(source, scaler, knobs))
        if cells:
            yield {"load": source.case.name, "scaler": scaler.label, "variant": "frozen"}, cells
        else:
            yield from _best_swept(grid, source, scaler, stored)
        if scaler.upstream is not None:
            cells = grid.upstream(source, scaler)
            yield {"load": source.case.name, "scaler": scaler.label, "variant": "defaults"}, cells


def _best_swept(grid: Grid, source: Source, scaler: ScalerCase, stored: Finished) -> Iterator[tuple[Role, list[Cell]]]:
    sweep = grid.sweep(source, scaler, "test")
    rows = [(total["attainment"], cells) for cells in sweep[0] if (total := pooled(stored, cells))["cells"]]
    if rows:
        cells = max(rows, key=lambda row: row[0])[1]
        yield {"load": source.case.name, "scaler": scaler.label, "variant": "highest"}, cells


def _latency(grid: Grid, stored: Finished, frozen: FrozenKnobs) -> list[dict[str, Any]]:
    entries = []
    for source in grid.sources:
        for role, cells in _shown(grid, source, frozen, stored):
            total = pooled(stored, cells)
            if total["cells"]:
                curves = {name: ccdf(counts) for name, counts in _merged(stored, cells).items()}
                entries.append({**role, "ccdf": curves, **total})
    return entries


def ccdf(counts: Floats) -> list[list[float]]:
    """[[seconds, share slower], ...] thinned; ends where nothing finite is left, at the share that never finished."""
    total = counts.sum()
    if total <= 0:
        return []
    slower = 1.0 - np.cumsum(counts)[:-1] / total
    inside = np.flatnonzero(counts[:-1])
    if len(inside) == 0:
        return []
    first, last = int(inside[0]), int(inside[-1])
    steps = np.unique(np.linspace(first, last, min(CCDF_POINTS, last - first + 1)).astype(int))
    upper = edges_s()[1:]
    return [[float(f"{upper[i]:.4g}"), float(f"{max(slower[i], 0.0):.4g}")] for i in steps]


def _examples(grid: Grid, stored: Finished, frozen: FrozenKnobs) -> list[dict[str, Any]]:
    """One run per scaler and load: the first seed of the first member that has one."""
    entries = []
    for source in grid.sources:
        for role, cells in _shown(grid, source, frozen, stored):
            kept = next((full for c in cells if c.seed == 0 and (full := stored.full(c.key)) is not None), None)
            if kept is not None:
                setting = {"knob": cells[0].setting.knob, "value": cells[0].setting.value}
                entries.append({**role, **setting, "series": kept["example"]})
    return entries


def _load_entry(grid: Grid, source: Source, stored: Finished, sweeps: Mapping[str, analysis.Sweep]) -> dict[str, Any]:
    """What the load was: length, blocks, mean rate and need, and how a trace was scaled."""
    cells = [stored.get(c.key) for scaler in grid.scalers for c in flat(grid.sweep(source, scaler, "test"))]
    kept = next((cell for cell in cells if cell is not None), None)
    sweep = next(iter(sweeps.values()), None)
    hours = float(sweep.hours.sum()) if sweep else 0.0
    requests = max((float(s.requests.sum(-1).max()) for s in sweeps.values()), default=0.0)
    return {
        "name": source.case.name,
        "scenario": source.case.scenario,
        "targets": list(source.targets),
        "recorded": source.recorded,
        "seeds": grid.seeds["test"],
        "hours": hours,
        "requests": requests,
        "blocks": len(sweep.hours) if sweep else 0,
        "block_s": kept["blocks"]["block_s"] if kept else None,
        "about": kept["load"] if kept else None,
        "scaling": source.scaling,
    }


def _scaler_entry(scaler: ScalerCase) -> dict[str, Any]:
    return {
        "label": scaler.label, "kind": "learned" if scaler.learned else "rule", "knob": scaler.knob,
        "values": list(scaler.values), "members": scaler.members, "summary": scaler.summary,
    }  # fmt: skip


def _knob_entry(knobs: Sequence[Frozen]) -> list[dict[str, Any]]:
    return [{"value": knob.knob, "status": knob.status} for knob in knobs]


def _failure_entry(failure: Failure[Cell]) -> dict[str, Any]:
    cell = failure.cell
    return {
        "load": cell.load.name, "scaler": setting_words(cell.setting), "split": cell.split, "seed": cell.seed,
        "error": failure.error, "trace": failure.trace,
    }  # fmt: skip
