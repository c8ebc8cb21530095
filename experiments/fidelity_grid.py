"""The fluid engine against the request engine on a grid: load, burstiness, fleet and start-up delay, scaled by an HPA.

A fleet of half the size runs at the load of the cell; after ten minutes the arrivals double, and the autoscaler orders
the other half. It never scales in, or small differences would decide whether a fleet is caught half-way. So every cell
has its steady part, its wait for replicas and its backlog, and decisions follow metrics of the engine itself. Both
engines meet the same arrivals: the request engine every single one, the fluid their counts per second. What is compared
is the mean over the seeds.

The fluid runs twice: with an HPA of its own, which is what is judged, and led by the targets of the request engine's
HPA, which tells its errors of latency from those of a decision taken one reading earlier or one replica short.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import math
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from agents.hpa import SCALERS
from envs import get_scenario
from experiments.fidelity_errors import apart
from experiments.fidelity_grid_report import report
from experiments.fidelity_steady import CVS, LOADS, REPLICAS, saturation_per_s
from experiments.results import write_csv, write_json, write_text
from rlscale.loop import RunResult
from rlscale.loop import run as run_loop
from rlscale.scenario import Scenario
from rlscale.types import Decision, DelayLaw, Floats, Load, Observation, Requests, Scaler
from rlscale.workloads.statistics import window_counts
from rlscale.workloads.tokens import CHAT

STARTUPS_S = (0.0, 120.0, 520.0)
SEEDS = tuple(range(10))
DOUBLES_S, END_S = 600.0, 2400.0
MEASURES = ("ttft_mean", "ttft_p99", "tpot_mean", "attainment", "cost")
GOALS = {"ttft_mean": 0.10, "ttft_p99": 0.20, "attainment": 0.01, "cost": 0.01}
WITHIN = 0.90  # share of the cells that should keep all goals
RUNS = ("fluid", "led", "request")
COMMAND = "python -m experiments fidelity grid"


@dataclass(frozen=True, slots=True)
class Point:
    """One cell of the grid, all seeds."""

    load: float  # share of what the larger fleet can carry, in the second part; of the smaller one in the first
    cv: float
    replicas: int  # of the larger fleet
    startup_s: float


def points() -> list[Point]:
    """All cells; their number says which half they belong to."""
    return [Point(*point) for point in itertools.product(LOADS, CVS, REPLICAS, STARTUPS_S)]


def half_of(number: int) -> str:
    """Neighbours take turns: `fit` may be looked at when the fluid is mended, `judged` is what is claimed."""
    return "judged" if number % 2 else "fit"


def run(out: Path, workers: int) -> None:
    """Both engines on every cell; tables, figure and report."""
    every = points()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(max(1, workers), mp_context=context) as pool:
        rows = []
        for number, (point, found) in enumerate(zip(every, pool.map(measured, every), strict=True)):
            rows.append(row(half_of(number), point, found))
            if number % 27 == 26:
                print(f"{number + 1}/{len(every)} cells", flush=True)
    write(rows, out)


def write(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """All files, the report last."""
    outside = [one for one in rows if one["half"] == "judged" and not one["within"]]
    found = {"command": COMMAND, "goals": GOALS, "goal_within": WITHIN, "seeds": len(SEEDS), "bands": bands(rows),
             "outside": outside}  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "cells.csv", rows, list(rows[0]))
    write_json(out / "summary.json", found)
    write_text(out / "report.md", report(found))
    print(report(found))


def measured(point: Point) -> dict[str, Floats]:
    """(measures,) by run: means over the seeds."""
    scenario = cluster(point.cv, point.replicas, point.startup_s)
    found: dict[str, list[list[float]]] = {name: [] for name in RUNS}
    for seed in SEEDS:
        load = arrivals(point, seed)
        truth = once(scenario, hpa(scenario), load, seed, "request")
        found["request"].append(measures(truth))
        found["fluid"].append(measures(once(scenario, hpa(scenario), load, seed, "fluid")))
        found["led"].append(measures(once(scenario, Led(truth.series["target"]), load, seed, "fluid")))
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def hpa(scenario: Scenario) -> Scaler:
    """An HPA that never scales in."""
    return SCALERS["hpa"].build(scenario.limits, window_down_s=2.0 * END_S)


class Led:
    """Wants what another scaler wanted at the same time."""

    def __init__(self, targets: Floats) -> None:
        self._targets = targets  # (intervals,) in force in each interval

    def reset(self) -> None:
        """Begin with the first decision, which is for the second interval."""
        self._interval = 0

    def decide(self, seen: Observation) -> Decision:
        """The targets of the next interval."""
        self._interval += 1
        return Decision((int(self._targets[self._interval]),))


def once(scenario: Scenario, scaler: Scaler, load: Load, seed: int, engine: str) -> RunResult:
    """One run from the smallest fleet."""
    return run_loop(scenario, scaler, load, seed, initial=(scenario.cluster.pools[0].min_replicas,), engine=engine)


def measures(result: RunResult) -> list[float]:
    """In the order of `MEASURES`."""
    found = result.summary()
    return [found[name] for name in ("ttft_mean_s", "ttft_p99_s", "tpot_mean_s", "attainment", "cost_usd")]


@lru_cache(maxsize=4)
def cluster(cv: float, replicas: int, startup_s: float) -> Scenario:
    """The cluster of `chat` with half to all of the replicas, which come a fixed time after the order."""
    chat = get_scenario("chat")
    half = DelayLaw(startup_s / 2.0, startup_s / 2.0)
    pool = chat.cluster.pools[0]
    node = replace(pool.node, provisioning=half)
    profile = replace(pool.profile, cold_start=half, warm_start=half, cold_stages=(), warm_stages=())
    fleet = replace(pool, node=node, profile=profile, min_replicas=max(1, replicas // 2), max_replicas=replicas)
    # Nodes go with their replicas, so that the bill shows every decision.
    spec = replace(chat.cluster, pools=(fleet,), node_idle_s=0.0)
    return replace(chat, cluster=spec, tokens=(CHAT,), burstiness=cv * cv, horizon_s=END_S, scale=None)


def arrivals(point: Point, seed: int) -> Load:
    """Gamma arrivals that double at `DOUBLES_S`: drawn in mean distances, then put on the clock."""
    high = point.load * point.replicas * saturation_per_s(get_scenario("chat").cluster.pools[0].profile)
    low = 0.5 * high
    total = low * DOUBLES_S + high * (END_S - DOUBLES_S)
    rng = np.random.default_rng([seed, round(1000 * point.load), round(10 * point.cv), point.replicas])
    shape = 1.0 / point.cv**2
    at = np.cumsum(rng.gamma(shape, 1.0 / shape, int(total + 8.0 * point.cv * math.sqrt(total)) + 10))
    at = at[at < total]
    arrival_s = np.interp(at, [0.0, low * DOUBLES_S, total], [0.0, DOUBLES_S, END_S])
    n = len(arrival_s)
    lengths = (np.rint(CHAT.prompt_at(rng.random(n))), np.rint(CHAT.output_at(rng.random(n))))
    counts = window_counts(arrival_s, 1.0, END_S).astype(np.float32)
    return Load("doubles", 1.0, counts, "counts", (CHAT,), burstiness=point.cv**2,
                requests=Requests(arrival_s, *lengths))  # fmt: skip


def row(half: str, point: Point, found: dict[str, Floats]) -> dict[str, Any]:
    """Values of all runs, errors of the fluid, and whether they keep the goals, with its own HPA and led."""
    values = {f"{run}_{name}": float(found[run][i]) for run in RUNS for i, name in enumerate(MEASURES)}
    errors = {name: apart(name, values[f"fluid_{name}"], values[f"request_{name}"]) for name in MEASURES}
    led = {name: apart(name, values[f"led_{name}"], values[f"request_{name}"]) for name in MEASURES}
    return {
        "half": half, "load": point.load, "cv": point.cv, "replicas": point.replicas, "startup_s": point.startup_s,
        **values, **{f"error_{name}": value for name, value in errors.items()}, "within": _keeps(errors),
        **{f"led_error_{name}": value for name, value in led.items()}, "led_within": _keeps(led),
    }  # fmt: skip


def _keeps(errors: Mapping[str, float]) -> bool:
    return all(abs(errors[name]) <= goal for name, goal in GOALS.items())


def bands(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median, p90 and largest error and the share of cells that keep each goal, by half and by every axis."""
    kinds: list[tuple[str, Any, Sequence[Any]]] = [
        ("all", "all", (None,)), ("load", "load", LOADS), ("cv", "cv", CVS), ("replicas", "replicas", REPLICAS),
        ("startup_s", "startup_s", STARTUPS_S),
    ]  # fmt: skip
    found = []
    for half, (kind, name, values) in itertools.product(("judged", "fit"), kinds):
        for value in values:
            chosen = [one for one in rows if one["half"] == half and (kind == "all" or one[name] == value)]
            entry: dict[str, Any] = {"half": half, "kind": kind, "value": value, "cells": len(chosen)}
            for measure in MEASURES:
                size = np.abs([one[f"error_{measure}"] for one in chosen])
                entry[measure] = {
                    "median": float(np.median(size)), "p90": float(np.quantile(size, 0.9)),
                    "largest": float(size.max()),
                    "within": float((size <= GOALS[measure]).mean()) if measure in GOALS else None,
                }  # fmt: skip
            for key in ("within", "led_within"):
                entry[key] = float(np.mean([one[key] for one in chosen]))
            found.append(entry)
    return found
