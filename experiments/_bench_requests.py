"""Requests per second of the request engine: by load and fleet, against the oracle, in plain Python, in memory.

The clock is the thread's CPU time; cases are timed in turn, several rounds of them. Lengths are those of `chat`, and
load is a share of what a replica's seats can carry. The plain-Python self and the oracle run the same requests, fewer
of them, in a process of its own; all three must end alike.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.page import page
from rlscale.errors import ResultError
from rlscale.sim.laws import demand
from rlscale.sim.naive import Lifetime, Oracle
from rlscale.sim.request_play import play, twin
from rlscale.sim.request_tables import FastServer
from rlscale.types import Floats, Requests

FLEETS, LOADS = (4, 16, 64), (0.3, 0.7, 0.95, 1.2)
COUNT, QUICK_COUNT = 200_000, 5_000
ROUNDS, QUICK_ROUNDS = 5, 2
SLOW_COUNT, SLOW_FLEET, SLOW_LOAD = 2_000, 16, 0.7  # of the comparison with slower selves
STREAMED, QUICK_STREAMED = 10_000_000, 50_000
GOALS = {"requests_per_s": 1e6, "growth": 2.5, "against_plain": 20.0, "memory_gb": 1.0}


def measure(quick: bool, trace: str | None = None) -> dict[str, Any]:
    """Everything but the machine."""
    count, rounds = (QUICK_COUNT, QUICK_ROUNDS) if quick else (COUNT, ROUNDS)
    server, saturation_per_s = _server()
    play(server, [Lifetime()], _requests(100, 1.0))  # compiled before any clock runs
    cases = [(replicas, load, _requests(count, load * replicas * saturation_per_s))
             for replicas in FLEETS for load in LOADS]  # fmt: skip
    spent: list[list[float]] = [[] for _ in cases]
    for _ in range(rounds):
        for i, (replicas, _, requests) in enumerate(cases):
            began = time.process_time()
            play(server, [Lifetime()] * replicas, requests)
            spent[i].append(1e9 * (time.process_time() - began) / count)
    rows = [
        {
            "replicas": replicas,
            "load": load,
            "ns_per_request": float(np.median(ns)),
            "min": min(ns),
            "requests_per_s": 1e9 / float(np.median(ns)),
        }
        for (replicas, load, _), ns in zip(cases, spent, strict=True)
    ]
    return {
        "format": 1, "quick": quick, "unit": "nanoseconds of CPU per request", "requests": count, "rounds": rounds,
        "goals": GOALS, "saturation_per_s": saturation_per_s, "cases": rows, "growth": _growth(rows),
        "slower": _slower(server, saturation_per_s), "streamed": _streamed(QUICK_STREAMED if quick else STREAMED),
        "recorded": [] if trace is None else recorded(trace),
    }  # fmt: skip


def tell(found: Mapping[str, Any]) -> None:
    """Tables for the terminal."""
    from rich.table import Table

    table = Table(title=f"{found['unit']}, chat (goal 1 000 at 16 replicas)")
    for name in ("replicas", "load", "median", "min", "requests/s"):
        table.add_column(name, justify="right")
    for row in found["cases"]:
        table.add_row(f"{row['replicas']}", f"{row['load']:g}", f"{row['ns_per_request']:.0f}", f"{row['min']:.0f}",
                      f"{row['requests_per_s']:,.0f}")  # fmt: skip
    page().print(table)
    slower, streamed = found["slower"], found["streamed"]
    growth = ", ".join(f"{value:.2f} at load {load}" for load, value in found["growth"].items())
    print(f"4 to 64 replicas: {growth} times the time per request (goal {GOALS['growth']:g})")
    print(f"plain Python {slower['plain_ns']:,.0f} ns, {slower['plain_over_compiled']:.0f} times the compiled code "
          f"(goal {GOALS['against_plain']:g}); the oracle {slower['oracle_ns']:,.0f} ns, "
          f"{slower['oracle_over_compiled']:.0f} times")  # fmt: skip
    print(f"{streamed['requests']:,.0f} requests streamed through a cluster: {streamed['cpu_s']:.1f} s of CPU, "
          f"{streamed['peak_gb']:.2f} GB at most (goal {GOALS['memory_gb']:g})")  # fmt: skip
    for row in found["recorded"]:
        print(f"{row['source']}, {row['requests']:,.0f} requests, {row['span_s']:,.0f} s, {row['replicas']} replicas "
              f"and their scaler: {row['wall_s']:.2f} s, {row['times_real']:,.0f} times real time")  # fmt: skip


def recorded(path: str) -> list[dict[str, Any]]:
    """A recorded load through the whole loop under headroom, as it is and superposed to a fleet of `SLOW_FLEET`."""
    from agents.headroom import SCALERS
    from envs import get_scenario
    from rlscale.loop import run
    from rlscale.workloads.trace_workload import TraceWorkload

    chat, rows = get_scenario("chat"), []
    rng, step_s = np.random.default_rng(0), chat.cluster.substep_s
    factor = 1.0
    for way in ("recorded", "superposed"):
        enlarged = {} if way == "recorded" else {"factor": factor, "scaling": "superpose"}
        load = TraceWorkload(path=path, **enlarged).sample(rng, np.inf, step_s)
        if load.requests is None:
            raise ResultError(f"{path}: holds no single requests; give a trace with a row per request")
        serving = chat.serving(load)
        fleet = float(load.rate_per_s.mean() / serving.limits.capacity_per_s[0])
        factor = SLOW_FLEET / fleet
        scaler = SCALERS["headroom-held"].build(serving.limits)
        if way == "recorded":
            run(serving, scaler, load, 0, engine="request")  # compiled before any clock runs
        began = time.perf_counter()
        run(serving, scaler, load, 0, engine="request")
        wall_s = time.perf_counter() - began
        rows.append({"source": load.name, "requests": len(load.requests), "span_s": load.duration_s,
                     "replicas": max(1, round(fleet)), "wall_s": wall_s, "times_real": load.duration_s / wall_s,
                     "requests_per_s": len(load.requests) / wall_s})  # fmt: skip
    return rows


def _server() -> tuple[FastServer, float]:
    """A replica of `chat`, and the rate at which its seats are full."""
    from envs import get_scenario

    scenario = get_scenario("chat")
    profile = scenario.cluster.pools[0].profile
    d = demand(profile, scenario.sample_load("train", 0).tokens[0])
    server = FastServer(profile.law, profile.max_seats, profile.kv_capacity_tokens, profile.chunk_tokens)
    return server, 1.0 / (d.no * d.c0 / d.seats + d.no * d.c + d.w)


def _requests(count: int, rate_per_s: float) -> Requests:
    """Poisson arrivals, lengths of `chat`; always the same."""
    from rlscale.workloads.tokens import CHAT

    g = np.random.default_rng(0)
    arrival_s = np.cumsum(g.exponential(1.0 / rate_per_s, count))
    return Requests(arrival_s, np.rint(CHAT.prompt_at(g.random(count))), np.rint(CHAT.output_at(g.random(count))))


def _growth(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Time per request with 64 replicas over that with 4, by load."""
    by = {(row["replicas"], row["load"]): row["ns_per_request"] for row in rows}
    return {str(load): by[FLEETS[-1], load] / by[FLEETS[0], load] for load in LOADS}


def _slower(server: FastServer, saturation_per_s: float) -> dict[str, float]:
    """The same requests in plain Python and through the oracle."""
    requests = _requests(SLOW_COUNT, SLOW_LOAD * SLOW_FLEET * saturation_per_s)
    lives = [Lifetime()] * SLOW_FLEET
    compiled = []
    for _ in range(9):
        began = time.process_time()
        fast = play(server, lives, requests)
        compiled.append(time.process_time() - began)
    slow = twin(server)
    began = time.process_time()
    oracle = Oracle(slow, lives).run(requests)
    oracle_s = time.process_time() - began
    plain = _child("plain", SLOW_COUNT, {"NUMBA_DISABLE_JIT": "1"})
    _same(fast.e2e_s, oracle.e2e_s, "the oracle")
    _same(fast.e2e_s, np.array(plain["e2e_s"]), "plain Python")
    each = 1e9 / SLOW_COUNT
    least = float(np.median(compiled))
    return {"requests": SLOW_COUNT, "replicas": SLOW_FLEET, "load": SLOW_LOAD, "compiled_ns": each * least,
            "plain_ns": each * plain["cpu_s"], "plain_over_compiled": plain["cpu_s"] / least,
            "oracle_ns": each * oracle_s, "oracle_over_compiled": oracle_s / least}  # fmt: skip


def _same(one: Floats, other: Floats, name: str) -> None:
    if not np.allclose(one, other, rtol=1e-9, atol=1e-9):
        raise ResultError(f"bench requests: the request engine and {name} end differently; run tests/test_request.py")


def _streamed(count: int) -> dict[str, Any]:
    return _child("streamed", count)


def child_plain(count: int) -> dict[str, Any]:
    """The comparison's requests in this process, which was started without a compiler."""
    np.seterr(over="ignore")  # unsigned integers wrap in the luck; numpy scalars warn of it, compiled code does not
    server, saturation_per_s = _server()
    requests = _requests(count, SLOW_LOAD * SLOW_FLEET * saturation_per_s)
    began = time.process_time()
    out = play(server, [Lifetime()] * SLOW_FLEET, requests)
    return {"cpu_s": time.process_time() - began, "e2e_s": out.e2e_s.tolist()}


def child_streamed(count: int) -> dict[str, Any]:
    """So many requests through sixteen replicas at 70 %, drawn as they come."""
    from envs import get_scenario
    from rlscale.sim.request_world import RequestWorld
    from rlscale.types import Load

    scenario, (_, saturation_per_s) = get_scenario("chat"), _server()
    rate = SLOW_LOAD * SLOW_FLEET * saturation_per_s
    spec = scenario.cluster
    law = scenario.sample_load("train", 0).tokens
    intervals = int(count / rate / spec.interval_s) + 1
    load = Load("steady", spec.substep_s, np.full(intervals * spec.substeps, rate, np.float32), "poisson", law)
    world = RequestWorld(spec, [load], [0], np.array([SLOW_FLEET]))
    world.apply(np.array([[SLOW_FLEET]]))
    world.wait()
    began = time.process_time()
    for _ in range(intervals - 1):
        world.wait()
    spent_s = time.process_time() - began
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0**2
    return {"requests": float(world.cluster["arrived"][0]), "cpu_s": spent_s, "peak_gb": peak_gb,
            "simulated_h": intervals * spec.interval_s / 3600.0}  # fmt: skip


CHILDREN = {"plain": child_plain, "streamed": child_streamed}


def _child(what: str, number: int, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A measurement in a process of its own."""
    program = "import json, sys; from experiments._bench_requests import CHILDREN as c; "
    program += f"print(json.dumps(c[{what!r}]({number})))"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **(env or {})}, check=False,
                          capture_output=True, text=True, cwd=Path(__file__).resolve().parent.parent)  # fmt: skip
    if done.returncode:
        raise ResultError(f"bench requests: {what} failed: {done.stderr.strip().splitlines()[-1:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
