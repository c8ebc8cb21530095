"""One control interval of one cluster, request by request: the fleet moves at sub-steps, requests at any time.

The same life cycle, supply, actuator, books and scrapes as in the fluid engine. What is drawn belongs to sub-steps and
is the same under every scaler. Compiled once for one cluster and for a batch; scalar code over records.

Beside the fluid engine: answers that admission control cuts are those of requests that come meanwhile; deferrable
sequences make the iterations of runs longer that begin after they joined.
"""

from __future__ import annotations

import numpy as np

from rlscale.sim import lifecycle
from rlscale.sim.books import keep_books, scrape_fleet
from rlscale.sim.fleet import apply_targets, change_supply, fail
from rlscale.sim.luck import kernel
from rlscale.sim.records import BEFORE, NOW
from rlscale.sim.request import drop_waiting, run_until
from rlscale.sim.request_arrivals import draw, drawn_count, read
from rlscale.sim.request_fleet import count_running, follow, let_go
from rlscale.sim.request_outcomes import turn_away
from rlscale.sim.request_records import FRONT, SERVES
from rlscale.sim.work import take_work

DONE = -1


@kernel
def run_requests(first, last, frozen, goal, cluster, pool, node, slot, flow, arrivals, replicas, requests, decode,
                 cache, index, cells, classes, hist, scrape, pool_scrape, hist_scrape,
                 events, held, spec, pool_spec, demands, servers, knots, bank, law, given, spans, cursor, block,
                 block_steps, supply, grid, work, degraded, log):  # fmt: skip
    """Up to interval `goal[r]` of the clusters `first` to `last - 1`; DONE, or the cluster that needs more room."""
    for r in range(first, last):
        load = cluster[r].load
        while cluster[r].interval < goal[r]:
            if not _interval(
                frozen, cluster[r], pool[r], node[r], slot[r], flow[r], arrivals[r], replicas[r], requests[r],
                decode[r], (cache[0], cache[1][r]), index[r], cells, classes,
                hist[r], scrape[r], pool_scrape[r], hist_scrape[r], events[r], held[r], spec[0], pool_spec,
                demands, servers, knots, bank[load], law[load], given, spans[load], cursor[r], block[load],
                block_steps, supply, grid, work[load], degraded, log,
            ):  # fmt: skip
                return r
    return DONE


@kernel
def _interval(frozen, c, pools, nodes, slots, flow, arrivals, replicas, requests, decode, cache, index, cells,
              classes, hist, scrape, pool_scrape, hist_scrape, events, held, spec, pool_spec, demands, servers, knots,
              values, law, given, span, cursor, block, block_steps, supply, grid, work, degraded, log):  # fmt: skip
    """One interval, from the sub-step on at which room was short; False where it is short again."""
    h = spec.substep_s
    count = slots.shape[1]
    front = flow[FRONT]
    for step in range(c.step - c.interval * spec.substeps, spec.substeps):
        now_s = c.step * h
        longest = np.inf
        kind = block[min((c.cell + c.step) // block_steps, block.shape[0] - 1)]
        if spec.degrades and max(0.0, c.queued - c.left) > spec.max_waiting * max(1, front.ready):
            kind = degraded[kind]
            longest = knots[kind, 1, 1, knots.shape[3] - 1]
            c.degraded_steps += 1
        if not _take_arrivals(frozen, now_s, c, front, arrivals, requests, spec, knots[kind], longest, values, law,
                              given, span, cursor, hist):  # fmt: skip
            return False
        if not frozen:
            # The fluid's books are empty here: what dies or drains is moved by `follow`.
            for p in range(pools.shape[0]):
                pools[p].running = pools[p].drain_running = 0.0
            if spec.has_supply and c.step >= c.supply_step:
                change_supply(now_s, c, pools, nodes, slots, cells, classes, hist, spec, pool_spec, events, supply)
            if step == spec.control_step:
                if spec.fails:
                    fail(now_s, c, pools, nodes, slots, cells, classes, hist, spec, pool_spec, events)
                apply_targets(now_s, c, pools, nodes, slots, cells, classes, spec, pool_spec, events, held)
            for p in range(pools.shape[0]):
                if pools[p].next_event_s <= now_s:
                    lifecycle.advance(now_s, p, pools, nodes, slots, spec, pool_spec, events)
            follow(now_s, c, slots, flow, replicas, requests, decode, cache, index, servers,
                   hist, spec, log)  # fmt: skip
        while front.waiting > 0 and now_s - requests[front.wait_head].asked_s > spec.timeout_s:
            drop_waiting(c, requests, flow, hist)
        finished = c.finished
        count_running(pools, replicas, count)
        if spec.has_work:
            take_work(frozen, c, pools, spec, pool_spec, kind, demands, work)
            _lengthen(c, pools, replicas, count, demands, kind, h)
        admitted = c.admitted
        run_until(now_s + h, c, flow, arrivals, replicas, requests, decode, cache, index,
                  servers, hist, spec, log)  # fmt: skip
        count_running(pools, replicas, count)
        _pace(c.admitted - admitted, pools, demands, kind, h)
        if not frozen:
            keep_books(now_s, c, pools, spec, pool_spec, demands, kind, grid)
        let_go(now_s + h, pools, nodes, slots, replicas, index, spec, pool_spec, events)
        if law.continues > 0.0:
            c.thinking += law.continues * (c.finished - finished)
        c.step += 1
        if step + 1 == spec.scrape_step:
            scrape_fleet(c, pools, scrape, pool_scrape, spec)
            for p in range(pools.shape[0]):
                pool_scrape[p].memory = _memory(p, pools[p].ready, replicas, count, servers[p].kv_capacity_tokens)
            if hist_scrape.shape[0] > 0:
                hist_scrape[BEFORE] = hist_scrape[NOW]
                hist_scrape[NOW] = hist[:2]
    c.interval += 1
    return True


@kernel
def _take_arrivals(frozen, now_s, c, front, arrivals, requests, spec, knots, longest, values, law, given, span,
                   cursor, hist):  # fmt: skip
    """The requests of the coming sub-step; False, and nothing has happened, where there is no room for them."""
    rejects = spec.rejects and max(0.0, c.queued - c.left) > spec.max_waiting * max(1, front.ready)
    if span[1] > span[0]:
        if frozen:
            front.next = front.upto = 0
            return True
        end = read(now_s, c, front, arrivals, spec, given, cursor[0], span[1], longest)
        if end < 0 or front.active + front.upto >= requests.shape[0]:
            return False
        cursor[0] = end
        if rejects:
            turn_away(float(front.upto), c, hist)
            front.upto = 0
        return True
    thinking = c.thinking
    count = drawn_count(frozen, c, spec, values, law)
    if count > arrivals.shape[0] or front.active + count >= requests.shape[0]:
        c.thinking = thinking
        return False
    if rejects:
        turn_away(float(count), c, hist)
        count = 0
    draw(count, now_s, c, front, arrivals, spec, law, knots)
    return True


@kernel
def _lengthen(c, pools, replicas, count, demands, kind, h):
    """Deferrable sequences make every iteration longer, and get a token in each."""
    for p in range(pools.shape[0]):
        q, d = pools[p], demands[kind, p]
        if q.extra > 0.0:
            c.work = min(c.work + q.extra * q.ready * h / max(q.iteration_s, d.c0), c.work_come)
        for r in range(p * count, (p + 1) * count):
            replicas[r].extra_s = d.c * q.extra if replicas[r].state == SERVES else 0.0


@kernel
def _pace(admitted, pools, demands, kind, h):
    """What the books of energy and of deferrable work want to know: how long an iteration takes on average."""
    ready = 0
    for p in range(pools.shape[0]):
        if demands[kind, p].w > 0.0:  # replicas that do prompts
            ready += pools[p].ready
    for p in range(pools.shape[0]):
        q, d = pools[p], demands[kind, p]
        b = q.running / max(1, q.ready) + q.extra
        prompts = min(0.9, admitted / max(1, ready) * d.w / h)
        q.iteration_s = (d.c0 + d.c * b) / (1.0 - prompts)


@kernel
def _memory(p, ready, replicas, count, capacity):
    taken = 0.0
    for r in range(p * count, (p + 1) * count):
        if replicas[r].state == SERVES:
            taken += replicas[r].held + replicas[r].reserved
    return taken / (ready * capacity) if ready > 0 else 0.0
