"""Requests on a changing fleet, event by event: arrivals, ends of runs, replicas that come, drain and go.

Equal to `naive.py` in all that happens; between events a replica's iterations are one closed form (see replica.py).
Counters and histograms are those of the fluid engine, so that nobody outside sees which engine runs. Scalar code over
the records of one cluster. Knows no nodes, no targets and no observations.
"""

from __future__ import annotations

from rlscale.sim.dispatch import choose, list_ready, room_for, take_up
from rlscale.sim.heaps import settle
from rlscale.sim.histogram import INF_BIN
from rlscale.sim.luck import inlined, kernel
from rlscale.sim.records import DECODE, PREFILL
from rlscale.sim.replica import FOREVER_S, begin, end_run, has_kv, join_queue, leave_queue, next_finished, shorten
from rlscale.sim.request_outcomes import drop, finish, first_token
from rlscale.sim.request_records import (
    BACK,
    BY_END,
    DRAINS,
    FRONT,
    GATEWAY_QUEUE,
    GONE,
    NOBODY,
    OUTSTANDING,
    SERVES,
    SOME,
)
from rlscale.sim.request_transfer import lands_next_s, next_landed, send


@kernel
def run_until(until_s, c, flow, arrivals, replicas, requests, decode, cache, index, servers,
              hist, spec, log):  # fmt: skip
    """Everything that happens before `until_s`; of one instant, the ends of runs before arrivals, KV caches between."""
    front = flow[FRONT]
    while True:
        r = index[BY_END, 0]
        end_s = replicas[r].due
        arrival_s = arrivals[front.next].at_s if front.next < front.upto else FOREVER_S
        land_s = lands_next_s(flow, requests)
        if end_s <= arrival_s and end_s <= land_s:
            if end_s >= until_s:
                return
            _end(end_s, r, c, flow, replicas, requests, decode, cache, index, servers, hist, spec, log)
        elif land_s <= arrival_s:
            if land_s >= until_s:
                return
            dispatch(land_s, next_landed(flow, requests), c, flow, replicas, requests, decode, cache, index, servers,
                     hist, spec, log)  # fmt: skip
        else:
            if arrival_s >= until_s:
                return
            _arrive(arrivals[front.next], c, flow, replicas, requests, decode, cache, index,
                    servers, hist, spec, log)  # fmt: skip
            front.next += 1


@kernel
def serve_from(now_s, r, c, flow, replicas, requests, decode, cache, index, servers, hist,
               spec, log):  # fmt: skip
    """A replica takes requests from now on, those first that found none."""
    take_up(r, replicas, index, cache)
    list_ready(replicas, index, flow, servers)
    place_waiting(now_s, c, flow, replicas, requests, decode, cache, index, servers, hist, spec, log)


@kernel
def place_waiting(now_s, c, flow, replicas, requests, decode, cache, index, servers, hist,
                  spec, log):  # fmt: skip
    """Those that found no replica go to the ones there are now."""
    for s in range(flow.shape[0]):
        side = flow[s]
        for _ in range(side.waiting if side.ready > 0 else 0):
            if side.waiting == 0:  # a replica that began has fetched the rest
                break
            dispatch(now_s, leave_queue(side, requests), c, flow, replicas, requests, decode, cache, index, servers,
                     hist, spec, log)  # fmt: skip


@kernel
def drain_from(now_s, r, c, flow, replicas, requests, decode, cache, index, servers, hist,
               spec, log):  # fmt: skip
    """A replica takes no more requests; those that wait for it go elsewhere, a KV cache travels once more."""
    q = replicas[r]
    q.state = DRAINS
    list_ready(replicas, index, flow, servers)
    waiting, i = q.waiting, q.wait_head
    q.waiting = 0
    index[OUTSTANDING, r] -= waiting
    for _ in range(waiting):
        after = requests[i].next
        if has_kv(requests[i]):
            send(now_s, i, flow, requests, spec)
        else:
            dispatch(now_s, i, c, flow, replicas, requests, decode, cache, index, servers,
                     hist, spec, log)  # fmt: skip
        i = after


@kernel
def remove(now_s, r, requeue, c, flow, replicas, requests, decode, cache, index, servers, hist,
           spec, log):  # fmt: skip
    """A replica is gone: what ran on it is lost, or asked for again; what waited goes elsewhere."""
    if replicas[r].state == SERVES:
        drain_from(now_s, r, c, flow, replicas, requests, decode, cache, index, servers, hist,
                   spec, log)  # fmt: skip
    q = replicas[r]
    q.state = GONE
    q.due = FOREVER_S
    settle(q.place, r, replicas.shape[0], index, BY_END, replicas)
    prefilling, i, last = q.prefilling, q.fill_head, q.last
    decoding, waiting, preempted = q.decoding, q.waiting, q.wait_head
    q.prefilling = q.decoding = q.waiting = q.passes = q.prompts = 0
    q.fill_head = NOBODY
    q.held = q.reserved = 0.0
    index[OUTSTANDING, r] = 0
    for _ in range(prefilling):
        after = requests[i].next
        _leave(now_s, i, requeue, c, flow, replicas, requests, decode, cache, index, servers,
               hist, spec, log)  # fmt: skip
        i = after
    # In the order in which they began to decode.
    first = last
    if decoding > 0:
        while requests[first].before != NOBODY:
            first = requests[first].before
    i = first
    for _ in range(decoding):
        after = requests[i].after
        _leave(now_s, i, requeue, c, flow, replicas, requests, decode, cache, index, servers,
               hist, spec, log)  # fmt: skip
        i = after
    _left_queue(waiting, servers[q.pool], c)
    i = preempted  # while it drained: back in its own queue
    for _ in range(waiting):
        after = requests[i].next
        _leave(now_s, i, requeue, c, flow, replicas, requests, decode, cache, index, servers,
               hist, spec, log)  # fmt: skip
        i = after


@kernel
def dispatch(now_s, i, c, flow, replicas, requests, decode, cache, index, servers, hist, spec,
             log):  # fmt: skip
    """To the replica that the balancer chooses, which begins at once if it is idle."""
    side = flow[BACK if spec.roles and requests[i].made > 0 else FRONT]
    if side.ready == 0:
        join_queue(i, side, requests)
        return
    r = choose(spec.balancer, requests[i].key, c.seed, replicas, index, side)
    if servers[replicas[r].pool].longest_tokens < requests[i].prompt + requests[i].output:
        r = room_for(i, side, replicas, requests, index, servers)
    held = r != NOBODY and spec.balancer == GATEWAY_QUEUE and index[OUTSTANDING, r] >= servers[replicas[r].pool].seats
    if r == NOBODY or held:
        join_queue(i, side, requests)
        return
    q = replicas[r]
    first = q.waiting == 0
    join_queue(i, q, requests)
    index[OUTSTANDING, r] += 1
    if q.passes == 0:
        _begin(now_s, r, c, flow, replicas, requests, decode, cache, index, servers, hist, spec, log)
    elif first and q.prompts == 0:
        # A full batch does not change for it, unless it gives up before; who has a token does not give up.
        full = q.prefilling + q.decoding >= servers[q.pool].seats
        patient_s = requests[i].asked_s + spec.timeout_s if requests[i].made == 0 else FOREVER_S
        if shorten(patient_s if full else now_s, r, replicas):
            settle(q.place, r, replicas.shape[0], index, BY_END, replicas)


@inlined
def _arrive(arrival, c, flow, replicas, requests, decode, cache, index, servers, hist, spec, log):
    c.arrived += 1.0
    if arrival.prompt + arrival.output > spec.largest_kv_tokens:
        drop(c, hist)
        return
    i = flow[FRONT].free
    job = requests[i]
    flow[FRONT].free = job.next
    flow[FRONT].active += 1
    job.number = arrival.number
    job.arrived_s = job.asked_s = arrival.at_s
    job.prompt, job.output, job.key = arrival.prompt, arrival.output, arrival.key
    job.to_process, job.done, job.made = arrival.prompt, 0.0, 0
    job.block, job.blocks, job.group = arrival.block, arrival.blocks, arrival.group
    c.queued += 1.0
    dispatch(arrival.at_s, i, c, flow, replicas, requests, decode, cache, index, servers, hist,
             spec, log)  # fmt: skip


@inlined
def _end(now_s, r, c, flow, replicas, requests, decode, cache, index, servers, hist, spec, log):
    """The run of a replica is over: answers that are complete leave, the next run begins."""
    server = servers[replicas[r].pool]
    end_run(now_s, r, replicas, requests, decode, cache, server, index)
    for k in range(index[SOME, 0]):
        i = index[SOME, k + 1]
        first_token(i, c, requests, hist)
        if server.role == PREFILL and requests[i].output > 1.0:
            index[OUTSTANDING, r] -= 1
            c.passed += 1.0
            send(now_s, i, flow, requests, spec)
    while True:
        i = next_finished(r, replicas, requests, decode)
        if i == NOBODY:
            break
        index[OUTSTANDING, r] -= 1
        finish(now_s, i, c, requests, hist, spec, log)
        _free(i, requests, flow)
    _begin(now_s, r, c, flow, replicas, requests, decode, cache, index, servers, hist, spec, log)


@kernel
def _begin(now_s, r, c, flow, replicas, requests, decode, cache, index, servers, hist, spec, log):
    q = replicas[r]
    while True:
        if spec.balancer == GATEWAY_QUEUE and q.state == SERVES:
            _fetch(r, flow, replicas, requests, index, servers, spec)
        waiting = q.waiting
        index[SOME, 0] = 0
        begin(now_s, r, spec.timeout_s, replicas, requests, decode, cache, servers[q.pool], index)
        for k in range(index[SOME, 0]):
            index[OUTSTANDING, r] -= 1
            drop(c, hist)
            _free(index[SOME, k + 1], requests, flow)
        _left_queue(waiting - q.waiting, servers[q.pool], c)
        # All that a gateway had handed over may have given up, and it holds more.
        if index[SOME, 0] == 0 or q.passes > 0 or spec.balancer != GATEWAY_QUEUE:
            break
    settle(q.place, r, replicas.shape[0], index, BY_END, replicas)


@kernel
def _left_queue(count, server, c):
    """So many have begun on a replica: requests, or sequences that had been handed over."""
    if server.role == DECODE:
        c.joined += count
    else:
        c.left += count


@kernel
def _fetch(r, flow, replicas, requests, index, servers, spec):
    """A replica with free seats takes those that are held back for one; whom it has no memory for goes to the end."""
    q = replicas[r]
    server = servers[q.pool]
    side = flow[BACK if spec.roles and server.role == DECODE else FRONT]
    for _ in range(side.waiting):
        if index[OUTSTANDING, r] >= server.seats:
            return
        i = leave_queue(side, requests)
        if requests[i].prompt + requests[i].output > server.longest_tokens:
            join_queue(i, side, requests)
        else:
            join_queue(i, q, requests)
            index[OUTSTANDING, r] += 1


@kernel
def _leave(now_s, i, requeue, c, flow, replicas, requests, decode, cache, index, servers, hist,
           spec, log):  # fmt: skip
    """A request whose replica has gone."""
    job = requests[i]
    if requeue:
        job.asked_s = now_s
        job.to_process, job.done, job.made = job.prompt, 0.0, 0
        c.queued += 1.0
        dispatch(now_s, i, c, flow, replicas, requests, decode, cache, index, servers, hist,
                 spec, log)  # fmt: skip
        return
    c.lost += 1.0
    c.missed += 1.0
    hist[1:, INF_BIN] += 1.0
    if job.made == 0:
        hist[0, INF_BIN] += 1.0
    _free(i, requests, flow)


@kernel
def _free(i, requests, flow):
    front = flow[FRONT]
    requests[i].next = front.free
    front.free = i
    front.active -= 1


@kernel
def drop_waiting(c, requests, flow, hist):
    """The first request that no replica took has waited too long."""
    i = leave_queue(flow[FRONT], requests)
    c.left += 1.0
    drop(c, hist)
    _free(i, requests, flow)
