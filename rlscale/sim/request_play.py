"""Requests on replicas that come and go by a given plan: the fast twin of `naive.Oracle`, with the same outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.sim.dispatch import list_ready
from rlscale.sim.histogram import BINS
from rlscale.sim.luck import kernel
from rlscale.sim.naive import Lifetime, Outcome
from rlscale.sim.records import CLUSTER, records
from rlscale.sim.request import drain_from, remove, run_until, serve_from
from rlscale.sim.request_records import (
    ARRIVAL,
    FLOW,
    LEAST_OUTSTANDING,
    NOBODY,
    REPLICA,
    REQUEST,
    ROUND_ROBIN,
    SERVER,
)  # fmt: skip
from rlscale.types import Floats, Ints, IterationLaw, Requests

BALANCERS = {"round_robin": ROUND_ROBIN, "least_outstanding": LEAST_OUTSTANDING}
READY, DRAIN, REMOVE = 0, 1, 2
RULES = np.dtype(
    [("ttft_s", "f8"), ("ttft_s_per_token", "f8"), ("tpot_s", "f8"), ("timeout_s", "f8"), ("balancer", "i8"),
     ("largest_kv_tokens", "f8")]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FastServer:
    """What a replica is like: `naive.Server` with an iteration law instead of any function."""

    law: IterationLaw
    seats: int
    kv_capacity_tokens: float = math.inf
    chunk_tokens: float = math.inf
    grain_s: float = 0.0  # above 0: iterations take whole grains, one at a time


def play(
    server: FastServer | Sequence[FastServer], lifetimes: Sequence[Lifetime], requests: Requests,
    timeout_s: float = math.inf, balancing: str = "least_outstanding", requeue: bool = False,
) -> Outcome:  # fmt: skip
    """Every request to its end."""
    servers = [server] * len(lifetimes) if isinstance(server, FastServer) else list(server)
    n = len(requests)
    kinds = list(dict.fromkeys(servers))
    rules = records((1,), RULES)
    rules[0]["ttft_s"] = rules[0]["tpot_s"] = math.inf
    rules[0]["timeout_s"], rules[0]["balancer"] = timeout_s, BALANCERS[balancing]
    rules[0]["largest_kv_tokens"] = max(one.kv_capacity_tokens for one in servers)
    log = np.full((n, 3), np.inf)
    cluster, flow = records((1,), CLUSTER), records((1,), FLOW)
    plan = sorted(
        [(life.ready_s, READY, r) for r, life in enumerate(lifetimes)]
        + [(life.drain_s, DRAIN, r) for r, life in enumerate(lifetimes) if life.drain_s < math.inf]
        + [(life.drain_s + life.grace_s, REMOVE, r) for r, life in enumerate(lifetimes) if life.drain_s < math.inf]
    )
    flow[0]["upto"] = n
    steps = np.array([(when, what, r) for when, what, r in plan])
    replicas, jobs, decode, heap, outstanding, ready, some = _state(n, servers, kinds)
    _play(steps, requeue, cluster, flow, _arrivals(requests), replicas, jobs, decode, heap, outstanding, ready, some,
          _servers(kinds), np.zeros((3, BINS)), rules, log)  # fmt: skip
    end = float(log[np.isfinite(log[:, 2]), 2].max(initial=0.0))
    return Outcome(log[:, 0], np.where(np.isfinite(log[:, 0]), log[:, 1], np.inf), log[:, 2],
                   int(cluster["dropped"][0]), int(cluster["lost"][0]), math.nan, end)  # fmt: skip


def _state(n: int, servers: Sequence[FastServer], kinds: Sequence[FastServer]) -> tuple[NDArray[Any], ...]:
    """Replicas, requests, heaps and lists of a cluster, all of it empty."""
    count, seats = len(servers), max(one.seats for one in servers)
    replicas, jobs = records((count,), REPLICA), records((n + 1,), REQUEST)
    replicas["end_s"] = np.inf
    replicas["place"] = np.arange(count)
    replicas["pool"] = [kinds.index(one) for one in servers]
    for name in ("wait_head", "wait_tail", "fill_head", "fill_tail", "last"):
        replicas[name] = NOBODY
    jobs["next"] = np.append(np.arange(1, n + 1), NOBODY)
    return (replicas, jobs, np.zeros((count, seats), np.int64), np.arange(count), np.zeros(count, np.int64),
            np.zeros(count, np.int64), np.zeros(n + 2, np.int64))  # fmt: skip


def _arrivals(requests: Requests) -> NDArray[Any]:
    found = records((len(requests) + 1,), ARRIVAL)
    found["at_s"][:-1], found["prompt"][:-1] = requests.arrival_s, requests.prompt_tokens
    found["output"][:-1], found["number"][:-1] = requests.output_tokens, np.arange(len(requests))
    return found


def _servers(kinds: Sequence[FastServer]) -> NDArray[Any]:
    found = records((len(kinds),), SERVER)
    for row, one in zip(found, kinds, strict=True):
        for name in ("c0_s", "c1_s", "c2_s", "c3_s", "c4_s"):
            row[name] = getattr(one.law, name)
        row["grain_s"] = one.grain_s
        row["seats"], row["kv_capacity_tokens"], row["chunk_tokens"] = (
            one.seats, one.kv_capacity_tokens, one.chunk_tokens,
        )  # fmt: skip
    return found


@kernel
def _play(
    steps: Floats, requeue: bool, cluster: Any, flow: Any, arrivals: Any, replicas: Any, requests: Any, decode: Ints,
    heap: Ints, outstanding: Ints, ready: Ints, some: Ints, servers: Any, hist: Floats, rules: Any, log: Floats,
) -> None:  # fmt: skip
    c, f, spec = cluster[0], flow[0], rules[0]
    list_ready(replicas, ready, f)
    for k in range(steps.shape[0]):
        now_s, what, r = steps[k, 0], int(steps[k, 1]), int(steps[k, 2])
        run_until(now_s, c, f, arrivals, replicas, requests, decode, heap, outstanding, ready, some, servers, hist,
                  spec, log)  # fmt: skip
        if what == READY:
            serve_from(now_s, r, c, f, replicas, requests, decode, heap, outstanding, ready, some, servers, hist, spec,
                       log)  # fmt: skip
        elif what == DRAIN:
            drain_from(now_s, r, c, f, replicas, requests, decode, heap, outstanding, ready, some, servers, hist, spec,
                       log)  # fmt: skip
        else:
            remove(now_s, r, requeue, c, f, replicas, requests, decode, heap, outstanding, ready, some, servers, hist,
                   spec, log)  # fmt: skip
    run_until(math.inf, c, f, arrivals, replicas, requests, decode, heap, outstanding, ready, some, servers, hist, spec,
              log)  # fmt: skip
