"""The clairvoyant bound of every scenario, and how near to it its own plan comes in the simulator.

Plans are made with rising prices of a missed request and executed; the executed cost at the scenario's target
attainment is read off their front. Seconds and memory are those of a day at 15 s with 128 nodes.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from envs import get_scenario, scenario_names
from experiments import fronts
from experiments.results import write_csv, write_json, write_text
from rlscale.clairvoyant import Foreseen, Future, future
from rlscale.errors import ResultError
from rlscale.loop import run as run_loop
from rlscale.scenario import Scenario

LADDER = 14  # plans per scenario
GOAL = 0.02
BIG = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments foresight`."""
    parser.add_argument("scenarios", nargs="*", help="names (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of load and luck")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the table")


def run(args: argparse.Namespace) -> int:
    """Bound and executed plans, one row per scenario."""
    if args.out.exists():
        raise ResultError(f"{args.out} exists; give another --out, nothing is overwritten")
    names = args.scenarios or [name for name in scenario_names() if not get_scenario(name).cluster.has_roles]
    rows = []
    for name in names:
        rows.append(judge(get_scenario(name), args.seed))
        print(_line(rows[-1]), flush=True)
    big = large(args.seed)
    args.out.mkdir(parents=True)
    command = f"python -m experiments foresight --seed {args.seed} --out {args.out}"
    write_csv(args.out / "foresight.csv", rows, list(rows[0]))
    write_json(args.out / "summary.json", {"command": command, "rows": rows, "large": big})
    write_text(args.out / "report.md", report(rows, big, command))
    print(report(rows, big, command))
    return 0


def _line(row: dict[str, Any]) -> str:
    executed = (
        f"executed {row['executed_usd_per_h']:8.2f}, gap {row['gap']:+.2%}" if row["gap"] == row["gap"] else "no plan"
    )
    return f"{row['name']:15} bound {row['bound_usd_per_h']:8.2f} USD/h, {executed}"


def judge(scenario: Scenario, seed: int) -> dict[str, Any]:
    """What was possible at the target, and what plans cost that are executed."""
    load = scenario.sample_load("test", seed)
    began = time.perf_counter()
    known = future(scenario, load, seed)
    target = scenario.cluster.slo.attainment
    least = known.bound(target)
    bound_s = time.perf_counter() - began
    hours = len(known.arrived) * scenario.cluster.interval_s / 3600.0
    executed = float("nan")
    if len(scenario.cluster.pools) == 1:
        cost, level = _executed(known, scenario, load, seed)
        at = fronts.cost_at(cost, level, fronts.level_of(target))
        executed = float(at.cost) if fronts.STATUS[int(at.status)] == "reached" else executed
    return {
        "name": scenario.name, "target": target, "bound_usd_per_h": least.cost_usd / hours,
        "expected_attainment": least.expected, "executed_usd_per_h": executed / hours,
        "gap": executed / least.cost_usd - 1.0, "bound_s": bound_s,
    }  # fmt: skip


def _executed(known: Future, scenario: Scenario, load: Any, seed: int) -> tuple[Any, Any]:
    """Cost and attainment level of a ladder of plans around the one that just meets the target."""
    found = []
    for usd in np.geomspace(1e-4, 3.0, LADDER) * known.price_usd:
        totals = run_loop(scenario, Foreseen(known, known.plan(float(usd))), load, seed).totals
        found.append((totals["cost_usd"], float(fronts.level(totals["missed"], totals["requests"]))))
    return np.array([cost for cost, _ in found]), np.array([level for _, level in found])


def large(seed: int) -> dict[str, float]:
    """Seconds of one bound, and memory in all, for a day at 15 s with up to 128 nodes."""
    chat = get_scenario("chat")
    pool = replace(chat.cluster.pools[0], max_replicas=BIG)
    big = replace(chat, cluster=replace(chat.cluster, pools=(pool,)), scale=None)
    load = chat.sample_load("test", seed)
    load = replace(load, values=(6.0 * load.values).astype(np.float32), history_per_s=6.0 * load.history_per_s)
    began = time.perf_counter()
    known = future(big, load, seed)
    known.bound(0.99)
    return {
        "nodes": float(known.loss.shape[1] - 1), "intervals": float(len(known.arrived)),
        "bound_s": time.perf_counter() - began,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
    }  # fmt: skip


def report(rows: list[dict[str, Any]], big: dict[str, float], command: str) -> str:
    """Markdown table, nearest first; scenarios without an executed plan last."""
    lines = ["# What was possible, and what its own plan reaches", "",
             f"`{command}`; cost at the target attainment of each scenario, one test load. The bound is that of the "
             "problem cut into control intervals, with start-ups at their medians; plans are executed with the luck "
             "that their orders meet. Scenarios of several pools have a bound only; where no plan is executed at the "
             "target, none of the ladder reached it.", "",
             "| scenario | target | bound, USD/h | executed, USD/h | gap | bound, s |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for row in sorted(rows, key=lambda row: abs(row["gap"]) if row["gap"] == row["gap"] else 9.0):
        there = row["gap"] == row["gap"]
        executed = f"{row['executed_usd_per_h']:.2f} | {row['gap']:+.2%}" if there else "none | "
        lines.append(f"| {row['name']} | {row['target']:.0%} | {row['bound_usd_per_h']:.2f} | {executed} | "
                     f"{row['bound_s']:.2f} |")  # fmt: skip
    near = sum(abs(row["gap"]) <= GOAL for row in rows)
    planned = sum(row["gap"] == row["gap"] for row in rows)
    lines += ["", f"{near} of {planned} executed plans within {GOAL:.0%} of their bound. A day at 15 s with "
              f"{big['nodes']:.0f} nodes: {big['bound_s']:.1f} s with the losses of constant fleets, "
              f"{big['peak_memory_mb']:.0f} MB in all."]  # fmt: skip
    return "\n".join(lines) + "\n"
