"""Speed and memory of the simulator.

Cases are timed in turn, several rounds of them, so that a busy moment of the machine hurts all cases alike. The unit
is the nanosecond per pool and sub-step, at control intervals of 30 s and sub-steps of 1 s, deposits and draws
included, while fleets grow and shrink.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments._bench_parts import NODE_ROWS, PARTS
from experiments.page import page
from rlscale.errors import ResultError
from rlscale.scenario import Scenario
from rlscale.sim.world import SimWorld
from rlscale.types import Load

INTERVAL_S, DAY_S = 30.0, 86_400.0
SIZES, QUICK_SIZES = (1, 16, 64, 256, 1024, 4096, 16384), (1, 16)
POOLS = (1, 3)
LENGTHS_S = (3600.0, DAY_S, 7 * DAY_S)
LENGTH_ROWS, MEMORY_ROWS = 256, 4096
ROUNDS, QUICK_ROUNDS = 9, 7
SAMPLE_S, QUICK_SAMPLE_S = 0.1, 0.002  # one timing lasts about this long, at least one interval
ROUGH_NS = 500.0  # first guess of the unit, to size a timing
AHEAD_S, SPARE = 900.0, 1.2  # fleets carry this many times the highest rate of the next quarter of an hour
SETTLE = 3  # intervals before a timing: sequences stay for tens of seconds
GOALS = {"ns": 300.0, "memory_gb": 1.0, "warm_s": 1.5}


@dataclass(slots=True)
class Case:
    """A world, where its rows begin, how many intervals one timing takes, and the timings so far."""

    about: dict[str, Any]
    world: SimWorld
    plan: np.ndarray[Any, Any]  # (intervals, n, 1) target of every pool
    first: np.ndarray[Any, Any]  # (n,) cell of the load at the start
    intervals: int
    wall_ns: list[float] = field(default_factory=list)
    cpu_ns: list[float] = field(default_factory=list)

    def begin(self) -> None:
        """Every timing does the same work: from the start, after a few intervals for queues to settle."""
        rows = np.arange(self.world.n)
        self.world.reset(rows, list(rows), self.plan[0], np.zeros_like(rows), self.first)
        self.advance(0, SETTLE)

    def advance(self, first: int, last: int) -> None:
        """Let the intervals from `first` to `last - 1` pass."""
        for i in range(first, last):
            self.world.apply(self.plan[i])
            self.world.wait()


def measure(name: str, quick: bool) -> dict[str, Any]:
    """Everything but the machine."""
    rounds, sample_s = (QUICK_ROUNDS, QUICK_SAMPLE_S) if quick else (ROUNDS, SAMPLE_S)
    kernel = _timed([_sized(name, pools, n, sample_s) for pools in POOLS for n in (QUICK_SIZES if quick else SIZES)],
                    rounds)  # fmt: skip
    parts = _timed([_part(name, part, QUICK_SIZES[-1] if quick else NODE_ROWS, sample_s) for part in PARTS], rounds)
    length = _timed([_long(name, seconds, QUICK_SIZES[-1] if quick else LENGTH_ROWS, sample_s)
                     for seconds in LENGTHS_S], rounds)  # fmt: skip
    single = next(case for case in kernel if case["pools"] == 1 and case["n"] == 1)
    plain = _child("plain", name, 2 if quick else 20, {"NUMBA_DISABLE_JIT": "1"})
    plain["ratio"] = plain["ns"] / single["cpu_ns"]["median"]
    return {
        "format": 1,
        "scenario": name,
        "quick": quick,
        "interval_s": INTERVAL_S,
        "unit": "nanoseconds per pool and sub-step",
        "goals": GOALS,
        "kernel": kernel,
        "trace_length": length,
        "parts": parts,
        "memory": _child("memory", name, QUICK_SIZES[-1] if quick else MEMORY_ROWS),
        "startup": _startup(name, 1 if quick else 5, cold=not quick),
        "plain_python": plain,
    }


def _scenario(name: str, pools: int = 1) -> Scenario:
    """The scenario at intervals of 30 s with its first pool, copied `pools` times."""
    from envs import get_scenario

    scenario = get_scenario(name)
    first = scenario.cluster.pools[0]
    copies = tuple(replace(first, name=f"{first.name}-{p}") for p in range(pools))
    return replace(scenario, cluster=replace(scenario.cluster, interval_s=INTERVAL_S, substep_s=1.0, pools=copies))


def _sized(name: str, pools: int, n: int, sample_s: float) -> Case:
    scenario = _scenario(name, pools)
    return _case({"pools": pools, "n": n}, scenario, [scenario.sample_load("train", 0)], n, sample_s)


def _part(name: str, part: str, n: int, sample_s: float) -> Case:
    """One part of the full cluster switched on; targets are planned for the plain load."""
    cluster, load = PARTS[part]
    scenario = _scenario(name)
    return _case({"part": part, "pools": 1, "n": n}, cluster(scenario), [scenario.sample_load("train", 0)], n, sample_s,
                 load)  # fmt: skip


def _long(name: str, seconds: float, n: int, sample_s: float) -> Case:
    scenario = replace(_scenario(name), horizon_s=seconds)
    about = {"load_s": seconds, "pools": 1, "n": n}
    return _case(about, scenario, [scenario.sample_load("train", 0)], n, sample_s)


def _case(
    about: dict[str, Any], scenario: Scenario, loads: Sequence[Load], n: int, sample_s: float,
    changed: Callable[[Load], Load] = lambda load: load,
) -> Case:  # fmt: skip
    spec = scenario.cluster
    rough_s = n * len(spec.pools) * spec.substeps * ROUGH_NS * 1e-9
    # Rows begin in the first half of the load, so that none outlasts it: an idle cluster would be a fast one.
    most = int(len(loads[0].values) // 2 // spec.substeps) - SETTLE
    intervals = min(most, max(1, round(sample_s / rough_s)))
    first, plan = _plan(scenario, loads[0], n, intervals + SETTLE)
    played = [changed(load) for load in loads]
    world = SimWorld(spec, played, list(range(n)), plan[0], [0] * n, first.tolist())
    return Case(about, world, plan, first, intervals)


def _plan(scenario: Scenario, load: Load, n: int, intervals: int) -> tuple[Any, Any]:
    """Where `n` clusters begin, (n,) cells all over the first half of the load, and their targets.

    Targets follow the highest rate of the coming quarter of an hour, as those of a good scaler would: fleets grow and
    shrink, and queues are short.
    """
    spec = scenario.cluster
    first = np.random.default_rng(0).integers(0, max(1, len(load.values) // 2 // spec.substeps), n)
    whole = len(load.values) // spec.substeps * spec.substeps
    rate = load.rate_per_s[:whole].reshape(-1, spec.substeps).mean(axis=1)
    ahead = round(AHEAD_S / spec.interval_s)
    peak = np.lib.stride_tricks.sliding_window_view(np.pad(rate, (0, ahead - 1), mode="edge"), ahead).max(axis=1)
    target = np.ceil(SPARE * peak / (_capacity_per_s(scenario) * len(spec.pools)))
    target = np.clip(target, 1, spec.pools[0].max_replicas).astype(np.int64)
    return first * spec.substeps, target[first + np.arange(intervals)[:, None]][:, :, None]


def _capacity_per_s(scenario: Scenario) -> float:
    """Requests per second of one replica at saturation, from the law alone: l_SLO takes a second to find."""
    from rlscale.sim.laws import demand

    pool = scenario.cluster.pools[0]
    d = demand(pool.profile, scenario.sample_load("train", 0).tokens[0])
    return 1.0 / (d.no * d.c0 / d.seats + d.no * d.c + d.w) if pool.profile.batching else d.seats / d.w


def _timed(cases: list[Case], rounds: int) -> list[dict[str, Any]]:
    """Time all cases in turn, `rounds` times."""
    for _ in range(rounds):
        for case in cases:
            _time(case)
    return [
        case.about | {"intervals": case.intervals, "rounds": rounds,
                      "wall_ns": _spread(case.wall_ns), "cpu_ns": _spread(case.cpu_ns)}
        for case in cases
    ]  # fmt: skip


def _time(case: Case) -> None:
    case.begin()
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    case.advance(SETTLE, SETTLE + case.intervals)
    wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
    work = case.intervals * case.world.n * case.world.pools * case.world.spec.substeps
    case.wall_ns.append(wall / work)
    case.cpu_ns.append(cpu / work)


def _spread(values: list[float]) -> dict[str, Any]:
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "min": min(values), "iqr": float(high - low), "all": values}


def child_plain(name: str, intervals: int) -> dict[str, Any]:
    """The same lines as plain Python; runs in a process whose kernels are not compiled."""
    scenario = _scenario(name)
    rough_s = intervals * scenario.cluster.substeps * ROUGH_NS * 1e-9
    case = _case({}, scenario, [scenario.sample_load("train", 0)], 1, rough_s)
    _time(case)
    return {"ns": case.cpu_ns[0], "intervals": case.intervals}


def child_memory(name: str, n: int) -> dict[str, Any]:
    """Growth of the resident memory by `n` clusters that share one day of load, and the size of their arrays.

    Rings fill up as time passes, so the arrays are the upper limit.
    """
    _first_step(name, 1)
    before = _resident_bytes()
    scenario = replace(_scenario(name), horizon_s=DAY_S)
    world = _case({}, scenario, [scenario.sample_load("train", 0)], n, 0.0).world
    world.wait()
    arrays = sum(value.nbytes for value in [*vars(world).values(), world.tables.bank] if isinstance(value, np.ndarray))
    return {"n": n, "load_s": DAY_S, "gb": (_resident_bytes() - before) / 1e9, "arrays_gb": arrays / 1e9}


def child_startup(name: str, n: int) -> dict[str, Any]:
    """Nothing but a first step; the time since before the imports is taken by the caller."""
    _first_step(name, n)
    return {}


CHILDREN: Mapping[str, Callable[[str, int], dict[str, Any]]] = {
    "plain": child_plain, "memory": child_memory, "startup": child_startup,
}  # fmt: skip


def _first_step(name: str, n: int) -> None:
    scenario = _scenario(name)
    _case({}, scenario, [scenario.sample_load("train", 0)], n, 0.0).world.wait()


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _startup(name: str, times: int, cold: bool) -> dict[str, Any]:
    """Import to first step in fresh processes: with kernels in the cache (median), and with an empty cache."""
    warm = [_child("startup", name, 1)["import_to_done_s"] for _ in range(times)]
    found: dict[str, Any] = {"warm_s": float(np.median(warm)), "warm_all_s": warm, "cold_s": None}
    if cold:
        with tempfile.TemporaryDirectory() as folder:
            found["cold_s"] = _child("startup", name, 1, {"NUMBA_CACHE_DIR": folder})["import_to_done_s"]
    return found


def _child(what: str, name: str, number: int, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run one of CHILDREN in a fresh interpreter; adds the seconds from before the first import to the end."""
    code = (
        "import time; began = time.perf_counter(); import json; from experiments._bench_env import CHILDREN\n"
        f"found = CHILDREN[{what!r}]({name!r}, {number})\n"
        "print(json.dumps(found | {'import_to_done_s': time.perf_counter() - began}))"
    )
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path, **(env or {})},
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.returncode != 0:
        raise ResultError(f"the process that measures '{what}' failed: {done.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def tell(found: Mapping[str, Any]) -> None:
    """Tables for the terminal."""
    from rich.table import Table

    table = Table(title=f"{found['unit']}, CPU time, {found['scenario']} (goal {GOALS['ns']:g})")
    for column in ("pools", "clusters", "load", "parts", "median", "min", "IQR", "wall median"):
        table.add_column(column, justify="right")
    for case in [*found["kernel"], *found["trace_length"], *found["parts"]]:
        cpu, load_s = case["cpu_ns"], case.get("load_s")
        table.add_row(
            str(case["pools"]), f"{case['n']:,}", "-" if load_s is None else f"{load_s / 3600:g} h",
            case.get("part", "off"),
            f"{cpu['median']:.0f}", f"{cpu['min']:.0f}", f"{cpu['iqr']:.0f}", f"{case['wall_ns']['median']:.0f}",
        )  # fmt: skip
    console = page()
    console.print(table)
    start, memory, plain = found["startup"], found["memory"], found["plain_python"]
    cold = "not measured" if start["cold_s"] is None else f"{start['cold_s']:.1f} s"
    print(f"import to first step: warm {start['warm_s']:.2f} s (goal {GOALS['warm_s']:g}), cold {cold}")
    print(
        f"memory of {memory['n']:,} clusters x one day: {memory['gb']:.2f} GB resident after an interval, "
        f"{memory['arrays_gb']:.2f} GB of arrays (goal {GOALS['memory_gb']:g})"
    )
    print(
        f"plain Python: {plain['ns'] / 1000:.0f} us per pool and sub-step, {plain['ratio']:.0f} times the compiled one"
    )
