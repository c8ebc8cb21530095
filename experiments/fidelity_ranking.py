"""Does the ranking of scalers survive the engine? Kendall's tau, fluid against request engine, scenario by scenario.

Every scaler gets the value of its knob that earns the most in the fluid engine on a training load, as somebody would
choose it who has no other. Then both engines run it on the same test loads with the same luck. It is ranked by the
scenario's own reward: cost and misses in one number, which is also what policies learn from. The score of a block is
the reward of an hour or more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from envs import scenario_names
from experiments import sources, stats
from experiments.cases import LoadCase
from experiments.cells import Setting, Split, build_scaler, code_digest, learnt
from experiments.fidelity_ranking_report import report
from experiments.pool import Failure, kept_workers, run_all
from experiments.ranking import agreement
from experiments.results import RESULTS, ResultFolder, provenance, write_csv, write_json, write_text
from rlscale.errors import ResultError
from rlscale.feedback import charged_usd, reward
from rlscale.loop import RunResult
from rlscale.loop import run as run_loop
from rlscale.registry import get
from rlscale.scenario import Scenario
from rlscale.types import Floats

TRAIN_SEED = 0
BLOCK_S = 3600.0
TARGET = 0.9
TOTALS = ("usd_per_hour", "attainment", "ttft_mean_s", "ttft_p99_s", "tpot_mean_s", "reward")
LEFT_OUT = {"web": "serves several requests at a time without batching, which the request engine does not model"}


@dataclass(frozen=True, slots=True)
class Run:
    """A scaler at one value of its knob on one load in one engine."""

    scenario: str
    scaler: str
    value: float | None
    engine: str
    split: Split
    seed: int
    code: str

    @property
    def key(self) -> str:
        """Hash of everything that defines it."""
        data = asdict(self) | {"hash": sources.base(self.scenario).hash}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:24]


def run(args: argparse.Namespace) -> None:
    """Choose the settings, run them in both engines, compare the rankings."""
    started = datetime.now(UTC)
    names = args.scenarios or [name for name in scenario_names() if name not in LEFT_OUT]
    refused = [name for name in names if name in LEFT_OUT]
    if refused:
        raise ResultError(f"{refused[0]}: {LEFT_OUT[refused[0]]}; leave it out of --scenarios")
    folder = ResultFolder(args.out / "ranking")
    code = code_digest()
    folder.open({"scenarios": names, "scalers": args.scalers, "seeds": args.seeds, "code": code}, args.resume)
    failures: list[Failure[Run]] = []
    rows, ranks = [], []
    refusing: dict[str, list[str]] = {}
    with kept_workers():
        for name in names:
            able = [scaler for scaler in args.scalers if can_scale(scaler, name)]
            refusing |= {name: [scaler for scaler in args.scalers if scaler not in able]}
            tried = [Run(name, scaler, value, "fluid", "train", TRAIN_SEED, code)
                     for scaler in able for value in knob_values(scaler)]  # fmt: skip
            failures += missing(tried, folder, args.workers, f"{name}, settings")
            chosen = best(tried, folder)
            seeds = range(args.seeds)
            runs = {(engine, scaler): [Run(name, scaler, value, engine, "test", seed, code) for seed in seeds]
                    for engine in ("fluid", "request") for scaler, value in chosen.items()}  # fmt: skip
            failures += missing([one for some in runs.values() for one in some], folder, args.workers, name)
            found, rank = judged(name, runs, chosen, folder)
            rows += found
            ranks.append(rank)
            print(f"{name}: tau {rank['tau']:.3f} over {rank['told_apart']} pairs, {len(rank['swapped'])} swapped",
                  flush=True)  # fmt: skip
    about = {"provenance": {**provenance(started, {"test": args.seeds}), "code": code}, "ranks": ranks,
             "left_out": LEFT_OUT if args.scenarios is None else {}, "goal": TARGET,
             "refusing": {name: scalers for name, scalers in refusing.items() if scalers},
             "failures": [f"{one.cell.scenario}, {one.cell.scaler}: {one.error}" for one in failures]}  # fmt: skip
    write_csv(folder.path / "scores.csv", rows, list(rows[0]))
    write_text(folder.path / "report.md", report(about, rows))
    write_json(folder.path / RESULTS, about)
    print(report(about, rows))


def can_scale(scaler: str, name: str) -> bool:
    """Whether it knows prefill and decode pools, where a scenario has them."""
    return not sources.base(name).cluster.has_roles or get("agents", "SCALERS", scaler, "scaler").roles


def knob_values(scaler: str) -> tuple[float | None, ...]:
    """What may be chosen."""
    knob = get("agents", "SCALERS", scaler, "scaler").knob
    return (None,) if knob is None else tuple(knob.values)


def missing(runs: Sequence[Run], folder: ResultFolder, workers: int, title: str) -> list[Failure[Run]]:
    """Make those that are not there yet."""
    todo = [one for one in runs if not folder.has(one.key)]
    return run_all(partial(measure, folder=folder.path), todo, workers, title) if todo else []


def measure(one: Run, folder: Path) -> None:
    """One run and what is kept of it."""
    case = LoadCase(one.scenario, one.scenario)
    scenario, load = sources.sample(case, one.split, one.seed)
    knob = get("agents", "SCALERS", one.scaler, "scaler").knob
    setting = Setting(one.scaler, {}, knob.name if knob else None, one.value)
    scaler = build_scaler(setting, scenario, learnt(one.scaler, case))
    result = run_loop(scenario, scaler, load, one.seed, one.scaler, engine=one.engine)
    totals = {name: result.summary()[name] for name in TOTALS}
    write_json(ResultFolder(folder).cell_path(one.key), {"totals": totals, "blocks": blocks(scenario, result)})


def blocks(scenario: Scenario, result: RunResult) -> Floats:
    """Reward of every load block; what was missed while the queue drained at the end belongs to the last one."""
    s, weights = result.series, scenario.weights
    assert scenario.scale is not None, f"{scenario.name} has no reference cost"
    missed = s["missed"].copy()
    missed[-1] += max(0.0, result.totals["missed"] - missed.sum())
    charged = charged_usd(s["cost_usd"], s["carbon_g"], s["late_tokens"], weights.usd_per_kg_carbon,
                          weights.usd_per_million_late_tokens)  # fmt: skip
    earned = reward(charged, missed, s["churn"], scenario.scale, weights).total
    index = stats.block_of(s["t_s"], len(s["t_s"]) * result.interval_s, BLOCK_S)
    return np.bincount(index, earned).astype(np.float64)


def best(runs: Sequence[Run], folder: ResultFolder) -> dict[str, float | None]:
    """The value of every scaler's knob with the highest reward; scalers that cannot run are left out."""
    found: dict[str, tuple[float, float | None]] = {}
    for one in runs:
        if folder.has(one.key):
            earned = folder.read_cell(one.key)["totals"]["reward"]
            if one.scaler not in found or earned > found[one.scaler][0]:
                found[one.scaler] = (earned, one.value)
    return {scaler: value for scaler, (_, value) in found.items()}


def judged(
    name: str, runs: Mapping[tuple[str, str], Sequence[Run]], chosen: Mapping[str, float | None], folder: ResultFolder
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row per scaler, and how far the engines agree on their order."""
    kept = {key: [folder.read_cell(one.key) for one in some] for key, some in runs.items()
            if all(folder.has(one.key) for one in some)}  # fmt: skip
    there = [scaler for scaler in chosen if ("fluid", scaler) in kept and ("request", scaler) in kept]
    scores = {engine: np.array([np.concatenate([one["blocks"] for one in kept[engine, scaler]]) for scaler in there])
              for engine in ("fluid", "request")}  # fmt: skip
    draws = stats.resample(scores["fluid"].shape[1], 0)
    assert draws is not None, f"{name}: too few load blocks"
    found = agreement(scores["fluid"], scores["request"], draws)
    rows = []
    for i, scaler in enumerate(there):
        row: dict[str, Any] = {"scenario": name, "scaler": scaler, "value": chosen[scaler]}
        for engine in ("fluid", "request"):
            row[f"{engine}_rank"] = int((scores[engine].sum(axis=1) > scores[engine][i].sum()).sum()) + 1
            for total in TOTALS:
                values = [one["totals"][total] for one in kept[engine, scaler]]
                row[f"{engine}_{total}"] = float(np.mean([np.inf if v is None else v for v in values]))
        rows.append(row)
    rank = {"scenario": name, "scalers": len(there), "blocks": scores["fluid"].shape[1],
            **asdict(found), "swapped": [[there[a], there[b]] for a, b in found.swapped]}  # fmt: skip
    return rows, rank
