"""The fluid engine against the oracle while a fleet grows: a load step that waits for its replicas.

Eight replicas serve half of what they can carry; after five minutes the load asks for fourteen, six are ordered, and
they come after 120 or 520 seconds. Until then requests queue and run out of patience; afterwards the backlog clears.
The oracle runs twice: with a queue per replica, as real servers have it, and with one queue per service, which is
what the fluid assumes. What that assumption costs is the difference between the two.

Events are counted when they happen: a TTFT with the first token (in the fluid: with the admission), a request with its
end, a dropped one when its patience ends.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import math
import multiprocessing
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments import fidelity_steady as steady
from experiments.results import write_csv, write_json, write_text
from rlscale.sim.histogram import quantile
from rlscale.sim.naive import Lifetime, Oracle
from rlscale.sim.profiles import node_type, service_profile
from rlscale.sim.world import SimWorld
from rlscale.types import ClusterSpec, DelayLaw, Floats, Load, Pool, Requests, Slo
from rlscale.workloads.tokens import CHAT

DELAYS_S = (120.0, 520.0)
CVS = (1.0, 2.0)
SEEDS = (0, 1, 2, 3, 4)
QUEUES: tuple[Literal["replica", "service"], ...] = ("replica", "service")
BEFORE, AFTER = 8, 14  # replicas
LOAD_BEFORE, LOAD_AFTER = 0.5, 0.8  # of saturation, of 8 and of 14 replicas
STEP_S, SETTLED_S = 300.0, 600.0
PHASES = ("before", "waiting", "after", "all")
WINDOW_S = 10.0  # of the time line
MEASURES = ("ttft_mean", "ttft_p99", "tpot_mean", "attainment", "dropped")


@dataclass(frozen=True)
class Cell:
    """One load step and one seed."""

    profile: str
    cv: float
    delay_s: float
    seed: int

    @property
    def phase_ends_s(self) -> tuple[float, float, float]:
        """Step, fleet complete, end of the arrivals."""
        return STEP_S, STEP_S + self.delay_s, STEP_S + self.delay_s + SETTLED_S

    @property
    def tpot_slo_s(self) -> float:
        """As in the grid, at the load of the larger fleet."""
        return steady.Cell(self.profile, LOAD_AFTER, 1.0, AFTER, 0).tpot_slo_s


def run(cache: Path, out: Path, workers: int) -> None:
    """Simulate what is missing, then compare."""
    cells = [Cell(*point) for point in itertools.product(steady.PROFILES, CVS, DELAYS_S, SEEDS)]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(max(1, workers), mp_context=context) as pool:
        waiting = [pool.submit(run_oracle, cell, queue, cache) for cell in cells for queue in QUEUES]
        for number, done in enumerate(concurrent.futures.as_completed(waiting), 1):
            done.result()
            if number % 10 == 0:
                print(f"oracle: {number}/{len(waiting)}", flush=True)
    judge(cells, cache, out)


def requests(cell: Cell) -> Requests:
    """Gamma arrivals whose rate steps up at `STEP_S`: drawn in mean distances, then put on the clock."""
    saturation = steady.saturation_per_s(service_profile(cell.profile))
    low, high = saturation * BEFORE * LOAD_BEFORE, saturation * AFTER * LOAD_AFTER
    end_s = cell.phase_ends_s[-1]
    total = low * STEP_S + high * (end_s - STEP_S)
    rng = np.random.default_rng([cell.seed, round(10 * cell.cv), round(cell.delay_s), 7])
    shape = 1.0 / cell.cv**2
    at = np.cumsum(rng.gamma(shape, 1.0 / shape, int(total + 6.0 * cell.cv * math.sqrt(total))))
    at = at[at < total]
    arrival = np.interp(at, [0.0, low * STEP_S, total], [0.0, STEP_S, end_s])
    n = len(arrival)
    return Requests(arrival, np.round(CHAT.prompt_at(rng.random(n))), np.round(CHAT.output_at(rng.random(n))))


def run_oracle(cell: Cell, queue: Literal["replica", "service"], cache: Path) -> Path:
    """Simulate a cell unless its file is there; written under its final name only when complete."""
    cv, delay = f"{cell.cv:g}", f"{cell.delay_s:g}"
    path = cache / f"step_{cell.profile}_cv{cv}_d{delay}_s{cell.seed}_{queue}.npz"
    if path.exists():
        return path
    late = Lifetime(ready_s=STEP_S + cell.delay_s)
    oracle = Oracle(steady.server(service_profile(cell.profile)), [Lifetime()] * BEFORE + [late] * (AFTER - BEFORE),
                    timeout_s=steady.TIMEOUT_S, queue=queue)  # fmt: skip
    outcome = oracle.run(requests(cell))
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, ttft_s=outcome.ttft_s, tpot_s=outcome.tpot_s, e2e_s=outcome.e2e_s)
    partial.replace(path)
    return path


def of_oracle(cell: Cell, path: Path) -> tuple[Floats, Floats]:
    """(phases, measures) and the time line (windows, 2): requests in the system, share that met the SLO."""
    arrival = requests(cell).arrival_s
    with np.load(path) as file:
        ttft, tpot, e2e = file["ttft_s"], file["tpot_s"], file["e2e_s"]
    dropped = ~np.isfinite(ttft)
    first = arrival + np.where(dropped, steady.TIMEOUT_S, ttft)
    last = arrival + np.where(dropped, steady.TIMEOUT_S, e2e)
    good = (ttft <= steady.TTFT_SLO_S) & (tpot <= cell.tpot_slo_s)
    rows = []
    for begin, end in _spans(cell):
        started, ended = (first >= begin) & (first < end), (last >= begin) & (last < end)
        served, done = ttft[started & ~dropped], ended & ~dropped
        rows.append([served.mean(), np.quantile(ttft[started], 0.99, method="higher"), tpot[done].mean(),
                     good[ended].mean(), dropped[ended].mean()])  # fmt: skip
    edges = np.arange(0.0, cell.phase_ends_s[-1] + 1e-9, WINDOW_S)
    inside = np.searchsorted(np.sort(arrival), edges[1:]) - np.searchsorted(np.sort(last), edges[1:])
    ended_in, good_in = np.histogram(last, edges)[0], np.histogram(last[good], edges)[0]
    return np.array(rows), np.stack([inside, good_in / np.maximum(ended_in, 1)], axis=1)


def _spans(cell: Cell) -> list[tuple[float, float]]:
    step, ready, end = cell.phase_ends_s
    return [(0.0, step), (step, ready), (ready, end), (0.0, math.inf)]


def world_of(cell: Cell) -> SimWorld:
    """The same arrivals and start-up delays for the fluid engine, before its first interval."""
    arrival, end_s = requests(cell).arrival_s, cell.phase_ends_s[-1]
    counts = np.bincount(arrival.astype(int), minlength=int(end_s)).astype(np.float32)
    load = Load("step", 1.0, counts, "counts", (CHAT,), burstiness=cell.cv**2)
    half = DelayLaw(cell.delay_s / 2.0, cell.delay_s / 2.0)
    node = replace(node_type(cell.profile.split("-")[0] + "-x1"), provisioning=half)
    profile = replace(service_profile(cell.profile), cold_start=half, warm_start=half)
    spec = ClusterSpec((Pool("grid", node, profile, 1, AFTER),), Slo(steady.TTFT_SLO_S, cell.tpot_slo_s),
                       interval_s=WINDOW_S, scrape_interval_s=WINDOW_S, control_delay_s=0.0,
                       timeout_s=steady.TIMEOUT_S)  # fmt: skip
    return SimWorld(spec, [load], [cell.seed], np.array([BEFORE]))


def of_fluid(cell: Cell) -> tuple[Floats, Floats]:
    """The same by the fluid engine."""
    world = world_of(cell)
    snaps, line = [_snapshot(world)], []
    for window in range(round(cell.phase_ends_s[-1] / WINDOW_S)):
        world.apply(np.array([[BEFORE if window * WINDOW_S < STEP_S else AFTER]]))
        before = _snapshot(world)[0]
        world.wait()
        now = _snapshot(world)[0]
        ended, missed = (now[n] - before[n] for n in ("ended", "missed"))
        line.append([float(world.in_system()[0]), 1.0 - missed / max(1.0, ended)])
        if (window + 1) * WINDOW_S in cell.phase_ends_s:
            snaps.append(_snapshot(world))
    world.finish()
    pairs = [(snaps[0], snaps[1]), (snaps[1], snaps[2]), (snaps[2], snaps[3]), (snaps[0], _snapshot(world))]
    return np.array([_between(a, b) for a, b in pairs]), np.array(line)


def _snapshot(world: SimWorld) -> tuple[dict[str, float], Floats]:
    now = {name: float(values[0]) for name, values in world.counters().items() if values.ndim == 1}
    return now | {"ended": now["finished"] + now["dropped"]}, world.hist[0, 0].copy()


def _between(before: tuple[dict[str, float], Floats], after: tuple[dict[str, float], Floats]) -> list[float]:
    d = {name: after[0][name] - before[0][name] for name in after[0]}
    return [d["ttft_sum_s"] / d["admitted"], quantile(after[1] - before[1], 0.99), d["tpot_sum_s"] / d["tpot_count"],
            1.0 - d["missed"] / d["ended"], d["dropped"] / d["ended"]]  # fmt: skip


def judge(cells: list[Cell], cache: Path, out: Path) -> None:
    """Tables, time lines and a figure."""
    from experiments.fidelity_step_figure import draw

    rows, lines = [], []
    points = dict.fromkeys((cell.profile, cell.cv, cell.delay_s) for cell in cells)
    for profile, cv, delay_s in points:
        same = [cell for cell in cells if (cell.profile, cell.cv, cell.delay_s) == (profile, cv, delay_s)]
        found = {"fluid": [of_fluid(cell) for cell in same]}
        for queue in QUEUES:
            found[queue] = [of_oracle(cell, run_oracle(cell, queue, cache)) for cell in same]
        mean = {engine: np.mean([table for table, _ in runs], axis=0) for engine, runs in found.items()}
        about = {"profile": profile, "cv": cv, "delay_s": delay_s}
        for p, phase in enumerate(PHASES):
            values = {f"{engine}_{n}": float(mean[engine][p, m]) for engine in mean for m, n in enumerate(MEASURES)}
            rows.append({**about, "phase": phase, **values})
        line = {engine: np.mean([series for _, series in runs], axis=0) for engine, runs in found.items()}
        for w in range(len(line["fluid"])):
            lines.append({**about, "t_s": (w + 1) * WINDOW_S} | {
                f"{engine}_{n}": float(line[engine][w, i]) for engine in line for i, n in enumerate(("in_system", "ok"))
            })  # fmt: skip
        print(f"{profile}, CV {cv:g}, start-up {delay_s:g} s", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "cells.csv", rows, list(rows[0]))
    write_csv(out / "timeline.csv", lines, list(lines[0]))
    write_json(out / "summary.json", {"command": "python -m experiments fidelity step", "rows": rows})
    write_text(out / "figure.svg", draw(lines))
    write_text(out / "report.md", report(rows))
    print(report(rows))


def report(rows: list[dict[str, Any]]) -> str:
    """Errors by phase, against both oracles, and how far these are apart."""
    lines = ["# The fluid engine against the oracle while a fleet grows", "",
             f"`python -m experiments fidelity step`; {len(SEEDS)} seeds, chat lengths, {BEFORE} replicas at load "
             f"{LOAD_BEFORE:g}, then arrivals for {AFTER} at {LOAD_AFTER:g}.", ""]  # fmt: skip
    for first, second, title in (
        ("fluid", "service", "Fluid against the oracle with one queue per service"),
        ("fluid", "replica", "Fluid against the oracle with a queue per replica"),
        ("service", "replica", "One queue per service against a queue per replica (both oracle)"),
    ):
        lines += [f"## {title}", "", f"| case | phase | {' | '.join(MEASURES)} |", "|---|---|" + "---|" * len(MEASURES)]
        for row in rows:
            case = f"{row['profile']}, CV {row['cv']:g}, {row['delay_s']:g} s"
            lines.append(f"| {case} | {row['phase']} | {' | '.join(_error(row, first, second))} |")
        lines.append("")
    lines += ["Relative errors of mean TTFT, p99 TTFT and mean TPOT; differences of the shares that met the SLO and",
              "that were dropped. p99 `inf` in both: more than 1 % were dropped."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _error(row: dict[str, Any], first: str, second: str) -> list[str]:
    cells = []
    for name in MEASURES:
        mine, theirs = row[f"{first}_{name}"], row[f"{second}_{name}"]
        if name in ("attainment", "dropped"):
            cells.append(f"{mine - theirs:+.3f}")
        elif math.isinf(mine) or math.isinf(theirs):
            cells.append("both inf" if mine == theirs else f"{mine:.2f} / {theirs:.2f} s")
        else:
            cells.append(f"{mine / theirs - 1.0:+.3f}")
    return cells
