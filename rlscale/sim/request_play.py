"""Requests on replicas that come and go by a given plan: the fast twin of `naive.Oracle`, with the same outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from rlscale.parts import Transfer
from rlscale.sim.dispatch import list_ready
from rlscale.sim.histogram import BINS
from rlscale.sim.laws import iteration_s
from rlscale.sim.luck import kernel
from rlscale.sim.naive import NO_TIME, Lifetime, Outcome, Server, largest_kv_tokens
from rlscale.sim.records import CLUSTER, SPEC, records
from rlscale.sim.request import drain_from, remove, run_until, serve_from
from rlscale.sim.request_records import BALANCERS, FLOW, FRONT, LISTS, REPLICA, REQUEST
from rlscale.sim.request_tables import FastServer, arrivals_of, begin_empty, blocks_of, cache_of, servers_of
from rlscale.types import Floats, Ints, Requests

READY, DRAIN, REMOVE = 0, 1, 2


def play(
    server: FastServer | Sequence[FastServer], lifetimes: Sequence[Lifetime], requests: Requests,
    timeout_s: float = math.inf, balancing: str = "least_outstanding", requeue: bool = False,
    transfer: Transfer = NO_TIME,
) -> Outcome:  # fmt: skip
    """Every request to its end."""
    servers = [server] * len(lifetimes) if isinstance(server, FastServer) else list(server)
    n = len(requests)
    kinds = list(dict.fromkeys(servers))
    rules = records((1,), SPEC)
    rules[0]["ttft_s"] = rules[0]["tpot_s"] = math.inf
    rules[0]["timeout_s"], rules[0]["balancer"] = timeout_s, BALANCERS[balancing.replace("_", "-")]  # type: ignore[index]
    rules[0]["largest_kv_tokens"] = largest_kv_tokens([(one.role, one.longest_tokens) for one in servers])
    rules[0]["roles"] = any(one.role == "decode" for one in servers)
    rules[0]["transfer_s"], rules[0]["transfer_s_per_token"] = transfer.fixed_s, transfer.s_per_token
    log = np.full((n, 3), np.inf)
    cluster, flow = records((1,), CLUSTER), records((1, 2), FLOW)
    plan = sorted(
        [(life.ready_s, READY, r) for r, life in enumerate(lifetimes)]
        + [(life.drain_s, DRAIN, r) for r, life in enumerate(lifetimes) if life.drain_s < math.inf]
        + [(life.drain_s + life.grace_s, REMOVE, r) for r, life in enumerate(lifetimes) if life.drain_s < math.inf]
    )
    flow[0]["upto"][FRONT] = n
    steps = np.array([(when, what, r) for when, what, r in plan])
    count, seats = len(servers), max(one.seats for one in servers)
    replicas, jobs = records((count,), REPLICA), records((n + 1,), REQUEST)
    replicas["pool"] = [kinds.index(one) for one in servers]
    index = np.zeros((LISTS, max(count, n + 2)), np.int64)
    arrivals, spans = arrivals_of([requests])
    ids, block_tokens = blocks_of([requests], arrivals, spans)
    cache = cache_of(ids, (count,), max(one.kept_blocks for one in servers))
    _play(steps, requeue, cluster, flow, arrivals, replicas, jobs, np.zeros((count, seats), np.int32), cache, index,
          servers_of(kinds, block_tokens), np.zeros((3, BINS)), rules, log)  # fmt: skip
    end = float(log[np.isfinite(log[:, 2]), 2].max(initial=0.0))
    return Outcome(log[:, 0], np.where(np.isfinite(log[:, 0]), log[:, 1], np.inf), log[:, 2],
                   int(cluster["dropped"][0]), int(cluster["lost"][0]), math.nan, end)  # fmt: skip


def twin(server: FastServer) -> Server:
    """The same replica for the oracle."""
    return Server(partial(iteration_s, server.law), server.seats, server.kv_capacity_tokens, server.chunk_tokens,
                  server.role, server.kept_blocks, server.context_tokens)  # fmt: skip


@kernel
def _play(
    steps: Floats, requeue: bool, cluster: Any, flow: Any, arrivals: Any, replicas: Any, requests: Any, decode: Ints,
    cache: Any, index: Ints, servers: Any, hist: Floats, rules: Any, log: Floats,
) -> None:  # fmt: skip
    c, f, spec = cluster[0], flow[0], rules[0]
    begin_empty(f, replicas, requests, index)
    list_ready(replicas, index, f, servers)
    for k in range(steps.shape[0]):
        now_s, what, r = steps[k, 0], int(steps[k, 1]), int(steps[k, 2])
        run_until(now_s, c, f, arrivals, replicas, requests, decode, cache, index, servers,
                  hist, spec, log)  # fmt: skip
        if what == READY:
            serve_from(now_s, r, c, f, replicas, requests, decode, cache, index, servers,
                       hist, spec, log)  # fmt: skip
        elif what == DRAIN:
            drain_from(now_s, r, c, f, replicas, requests, decode, cache, index, servers,
                       hist, spec, log)  # fmt: skip
        else:
            remove(now_s, r, requeue, c, f, replicas, requests, decode, cache, index,
                   servers, hist, spec, log)  # fmt: skip
    run_until(math.inf, c, f, arrivals, replicas, requests, decode, cache, index, servers,
              hist, spec, log)  # fmt: skip
