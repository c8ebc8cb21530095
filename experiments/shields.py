"""What shields cost while nothing is wrong, and what they save when something is: the same days with and without them.

Rules have the cheapest setting that reaches the target attainment on training loads. Something is wrong for twenty
minutes out of every two hours. Without shields a scaler that raises holds its target.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from experiments.mishaps import NAMES, Bare, with_mishap
from experiments.results import write_csv, write_json, write_text
from experiments.stats import student
from rlscale.deploy.guard import Guarded
from rlscale.deploy.shield_config import Breaker, ShieldsConfig
from rlscale.errors import ResultError
from rlscale.loop import run as run_loop
from rlscale.scalers import POLICY, build_scaler, scaler_kind
from rlscale.scenario import Scenario
from rlscale.types import Floats, Scaler, ScalingLimits

RULES, FALLBACK = "headroom,hpa", "headroom-held"
SEEDS, TRAINING_LOADS = 10, 3
# Simulated decisions take no time, so that no thread has to watch over them.
SHIELDS = ShieldsConfig(breaker=Breaker(deadline_s=None))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments shields`."""
    parser.add_argument("--out", type=Path, required=True, help="new folder for the table")
    parser.add_argument("--scenario", default="chat", help="name or file")
    parser.add_argument("--scalers", default=RULES, help=f"names or policy:FOLDER (default {RULES})")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="test loads")
    parser.add_argument("--hours", type=float, help="of every load (default: the scenario's)")
    parser.add_argument("--workers", type=int, default=2)


def run(args: argparse.Namespace) -> int:
    """Every scaler with every mishap, bare and behind shields; one table."""
    if args.out.exists():
        raise ResultError(f"{args.out} exists; give another --out, nothing is overwritten")
    names = args.scalers.split(",")
    base = _base(args.scenario, args.hours)
    for name in names:
        build_scaler(name, base.limits, base.name)
    with ProcessPoolExecutor(max(1, args.workers), mp_context=get_context("spawn")) as pool:
        settings = pool.map(partial(calibrated, scenario=args.scenario, hours=args.hours), names)
        knobs = dict(zip(names, settings, strict=True))
        jobs = [(mishap, name, knobs[name], seed) for mishap in NAMES for name in names for seed in range(args.seeds)]
        pairs = list(pool.map(partial(measured, scenario=args.scenario, hours=args.hours), jobs, chunksize=args.seeds))
    rows = [
        _row(mishap, name, [pair for job, pair in zip(jobs, pairs, strict=True) if job[:2] == (mishap, name)])
        for mishap in NAMES
        for name in names
    ]
    hours = "" if args.hours is None else f" --hours {args.hours:g}"
    command = (f"python -m experiments shields --scenario {args.scenario} --scalers {args.scalers} "
               f"--seeds {args.seeds}{hours} --out {args.out}")  # fmt: skip
    args.out.mkdir(parents=True)
    write_csv(args.out / "table.csv", rows, list(rows[0]))
    write_json(args.out / "summary.json", {"command": command, "settings": knobs, "rows": rows})
    text = report(rows, knobs, args.seeds, args.scenario, command)
    write_text(args.out / "report.md", text)
    print(text)
    return 0


def calibrated(name: str, scenario: str, hours: float | None) -> dict[str, Any]:
    """The cheapest value of a rule's knob that reaches the target attainment on training loads; nothing of a policy."""
    knob = None if name.startswith(POLICY) else scaler_kind(name).knob
    if knob is None:
        return {}
    base = _base(scenario, hours)
    found = []
    for value in knob.values:
        given: dict[str, Any] = {knob.name: value}
        totals = [run_loop(base, build_scaler(name, base.limits, **given), base.sample_load("train", seed), seed).totals
                  for seed in range(TRAINING_LOADS)]  # fmt: skip
        if np.mean([total["attainment"] for total in totals]) >= base.cluster.slo.attainment:
            found.append((float(np.mean([total["usd_per_hour"] for total in totals])), float(value)))
    if not found:
        raise ResultError(f"{name}: no {knob.name} of {knob.values} reaches {base.cluster.slo.attainment:.1%}")
    return {knob.name: min(found)[1]}


def measured(job: tuple[str, str, dict[str, Any], int], scenario: str, hours: float | None) -> tuple[Floats, Floats]:
    """USD per hour and attainment on one load, (2,) each: bare, and behind shields."""
    mishap, name, knob, seed = job
    base = _base(scenario, hours)
    load = base.sample_load("test", seed)
    found = []
    for guard in (Bare, partial(guarded, known=base.limits)):
        scaler = build_scaler(name, base.limits, **knob)
        totals = run_loop(base, with_mishap(mishap, scaler, base.limits, guard, seed), load, seed).totals
        found.append(np.array([totals["usd_per_hour"], totals["attainment"]]))
    return found[0], found[1]


def guarded(scaler: Scaler, known: ScalingLimits) -> Guarded:
    """As `serve` puts shields around it by default."""
    return Guarded(scaler, build_scaler(FALLBACK, known), SHIELDS, known)


def report(
    rows: Sequence[dict[str, Any]], knobs: dict[str, dict[str, Any]], seeds: int, scenario: str, command: str
) -> str:
    """One line per mishap and scaler."""
    settings = "; ".join(f"{_short(name)} {', '.join(f'{knob} {value:g}' for knob, value in knob_of.items())}".strip()
                         for name, knob_of in knobs.items())  # fmt: skip
    lines = ["# What shields cost and what they save", "",
             f"`{command}`; {seeds} test loads of `{scenario}` per line, the same loads, luck and mishaps with and "
             f"without shields; differences with a 95 % Student interval. Settings: {settings}. Fallback: {FALLBACK}.",
             "", "| wrong for 20 minutes of every 2 hours | scaler | bare: USD/h | within SLO, % | shields: cost, % | "
             "within SLO, points |", "|---|---|---:|---:|---:|---:|"]  # fmt: skip
    for row in rows:
        lines.append(
            f"| {row['mishap']} | {_short(row['scaler'])} | {row['usd_per_hour_bare']:.2f} | "
            f"{100.0 * row['attainment_bare']:.2f} | "
            f"{row['cost_change_percent']:+.2f} ± {row['cost_half_width']:.2f} | "
            f"{row['attainment_change_points']:+.2f} ± {row['attainment_half_width']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _row(mishap: str, name: str, pairs: Sequence[tuple[Floats, Floats]]) -> dict[str, Any]:
    bare, behind = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    cost, cost_half = student(100.0 * (behind[:, 0] / bare[:, 0] - 1.0))
    met, met_half = student(100.0 * (behind[:, 1] - bare[:, 1]))
    return {
        "mishap": mishap, "scaler": name,
        "usd_per_hour_bare": float(bare[:, 0].mean()), "attainment_bare": float(bare[:, 1].mean()),
        "cost_change_percent": cost, "cost_half_width": cost_half,
        "attainment_change_points": met, "attainment_half_width": met_half,
    }  # fmt: skip


def _short(name: str) -> str:
    """A policy by the folder of its training."""
    return name if not name.startswith(POLICY) else "/".join(Path(name.removeprefix(POLICY)).parts[-2:])


@lru_cache(maxsize=2)
def _base(name: str, hours: float | None) -> Scenario:
    from envs import get_scenario

    scenario = replace(get_scenario(name), scale=None)
    return scenario if hours is None else replace(scenario, horizon_s=3600.0 * hours)
