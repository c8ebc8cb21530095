"""Constant fleets: the distance of the fluid engine to the oracle on a grid of loads, burstiness, fleets and profiles.

`oracle` simulates every request of the grid (minutes; resumable, one file per cell); `judge` runs the fluid engine on
the same arrivals. The cells take turns: on half of them the numbers of rlscale/sim/kappa.py are fitted.
"""

from __future__ import annotations

import concurrent.futures
import csv
import itertools
import json
import math
import multiprocessing
import os
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.fidelity_errors import apart
from experiments.fidelity_report import in_words
from rlscale.errors import ResultError
from rlscale.sim.histogram import quantile
from rlscale.sim.kappa import FITTED, Kappa
from rlscale.sim.laws import demand, iteration_s
from rlscale.sim.naive import Lifetime, Oracle, Server
from rlscale.sim.profiles import node_type, service_profile
from rlscale.sim.world import SimWorld
from rlscale.types import ClusterSpec, Floats, Load, Pool, Requests, ServiceProfile, Slo
from rlscale.workloads.tokens import CHAT

LOADS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.1)
CVS = (1.0, 2.0, 3.5)
REPLICAS = (1, 4, 16)
PROFILES = ("h100-8b", "a100-8b")
SEEDS = (0, 1, 2, 3, 4)
REQUESTS = 20_000
TIMEOUT_S = 30.0
TTFT_SLO_S, TPOT_OVER_MEAN = 1.0, 1.25
SUBSTEPS_S = (0.5, 1.0, 5.0)
MEASURES = ("ttft_mean", "ttft_p99", "tpot_mean", "tpot_p99", "attainment")
GOALS = {"ttft_mean": 0.15, "ttft_p99": 0.25, "tpot_mean": 0.05, "attainment": 0.02}


@dataclass(frozen=True)
class Cell:
    """One point of the grid and one seed."""

    profile: str
    load: float  # share of l_sat
    cv: float  # of the gamma inter-arrivals of the whole service
    replicas: int
    seed: int

    @property
    def key(self) -> str:
        """File name of the cell."""
        return f"{self.profile}_load{self.load:g}_cv{self.cv:g}_r{self.replicas}_s{self.seed}"

    @property
    def rate_per_s(self) -> float:
        """Arrivals of the whole service."""
        return self.load * saturation_per_s(service_profile(self.profile)) * self.replicas

    @property
    def tpot_slo_s(self) -> float:
        """1.25 times the steady-state mean TPOT, at most that of full seats."""
        d = demand(service_profile(self.profile), CHAT)
        rate = self.load * saturation_per_s(service_profile(self.profile))
        mean = d.c0 / (1.0 - rate * (d.w + d.no * d.c)) if self.load < 1.0 else d.seats * self.load / (d.no * rate)
        return TPOT_OVER_MEAN * mean


def oracle(cache: Path, workers: int) -> None:
    """Simulate the missing cells of the grid."""
    cache.mkdir(parents=True, exist_ok=True)
    _run_cells(_missing(cache), cache, workers)


def complete(cache: Path) -> None:
    """Raises ResultError where the oracle has not simulated the whole grid."""
    missing = _missing(cache)
    if missing:
        raise ResultError(f"{cache}: {len(missing)} oracle cells are missing; run `fidelity oracle` first")


def _missing(cache: Path) -> list[Cell]:
    return [cell for cell in grid() if not (cache / f"{cell.key}.npz").exists()]


def grid() -> list[Cell]:
    """All cells, the cheap ones first."""
    return [
        Cell(profile, load, cv, replicas, seed)
        for seed, replicas, profile, load, cv in itertools.product(SEEDS, REPLICAS, PROFILES, LOADS, CVS)
    ]


def saturation_per_s(profile: ServiceProfile) -> float:
    """l_sat with chat lengths: arrivals per second at which every seat of a replica is taken."""
    d = demand(profile, CHAT)
    return 1.0 / (d.no * d.c0 / d.seats + d.no * d.c + d.w)


def requests(cell: Cell, n: int = REQUESTS) -> Requests:
    """The arrivals and lengths of a cell; the same for every engine."""
    rng = np.random.default_rng([cell.seed, round(1000 * cell.load), round(10 * cell.cv), cell.replicas])
    shape = 1.0 / cell.cv**2
    arrival = np.cumsum(rng.gamma(shape, 1.0 / (shape * cell.rate_per_s), n))
    return Requests(arrival, np.round(CHAT.prompt_at(rng.random(n))), np.round(CHAT.output_at(rng.random(n))))


def server(profile: ServiceProfile) -> Server:
    """The oracle's replica for a profile."""
    return Server(
        partial(iteration_s, profile.law), profile.max_seats, profile.kv_capacity_tokens, profile.chunk_tokens
    )


def run_oracle(cell: Cell, cache: Path) -> Path:
    """Simulate a cell unless its file is there; written under its final name only when complete."""
    path = cache / f"{cell.key}.npz"
    if path.exists():
        return path
    oracle = Oracle(server(service_profile(cell.profile)), [Lifetime()] * cell.replicas, timeout_s=TIMEOUT_S)
    outcome = oracle.run(requests(cell))
    partial_path = path.with_suffix(f".{os.getpid()}.partial")
    with partial_path.open("wb") as file:
        np.savez_compressed(
            file,
            ttft_s=outcome.ttft_s.astype(np.float32),
            tpot_s=outcome.tpot_s.astype(np.float32),
            e2e_s=outcome.e2e_s.astype(np.float32),
        )
    partial_path.replace(path)
    return path


def of_oracle(cell: Cell, cache: Path) -> Floats:
    """(5,) measures of a cell by the oracle."""
    with np.load(cache / f"{cell.key}.npz") as file:
        ttft, tpot = file["ttft_s"].astype(np.float64), file["tpot_s"].astype(np.float64)
    done = np.isfinite(ttft)
    good = (ttft <= TTFT_SLO_S) & (tpot <= cell.tpot_slo_s)
    return np.array([ttft[done].mean(), np.quantile(ttft, 0.99, method="higher"), tpot[done].mean(),
                     np.quantile(tpot[done], 0.99), good.mean()])  # fmt: skip


def of_fluid(cell: Cell, substep_s: float = 1.0, kappa: Kappa = FITTED) -> Floats:
    """(5,) measures of a cell by the fluid engine, on the counts of the same arrivals."""
    arrival = requests(cell).arrival_s
    cells = math.ceil(arrival[-1] / substep_s)
    counts = np.bincount(np.minimum((arrival / substep_s).astype(int), cells - 1), minlength=cells)
    load = Load("grid", substep_s, counts.astype(np.float32), "counts", (CHAT,), burstiness=cell.cv**2)
    spec = _spec(cell.profile, round(1e9 * cell.tpot_slo_s), substep_s)
    world = SimWorld(spec, [load], [cell.seed], np.array([cell.replicas]), kappa=kappa)
    for _ in range(math.ceil(cells * substep_s / spec.interval_s)):
        world.wait()
    world.finish()
    c = world.cluster[0]
    return np.array([c["ttft_sum_s"] / c["admitted"], quantile(world.hist[0, 0], 0.99),
                     c["tpot_sum_s"] / c["tpot_count"], _finite_quantile(world.hist[0, 1], 0.99),
                     1.0 - c["missed"] / c["arrived"]])  # fmt: skip


def judge(cache: Path, out: Path) -> dict[str, Any]:
    """Compare both engines on every cell, at every sub-step, and write tables and a summary."""
    rows = []
    points = list(itertools.product(PROFILES, REPLICAS, CVS, LOADS))
    for number, (profile, replicas, cv, load) in enumerate(points):
        cells = [Cell(profile, load, cv, replicas, seed) for seed in SEEDS]
        truth = np.mean([of_oracle(cell, cache) for cell in cells], axis=0)
        row: dict[str, Any] = {"half": "fit" if number % 2 == 0 else "judged", "profile": profile,
                               "replicas": replicas, "cv": cv, "load": load}  # fmt: skip
        row |= {f"oracle_{name}": float(value) for name, value in zip(MEASURES, truth, strict=True)}
        for h in SUBSTEPS_S:
            fluid = np.mean([of_fluid(cell, h) for cell in cells], axis=0)
            row |= {f"h{h:g}_{n}": float(v) for n, v in zip(MEASURES, fluid, strict=True)}
            row |= {f"h{h:g}_error_{n}": v for n, v in zip(MEASURES, errors(fluid, truth), strict=True)}
        rows.append(row)
        if number % 14 == 13:
            print(f"{number + 1}/{len(points)} cells", flush=True)
    summary = summarise(rows)
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "cells.csv", lambda file: _csv(file, rows))
    _write(out / "summary.json", lambda file: json.dump(summary, file, indent=2))
    _write(out / "report.md", lambda file: file.write(in_words(summary, MEASURES)))
    print(in_words(summary, MEASURES))
    return summary


def errors(fluid: Floats, truth: Floats) -> list[float]:
    """(5,) errors of the measures."""
    return [apart(name, float(a), float(b)) for name, a, b in zip(MEASURES, fluid, truth, strict=True)]


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, p90, largest error and the share of cells within the goal, by half and band; and by sub-step."""
    bands = {"load <= 0.9": lambda r: r["load"] <= 0.9, "load > 0.9": lambda r: r["load"] > 0.9}
    summary: dict[str, Any] = {"command": "python -m experiments fidelity steady", "goals": GOALS, "bands": []}
    for half, (band, inside), h in itertools.product(("judged", "fit"), bands.items(), SUBSTEPS_S):
        chosen = [row for row in rows if row["half"] == half and inside(row)]
        for name in MEASURES:
            values = np.abs([row[f"h{h:g}_error_{name}"] for row in chosen])
            goal = GOALS.get(name)
            summary["bands"].append({
                "half": half, "band": band, "substep_s": h, "measure": name, "cells": len(chosen),
                "median": float(np.median(values)), "p90": float(np.quantile(values, 0.9)),
                "largest": float(values.max()),
                "within_goal": None if goal is None else float((values <= goal).mean()),
            })  # fmt: skip
    kinds: dict[str, tuple[Any, ...]] = {"profile": PROFILES, "replicas": REPLICAS, "cv": CVS, "load": LOADS}
    summary["by_kind"] = [
        {"kind": kind, "value": value, "cells": len(chosen), **{name: _signed(chosen, name) for name in MEASURES}}
        for kind, values in kinds.items()
        for value in values
        if (chosen := [r for r in rows if r["half"] == "judged" and r[kind] == value
                       and (kind == "load" or r["load"] <= 0.9)])
    ]  # fmt: skip
    summary["substep_independence"] = [
        {"substep_s": h, "measure": name, **_apart(rows, h, name)} for h in (0.5, 5.0) for name in MEASURES
    ]
    return summary


def _signed(rows: list[dict[str, Any]], name: str) -> float:
    """Median error with its sign, 1 s sub-steps."""
    return float(np.median([row[f"h1_error_{name}"] for row in rows]))


def _apart(rows: list[dict[str, Any]], h: float, name: str) -> dict[str, float]:
    """Distance of a sub-step's result to that of 1 s."""
    pairs = [(row[f"h{h:g}_{name}"], row[f"h1_{name}"]) for row in rows if row["load"] <= 0.9]
    values = [abs(a - b) if name == "attainment" else abs(a / b - 1.0) for a, b in pairs if math.isfinite(a) and b > 0]
    return {"median": float(np.median(values)), "p90": float(np.quantile(values, 0.9))}


@lru_cache(maxsize=64)
def _spec(profile: str, tpot_slo_ns: int, substep_s: float) -> ClusterSpec:
    node = node_type(profile.split("-")[0] + "-x1")
    pool = Pool("grid", node, service_profile(profile), 1, max(REPLICAS))
    return ClusterSpec((pool,), Slo(TTFT_SLO_S, tpot_slo_ns / 1e9), substep_s=substep_s, timeout_s=TIMEOUT_S)


def _finite_quantile(counts: Floats, q: float) -> float:
    finite = counts.copy()
    finite[-1] = 0.0
    return quantile(finite, q)


def _run_cells(cells: list[Cell], cache: Path, workers: int) -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(max(1, workers), mp_context=context) as pool:
        waiting = [pool.submit(run_oracle, cell, cache) for cell in cells]
        for number, done in enumerate(concurrent.futures.as_completed(waiting), 1):
            done.result()
            if number % 20 == 0 or number == len(waiting):
                print(f"oracle: {number}/{len(waiting)}", flush=True)


def _write(path: Path, fill: Any) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.partial")
    with temporary.open("w", newline="") as file:
        fill(file)
    temporary.replace(path)


def _csv(file: Any, rows: list[dict[str, Any]]) -> None:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
