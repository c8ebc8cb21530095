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
from rlscale.sim.company import companions
from rlscale.sim.histogram import INF_BIN, bin_of
from rlscale.sim.luck import inlined, kernel
from rlscale.sim.tables import CLASSES, POINTS, SETS

SHORTEST_PASS = 0.8  # a request's mean pass is never below this share of the present decode pass
EACH = 1.0 / CLASSES  # share of a cohort in one class of answer lengths
ADMITTED, TTFT_OK, PROGRESS, TTFT_MEAN, BEHIND = 0, 1, 2, 3, 4  # columns of a cell of admissions
COLUMNS = 5
SOON = 20.0  # iterations: about the shortest answers
PACE_S = 5.0  # over which admissions of a replica are smoothed
RATE_S = 60.0  # over which the rate of a bursty load is smoothed; it enters by its logarithm


@kernel
def run_batch(first, last, frozen, cluster, pool, node, slot, queue, cells, classes, hist, scrape, pool_scrape,
              events, held, spec, pool_spec, demands, point, output, bank, law, block, block_steps, supply, grid, work,
              degraded):  # fmt: skip
    """One control interval of the clusters `first` to `last - 1`."""
    for r in range(first, last):
        load = cluster[r].load
        run_interval(
            frozen, cluster[r], pool[r], node[r], slot[r], queue[r], cells[r], classes[r], hist[r], scrape[r],
            pool_scrape[r], events[r], held[r], spec[0], pool_spec, demands, point, output, bank[load], law[load],
            block[load], block_steps, supply, grid, work[load], degraded,
        )  # fmt: skip


@kernel
def run_interval(frozen, c, pools, nodes, slots, queue, cells, classes, hist, scrape, pool_scrape, events, held,
                 spec, pool_spec, demands, point, output, values, law, block, block_steps, supply, grid, work,
                 degraded):  # fmt: skip
    """One control interval. `frozen`: arrivals have stopped, the fleet stays, nothing is billed."""
    h = spec.substep_s
    for step in range(spec.substeps):
        now_s = c.step * h
        if not frozen:
            if spec.has_supply and c.step >= c.supply_step:
                _change_supply(now_s, c, pools, nodes, slots, cells, classes, hist, spec, pool_spec, events, supply)
            if step == spec.control_step:
                if spec.fails:
                    _fail(now_s, c, pools, nodes, slots, cells, classes, hist, spec, pool_spec, events)
                _apply_targets(now_s, c, pools, nodes, slots, cells, classes, spec, pool_spec, events, held)
            for p in range(pools.shape[0]):
                if pools[p].next_event_s <= now_s:
                    expired = lifecycle.advance(now_s, p, pools, nodes, slots, spec, pool_spec, events)
                    _lose_draining(expired, c, pools[p], hist, spec)
        kind = block[min((c.cell + c.step) // block_steps, block.shape[0] - 1)]
        if spec.degrades and _waiting(c) > spec.max_waiting * _ready(pools):
            kind = degraded[kind]
            c.degraded_steps += 1
        finished = c.finished
        _arrive(frozen, c, pools, queue, hist, spec, kind, demands, values, law, pool_spec)
        _lose_patience(c, queue, hist, spec)
        if spec.has_work:
            _take_work(frozen, c, pools, spec, pool_spec, kind, demands, work)
        _serve(c, pools, queue, cells, classes, hist, spec, pool_spec, kind, demands, point, output, law)
        for p in range(pools.shape[0]):
            q = pools[p]
            if q.draining > 0:
                _drain(now_s + h, p, c, pools, nodes, slots, hist, spec, pool_spec, demands[kind, p], events)
            if not frozen:
                q.ready_s += h * q.ready
                q.pending_s += h * q.pending
                q.draining_s += h * q.draining
                q.node_s += h * q.nodes_billed
                if pool_spec[p].standby:
                    q.standby_s += h * q.standby
                    q.stopped_s += h * q.nodes_stopped
                if spec.energy:
                    _consume(now_s, c, q, spec, pool_spec[p], demands[kind, p], grid[p])
        if law.continues > 0.0:
            c.thinking += law.continues * (c.finished - finished)
        c.step += 1
        if step + 1 == spec.scrape_step:
            _scrape(c, pools, scrape, pool_scrape, spec, pool_spec, kind, demands)
    c.interval += 1


@kernel
def _apply_targets(now_s, c, pools, nodes, slots, cells, classes, spec, pool_spec, events, held):
    """Put the wanted targets in force: first the pools that shrink, whose nodes others of the family may take over."""
    for p in range(pools.shape[0]):
        q = pools[p]
        wanted = _actuated(q, held[p], c.interval, spec)
        c.churn += abs(wanted - q.target)
        q.target = wanted
        if q.ready + q.pending > q.target:
            before = q.ready
            drained = lifecycle.scale_in(now_s, p, pools, nodes, slots, spec, pool_spec, events)
            if drained > 0:
                _move_to_draining(drained / before, p, c, q, cells, classes)
    for p in range(pools.shape[0]):
        q = pools[p]
        if q.ready + q.pending < q.target or pool_spec[p].standby:
            lifecycle.scale_out(now_s, c.seed, c.interval, p, pools, nodes, slots, spec, pool_spec, events)


@kernel
def _actuated(q, held, interval, spec):
    """What Kubernetes' HPA makes of a wanted target: its tolerance, and its patience before a decrease."""
    wanted = q.wanted
    if spec.tolerance > 0.0 and q.target > 0 and abs(1.0 - wanted / q.target) <= spec.tolerance:
        wanted = q.target
    held[interval % held.shape[0]] = wanted
    if wanted < q.target and held.shape[0] > 1:
        wanted = min(q.target, held.max())
    return wanted


@kernel
def _change_supply(now_s, c, pools, nodes, slots, cells, classes, hist, spec, pool_spec, events, supply):
    """Another cell of the supply has begun."""
    c.supply_step += spec.supply_steps
    at = (c.supply_cell + c.step // spec.supply_steps) % supply.shape[1]
    for p in range(pools.shape[0]):
        q = pools[p]
        if supply[p, at] != q.supply:
            ready, draining = q.ready, q.draining
            died, draining_died, drained = lifecycle.supply_changes(
                now_s, supply[p, at], p, pools, nodes, slots, spec, pool_spec, events
            )
            _bury(died, ready, draining_died, draining, p, c, q, cells, classes, hist, spec)
            if drained > 0:
                _move_to_draining(drained / ready, p, c, q, cells, classes)


@kernel
def _fail(now_s, c, pools, nodes, slots, cells, classes, hist, spec, pool_spec, events):
    """Failures of this interval. They belong to records of slots and nodes, and strike what is there."""
    for p in range(pools.shape[0]):
        for kind in range(2):
            stream = luck.NODE_FAILS if kind == 0 else luck.REPLICA_FAILS
            mean = pool_spec[p].node_fails if kind == 0 else pool_spec[p].replica_fails
            count = int(luck.poisson(mean, luck.uniform(c.seed, stream, p, 0, c.interval)))
            for k in range(count):
                u = luck.uniform(c.seed, stream, p, k + 1, c.interval)
                q = pools[p]
                ready, draining = q.ready, q.draining
                if kind == 0:
                    died, draining_died = lifecycle.strike_node(
                        now_s, int(u * pool_spec[p].nodes), p, pools, nodes, slots, spec, pool_spec, events
                    )
                else:
                    place = int(u * pool_spec[p].nodes * pool_spec[p].slots_per_node)
                    died, draining_died = lifecycle.strike_replica(
                        now_s, place, p, pools, nodes, slots, spec, pool_spec, events
                    )
                _bury(died, ready, draining_died, draining, p, c, q, cells, classes, hist, spec)


@kernel
def _bury(died, ready, draining_died, draining, p, c, q, cells, classes, hist, spec):
    """Of so many ready and draining replicas some have died: so have their running requests."""
    if died > 0:
        share = died / ready
        _thin_cells(share, c.step, cells[p], classes[p])
        _go(share * q.running, c, hist, spec)
        q.running *= 1.0 - share
        q.drift *= 1.0 - share
    if draining_died > 0:
        gone = q.drain_running * draining_died / draining
        q.drain_running -= gone
        _go(gone, c, hist, spec)


@kernel
def _go(gone, c, hist, spec):
    """Running requests whose replica has died: into the queue again, or lost."""
    if spec.requeue:
        c.queued += gone
    else:
        c.lost += gone
        c.missed += gone
        hist[1:, INF_BIN] += gone


@kernel
def _move_to_draining(share, p, c, q, cells, classes):
    """The sequences of replicas that begin to drain leave the ready ones with them."""
    moved_ok = _thin_cells(share, c.step, cells[p], classes[p])
    moved = share * q.running
    if moved > 0.0:
        q.drain_ok = (q.drain_ok * q.drain_running + moved_ok) / (q.drain_running + moved)
        q.drain_running += moved
    q.running -= moved
    q.drift *= 1.0 - share


@kernel
def _thin_cells(share, step, cells, classes):
    """Take `share` of every unfinished request out of the cells; returns the taken ones whose TTFT met the SLO."""
    mask = cells.shape[0] - 1
    taken_ok = 0.0
    oldest = step
    for j in range(CLASSES):
        at = int(classes[j, 0])
        oldest = min(oldest, at)
        for i in range(at, step):
            cell = cells[i & mask]
            left = (1.0 - classes[j, 1]) if i == at else 1.0
            taken_ok += share * left * cell[ADMITTED] * cell[TTFT_OK] * EACH
    for i in range(oldest, step):
        cells[i & mask, ADMITTED] *= 1.0 - share
    return taken_ok


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
    if spec.rejects and _waiting(c) > spec.max_waiting * _ready(pools):
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
def _ready(pools):
    """Ready replicas of all pools, at least one."""
    count = 0
    for p in range(pools.shape[0]):
        count += pools[p].ready
    return max(1, count)


@kernel
def _take_work(frozen, c, pools, spec, pool_spec, kind, demands, work):
    """Fill the replicas with deferrable sequences as long as a decode pass stays short enough; count what is late."""
    begun = work[c.cell - 1] if c.cell > 0 else 0.0
    at = min(c.cell + c.step, work.shape[0] - 1)
    c.work_come = work[at] - begun
    left = 0.0 if frozen else max(0.0, c.work_come - c.work)
    due = max(0.0, work[max(0, at - spec.deadline_steps)] - begun) if at >= spec.deadline_steps else 0.0
    if due > c.work_due:
        c.work_late += max(0.0, due - max(c.work, c.work_due))
        c.work_due = due
    for p in range(pools.shape[0]):
        q, d = pools[p], demands[kind, p]
        q.extra = 0.0
        if q.ready > 0 and left > 0.0 and pool_spec[p].batching:
            b = q.running / q.ready
            room = min((spec.work_pass_s - d.c0) / d.c, d.seats) - b
            passes = spec.substep_s / max(q.iteration_s, d.c0)
            q.extra = max(0.0, min(room, left / (q.ready * passes)))
            left -= q.extra * q.ready * passes


@kernel
def _consume(now_s, c, q, spec, pool_spec, d, grid):
    """Energy of a sub-step: hosts, GPUs without a replica, replicas by what they do; its carbon and its price."""
    h = spec.substep_s
    gpus = pool_spec.gpus_per_replica
    watts = q.nodes_up * (pool_spec.host_w + pool_spec.gpus_per_node * pool_spec.idle_w)
    loaded = pool_spec.loaded_idle_w - pool_spec.idle_w
    if q.ready > 0:
        b = max(0.0, q.running + q.drift) / q.ready + q.extra
        if pool_spec.batching:
            # Decode power rises about as the logarithm of the batch between 8 and 256 sequences (ML.ENERGY, H100).
            level = min(max(math.log2(max(b, 1.0) / 8.0) / 5.0, 0.0), 1.0)
            decode = pool_spec.decode_low_w + level * (pool_spec.decode_high_w - pool_spec.decode_low_w)
            pass_s = d.c0 + d.c * b
            prompts = min(max(1.0 - pass_s / q.iteration_s, 0.0), 1.0) if q.iteration_s > 0.0 else 0.0
            working = decode + prompts * (pool_spec.prefill_w - decode)
            busy = min(b, 1.0)
        else:
            working = pool_spec.decode_high_w
            busy = min(q.running / (q.ready * d.seats), 1.0)
        watts += q.ready * gpus * (loaded + busy * (working - pool_spec.loaded_idle_w))
    watts += q.draining * gpus * loaded
    energy_j = watts * h
    hour = int((c.week_s + now_s) / 3600.0) % grid.shape[0]
    kwh = energy_j * spec.pue / 3.6e6
    q.energy_j += energy_j
    q.carbon_g += kwh * grid[hour, 0]
    q.energy_usd += kwh * grid[hour, 1]


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
    """Admit what seats and prompt budget allow, in proportion to each pool's room, and let the pools compute.

    Whole arrays and indices are passed, not views: making one costs about 10 ns (an atomic reference count).
    """
    h = spec.substep_s
    room = 0.0
    for p in range(pools.shape[0]):
        room += _room(h, pools[p], pool_spec[p], demands[kind, p])
    admitted = min(max(0.0, c.queued - c.left), room)
    first = c.left
    for p in range(pools.shape[0]):
        part = 0.0
        if room > 0.0:
            own = _room(h, pools[p], pool_spec[p], demands[kind, p]) if pools.shape[0] > 1 else room
            part = admitted * own / room
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
    done = _complete(before, c, p, q, cells, classes, hist, spec, kind, d, point, output, SHORTEST_PASS * decode,
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
    mask = queue.shape[0] - 1
    j = c.head
    ok = 0.0
    total = 0.0
    for k in range(POINTS):
        n = table[k, 0]
        wait = 0.0
        if backlog:
            x = first + table[k, 6] * admitted
            while j < c.step and queue[j & mask] < x:
                j += 1
            wait = _waited(x, j, table[k, 6], c, queue, h, first + admitted < c.queued)
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
def _waited(x, j, position, c, queue, h, more_behind):
    """Queueing time of the x-th request, which arrived in sub-step j: first in first out, linear inside a cell."""
    mask = queue.shape[0] - 1
    if j == c.step and not more_behind:
        return 0.0  # arrived and admitted within one sub-step: the fluid sees no queue
    start = queue[(j - 1) & mask] if j > 0 else 0.0
    inside = queue[j & mask] - start
    share = (x - start) / inside if inside > 0.0 else 0.0
    return max(0.0, (c.step + position - j - min(max(share, 0.0), 1.0)) * h)


@inlined
def _complete(before, c, p, q, cells, classes, hist, spec, kind, d, point, output, shortest, noise, spread,
              prompts, uneven):  # fmt: skip
    """Finish every cohort that has made its passes; returns how many requests that were."""
    mask = cells.shape[1] - 1
    table = point[kind, p, c.step & (SETS - 1)]
    step = c.step
    progress = q.progress
    oldest_kept = step - mask
    done = 0.0
    good = 0.0
    tokens = 0.0
    tpot_sum = 0.0
    tpot_mass = 0.0
    for j in range(CLASSES):
        further = output[kind, j, 1]
        reached = progress - further
        at = int(classes[p, j, 0])
        used = classes[p, j, 1]
        mass = 0.0
        ok = 0.0
        while at < step and (cells[p, at & mask, PROGRESS] <= reached or at <= oldest_kept):
            part = (1.0 - used) * cells[p, at & mask, ADMITTED]
            mass += part
            ok += part * cells[p, at & mask, TTFT_OK]
            used = 0.0
            at += 1
        here = at & mask
        end = cells[p, here, PROGRESS]
        if reached >= end:
            share = 1.0
        else:
            begin = before if at == step else (cells[p, (at - 1) & mask, PROGRESS] if at > 0 else 0.0)
            share = max(used, (reached - begin) / (end - begin))
        part = (share - used) * cells[p, here, ADMITTED]
        mass = (mass + part) * EACH
        ok = (ok + part * cells[p, here, TTFT_OK]) * EACH
        classes[p, j, 0] = at
        classes[p, j, 1] = share
        if mass <= 0.0:
            continue
        done += mass
        tokens += mass * output[kind, j, 0]
        tpot = 0.0
        if further > 0.0:
            life = (step + 1 - at - share) * spec.substep_s
            each = output[kind, j, 2]  # 1 / further
            tpot = life * each + table[j, 8] * math.sqrt(noise * each + spread)
            # Prompts of its own burst, where they are more than the even stream already counted in `life`.
            late = cells[p, here, BEHIND] * (1.0 + uneven * (table[j, 5] - 1.0)) - life * prompts
            if late > 0.0:
                tpot += late * output[kind, j, 3]  # the mean of 1 / (m - 1)
            tpot = max(tpot, shortest)
            hist[1, bin_of(tpot)] += mass
            tpot_sum += mass * tpot
            tpot_mass += mass
        hist[2, bin_of(cells[p, here, TTFT_MEAN] + further * tpot)] += mass
        if tpot <= spec.tpot_s:
            good += ok
    c.finished += done
    c.missed += done - good
    c.tpot_sum_s += tpot_sum
    c.tpot_count += tpot_mass
    c.output_tokens += tokens
    c.total_tokens += tokens + done * d.ni
    return done


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
    mask = queue.shape[0] - 1
    j = c.head
    for k in range(POINTS):
        x = first + table[k, 6] * admitted
        while j < c.step and queue[j & mask] < x:
            j += 1
        wait = _waited(x, j, table[k, 6], c, queue, h, first + admitted < c.queued)
        if table[k, 2] < delayed:
            wait += mean / delayed * table[k, 5]
        ttft = wait + table[k, 1]
        hist[0, bin_of(ttft)] += weight
        hist[2, bin_of(ttft)] += weight
        c.ttft_sum_s += weight * ttft
        if ttft > spec.ttft_s + table[k, 0] * spec.ttft_s_per_token:
            c.missed += weight
    c.admitted += part


@kernel
def _drain(now_s, p, c, pools, nodes, slots, hist, spec, pool_spec, d, events):
    """Draining replicas finish their sequences without new prompts; they go when nothing is left."""
    q = pools[p]
    if q.drain_running > 0.0:
        b = q.drain_running / q.draining
        stay = d.no * (d.c0 + d.c * b) if pool_spec[p].batching else d.w
        left = q.drain_running * stay / (stay + spec.substep_s)
        if left < 0.5 * q.draining:
            left = 0.0
        _finish_draining(q.drain_running - left, c, q, hist, spec, pool_spec[p], d)
        q.drain_running = left
    if q.drain_running == 0.0:
        lifecycle.drained_all(now_s, p, pools, nodes, slots, spec, pool_spec, events)


@kernel
def _finish_draining(done, c, q, hist, spec, pool_spec, d):
    tpot = d.c0 + d.c * q.drain_running / q.draining
    c.finished += done
    if not pool_spec.batching:
        return
    c.missed += done * (1.0 - (q.drain_ok if tpot <= spec.tpot_s else 0.0))
    c.tpot_sum_s += done * tpot
    c.tpot_count += done
    c.output_tokens += done * d.no
    c.total_tokens += done * (d.no + d.ni)
    hist[1, bin_of(tpot)] += done
    hist[2, bin_of(max(d.no * tpot, 1e-3))] += done


@kernel
def _lose_draining(expired, c, q, hist, spec):
    """The grace of `expired` draining replicas is over: what they still held is lost, or starts again."""
    if expired > 0 and q.drain_running > 0.0:
        gone = q.drain_running * expired / (q.draining + expired)
        q.drain_running -= gone
        _go(gone, c, hist, spec)


@kernel
def _scrape(c, pools, scrape, pool_scrape, spec, pool_spec, kind, demands):
    """What a metrics server would read at this instant."""
    scrape.t_s = c.step * spec.substep_s
    scrape.arrived = c.arrived
    scrape.admitted = c.admitted
    scrape.finished = c.finished
    scrape.dropped = c.dropped
    scrape.lost = c.lost
    scrape.missed = c.missed
    scrape.ttft_sum_s = c.ttft_sum_s
    scrape.tpot_sum_s = c.tpot_sum_s
    scrape.tpot_count = c.tpot_count
    scrape.output_tokens = c.output_tokens
    scrape.total_tokens = c.total_tokens
    scrape.churn = c.churn
    scrape.waiting = max(0.0, c.queued - c.left)
    running = 0.0
    for p in range(pools.shape[0]):
        q = pools[p]
        running += q.running
        pool_scrape[p].ready = q.ready
        pool_scrape[p].running = q.running
        pool_scrape[p].memory = (
            q.running * demands[kind, p].k / (q.ready * pool_spec[p].kv_capacity_tokens) if q.ready > 0 else 0.0
        )
    scrape.running = running
