"""The league: every scaler tuned within one budget, on every scenario and recorded load of a study.

Cost at equal attainment on test loads, what was possible beside it, the settings that training loads chose, products at
their default settings, and products that decide more often than every 15 s at their own pace. Resumable.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments import collect, league_table, sources
from experiments.bounds import bounds, with_regret
from experiments.cases import ScalerCase
from experiments.cells import Cell
from experiments.compare import TUNING_SEED, identity, open_grid, run_cells, simulate, tuned_grid
from experiments.grid import FrozenKnobs, Grid, Source, flat
from experiments.pool import kept_workers
from experiments.probes import ROUNDS, with_probes
from experiments.results import (
    RESULTS,
    Finished,
    ResultFolder,
    clear_disk_errors,
    plain,
    provenance,
    write_csv,
    write_json,
    write_text,
)
from experiments.study import read_study
from rlscale.registry import scan

STUDY = Path(__file__).parent / "studies" / "league.yaml"
BUDGET = 92_160  # control intervals per scaler and load: 16 days at 15 s
PACE_TARGET = 0.99  # attainment whose settings are run at the product's own pace
WIDEST = 1.15  # ratio of the costs of two neighbours of a front between which a cost is still read
TARGETS = (0.99, 0.999)

PACED = ("usd_per_h", "attainment", "churn_per_h")

Paces = dict[tuple[str, str], list[Cell]]  # (load, scaler) -> cells at the product's own pace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `league`."""
    parser.add_argument("study", nargs="?", type=Path, default=STUDY, help="study file (default: all of everything)")
    parser.add_argument("--budget", type=int, default=BUDGET, metavar="INTERVALS",
                        help=f"intervals to be tuned with, per scaler and load (default {BUDGET})")  # fmt: skip
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the results")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted league in --out")


def run(args: argparse.Namespace) -> int:
    """Tune, test, compare; prints the standings."""
    with kept_workers():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    started = datetime.now(UTC)
    study = read_study(args.study)
    folder = ResultFolder(args.out)
    grid = open_grid(study)
    folder.open(identity(study, grid) | {"league": args.budget}, args.resume)
    grid = tuned_grid(grid, folder, args.workers, args.budget)
    stored, frozen, failures = simulate(grid, folder, args.workers)
    for _ in range(ROUNDS):
        grid = with_probes(grid, stored, folder.path)
        failures += run_cells(grid.first_phase(), folder, args.workers, "probes")
    paces = at_own_pace(grid, frozen)
    failures += run_cells([cell for cells in paces.values() for cell in cells], folder, args.workers, "own pace")
    claims = collect.claims(grid, stored, frozen, study.resamples, WIDEST)
    with_regret(claims, bounds(grid, folder, args.workers))
    rows = [_row(entry, grid, stored, frozen, paces) for entry in claims["headline"] if entry["target"] in TARGETS]
    defaults = _defaults(grid, stored)
    about = {
        "league": study.name,
        "provenance": {**provenance(started, study.seeds.model_dump()), "code": grid.code, "workers": args.workers,
                       "busy_h": folder.busy_h()},
        "budget": args.budget, "tuning_seed": TUNING_SEED, "loads": claims["loads"],
        "standings": {str(target): league_table.standings(rows, target) for target in TARGETS},
        "verdicts": [verdict for verdict in claims["verdicts"] if verdict["target"] in TARGETS],
        "failures": [f"{failure.cell.load.name}: {failure.error}" for failure in failures],
    }  # fmt: skip
    about = plain(about | {"rows": rows, "defaults": defaults})  # as it will be read again
    write(folder, about, {scaler.label: scaler.tuned for scaler in grid.scalers})
    print(league_table.report(about))
    return 0


def at_own_pace(grid: Grid, frozen: FrozenKnobs) -> Paces:
    """The settings chosen for `PACE_TARGET`, deciding as often as the product does."""
    kinds = scan("agents", "SCALERS")
    found: Paces = {}
    for source, scaler, target in grid.frozen_rows():
        pace_s = kinds[scaler.name].native_s if scaler.name in kinds else 0.0
        slower = sources.base(source.case.scenario).cluster.interval_s <= pace_s  # and keeps its own beat anyway
        if target != PACE_TARGET or pace_s <= 0.0 or slower:
            continue
        cells = [cell for cell in _frozen_cells(grid, source, scaler, frozen, target) if cell.seed == 0]
        found[source.case.name, scaler.label] = [replace(cell, interval_s=pace_s) for cell in cells]
    return found


def write(folder: ResultFolder, about: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """All files of a finished league; results.json comes last and marks it as finished."""
    with clear_disk_errors(folder.path):
        write_csv(folder.path / "league.csv", about["rows"], list(about["rows"][0]))
        write_csv(folder.path / "defaults.csv", about["defaults"], league_table.DEFAULT_COLUMNS)
        write_json(folder.path / "settings.json", settings)
        draw(folder.path, about)
        write_json(folder.path / RESULTS, about)


def draw(folder: Path, about: Mapping[str, Any]) -> None:
    """The tables for people."""
    write_text(folder / "report.md", league_table.report(about))
    write_text(folder / "report.html", league_table.page(about))


def _row(entry: Mapping[str, Any], grid: Grid, stored: Finished, frozen: FrozenKnobs, paces: Paces) -> dict[str, Any]:
    """One scaler on one load at one target, in plain values."""
    source = next(source for source in grid.sources if source.case.name == entry["load"])
    scaler = next(scaler for scaler in grid.scalers if scaler.label == entry["scaler"])
    chosen = collect.pooled(stored, _frozen_cells(grid, source, scaler, frozen, entry["target"]))
    pace = paces.get((entry["load"], entry["scaler"]), []) if entry["target"] == PACE_TARGET else []
    own, same = collect.pooled(stored, pace), collect.pooled(stored, [replace(cell, interval_s=None) for cell in pace])
    interval = entry["interval"] or {}
    versus = entry["versus_best"] or {}
    reached = entry["status"] == "reached"
    return {
        "load": entry["load"], "target": entry["target"], "scaler": entry["scaler"], "status": entry["status"],
        "usd_per_h": entry["usd_per_h"] if entry["status"] in ("reached", "above") else None,
        "low": interval.get("low"), "high": interval.get("high"),
        "above_best": versus.get("difference", 0.0) if reached else None,
        "above_best_low": (versus.get("interval") or {}).get("low"),
        "above_best_high": (versus.get("interval") or {}).get("high"),
        "bound_usd_per_h": entry["bound_usd_per_h"], "regret": entry["regret"],
        "highest_attainment": entry["highest"]["attainment"],
        "chosen_usd_per_h": chosen.get("usd_per_h"), "chosen_attainment": chosen.get("attainment"),
        "churn_per_h": chosen.get("churn_per_h"), "decision_us": chosen.get("decision_us"),
        "own_pace_s": pace[0].interval_s if pace else None,
        **{f"{when}_{name}": run.get(name) for when, run in (("own_pace", own), ("at_15_s", same)) for name in PACED},
    }  # fmt: skip


def _frozen_cells(grid: Grid, source: Source, scaler: ScalerCase, frozen: FrozenKnobs, target: float) -> list[Cell]:
    return flat(grid.frozen(source, scaler, frozen[source.case.name, scaler.label, target]))


def _defaults(grid: Grid, stored: Finished) -> list[dict[str, Any]]:
    """Products at their default settings, one row per load."""
    rows = []
    for source in grid.sources:
        for scaler in grid.scalers:
            if scaler.upstream is not None:
                total = collect.pooled(stored, grid.upstream(source, scaler))
                rows.append({"load": source.case.name, "scaler": scaler.label, **total})
    return rows
