"""One interval of one cluster as a fluid, in sub-steps of about a second.

Per sub-step: fleet changes, arrivals, patience, admission (limited by seats and by the prompt budget), decode
passes, completions, latencies into histograms. One queue per service, first in first out; a request is bound to a
pool when it is admitted, and a pool's sequences are spread evenly over its ready replicas. A cohort of answers of m
tokens finishes when its pool has made m - 1 further decode passes, so TPOT is the mean over a request's own life.

Scalar code over records (see records.py), compiled once for one cluster and for a batch. Knows no rewards, no
observations and no stateful randomness. Symbols as in laws.Demand: b sequences per replica, d(b) a decode pass,
t the mean iteration time including prompts, l arrivals per replica and second.
"""

from __future__ import annotations

import math

from rlscale.sim import lifecycle, luck
from rlscale.sim.books import keep_books, scrape_fleet
from rlscale.sim.cohorts import SHORTEST_PASS, arrived_in, complete, waited
from rlscale.sim.company import companions
from rlscale.sim.fleet import apply_targets, change_supply, drain, fail, lose_draining
from rlscale.sim.fluid_roles import serve_roles
from rlscale.sim.histogram import INF_BIN, bin_of
from rlscale.sim.luck import inlined, kernel
from rlscale.sim.records import ADMITTED, BEFORE, BEHIND, DECODE, NOW, PROGRESS, TTFT_MEAN, TTFT_OK
from rlscale.sim.spread import spread
from rlscale.sim.tables import POINTS, SETS
from rlscale.sim.work import take_work

SOON = 20.0  # iterations: about the shortest answers
PACE_S = 5.0  # over which admissions of a replica are smoothed
RATE_S = 60.0  # over which the rate of a bursty load is smoothed; it enters by its logarithm


@kernel
def run_batch(first, last, frozen, cluster, pool, node, slot, queue, sent, cells, classes, hist, scrape, pool_scrape,
              hist_scrape, events, held, spec, pool_spec, demands, point, output, bank, law, block, block_steps, supply,
              grid, work, degraded):  # fmt: skip
    """One control interval of the clusters `first` to `last - 1`."""
    for r in range(first, last):
        load = cluster[r].load
        run_interval(
            frozen, cluster[r], pool[r], node[r], slot[r], queue[r], sent[r], cells[r], classes[r], hist[r],
            scrape[r], pool_scrape[r], hist_scrape[r], events[r], held[r], spec[0], pool_spec, demands, point, output,
            bank[load], law[load], block[load], block_steps, supply, grid, work[load], degraded,
        )  # fmt: skip


@kernel
def run_interval(frozen, c, pools, nodes, slots, queue, sent, cells, classes, hist, scrape, pool_scrape, hist_scrape,
                 events, held, spec, pool_spec, demands, point, output, values, law, block, block_steps, supply, grid,
                 work, degraded):  # fmt: skip
    """One control interval. `frozen`: arrivals have stopped, the fleet stays, nothing is billed."""
    h = spec.substep_s
    for step in range(spec.substeps):
        now_s = c.step * h
        if not frozen:
            if spec.has_supply and c.step >= c.supply_step:
                change_supply(now_s, c, pools, nodes, slots, cells, classes, hist, spec, pool_spec, events, supply)
            if step == spec.control_step:
                if spec.fails:
                    fail(now_s, c, pools, nodes, slots, cells, classes, hist, spec, pool_spec, events)
                apply_targets(now_s, c, pools, nodes, slots, cells, classes, spec, pool_spec, events, held)
            for p in range(pools.shape[0]):
                if pools[p].next_event_s <= now_s:
                    expired = lifecycle.advance(now_s, p, pools, nodes, slots, spec, pool_spec, events)
                    lose_draining(expired, c, pools[p], hist, spec)
        kind = block[min((c.cell + c.step) // block_steps, block.shape[0] - 1)]
        if spec.degrades and _waiting(c) > spec.max_waiting * _ready(pools, pool_spec):
            kind = degraded[kind]
            c.degraded_steps += 1
        finished = c.finished
        _arrive(frozen, c, pools, queue, hist, spec, kind, demands, values, law, pool_spec)
        _lose_patience(c, queue, hist, spec)
        if spec.has_work:
            take_work(frozen, c, pools, spec, pool_spec, kind, demands, work)
        if spec.roles:
            serve_roles(c, pools, queue, sent, cells, classes, hist, spec, pool_spec, kind, demands, point, output)
        else:
            _serve(c, pools, queue, cells, classes, hist, spec, pool_spec, kind, demands, point, output, law)
        if not frozen:
            keep_books(now_s, c, pools, spec, pool_spec, demands, kind, grid)
        # After all books: what has drained by now was there until now, and its node may change pools.
        for p in range(pools.shape[0]):
            if pools[p].draining > 0:
                drain(now_s + h, p, c, pools, nodes, slots, hist, spec, pool_spec, demands[kind, p], events)
        if law.continues > 0.0:
            c.thinking += law.continues * (c.finished - finished)
        c.step += 1
        if step + 1 == spec.scrape_step:
            scrape_fleet(c, pools, scrape, pool_scrape, spec)
            for p in range(pools.shape[0]):
                q = pools[p]
                taken = q.running * demands[kind, p].k
                pool_scrape[p].memory = taken / (q.ready * pool_spec[p].kv_capacity_tokens) if q.ready > 0 else 0.0
            if hist_scrape.shape[0] > 0:
                hist_scrape[BEFORE] = hist_scrape[NOW]
                hist_scrape[NOW] = hist[:2]
    c.interval += 1


@inlined
def _arrive(frozen, c, pools, queue, hist, spec, kind, demands, values, law, pool_spec):
    """Draw or read this sub-step's requests; the ones that fit into no pool's memory are turned away."""
    count = 0.0
    at = c.cell + c.step
    if not frozen and at < values.shape[0]:
        count = float(values[at])
        if law.poisson:
            count *= spec.substep_s
            if pool_spec[0].batching:
                count = luck.poisson(count, luck.uniform(c.seed, luck.COUNTS, 0, c.step, 0))
    if law.continues > 0.0 and not frozen:
        back = luck.poisson(c.thinking * law.returns, luck.uniform(c.seed, luck.RETURNS, 0, c.step, 0))
        back = min(back, c.thinking)
        c.thinking -= back
        count += back
    c.arrived += count
    if law.bursty:
        share = min(1.0, spec.substep_s / RATE_S) if c.step > 0 else 1.0
        c.rate_per_s += share * (count / spec.substep_s - c.rate_per_s)
    over = demands[kind, 0].over
    for p in range(1, demands.shape[1]):
        over = min(over, demands[kind, p].over)
    if over > 0.0 and count > 0.0:
        c.dropped += over * count
        c.missed += over * count
        hist[:, INF_BIN] += over * count
        count -= over * count
    if spec.rejects and _waiting(c) > spec.max_waiting * _ready(pools, pool_spec):
        c.dropped += count
        c.missed += count
        hist[:, INF_BIN] += count
        count = 0.0
    c.queued += count
    queue[c.step & (queue.shape[0] - 1)] = c.queued


@inlined
def _waiting(c):
    return max(0.0, c.queued - c.left)


@inlined
def _ready(pools, pool_spec):
    """Ready replicas that take requests, at least one."""
    count = 0
    for p in range(pools.shape[0]):
        if pool_spec[p].role != DECODE:
            count += pools[p].ready
    return max(1, count)


@inlined
def _lose_patience(c, queue, hist, spec):
    """Requests older than the time-out leave the queue."""
    mask = queue.shape[0] - 1
    while c.head < c.step and queue[c.head & mask] <= c.left:
        c.head += 1
    while c.head < c.step and (c.step - c.head) * spec.substep_s > spec.timeout_s:
        gone = queue[c.head & mask] - c.left
        if gone > 0.0:
            c.left += gone
            c.dropped += gone
            c.missed += gone
            hist[:, INF_BIN] += gone
        c.head += 1


@inlined
def _serve(c, pools, queue, cells, classes, hist, spec, pool_spec, kind, demands, point, output, law):
    """Admit what seats and prompt budget allow, spread over the pools, and let the pools compute.

    Whole arrays and indices are passed, not views: making one costs about 10 ns (an atomic reference count).
    """
    h = spec.substep_s
    room = 0.0
    for p in range(pools.shape[0]):
        pools[p].room = _room(h, pools[p], pool_spec[p], demands[kind, p])
        room += pools[p].room
    admitted = min(max(0.0, c.queued - c.left), room)
    first = c.left
    if pools.shape[0] > 1:
        spread(h, admitted, pools, pool_spec, demands, kind)
    else:
        pools[0].part = admitted
    for p in range(pools.shape[0]):
        part = pools[p].part
        if pool_spec[p].batching:
            _batch(part, admitted, first, c, p, pools[p], queue, cells, classes, hist, spec, pool_spec[p], kind,
                   demands[kind, p], point, output, law)  # fmt: skip
        else:
            _one_by_one(part, admitted, first, c, p, pools[p], queue, hist, spec, pool_spec[p], kind,
                        demands[kind, p], point, law.burstiness)  # fmt: skip
    c.left += admitted
    while c.head < c.step and queue[c.head & (queue.shape[0] - 1)] <= c.left:
        c.head += 1


@inlined
def _room(h, q, pool_spec, d):
    """Most requests a pool can admit in this sub-step."""
    if q.ready == 0:
        return 0.0
    if not pool_spec.batching:
        return max(0.0, q.ready * d.seats * (1.0 + h / d.w) - q.running)
    b = max(0.0, (q.running + q.drift) / q.ready)
    full = d.c0 + d.c * d.seats
    by_seats = (d.seats - b + d.seats * h / (d.no * full)) / (1.0 + d.seats * d.w / (d.no * full))
    by_prompts = h * d.chunk_s / ((d.c0 + d.c * b + d.chunk_s) * d.w)
    return q.ready * max(0.0, min(by_seats, by_prompts))


@inlined
def _batch(part, admitted, first, c, p, q, queue, cells, classes, hist, spec, pool_spec, kind, d, point, output,
           law):  # fmt: skip
    """A pool of batching replicas: decode passes of this sub-step, latencies of the admitted, completions."""
    h = spec.substep_s
    replicas = max(1, q.ready)
    a = part / replicas
    b_old = max(0.0, (q.running + q.drift) / replicas)
    c0 = d.c0 + d.c * q.extra  # deferrable sequences only make each pass longer
    # Sequences at the end of the sub-step, implicit and therefore stable for any h: the positive root of
    # no*c'*b^2 + (no*c0 + T - (b_old + a)*no*c')*b - (b_old + a)*no*c0 = 0 with T the time left for decoding.
    decode_time = h - a * d.w
    quad = d.no * d.c
    half = d.no * c0 + decode_time - (b_old + a) * quad
    free = (b_old + a) * d.no * c0
    root = math.sqrt(half * half + 4.0 * quad * free)
    b = 2.0 * free / (half + root) if half > 0.0 else (root - half) / (2.0 * quad)
    b = min(max(b, 0.0), d.seats)
    decode = c0 + d.c * b
    t = h * decode / decode_time
    rate = a / h
    q.iteration_s = t
    before = q.progress
    q.progress += h / t
    if q.extra > 0.0:
        c.work = min(c.work + q.extra * q.ready * h / t, c.work_come)

    mask = cells.shape[1] - 1
    here = c.step & mask
    # Admissions around this sub-step without the request itself; smoothed, so that the result does not depend on h.
    else_admitted = a * max(0.0, admitted - 1.0) / max(admitted, 1.0)
    q.rate_per_s += min(1.0, h / PACE_S) * (else_admitted / h - q.rate_per_s)
    around = q.rate_per_s
    met = decode / max(0.1, 1.0 - around * d.w) + d.w2 * around  # iteration met by an arrival: long ones more often
    whole = companions(law.company, c.rate_per_s * h) if law.bursty else c.rate_per_s * h
    cells[p, here, ADMITTED] = part
    cells[p, here, PROGRESS] = q.progress
    cells[p, here, TTFT_MEAN] = cells[p, (c.step - 1) & mask, TTFT_MEAN]
    if part > 0.0:
        busy = min(1.0, 0.5 * (b_old + b))
        ahead, behind = _company(else_admitted, met, whole, replicas, c, spec, pool_spec, d, law)
        cells[p, here, BEHIND] = spec.k_behind * d.w * behind
        ok, ttft_mean = _first_tokens(part, admitted, first, c, p, queue, hist, spec, pool_spec, kind, d, point,
                                      decode, b, busy * met * spec.k_residual, busy * rate * met * spec.k_together,
                                      ahead * spec.k_together)  # fmt: skip
        cells[p, here, TTFT_OK] = ok
        cells[p, here, TTFT_MEAN] = ttft_mean
        c.admitted += part
        c.ttft_sum_s += part * ttft_mean

    ratio = t / decode
    stay = d.no * t
    unresolved = (1.0 + whole - c.rate_per_s * h) * h / (h + stay)  # variance of counts below h, over their mean
    spread = ratio * ratio * (
        spec.k_kv_noise * d.kv_spread_s * d.kv_spread_s * b
        + spec.k_count_noise * d.c * d.c * b / replicas * unresolved
    )  # fmt: skip
    noise = around * met * d.w2 * spec.k_work_noise
    done = complete(before, c, p, q, cells, classes, hist, spec, kind, d, point, output, SHORTEST_PASS * decode,
                     noise, spread, 1.0 - decode / t, 1.0 / math.sqrt(replicas))  # fmt: skip
    q.running = max(0.0, q.running + part - done)
    # Answer lengths are random: completions scatter around their mean, and the error decays with the residence.
    z = luck.rough_normal(c.seed, luck.ANSWERS, p, c.step, 0)
    q.drift = q.drift * stay / (stay + h) + spec.k_answer_noise * math.sqrt(done) * z


@inlined
def _company(others, met, whole, replicas, c, spec, pool_spec, d, law):
    """Of the `others` admitted per replica in this sub-step: how many come with a request's prompt, and how many soon.

    `whole`: companions that a request of a bursty load has within a sub-step on average. An even load has the share
    `met` / h of them within an iteration, and what comes later is part of the stream the fluid counts.
    """
    soon = 0.0
    if law.bursty:
        least = max(1e-9, whole)
        near = others * min(1.0, companions(law.company, c.rate_per_s * met) / least)
        soon = _balanced(others * companions(law.company, c.rate_per_s * SOON * met) / least, replicas, spec)
    else:
        near = others * min(1.0, met / spec.substep_s)
    near = _balanced(near, replicas, spec)
    # Prompts of one iteration end together; of a burst that takes several, half come later than a given one.
    crowd = near * d.ni / pool_spec.chunk_tokens
    return near * (1.0 + 0.5 * crowd) / (1.0 + crowd), soon


@inlined
def _balanced(near, replicas, spec):
    """Least-outstanding balancing puts companions on different replicas as long as there are few."""
    apart = spec.k_balance * (1.0 - 1.0 / replicas)
    return near * near / (near + apart) if near > 0.0 else 0.0


@inlined
def _first_tokens(part, admitted, first, c, p, queue, hist, spec, pool_spec, kind, d, point, decode, b, residual,
                  paced, burst):  # fmt: skip
    """Deposit the TTFT of the admitted; returns the share within the SLO and the mean."""
    h = spec.substep_s
    weight = part / POINTS
    table = point[kind, p, c.step & (SETS - 1)]
    budget = max(pool_spec.chunk_tokens - b, 0.1 * pool_spec.chunk_tokens)
    backlog = c.queued - first - admitted > 0.0 or c.head < c.step
    j = c.head
    ok = 0.0
    total = 0.0
    for k in range(POINTS):
        n = table[k, 0]
        wait = 0.0
        if backlog:
            x = first + table[k, 6] * admitted
            j = arrived_in(x, j, c, queue)
            wait = waited(x, j, table[k, 6], c, queue, h, first + admitted < c.queued)
        others = paced if wait > 0.0 else burst  # what leaves a queue is admitted evenly
        tokens = n
        ahead = 0.0
        # A geometric number of others share the iteration; one of them is drawn, the rest enter by their mean.
        if table[k, 2] * (1.0 + others) > 1.0:
            ahead = table[k, 3] + others * d.w * table[k, 5]
            tokens += table[k, 4] + others * d.ni * table[k, 5]
        passes = math.ceil(tokens / budget)
        ttft = max(wait, residual * table[k, 7]) + ahead + passes * decode + table[k, 1]
        total += ttft
        if ttft <= spec.ttft_s + n * spec.ttft_s_per_token:
            ok += 1.0
        hist[0, bin_of(ttft)] += weight
    return ok / POINTS, total / POINTS


@inlined
def _one_by_one(part, admitted, first, c, p, q, queue, hist, spec, pool_spec, kind, d, point, burstiness):
    """A pool whose servers take one request at a time: waiting by Sakasegawa's formula for GI/G/c."""
    h = spec.substep_s
    running = (q.running + part) / (1.0 + h / d.w)
    done = q.running + part - running
    q.running = running
    q.iteration_s = d.w
    c.finished += done
    c.output_tokens += done
    c.total_tokens += done * (1.0 + d.ni)
    if part <= 0.0:
        return
    servers = max(1.0, q.ready * d.seats)
    rho = min(0.98, part * d.w / (h * servers))
    delayed = rho ** (math.sqrt(2.0 * (servers + 1.0)) - 1.0)  # chance to wait at all
    mean = 0.5 * (burstiness + pool_spec.service_cv2) * d.w * delayed / (servers * (1.0 - rho))
    table = point[kind, p, c.step & (SETS - 1)]
    weight = part / POINTS
    j = c.head
    for k in range(POINTS):
        x = first + table[k, 6] * admitted
        j = arrived_in(x, j, c, queue)
        wait = waited(x, j, table[k, 6], c, queue, h, first + admitted < c.queued)
        if table[k, 2] < delayed:
            wait += mean / delayed * table[k, 5]
        ttft = wait + table[k, 1]
        hist[0, bin_of(ttft)] += weight
        hist[2, bin_of(ttft)] += weight
        c.ttft_sum_s += weight * ttft
        if ttft > spec.ttft_s + table[k, 0] * spec.ttft_s_per_token:
            c.missed += weight
    c.admitted += part
