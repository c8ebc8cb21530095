"""What each part of the cluster does by itself: every switch off and on, the same loads and luck, three rules.

The base is the `chat` scenario: a day on single-H100 nodes; where a part needs it, two pools, or a fleet at its limit.
Every rule has the smallest headroom that reaches the target attainment on training loads of the base. Cost and
attainment are paired differences over the seeds, with a Student interval; the expected sign is argued beside them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from experiments.results import write_csv, write_json, write_text
from experiments.stats import student
from rlscale.errors import ResultError
from rlscale.loop import run as run_loop
from rlscale.parts import Actuator, Admission, Energy, Failures, Grid, Shortage, SpotMarket
from rlscale.registry import get
from rlscale.scenario import Scenario
from rlscale.types import ClusterSpec, DelayLaw, Floats, Load

RULES = ("headroom", "headroom-held", "smoothing")
SEEDS, TRAINING_LOADS = 10, 3
STAGES = (DelayLaw(75.0, 180.0), DelayLaw(94.0, 180.0), DelayLaw(200.0, 300.0))
Change = Callable[[ClusterSpec], ClusterSpec]


@dataclass(frozen=True, slots=True)
class Switch:
    """One part. `cost` and `attainment`: the expected sign of its effect, -1, 0 or 1, and why."""

    name: str
    on: Change
    cost: int
    attainment: int
    why: str
    off: Change = lambda spec: spec
    load: Callable[[Load], Load] = lambda load: load


def _pools(spec: ClusterSpec, **changes: Any) -> ClusterSpec:
    return replace(spec, pools=tuple(replace(pool, **changes) for pool in spec.pools))


def _profile(spec: ClusterSpec, **changes: Any) -> ClusterSpec:
    return replace(spec, pools=tuple(replace(p, profile=replace(p.profile, **changes)) for p in spec.pools))


def _with_spot(spec: ClusterSpec, spot: bool) -> ClusterSpec:
    """A second pool of the same kind and price in another zone, rented for good or at the mercy of the market."""
    first = spec.pools[0]
    node = replace(first.node, spot_usd_per_gpu_hour=first.node.usd_per_gpu_hour)
    second = replace(first, name="second", node=node, zone="east/b", min_replicas=8, spot=spot)
    return replace(spec, pools=(replace(first, zone="east/a"), second), spot=SpotMarket() if spot else None)


def _standby(spec: ClusterSpec, kind: Any) -> ClusterSpec:
    return _pools(spec, standby=kind, standby_replicas=3, max_standby=6)


def _limited(spec: ClusterSpec) -> ClusterSpec:
    """Twelve replicas at most, where the busiest hours need sixteen."""
    return _pools(spec, max_replicas=12)


def _sessions(load: Load) -> Load:
    """The same mean rate, three quarters of it from users who come back."""
    return replace(load, values=0.25 * load.values, continues=0.75, think_s=45.0)


def _jobs(load: Load) -> Load:
    minutes = math.ceil(load.duration_s / 60.0)
    work = np.where(np.arange(minutes) % 60 == 0, 3.0e7 / 60.0, 0.0)
    return replace(load, work_per_s=work, deadline_s=21_600.0)


SWITCHES = (
    Switch("start-up in stages", lambda s: _profile(s, cold_stages=STAGES), 0, -1,
           "the medians add up to the same lead time, the mean of three skewed laws to a little more"),
    Switch("shortage", lambda s: replace(s, shortage=Shortage()), -1, -1,
           "orders wait unbilled; what waits does not serve"),
    Switch("Cluster Autoscaler's idle rules",
           lambda s: replace(s, node_idle_s=600.0, node_delay_after_add_s=600.0), 1, 1,
           "an empty node is billed for ten minutes; a replica that returns to it starts warm",
           off=lambda s: replace(s, node_idle_s=0.0)),
    Switch("spot", partial(_with_spot, spot=True), -1, -1,
           "at the same price: what is taken is not billed, and not there when it is needed",
           off=partial(_with_spot, spot=False)),
    Switch("replicas fail, requests lost", lambda s: replace(s, failures=Failures(replica_per_h=0.2)), 1, -1,
           "running requests are lost; the node is billed all the same, and rules order against the backlog"),
    Switch("replicas fail, requests queued again",
           lambda s: replace(s, failures=Failures(replica_per_h=0.2, running="requeued")), 1, -1,
           "nothing is lost, but the others carry more until the replica is back; rules order against the backlog"),
    Switch("nodes fail", lambda s: replace(s, failures=Failures(node_per_h=0.2)), -1, -1,
           "a dead node is not billed, and its successor takes minutes"),
    Switch("zones fail", lambda s: replace(s, failures=Failures(zone_per_h=0.02, zone_outage_s=1800.0)), -1, -1,
           "with one zone, nothing serves for half an hour"),
    Switch("standby, stopped", partial(_standby, kind="stopped"), 1, 1,
           "disks cost little; what wakes in 85 s need not be waited for for nine minutes"),
    Switch("standby, sleeping", partial(_standby, kind="sleeping"), 1, 1,
           "three more nodes are billed; they serve within seconds"),
    Switch("HPA, 10 % tolerance", lambda s: replace(s, actuator=Actuator(tolerance=0.1)), 0, -1,
           "small increases are lost, and small decreases with them"),
    Switch("HPA, 5 min before a decrease", lambda s: replace(s, actuator=Actuator(stabilization_s=300.0)), 1, 1,
           "the largest wish of five minutes stays in force"),
    Switch("electricity paid", lambda s: replace(s, energy=Energy(True, 1.2, ((s.pools[0].zone,
           Grid((300.0,), (0.1,))),))), 1, 0, "a bill more, the same decisions"),
    Switch("sessions", lambda s: s, -1, 1,
           "later turns follow the answers, spread over minutes: the peaks are lower, and a slow service is asked less",
           load=_sessions),
    Switch("jobs that may wait", lambda s: s, 1, -1,
           "decode passes get longer, up to 60 % of the TPOT allowed; rules see nothing but a little more backlog",
           load=_jobs),
    Switch("newcomers turned away", lambda s: replace(s, admission=Admission("reject", 10.0)), 0, 1,
           "a fleet at its limit stays there; who is let in is served in time",
           off=_limited),
    Switch("answers cut in a crowd", lambda s: replace(s, admission=Admission("degrade", 10.0, 64.0)), 0, 1,
           "a fleet at its limit stays there; shorter answers free seats sooner", off=_limited),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments ablation`."""
    parser.add_argument("--out", type=Path, required=True, help="new folder for the table")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--hours", type=float, default=24.0, help="of every load")
    parser.add_argument("--workers", type=int, default=2)


def run(args: argparse.Namespace) -> int:
    """Measure every switch, write one table."""
    if args.out.exists():
        raise ResultError(f"{args.out} exists; give another --out, nothing is overwritten")
    with ProcessPoolExecutor(max(1, args.workers), mp_context=get_context("spawn")) as pool:
        knobs = dict(zip(RULES, pool.map(partial(calibrated, hours=args.hours), RULES), strict=True))
        jobs = [(number, rule, knobs[rule], seed, args.hours) for number in range(len(SWITCHES)) for rule in RULES
                for seed in range(args.seeds)]  # fmt: skip
        pairs = list(pool.map(measure, jobs, chunksize=args.seeds))
    rows = [
        _row(SWITCHES[number], rule, [pair for job, pair in zip(jobs, pairs, strict=True) if job[:2] == (number, rule)])
        for number in range(len(SWITCHES))
        for rule in RULES
    ]
    args.out.mkdir(parents=True)
    command = f"python -m experiments ablation --out {args.out} --seeds {args.seeds} --hours {args.hours:g}"
    write_csv(args.out / "table.csv", rows, list(rows[0]))
    write_json(args.out / "summary.json", {"command": command, "headroom": knobs, "rows": rows})
    write_text(args.out / "report.md", report(rows, knobs, args.seeds, command))
    print(report(rows, knobs, args.seeds, command))
    return 0


def calibrated(rule: str, hours: float) -> float:
    """The smallest value of a rule's knob that reaches the target attainment on the training loads of the base."""
    base = _base(hours)
    loads = [base.sample_load("train", seed) for seed in range(TRAINING_LOADS)]
    kind = get("agents", "SCALERS", rule, "scaler")
    assert kind.knob is not None
    for value in kind.knob.values:
        met = [run_loop(base, kind.build(base.limits, **{kind.knob.name: value}), load, seed).totals["attainment"]
               for seed, load in enumerate(loads)]  # fmt: skip
        if np.mean(met) >= base.cluster.slo.attainment:
            return float(value)
    raise ResultError(f"{rule}: no {kind.knob.name} of {kind.knob.values} reaches {base.cluster.slo.attainment:.0%}")


def measure(job: tuple[int, str, float, int, float]) -> tuple[Floats, Floats]:
    """USD per hour and attainment of one rule on one load, (2,) each: off and on."""
    number, rule, knob, seed, hours = job
    switch = SWITCHES[number]
    off, on = (_outcome(switch, rule, knob, seed, hours, active) for active in (False, True))
    return off, on


def _outcome(switch: Switch, rule: str, knob: float, seed: int, hours: float, active: bool) -> Floats:
    base = _base(hours)
    spec = switch.off(base.cluster)
    scenario = replace(base, cluster=switch.on(spec) if active else spec)
    load = base.sample_load("test", seed)
    if active:
        load = switch.load(load)
    known = scenario.limits
    totals = run_loop(scenario, get("agents", "SCALERS", rule, "scaler").build(known, headroom=knob), load, seed).totals
    return np.array([totals["usd_per_hour"], totals["attainment"]])


@lru_cache(maxsize=4)
def _base(hours: float) -> Scenario:
    from envs import get_scenario

    return replace(get_scenario("chat"), horizon_s=3600.0 * hours, scale=None)


def _row(switch: Switch, rule: str, pairs: Sequence[tuple[Floats, Floats]]) -> dict[str, Any]:
    off, on = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    cost, cost_half = student(100.0 * (on[:, 0] / off[:, 0] - 1.0))
    met, met_half = student(100.0 * (on[:, 1] - off[:, 1]))
    return {
        "switch": switch.name,
        "rule": rule,
        "usd_per_hour_off": float(off[:, 0].mean()),
        "attainment_off": float(off[:, 1].mean()),
        "cost_change_percent": cost,
        "cost_half_width": cost_half,
        "attainment_change_points": met,
        "attainment_half_width": met_half,
        "expected": f"{_sign(switch.cost)} / {_sign(switch.attainment)}",
        "cost_as_expected": _agrees(cost, cost_half, switch.cost),
        "attainment_as_expected": _agrees(met, met_half, switch.attainment),
        "why": switch.why,
    }


def _agrees(value: float, half: float, expected: int) -> str:
    """`yes`, `no`, or `open` where the interval holds zero and another sign than none was expected."""
    if abs(value) <= half:
        return "yes" if expected == 0 else "open"
    return "yes" if (value > 0) == (expected > 0) and expected != 0 else "no"


def _sign(expected: int) -> str:
    return {-1: "less", 0: "same", 1: "more"}[expected]


def report(rows: Sequence[dict[str, Any]], knobs: Mapping[str, float], seeds: int, command: str) -> str:
    """One line per switch and rule."""
    settings = ", ".join(f"{rule} {value:g}" for rule, value in knobs.items())
    lines = ["# What each part does by itself", "",
             f"`{command}`; {seeds} loads of `chat` per line, the same with the switch off and on; differences "
             f"with a 95 % Student interval. Headroom, calibrated with everything off: {settings}.", "",
             "| switch | rule | off: USD/h | attainment | cost, % | attainment, points | expected (cost / attainment) "
             "| found | why |", "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        lines.append(
            f"| {row['switch']} | {row['rule']} | {row['usd_per_hour_off']:.2f} | {row['attainment_off']:.4f} | "
            f"{row['cost_change_percent']:+.2f} ± {row['cost_half_width']:.2f} | "
            f"{row['attainment_change_points']:+.3f} ± {row['attainment_half_width']:.3f} | {row['expected']} | "
            f"{row['cost_as_expected']} / {row['attainment_as_expected']} | {row['why']} |"
        )
    return "\n".join(lines) + "\n"
