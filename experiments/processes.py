"""What happens to a fleet against the statistics it stands for: spot availability, waits for nodes, start-ups, wakes.

Availability is generated for nine zones as those that were watched (four, two and three in their regions); waits are
those of orders at random moments; start-ups and wakes are timed in the engine itself.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.results import write_csv, write_json, write_text
from rlscale.errors import ResultError
from rlscale.parts import Shortage, SpotMarket
from rlscale.sim import supply
from rlscale.sim.profiles import node_type, service_profile
from rlscale.sim.world import SimWorld
from rlscale.types import DAY_S, ClusterSpec, DelayLaw, Floats, Load, Pool, Slo
from rlscale.workloads.tokens import CHAT

ZONES = (*(f"us-east-1/{zone}" for zone in "acdf"), *(f"us-east-2/{zone}" for zone in "ab"),
         *(f"us-west-2/{zone}" for zone in "abc"))  # fmt: skip
CELL_S, SPOT_DAYS, SHORTAGE_DAYS = 15.0, 1000, 2000
CLUSTERS = 2000
HOUR_S = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments processes`."""
    parser.add_argument("--out", type=Path, required=True, help="new folder for the table")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Measure everything, print the table, write it into a new folder."""
    if args.out.exists():
        raise ResultError(f"{args.out} exists; give --out a new folder, nothing is overwritten")
    rows = [*spot(args.seed), *shortage(args.seed), *starts(args.seed)]
    text = report(rows, args.seed)
    args.out.mkdir(parents=True)
    write_csv(args.out / "processes.csv", rows, list(rows[0]))
    command = f"python -m experiments processes --seed {args.seed}"
    write_json(args.out / "summary.json", {"command": command, "rows": rows})
    write_text(args.out / "report.md", text)
    print(text)
    return 0 if all(row["within"] for row in rows) else 1


def spot(seed: int) -> list[dict[str, Any]]:
    """Availability of nine zones against 45 days of V100 spot nodes (SkyPilot spot-traces)."""
    cells = round(SPOT_DAYS * DAY_S / CELL_S)
    on = supply.correlated(ZONES, cells, CELL_S, SpotMarket(), np.random.default_rng(seed))
    pairs = list(itertools.combinations(range(len(ZONES)), 2))
    together: Any = np.corrcoef(on)
    near = [together[i, j] for i, j in pairs if supply.region(ZONES[i]) == supply.region(ZONES[j])]
    far = [together[i, j] for i, j in pairs if supply.region(ZONES[i]) != supply.region(ZONES[j])]
    eastern = [i for i, zone in enumerate(ZONES) if "east" in zone]
    runs_on, runs_off = _runs_h(on)
    return [
        _row("spot", "mean time with capacity, h (median zone)", runs_on, 4.3, 4.3 * 0.9, 4.3 * 1.1),
        _row("spot", "mean time without capacity, h (median zone)", runs_off, 1.7, 1.7 * 0.9, 1.7 * 1.1),
        _row("spot", "share of the time with capacity", float(on.mean()), 0.64, 0.17, 0.90),
        _row("spot", "correlation of two zones of a region", float(np.mean(near)), 0.42, 0.25, 0.59),
        _row("spot", "correlation of two regions", float(np.mean(far)), 0.15, 0.03, 0.27),
        _row("spot", "some of six zones in the east has capacity", float(on[eastern].any(0).mean()), 0.90, 0.85, 1),
        _row("spot", "some of nine zones has capacity", float(on.any(0).mean()), 0.992, 0.98, 1),
    ]


def shortage(seed: int) -> list[dict[str, Any]]:
    """Waits of orders at random moments against 16 591 instances of Alibaba's cluster-trace-gpu-v2025."""
    cells = round(SHORTAGE_DAYS * DAY_S / CELL_S)
    opened = supply.shortages(Shortage(), cells, CELL_S, np.random.default_rng(seed + 1))
    left = np.where(opened, 0.0, _until_open(opened) * CELL_S)
    published = ((60.0, 0.087), (137.0, 0.05), (600.0, 0.018), (1650.0, 0.01))
    return [
        _row("shortage", f"share of the orders that wait over {wait_s:g} s", float((left > wait_s).mean()), share,
             0.8 * share, 1.2 * share)
        for wait_s, share in published
    ]  # fmt: skip


def starts(seed: int) -> list[dict[str, Any]]:
    """Start-ups and wakes timed in the engine: 2 000 clusters order one replica each."""
    h100 = Pool("h100", node_type("h100-x1"), service_profile("h100-8b"), 0, 4)
    stages = (DelayLaw(75.0, 180.0), DelayLaw(94.0, 180.0), DelayLaw(200.0, 300.0))
    staged = replace(h100, profile=replace(h100.profile, cold_stages=stages))
    warm = replace(h100, node=replace(h100.node, provisioning=DelayLaw(1e-3, 1e-3)))
    warm = replace(warm, profile=replace(warm.profile, cold_start=warm.profile.warm_start))
    rows = []
    for name, pool, median_s, p95_s in (
        ("start-up, everything cold", h100, 520.0, 900.0),
        ("start-up in four stages, everything cold", staged, 520.0, 900.0),
        ("start-up on a warm node", warm, 82.0, 130.0),
        ("wake of a stopped node", replace(h100, standby="stopped", standby_replicas=1, max_standby=1), 85.0, 120.0),
        ("wake of a sleeping engine", replace(h100, standby="sleeping", standby_replicas=1, max_standby=1), 3.0, 6.0),
    ):
        took_s = _timed(pool, seed)
        for figure, value, published in (("median, s", np.median(took_s), median_s),
                                         ("95th percentile, s", np.quantile(took_s, 0.95), p95_s)):  # fmt: skip
            rows.append(_row(name, figure, float(value), published, 0.93 * published - 1.0, 1.07 * published + 1.0))
    return rows


def _timed(pool: Pool, seed: int) -> Floats:
    """Seconds from the order to ready, to the sub-step, one per cluster."""
    spec = ClusterSpec((pool,), Slo(1.0, 0.05, 5000.0), interval_s=60.0, scrape_interval_s=60.0)
    load = Load("idle", 1.0, np.zeros(7200, np.float32), "poisson", (CHAT,))
    world = SimWorld(spec, [load], range(seed * CLUSTERS, (seed + 1) * CLUSTERS), np.array([0]))
    world.apply(np.full((CLUSTERS, 1), 1), np.zeros((CLUSTERS, 1), np.int64))
    for _ in range(120):
        world.wait()
        if (world.pool["ready"] == 1).all():
            break
    return np.asarray(world.t_s - world.pool["ready_s"][:, 0])


def _runs_h(on: Any) -> tuple[float, float]:
    """Mean length of the spells with and without capacity, median over the zones, hours."""
    found = []
    for state in (True, False):
        lengths = []
        for zone in on:
            here = zone == state
            count = int(np.count_nonzero(here[1:] & ~here[:-1])) + int(here[0])
            lengths.append(here.sum() * CELL_S / HOUR_S / count)
        found.append(float(np.median(lengths)))
    return found[0], found[1]


def _until_open(opened: Any) -> Floats:
    """Cells until the next open one, from the middle of each cell."""
    cells = np.arange(len(opened))
    at = np.where(opened, cells, len(opened))
    following = np.minimum.accumulate(at[::-1])[::-1]
    return np.asarray(following - cells - 0.5)


def _row(process: str, figure: str, found: float, published: float, least: float, most: float) -> dict[str, Any]:
    return {"process": process, "figure": figure, "generated": found, "published": published, "least": least,
            "most": most, "within": bool(least <= found <= most)}  # fmt: skip


def report(rows: list[dict[str, Any]], seed: int) -> str:
    """Markdown table."""
    lines = ["# What happens to a fleet against the statistics it stands for", "",
             f"`python -m experiments processes --seed {seed}`", "",
             "| process | figure | generated | published | accepted | within |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        lines.append(f"| {row['process']} | {row['figure']} | {row['generated']:.4g} | {row['published']:.4g} | "
                     f"{row['least']:.4g} to {row['most']:.4g} | {('no', 'yes')[row['within']]} |")  # fmt: skip
    return "\n".join(lines) + "\n"
