"""The fluid engine against the oracle while replicas drain, fail and differ.

The fluid runs a plan of targets with its own luck and logs when every replica was ready, drained and went. The oracle
then serves the same arrivals on replicas with just those lives: with one queue per service, which is what the fluid
assumes, and with a queue per replica, as real servers have it.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments import fidelity_steady as steady
from experiments.results import write_csv, write_json, write_text
from rlscale.parts import Failures
from rlscale.sim.histogram import quantile
from rlscale.sim.naive import Lifetime, Oracle
from rlscale.sim.profiles import node_type, service_profile
from rlscale.sim.records import REPLICA_DRAINS, REPLICA_FAILED, REPLICA_READY
from rlscale.sim.world import SimWorld
from rlscale.types import ClusterSpec, Floats, Load, Pool, Requests, Slo
from rlscale.workloads.tokens import CHAT

CASES = ("steady", "drain", "fail, lost", "fail, requeued", "mixed", "mixed, drain and fail")
LOADS = (0.5, 0.7, 0.85)  # of the saturation of the mean fleet
SEEDS = (0, 1, 2)
QUEUES: tuple[Literal["service", "replica"], ...] = ("service", "replica")
DURATION_S, INTERVAL_S, DRAIN_S = 1500.0, 10.0, 30.0
FLEET, SWING, SWING_S = 6, 2, 150.0  # replicas; how many go and come again; how often
REPLICA_PER_H = 1.0  # two or three failures in a run
MEASURES = ("ttft_mean", "ttft_p99", "tpot_mean", "attainment", "lost")
SHARES = ("attainment", "lost")
ENOUGH = 0.95
TITLES = {"service": "one queue per service", "replica": "a queue per replica"}
GOALS = steady.GOALS | {"lost": 0.002}


@dataclass(frozen=True)
class Cell:
    """One case at one load and one seed."""

    case: str
    load: float
    seed: int

    @property
    def pools(self) -> tuple[Pool, ...]:
        """H100 alone, or half of the fleet on A100."""
        h100 = Pool("h100", node_type("h100-x1"), service_profile("h100-8b"), 1, 2 * FLEET)
        a100 = Pool("a100", node_type("a100-x1"), service_profile("a100-8b"), 1, 2 * FLEET)
        return (h100, a100) if "mixed" in self.case else (h100,)

    @property
    def initial(self) -> Floats:
        """Replicas per pool at t = 0."""
        return np.full(len(self.pools), FLEET // len(self.pools))

    @property
    def rate_per_s(self) -> float:
        """Arrivals of the service, in the mean of the plan."""
        lean = SWING / 2 if "drain" in self.case else 0.0
        saturation = [steady.saturation_per_s(pool.profile) for pool in self.pools]
        return self.load * float(np.dot(self.initial, saturation)) * (FLEET - lean) / FLEET

    def spec(self) -> ClusterSpec:
        """Failures and grace of the case."""
        running: Literal["lost", "requeued"] = "requeued" if "requeued" in self.case else "lost"
        fails = Failures(REPLICA_PER_H if "fail" in self.case else 0.0, running=running)
        return ClusterSpec(self.pools, Slo(steady.TTFT_SLO_S, 0.05), interval_s=INTERVAL_S, drain_s=DRAIN_S,
                           scrape_interval_s=INTERVAL_S, timeout_s=steady.TIMEOUT_S, failures=fails)  # fmt: skip

    def target(self, interval: int) -> Floats:
        """The plan: some of the first pool go and come again."""
        lean = "drain" in self.case and int(interval * INTERVAL_S / SWING_S) % 2 == 1
        target = self.initial.copy()
        target[0] -= SWING if lean else 0
        return target


def run(out: Path, workers: int) -> None:
    """Simulate all cells, compare, write."""
    cells = [Cell(*point) for point in itertools.product(CASES, LOADS, SEEDS)]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(max(1, workers), mp_context=context) as pool:
        found = []
        for number, row in enumerate(pool.map(compare, cells), 1):
            found.append(row)
            if number % 10 == 0:
                print(f"{number}/{len(cells)}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    rows = [_mean(found, case, load) for case in CASES for load in LOADS]
    judged = [band(found, queue, enough) for queue in QUEUES for enough in (True, False)]
    write_csv(out / "cells.csv", found, list(found[0]))
    write_json(
        out / "summary.json",
        {"command": "python -m experiments fidelity fleet", "goals": GOALS, "bands": judged, "rows": rows},
    )
    write_text(out / "report.md", report(rows, judged))
    print(report(rows, judged))


def compare(cell: Cell) -> dict[str, Any]:
    """One row: what the fluid and both oracles say."""
    requests = arrivals(cell)
    fluid, lives = of_fluid(cell, requests)
    row: dict[str, Any] = {"case": cell.case, "load": cell.load, "seed": cell.seed, "requests": len(requests)}
    row |= {f"fluid_{name}": value for name, value in zip(MEASURES, fluid, strict=True)}
    for queue in QUEUES:
        values = of_oracle(cell, requests, lives, queue)
        row |= {f"{queue}_{name}": value for name, value in zip(MEASURES, values, strict=True)}
    return row


def arrivals(cell: Cell) -> Requests:
    """Poisson arrivals and chat lengths."""
    rng = np.random.default_rng([cell.seed, round(100 * cell.load), CASES.index(cell.case), 11])
    count = rng.poisson(cell.rate_per_s * DURATION_S)
    at = np.sort(rng.uniform(0.0, DURATION_S, count))
    return Requests(at, np.round(CHAT.prompt_at(rng.random(count))), np.round(CHAT.output_at(rng.random(count))))


def of_fluid(cell: Cell, requests: Requests) -> tuple[list[float], list[tuple[int, Lifetime]]]:
    """Measures, and the pool and life of every replica that there was."""
    counts = np.bincount(requests.arrival_s.astype(int), minlength=int(DURATION_S)).astype(np.float32)
    load = Load(cell.case, 1.0, counts, "counts", (CHAT,))
    world = SimWorld(cell.spec(), [load], [cell.seed], cell.initial, log_events=10_000)
    for interval in range(round(DURATION_S / INTERVAL_S)):
        world.apply(cell.target(interval)[None])
        world.wait()
    world.finish()
    c = {name: float(values[0]) for name, values in world.counters().items() if values.ndim == 1}
    ended = c["finished"] + c["dropped"] + c["lost"]
    measures = [c["ttft_sum_s"] / c["admitted"], quantile(world.hist[0, 0], 0.99), c["tpot_sum_s"] / c["tpot_count"],
                1.0 - c["missed"] / ended, c["lost"] / ended]  # fmt: skip
    return measures, lives_of(world.event_log(0), cell.initial)


def lives_of(log: Floats, initial: Floats) -> list[tuple[int, Lifetime]]:
    """Ready, then drained with its grace, or failed without one."""
    begun = {(p, slot): 0.0 for p, count in enumerate(initial) for slot in range(int(count))}
    lives = []
    for time_s, kind, pool, slot in log:
        place = (int(pool), int(slot))
        if kind == REPLICA_READY:
            begun[place] = time_s
        elif kind in (REPLICA_DRAINS, REPLICA_FAILED) and place in begun:
            grace_s = DRAIN_S if kind == REPLICA_DRAINS else 0.0
            lives.append((place[0], Lifetime(begun.pop(place), time_s, grace_s)))
    return lives + [(pool, Lifetime(since)) for (pool, _), since in begun.items()]


def of_oracle(
    cell: Cell, requests: Requests, lives: list[tuple[int, Lifetime]], queue: Literal["service", "replica"]
) -> list[float]:
    """The same measures, by every request."""
    servers = [steady.server(pool.profile) for pool in cell.pools]
    oracle = Oracle([servers[pool] for pool, _ in lives], [life for _, life in lives], steady.TIMEOUT_S,
                    queue=queue, requeue="requeued" in cell.case)  # fmt: skip
    outcome = oracle.run(requests)
    served = outcome.ttft_s[np.isfinite(outcome.ttft_s)]
    done = np.isfinite(outcome.e2e_s)
    good = done & (outcome.ttft_s <= steady.TTFT_SLO_S) & (outcome.tpot_s <= 0.05)
    return [float(served.mean()), float(np.quantile(outcome.ttft_s, 0.99, method="higher")),
            float(outcome.tpot_s[done].mean()), float(good.mean()), outcome.lost / len(requests)]  # fmt: skip


def _mean(found: list[dict[str, Any]], case: str, load: float) -> dict[str, Any]:
    same = [row for row in found if row["case"] == case and row["load"] == load]
    names = [name for name in same[0] if name not in ("case", "load", "seed")]
    return {"case": case, "load": load} | {name: float(np.mean([row[name] for row in same])) for name in names}


def band(found: list[dict[str, Any]], queue: str, enough: bool) -> dict[str, Any]:
    """Median error and share of the cells within the goal, of those where the oracle has (not) `enough` replicas."""
    chosen = [row for row in found if (row[f"{queue}_attainment"] >= ENOUGH) == enough]
    judged: dict[str, Any] = {"queue": queue, "enough": enough, "cells": len(chosen)}
    for name in MEASURES:
        off = np.array([abs(_error(row, queue, name)) for row in chosen])
        judged |= {f"{name}_median": float(np.median(off)), f"{name}_within": float(np.mean(off <= GOALS[name]))}
    return judged


def _error(row: dict[str, Any], queue: str, name: str) -> float:
    """Of a share its difference, else relative; 0 where both are infinite."""
    mine, theirs = row[f"fluid_{name}"], row[f"{queue}_{name}"]
    if mine == theirs:
        return 0.0
    return float(mine - theirs if name in SHARES else mine / theirs - 1.0)


def report(rows: list[dict[str, Any]], judged: list[dict[str, Any]]) -> str:
    """Errors by band, and by case and load, against both oracles."""
    goals = ", ".join(f"{name} {GOALS[name]:g}" for name in MEASURES)
    lines = ["# The fluid engine against the oracle while replicas drain, fail and differ", "",
             f"`python -m experiments fidelity fleet`; {len(SEEDS)} seeds of {DURATION_S:g} s, {FLEET} replicas, chat "
             f"lengths. Draining: {SWING} of them go and come again every {SWING_S:g} s. Failing: {REPLICA_PER_H:g} "
             "per hour of each replica. Mixed: half of the fleet on A100.", "",
             f"Median error and share of the cells within the goal ({goals}). Enough: {ENOUGH:.0%} of the oracle's "
             "requests within the SLO; else the fleet is overloaded for a part of the run.", "",
             f"| oracle | replicas | cells | {' | '.join(MEASURES)} |",
             "|---|---|---|" + "---|" * len(MEASURES)]  # fmt: skip
    for row in judged:
        cells = [f"{row[f'{name}_median']:.3f}, {row[f'{name}_within']:.0%}" for name in MEASURES]
        lines.append(f"| {TITLES[row['queue']]} | {'enough' if row['enough'] else 'too few'} | {row['cells']} | "
                     f"{' | '.join(cells)} |")  # fmt: skip
    lines.append("")
    for queue in QUEUES:
        lines += [f"## Against the oracle with {TITLES[queue]}", "", f"| case | load | {' | '.join(MEASURES)} |",
                  "|---|---|" + "---|" * len(MEASURES)]  # fmt: skip
        for row in rows:
            off = [f"{_error(row, queue, name):+.{4 if name in SHARES else 3}f}" for name in MEASURES]
            lines.append(f"| {row['case']} | {row['load']:g} | {' | '.join(off)} |")
        lines.append("")
    lines += ["Relative errors of mean TTFT, p99 TTFT and mean TPOT; differences of the shares that met the SLO and",
              "that were lost. Infinite: more than one in a hundred was dropped on one side only."]  # fmt: skip
    return "\n".join(lines) + "\n"
