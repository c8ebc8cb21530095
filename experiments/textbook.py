"""The textbook flow on one screen: monitor, forecast, linear program, balance, recycle, against the greedy rule.

One simulated cluster under `lp-allocation`; beside it the same load and luck under `headroom`, which fills the pools
in the order of price for the present demand.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agents.allocation import LpAllocation
from agents.headroom import Headroom
from experiments.page import page
from rlscale.allocation_lp import Problem, greedy, relaxed, whole
from rlscale.beginning import initial_replicas
from rlscale.circle import decide
from rlscale.decide import lead_s
from rlscale.errors import ResultError, ScenarioError
from rlscale.loop import run as run_scaler
from rlscale.monitor import Monitor
from rlscale.scenario import Scenario
from rlscale.sim.records import NODE_GONE, REPLICA_DRAINS
from rlscale.sim.world import SimWorld
from rlscale.types import Floats, Load

EVENTS_PER_INTERVAL = 400  # room in the event log
HEADER = ("min", "requests/s", "waiting", "forecast/s", "error", "wanted/s", "LP", "whole", "ready", "shadow",
          "served by", "drained", "nodes back", "spot gone", "in SLO")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What a control interval ends with."""

    t_s: float
    arrival_per_s: float
    waiting: float
    forecast_per_s: float
    problem: Problem | None
    ready: tuple[int, ...]
    running: Floats  # (P,) requests on every pool
    counters: Floats  # arrived, missed, drained replicas, nodes gone, spot nodes taken; since the start


@dataclass(frozen=True)
class Told:
    """A run, interval by interval, and its totals."""

    rows: list[Row]
    totals: dict[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments textbook`."""
    parser.add_argument("--scenario", default="chat-mixed", help="name or file (default chat-mixed)")
    parser.add_argument("--seed", type=int, default=0, help="of the load and of the cluster's luck")
    parser.add_argument("--hours", type=float, default=2.0, help="of the scenario's load, from its beginning")
    parser.add_argument("--minutes", type=float, default=10.0, help="between two lines of the table")
    parser.add_argument("--out", type=Path, default=None, help="new folder for textbook.md")


def run(args: argparse.Namespace) -> int:
    """Simulate, tell, and write the same text to a file if asked to."""
    from envs import get_scenario

    for name in ("hours", "minutes"):
        if not (math.isfinite(getattr(args, name)) and getattr(args, name) > 0.0):
            raise ScenarioError(f"--{name} {getattr(args, name)}; expected a number above 0")
    if args.out is not None and args.out.exists():
        raise ResultError(f"{args.out} exists; give another --out, nothing is overwritten")
    scenario = get_scenario(args.scenario)
    load = first_hours(scenario.sample_load("test", args.seed), args.hours)
    told = follow(scenario, load, args.seed)
    text = report(scenario, load, args.seed, told, args.minutes)
    page().print(text, markup=False, highlight=False, soft_wrap=True)
    if args.out is not None:
        args.out.mkdir(parents=True)
        (args.out / "textbook.md").write_text(text + "\n")
    return 0


def first_hours(load: Load, hours: float) -> Load:
    """The beginning of a load; all of it when it is shorter."""
    return replace(load, values=load.values[: max(1, round(hours * 3600.0 / load.step_s))])


def follow(scenario: Scenario, load: Load, seed: int) -> Told:
    """One run of `lp-allocation` in the circle, with what each stage saw and did."""
    spec, known = scenario.cluster, scenario.limits
    intervals = max(1, int(load.duration_s / spec.interval_s + 1e-9))
    world = SimWorld(spec, [load], [seed], np.array([initial_replicas(load, known)]),
                     log_events=EVENTS_PER_INTERVAL * intervals, percentiles=True)  # fmt: skip
    monitor, scaler, rows = Monitor(world, known), LpAllocation(known), []
    for i in range(intervals):
        world.wait()
        seen = monitor.one()
        if i + 1 < intervals:
            bounded = decide(scaler, seen, known)
            rows.append(_row(world, scaler, float(seen.t_s), float(seen.arrival_per_s), float(seen.waiting)))
            world.apply(np.array([bounded.target]))
    world.finish()
    cluster, hours = world.cluster[0], intervals * spec.interval_s / 3600.0
    cost, arrived = float(world.cost_usd()[0]), float(cluster["arrived"])
    return Told(rows, {
        "cost_usd": cost, "usd_per_hour": cost / hours, "missed": float(cluster["missed"]),
        "attainment": 1.0 - float(cluster["missed"]) / arrived if arrived > 0 else 1.0,
        "churn": float(cluster["churn"]), "preempted": float(world.pool[0]["preempted"].sum()),
    })  # fmt: skip


def _row(world: SimWorld, scaler: LpAllocation, t_s: float, arrival_per_s: float, waiting: float) -> Row:
    cluster, pool, log = world.cluster[0], world.pool[0], world.event_log(0)
    events = [float(np.count_nonzero(log[:, 1] == kind)) for kind in (REPLICA_DRAINS, NODE_GONE)]
    counters = (cluster["arrived"], cluster["missed"], *events, pool["preempted"].sum())
    return Row(t_s, arrival_per_s, waiting, scaler.forecast_per_s, scaler.problem,
               tuple(int(count) for count in pool["ready"]), np.array(pool["running"]), np.array(counters))  # fmt: skip


def report(scenario: Scenario, load: Load, seed: int, told: Told, minutes: float) -> str:
    """The whole flow as Markdown that is readable as it is."""
    known, spec = scenario.limits, scenario.cluster
    shift, every = round(lead_s(known) / spec.interval_s), max(1, round(60.0 * minutes / spec.interval_s))
    errors = forecast_errors(told.rows, shift)
    blocks = [(at, min(at + every, len(told.rows)) - 1) for at in range(0, len(told.rows), every)]
    lines = [_line(scenario, told.rows, first, last, errors) for first, last in blocks]
    known_errors = errors[np.isfinite(errors)]
    forecast = "no forecast came due"
    if len(known_errors):
        forecast = (f"{len(known_errors)} forecasts came due: mean absolute error {np.abs(known_errors).mean():.1%}, "
                    f"bias {known_errors.mean():+.1%}")  # fmt: skip
    greedy_rule = run_scaler(scenario, Headroom(known), load, seed).summary()
    totals = [_total("lp-allocation", told.totals), _total("headroom (greedy, reactive)", greedy_rule)]
    more = told.totals["cost_usd"] / greedy_rule["cost_usd"] - 1.0 if greedy_rule["cost_usd"] > 0.0 else 0.0
    return "\n".join([
        f"# The textbook flow: {scenario.name}, seed {seed}, {load.duration_s / 3600.0:g} h",
        "", scenario.summary, "",
        *_table(("pool", "USD/h", "requests/s", "replicas", "start, s"), _pools(scenario)),
        "", "## Monitor, forecast, program, balance, recycle", "",
        f"Forecast: one lead time ({lead_s(known):.0f} s) ahead; error: of the one made for this moment. LP, whole and "
        "ready: replicas of", f"{' + '.join(pool.name for pool in spec.pools)}; shadow: USD/h for one more request/s. "
        "Counts are of the time since the line", f"before. {forecast}.", "",
        *_table(HEADER, lines),
        "", "## The program where most was wanted", "",
        *_program(max(told.rows, key=lambda row: row.problem.demand[0] if row.problem else -1.0).problem, scenario),
        "", "## Totals", "",
        *_table(("rule", "USD", "USD/h", "in SLO", "missed", "churn", "spot gone"), totals),
        "", f"Cost: {told.totals['cost_usd']:.2f} USD, greedy {greedy_rule['cost_usd']:.2f} ({more:+.1%}). "
        f"Attainment: {told.totals['attainment']:.2%}, greedy {greedy_rule['attainment']:.2%}, "
        f"target {spec.slo.attainment:.2%}.",
    ])  # fmt: skip


def forecast_errors(rows: Sequence[Row], shift: int) -> Floats:
    """(T,) (forecast made `shift` intervals before - rate) / rate; NaN where there was none or no traffic."""
    errors = np.full(len(rows), np.nan)
    for i in range(shift, len(rows)):
        rate = rows[i].arrival_per_s
        if rate > 0.0:
            errors[i] = (rows[i - shift].forecast_per_s - rate) / rate
    return errors


def _line(scenario: Scenario, rows: Sequence[Row], first: int, last: int, errors: Floats) -> tuple[str, ...]:
    row, since = rows[last], rows[first - 1].counters if first else np.zeros(5)
    arrived, missed, drained, gone, taken = row.counters - since
    running = np.sum([own.running for own in rows[first : last + 1]], axis=0)
    least = scenario.limits.min_replicas.tolist()
    wanted = lp = integer = shadow = "-"
    if row.problem is not None:
        wanted = f"{row.problem.demand[0] + float(np.dot(least, scenario.limits.capacity_per_s)):.1f}"
        try:
            best, units = relaxed(row.problem), whole(row.problem)
            lp, integer = _joined(_per_pool(best.amounts, least), 1), _joined(_per_pool(units.amounts, least), 0)
            shadow = f"{best.shadow[0]:.3f}"
        except ScenarioError:
            lp = integer = "all"  # more than every pool together gives
    share = 100.0 * running / running.sum() if running.sum() > 0.0 else 0.0 * running
    return (
        f"{row.t_s / 60.0:.0f}", f"{row.arrival_per_s:.1f}", f"{row.waiting:.0f}", f"{row.forecast_per_s:.1f}",
        f"{errors[last]:+.0%}" if math.isfinite(errors[last]) else "-", wanted, lp, integer,
        " + ".join(map(str, row.ready)), shadow, _joined(share, 0) + " %", f"{drained:.0f}",
        f"{max(0.0, gone - taken):.0f}", f"{taken:.0f}",
        f"{1.0 - max(0.0, missed) / arrived:.1%}" if arrived > 0.0 else "-",
    )  # fmt: skip


def _per_pool(units: Sequence[float], least: Sequence[int]) -> list[float]:
    """Replicas per pool out of the columns: the minimum, what is kept and what is new."""
    pools = len(least)
    return [count + units[p] + units[pools + p] for p, count in enumerate(least)]


def _joined(values: Sequence[float] | Floats, digits: int) -> str:
    return " + ".join(f"{value:.{digits}f}" for value in values)


def _pools(scenario: Scenario) -> list[tuple[str, ...]]:
    known = scenario.limits
    return [
        (pool.name + (" (spot)" if pool.spot else ""), f"{3600.0 * known.usd_per_replica_s[p]:.2f}",
         f"{known.capacity_per_s[p]:.1f}", f"{pool.min_replicas} to {pool.max_replicas}",
         f"{known.start_median_s[p]:.0f}")
        for p, pool in enumerate(scenario.cluster.pools)
    ]  # fmt: skip


def _program(problem: Problem | None, scenario: Scenario) -> list[str]:
    """The problem written out, and what three ways of solving it give."""
    if problem is None:
        return ["There was none: the metrics never said what is asked."]
    names = [f"{pool.name} {kind}" for kind in ("kept", "new") for pool in scenario.cluster.pools]
    lines = [
        f"    min   {_sum(problem.prices, names)} USD/h",
        f"    with  {_sum(problem.capacity[0], names)} >= {problem.demand[0]:.1f} requests/s beyond the minima",
        "          " + ", ".join(f"[{name}] <= {x:.0f}" for x, name in zip(problem.limits, names, strict=True)), "",
    ]  # fmt: skip
    try:
        solved = {"relaxed": relaxed(problem), "whole": whole(problem), "greedy": greedy(problem)}
    except ScenarioError as error:
        return [*lines, str(error)]
    table = [
        (way, *(f"{amount:.4g}" for amount in found.amounts), f"{found.cost:.2f}") for way, found in solved.items()
    ]
    shadow = solved["relaxed"].shadow[0]
    return [*lines, *_table(("solution", *names, "USD/h"), table), "",
            f"Shadow price: one more request per second costs {shadow:.3f} USD/h."]  # fmt: skip


def _sum(factors: Sequence[float], names: Sequence[str]) -> str:
    return " + ".join(f"{factor:.2f} [{name}]" for factor, name in zip(factors, names, strict=True))


def _total(rule: str, totals: dict[str, float]) -> tuple[str, ...]:
    return (rule, f"{totals['cost_usd']:.2f}", f"{totals['usd_per_hour']:.2f}", f"{totals['attainment']:.2%}",
            f"{abs(totals['missed']):.0f}", f"{totals['churn']:.0f}", f"{totals['preempted']:.0f}")  # fmt: skip


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose columns stand below each other."""
    widths = [max(len(line[k]) for line in (header, *rows)) for k in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return [line(header), "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|", *map(line, rows)]
