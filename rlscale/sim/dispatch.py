"""Which replica a request goes to. A request never moves once it runs.

Scalar code over the records of one cluster. The row LISTED of `index` names the replicas that take requests, in the
order of their number, those that only decode behind the others; `flow.first` and `flow.ready` say where a side's begin
and how many they are.
"""

from __future__ import annotations

import numpy as np

from rlscale.sim import luck
from rlscale.sim.luck import kernel
from rlscale.sim.prefix import forget
from rlscale.sim.records import DECODE
from rlscale.sim.request_records import (
    BACK,
    FRONT,
    GATEWAY_QUEUE,
    HASHED,
    LEAST_OUTSTANDING,
    LISTED,
    NOBODY,
    OUTSTANDING,
    POWER_OF_TWO,
    SERVES,
)

BALANCE = 12  # stream of luck
_MIX = np.uint64(0x9E3779B97F4A7C15)


@kernel
def list_ready(replicas, index, flow, servers):
    """After the fleet has changed: the replicas that take requests, and behind them those that take sequences."""
    count = others = 0
    for r in range(replicas.shape[0]):
        if replicas[r].state == SERVES:
            if servers[replicas[r].pool].role == DECODE:
                others += 1
            else:
                index[LISTED, count] = r
                count += 1
    flow[FRONT].ready = flow[BACK].first = count
    flow[BACK].ready = others
    for r in range(replicas.shape[0] if others > 0 else 0):
        if replicas[r].state == SERVES and servers[replicas[r].pool].role == DECODE:
            index[LISTED, count] = r
            count += 1


@kernel
def take_up(r, replicas, index, cache):
    """A replica begins to serve, empty; `list_ready` is to follow."""
    replicas[r].state = SERVES
    index[OUTSTANDING, r] = 0
    forget(r, replicas, cache)


@kernel
def room_for(i, side, replicas, requests, index, servers):
    """The least busy replica whose memory can ever hold the request, or NOBODY."""
    need = requests[i].prompt + requests[i].output
    count, base = side.ready, side.first
    found = NOBODY
    for k in range(count):
        r = index[LISTED, base + (side.turn + k) % count]
        fits = servers[replicas[r].pool].longest_tokens >= need
        if fits and (found == NOBODY or index[OUTSTANDING, r] < index[OUTSTANDING, found]):
            found = r
    return found


@kernel
def choose(balancer, key, seed, replicas, index, flow):
    """The replica for a request; there is at least one that takes it. `flow` is that of its side."""
    count, base = flow.ready, flow.first
    flow.turn += 1
    turn = base + flow.turn % count
    if balancer in (LEAST_OUTSTANDING, GATEWAY_QUEUE):
        chosen = index[LISTED, turn]
        fewest = index[OUTSTANDING, chosen]
        for k in range(1, count):
            at = turn + k
            r = index[LISTED, at if at < base + count else at - count]
            if index[OUTSTANDING, r] < fewest:
                chosen = r
                fewest = index[OUTSTANDING, r]
        return chosen
    if balancer == POWER_OF_TWO and count > 1:
        side = 0 if base == 0 else 3
        first = int(luck.uniform(seed, BALANCE, side, flow.turn, 0) * count)
        other = int(luck.uniform(seed, BALANCE, side + 1, flow.turn, 0) * (count - 1))
        a, b = index[LISTED, base + first], index[LISTED, base + (other + 1 if other >= first else other)]
        return a if index[OUTSTANDING, a] <= index[OUTSTANDING, b] else b
    if balancer == HASHED:
        # Highest random weight: of a changed fleet only the keys of the replicas that came or went move.
        chosen = index[LISTED, base]
        heaviest = np.uint64(0)
        for k in range(count):
            weight = luck.bits(np.uint64(key) * _MIX, BALANCE, 2, index[LISTED, base + k], 0)
            if k == 0 or weight > heaviest:
                chosen = index[LISTED, base + k]
                heaviest = weight
        return chosen
    return index[LISTED, turn]
