"""From slots to replicas: who takes requests from now on, who drains, who is gone. Between life cycle and requests.

Slot `i` of pool `p` is replica `p * slots + i`. Scalar code over the records of one cluster.
"""

from __future__ import annotations

from rlscale.sim import lifecycle
from rlscale.sim.dispatch import list_ready, take_up
from rlscale.sim.luck import kernel
from rlscale.sim.node import next_event
from rlscale.sim.records import DRAINING, READY
from rlscale.sim.request import drain_from, place_waiting, remove
from rlscale.sim.request_records import DRAINS, GONE, OUTSTANDING, SERVES


@kernel
def follow(now_s, c, slots, flow, replicas, requests, decode, cache, index, servers, hist, spec, log):
    """Bring the replicas in line with their slots; requests move when everybody's state is known."""
    count = slots.shape[1]
    changed = False
    for r in range(replicas.shape[0]):
        q = replicas[r]
        state = slots[r // count, r % count].state
        if state == READY and q.state == GONE:
            take_up(r, replicas, index, cache)
            changed = True
        elif state != READY and q.state == SERVES:
            q.state = DRAINS
            q.moves = 1
            changed = True
        elif state != DRAINING and q.state == DRAINS:
            changed = True
    if not changed:
        return
    list_ready(replicas, index, flow, servers)
    for r in range(replicas.shape[0]):
        q = replicas[r]
        state = slots[r // count, r % count].state
        if q.moves:
            q.moves = 0
            drain_from(now_s, r, c, flow, replicas, requests, decode, cache, index, servers,
                       hist, spec, log)  # fmt: skip
        if q.state == DRAINS and state != DRAINING:
            remove(now_s, r, spec.requeue != 0, c, flow, replicas, requests, decode, cache, index, servers, hist,
                   spec, log)  # fmt: skip
            if state == READY:
                take_up(r, replicas, index, cache)
                list_ready(replicas, index, flow, servers)
    place_waiting(now_s, c, flow, replicas, requests, decode, cache, index, servers, hist, spec, log)


@kernel
def let_go(now_s, pools, nodes, slots, replicas, index, spec, pool_spec, events):
    """Draining replicas that hold nothing any more go."""
    count = slots.shape[1]
    for p in range(pools.shape[0]):
        if pools[p].draining == 0:
            continue
        for i in range(count):
            r = p * count + i
            if slots[p, i].state == DRAINING and replicas[r].state == DRAINS and index[OUTSTANDING, r] == 0:
                lifecycle.drained(now_s, i, p, pools, nodes, slots, spec, pool_spec, events)
                replicas[r].state = GONE
        pools[p].next_event_s = next_event(nodes[p], slots[p])


@kernel
def count_running(pools, replicas, count):
    """Sequences on ready and on draining replicas."""
    for p in range(pools.shape[0]):
        q = pools[p]
        running = draining = 0
        for r in range(p * count, (p + 1) * count):
            held = replicas[r].decoding + replicas[r].prefilling
            if replicas[r].state == SERVES:
                running += held
            elif replicas[r].state == DRAINS:
                draining += held
        q.running = float(running)
        q.drain_running = float(draining)
