"""The fluid engine against the request engine where prompts and further tokens are made by pools of their own.

Constant fleets of prefill and decode replicas under Poisson arrivals, at shares of what the weaker side carries within
its part of the target attainment. The constants of `rlscale/sim/fluid_roles.py` were set by hand on the lengths of
`chat` and `code` with other seeds, fleets and limits; the form of the wait was chosen with long contexts in view, too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from envs import get_scenario
from experiments.results import write_csv, write_json, write_text
from rlscale.sim import steady
from rlscale.sim.worlds import make_world
from rlscale.types import ClusterSpec, Load, Slo, TokenLaw
from rlscale.workloads.tokens import CHAT, CODE, LONG_CONTEXT

SCENARIO = "chat-disaggregated"
LENGTHS: dict[str, tuple[TokenLaw, Slo]] = {
    "chat": (CHAT, Slo(0.4, 0.025, 5000.0)),
    "code": (CODE, Slo(0.5, 0.025, 8000.0)),
    "long-context": (LONG_CONTEXT, Slo(5.0, 0.04, 3000.0, 0.95)),
}
PREFILL = (4, 12)  # replicas; as many decode replicas as carry the same
LOADS = (0.3, 0.5, 0.7, 0.9)
SEEDS = (10, 11, 12)
WARM_UP_S, MEASURED_S = 600.0, 3600.0
MEASURES = ("ttft_mean", "tpot_mean", "attainment")


@dataclass(frozen=True)
class Cell:
    """A constant fleet under a constant load."""

    lengths: str
    prefill: int
    load: float  # share of capacity
    seed: int


def run(out: Path) -> None:
    """Both engines on every cell; a table and a summary."""
    rows = [_row(Cell(*one)) for one in itertools.product(LENGTHS, PREFILL, LOADS, SEEDS)]
    summary = [_summary(name, load, rows) for name, load in itertools.product(LENGTHS, LOADS)]
    out.mkdir(parents=True, exist_ok=True)
    command = "python -m experiments fidelity roles"
    write_csv(out / "cells.csv", rows, list(rows[0]))
    write_json(out / "summary.json", {"command": command, "rows": summary})
    write_text(out / "report.md", report(summary, command))
    print(report(summary, command))


def fleet_of(lengths: str, prefill: int) -> tuple[ClusterSpec, tuple[int, int], float]:
    """Cluster, replicas of both sides, and what they carry in requests per second."""
    tokens, slo = LENGTHS[lengths]
    spec = replace(steady.undisturbed(get_scenario(SCENARIO).cluster), slo=slo, timeout_s=120.0)
    each = [steady.capacity(spec, pool, (tokens,)).per_s for pool in range(2)]
    decode = max(1, round(prefill * each[0] / each[1]))
    return spec, (prefill, decode), min(prefill * each[0], decode * each[1])


def measured(engine: str, cell: Cell) -> dict[str, float]:
    """Mean TTFT and TPOT in seconds, and attainment, after a warm-up."""
    spec, replicas, capacity_per_s = fleet_of(cell.lengths, cell.prefill)
    cells = round((WARM_UP_S + MEASURED_S) / spec.substep_s)
    rate_per_s = np.full(cells, cell.load * capacity_per_s, np.float32)
    load = Load("steady", spec.substep_s, rate_per_s, "poisson", (LENGTHS[cell.lengths][0],))
    world = make_world(engine, spec, [load], [cell.seed], np.array(replicas))
    world.apply(np.array([replicas]))
    for _ in range(round(WARM_UP_S / spec.interval_s)):
        world.wait()
    before = world.counters()
    for _ in range(round(MEASURED_S / spec.interval_s)):
        world.wait()
    new = {name: float((values - before[name]).sum()) for name, values in world.counters().items()}
    return {
        "ttft_mean": new["ttft_sum_s"] / new["admitted"],
        "tpot_mean": new["tpot_sum_s"] / new["tpot_count"],
        "attainment": 1.0 - new["missed"] / (new["finished"] + new["dropped"] + new["lost"]),
    }


def _row(cell: Cell) -> dict[str, Any]:
    request, fluid = measured("request", cell), measured("fluid", cell)
    row = {"lengths": cell.lengths, "prefill": cell.prefill, "load": cell.load, "seed": cell.seed}
    for name in MEASURES:
        off = fluid[name] - request[name]
        row |= {f"request_{name}": request[name], f"fluid_{name}": fluid[name],
                f"error_{name}": off if name == "attainment" else off / request[name]}  # fmt: skip
    return row


def _summary(lengths: str, load: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and largest error, with its sign, over fleets and seeds."""
    chosen = [row for row in rows if row["lengths"] == lengths and row["load"] == load]
    found: dict[str, Any] = {"lengths": lengths, "load": load, "cells": len(chosen)}
    for name in MEASURES:
        errors = np.array([row[f"error_{name}"] for row in chosen])
        found[f"{name}_median"] = float(np.median(errors))
        found[f"{name}_largest"] = float(errors[np.argmax(np.abs(errors))])
    return found


def report(summary: list[dict[str, Any]], command: str) -> str:
    """As Markdown."""
    lines = [
        "# Prefill and decode pools: fluid engine against request engine",
        "",
        f"`{command}`: fleets of {' and '.join(map(str, PREFILL))} H100 prefill replicas with decode replicas that "
        f"carry the same, seeds {', '.join(map(str, SEEDS))}, {MEASURED_S / 60:.0f} minutes each, loads as shares of "
        "what the weaker side carries. Median error with its sign, in brackets the largest; attainment in points.",
        "",
        "| lengths | load | mean TTFT | mean TPOT | attainment |",
        "|---|---|---|---|---|",
    ]
    for row in summary:
        shown = [f"{100 * row[f'{name}_median']:+.1f}{unit} ({100 * row[f'{name}_largest']:+.1f})"
                 for name, unit in zip(MEASURES, (" %", " %", ""), strict=True)]  # fmt: skip
        lines.append(f"| {row['lengths']} | {row['load']:.0%} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"
