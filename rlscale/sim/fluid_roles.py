"""A sub-step of the fluid where prompts and further tokens are made by pools of their own.

Two queues in a row. Requests wait for prefill pools, whose replicas are servers of one prompt each; what these hand
over is kept as a cumulative curve, which the decode pools read one transfer later; what they cannot seat waits in its
order. Both balances are implicit in the length of the sub-step, hence stable for any. Cohorts finish as elsewhere, with
the way from the first token to the decode pool in their TPOT.
"""

from __future__ import annotations

import math

from rlscale.sim import luck
from rlscale.sim.cohorts import SHORTEST_PASS, arrived_in, complete, waited
from rlscale.sim.histogram import bin_of
from rlscale.sim.luck import inlined, kernel
from rlscale.sim.records import (
    ADMITTED,
    BEHIND,
    DECODE,
    PASSED,
    PASSED_OK,
    PASSED_TTFT,
    PREFILL,
    PROGRESS,
    TTFT_MEAN,
    TTFT_OK,
)
from rlscale.sim.spread import spread
from rlscale.sim.tables import POINTS, SETS

PACE_S = 15.0  # over which the admissions of prefill pools are smoothed
FULLEST = 0.98  # utilisation at which the wait of a steady queue ends to grow: beyond, the fluid's own queue does
# Prompts end with their chunk, and balancing is blind for their length: by how much of a full chunk a wait is longer
# than in one common queue, over ln(1 / (1 - utilisation)).
LEVELLED = 0.4
SHARED = 0.7  # of those that wait, how many share a chunk as long as there is room in it
# Without prompts in between, replicas and passes differ less than what kappa.py was fitted to.
KV_NOISE, ANSWER_NOISE = 0.3, 1.75
PLACES = 8  # points at which a sub-step's hand-over is looked at


@kernel
def serve_roles(c, pools, queue, sent, cells, classes, hist, spec, pool_spec, kind, demands, point, output):
    """Prompts, hand-over, further tokens."""
    _serve_prompts(c, pools, queue, sent, hist, spec, pool_spec, kind, demands, point)
    _serve_answers(c, pools, sent, cells, classes, hist, spec, pool_spec, kind, demands, point, output)


@inlined
def _share_out(admitted, role, h, pools, pool_spec, demands, kind):
    """Set every pool's `part` of the admitted; those of the other role have no room."""
    count = only = 0
    for p in range(pools.shape[0]):
        if pool_spec[p].role == role:
            count += 1
            only = p
    if count > 1:
        spread(h, admitted, pools, pool_spec, demands, kind)
    else:
        pools[only].part = admitted


# --- prompts


@inlined
def _serve_prompts(c, pools, queue, sent, hist, spec, pool_spec, kind, demands, point):
    """Admit what the prefill pools can begin; note what they have done."""
    h = spec.substep_s
    room = 0.0
    for p in range(pools.shape[0]):
        q, d = pools[p], demands[kind, p]
        q.room = 0.0
        if pool_spec[p].role == PREFILL:
            # As many as let a replica that is never idle do one after the other in the sub-step.
            stay = d.prompt_s * (1.0 + _sharing(pool_spec[p], d))
            q.room = max(0.0, q.ready * (stay + h) / d.prompt_s - q.running)
        room += q.room
    admitted = min(max(0.0, c.queued - c.left), room)
    _share_out(admitted, PREFILL, h, pools, pool_spec, demands, kind)
    done = done_ok = done_ttft = 0.0
    for p in range(pools.shape[0]):
        if pool_spec[p].role == PREFILL:
            q = pools[p]
            through = _prompts(
                q.part, admitted, c, p, q, queue, hist, spec, pool_spec[p], kind, demands[kind, p], point
            )
            done += through
            done_ok += through * q.prompt_ok
            done_ttft += through * q.prompt_ttft_s
    c.left += admitted
    while c.head < c.step and queue[c.head & (queue.shape[0] - 1)] <= c.left:
        c.head += 1
    c.passed += done
    here = c.step & (sent.shape[0] - 1)
    sent[here, PASSED] = c.passed
    sent[here, PASSED_OK] = done_ok / done if done > 0.0 else 0.0
    sent[here, PASSED_TTFT] = done_ttft / done if done > 0.0 else 0.0


@inlined
def _sharing(pool_spec, d):
    """How many others share the chunks of a prompt at most, roughly."""
    return pool_spec.chunk_tokens / (pool_spec.chunk_tokens + d.ni)


@inlined
def _prompts(part, admitted, c, p, q, queue, hist, spec, pool_spec, kind, d, point):
    """A prefill pool: TTFT of the admitted; returns how many prompts are through."""
    h = spec.substep_s
    replicas = max(1, q.ready)
    q.rate_per_s += min(1.0, h / PACE_S) * (part / (replicas * h) - q.rate_per_s)
    # Prompts fill their chunks the better the more there are.
    full = min(1.0, q.rate_per_s * d.prompt_s)
    stay = d.prompt_s + (1.0 - full) * (d.alone_s - d.prompt_s)
    q.iteration_s = stay
    # Who finds all replicas busy waits as in a queue of several servers (Sakasegawa), and somewhat longer.
    rho = min(FULLEST, q.rate_per_s * stay)
    delayed = rho ** (math.sqrt(2.0 * (replicas + 1.0)) - 1.0)
    uneven = LEVELLED * (d.chunk_s + d.c0) * (1.0 - 1.0 / (replicas * replicas))
    wait_s = 0.5 * (1.0 + d.prompt_cv2) * stay / (replicas * (1.0 - rho)) - uneven * math.log(1.0 - rho)
    if part > 0.0:
        ok, ttft = _first_tokens(part, admitted, c, p, queue, hist, spec, pool_spec, kind, d, point, delayed, wait_s)
        under_way = q.running + part
        q.prompt_ok += part / under_way * (ok - q.prompt_ok)
        q.prompt_ttft_s += part / under_way * (ttft - q.prompt_ttft_s)
        c.admitted += part
        c.ttft_sum_s += part * ttft
    # Prompts stay until their last chunk ends, which those that waited share.
    most = _sharing(pool_spec, d)
    beside = most * (1.0 - math.exp(-SHARED * q.rate_per_s * delayed * wait_s / most))
    stay *= 1.0 + beside / max(rho, 1e-9) if beside > 0.0 else 1.0
    running = (q.running + part) / (1.0 + h / stay)
    through = q.running + part - running
    q.running = running
    return through


@inlined
def _first_tokens(part, admitted, c, p, queue, hist, spec, pool_spec, kind, d, point, delayed, wait_s):
    """Deposit the TTFT of the admitted, of whom the share `delayed` waits `wait_s` on average; returns the share within
    the SLO and the mean.

    The wait in the fluid's own queue, of an overload that lasts, is not added to that wait but takes its place.
    """
    h = spec.substep_s
    table = point[kind, p, c.step & (SETS - 1)]
    first = c.left
    weight = part / POINTS
    j = c.head
    good = total = 0.0
    for k in range(POINTS):
        x = first + table[k, 6] * admitted
        j = arrived_in(x, j, c, queue)
        wait = waited(x, j, table[k, 6], c, queue, h, first + admitted < c.queued)
        if table[k, 2] < delayed:
            wait = max(wait, wait_s * table[k, 5])
        n = table[k, 0]
        ttft = wait + table[k, 1] + math.ceil(n / pool_spec.chunk_tokens) * d.c0 + d.c
        total += ttft
        if ttft <= spec.ttft_s + n * spec.ttft_s_per_token:
            good += 1.0
        hist[0, bin_of(ttft)] += weight
    return good / POINTS, total / POINTS


# --- further tokens


@inlined
def _serve_answers(c, pools, sent, cells, classes, hist, spec, pool_spec, kind, demands, point, output):
    """Seat what has arrived at the decode pools, and let them compute."""
    h = spec.substep_s
    room = 0.0
    for p in range(pools.shape[0]):
        q, d = pools[p], demands[kind, p]
        q.room = 0.0
        if pool_spec[p].role == DECODE and q.ready > 0:
            b = max(0.0, (q.running + q.drift) / q.ready)
            q.room = q.ready * max(0.0, d.seats - b + d.seats * h / (d.no * (d.c0 + d.c * d.seats)))
        room += q.room
    delay_s = demands[kind, 0].transfer_s
    landed = max(c.joined, _passed_by((c.step + 1) - delay_s / h, c, sent))
    joining = min(landed - c.joined, room)
    _share_out(joining, DECODE, h, pools, pool_spec, demands, kind)
    way_s, ok, ttft_s = _way(joining, landed, delay_s, c, sent, h)
    for p in range(pools.shape[0]):
        if pool_spec[p].role == DECODE:
            _answers(pools[p].part, way_s, ok, ttft_s, c, p, pools[p], cells, classes, hist, spec, kind,
                     demands[kind, p], point, output)  # fmt: skip
    c.joined += joining


@inlined
def _passed_by(moment, c, sent):
    """How many had been handed over at a moment, counted in sub-steps since t = 0; linear inside a sub-step."""
    if moment <= 0.0:
        return 0.0
    mask = sent.shape[0] - 1
    j = min(max(int(moment), c.step - mask + 1, 0), c.step)
    start = sent[(j - 1) & mask, PASSED] if j > 0 else 0.0
    return start + min(max(moment - j, 0.0), 1.0) * (sent[j & mask, PASSED] - start)


@inlined
def _way(joining, landed, delay_s, c, sent, h):
    """Of those that join now: mean seconds since their first token, share whose TTFT met the SLO, mean TTFT."""
    mask = sent.shape[0] - 1
    c.sent_head = max(c.sent_head, c.step - mask + 1)
    j = c.sent_head
    behind = landed - c.joined > joining
    way_s = ok = ttft_s = 0.0
    for k in range(PLACES):
        place = (k + 0.5) / PLACES
        x = c.joined + place * joining
        while j < c.step and sent[j & mask, PASSED] < x:
            j += 1
        start = sent[(j - 1) & mask, PASSED] if j > 0 else 0.0
        inside = sent[j & mask, PASSED] - start
        share = min(max((x - start) / inside, 0.0), 1.0) if inside > 0.0 else 0.0
        lands = (j + share) * h + delay_s
        # Who arrives in this sub-step and leaves nobody behind has not waited.
        waits = behind or lands < c.step * h
        way_s += delay_s + (max(0.0, (c.step + place) * h - lands) if waits else 0.0)
        ok += sent[j & mask, PASSED_OK]
        ttft_s += sent[j & mask, PASSED_TTFT]
    while c.sent_head < c.step and sent[c.sent_head & mask, PASSED] <= c.joined:
        c.sent_head += 1
    return way_s / PLACES, ok / PLACES, ttft_s / PLACES


@inlined
def _answers(part, way_s, ok, ttft_s, c, p, q, cells, classes, hist, spec, kind, d, point, output):
    """A decode pool: passes of this sub-step and completions."""
    h = spec.substep_s
    replicas = max(1, q.ready)
    a = part / replicas
    b_old = max(0.0, (q.running + q.drift) / replicas)
    c0 = d.c0 + d.c * q.extra  # deferrable sequences only make each pass longer
    # As in fluid._batch, without prompts: no*c'*b^2 + (no*c0 + h - (b_old + a)*no*c')*b - (b_old + a)*no*c0 = 0.
    quad = d.no * d.c
    half = d.no * c0 + h - (b_old + a) * quad
    free = (b_old + a) * d.no * c0
    root = math.sqrt(half * half + 4.0 * quad * free)
    b = 2.0 * free / (half + root) if half > 0.0 else (root - half) / (2.0 * quad)
    b = min(max(b, 0.0), d.seats)
    decode = c0 + d.c * b
    q.iteration_s = decode
    before = q.progress
    q.progress += h / decode
    if q.extra > 0.0:
        c.work = min(c.work + q.extra * q.ready * h / decode, c.work_come)

    here = c.step & (cells.shape[1] - 1)
    cells[p, here, ADMITTED] = part
    cells[p, here, PROGRESS] = q.progress
    cells[p, here, TTFT_OK] = ok
    cells[p, here, TTFT_MEAN] = ttft_s
    # What comes once per answer: the way here, and the rest of the pass that is under way on arrival.
    cells[p, here, BEHIND] = way_s + 0.5 * decode * min(1.0, 0.5 * (b_old + b))

    stay = d.no * decode
    unresolved = h / (h + stay)  # variance of counts below h, over their mean
    uneven = KV_NOISE * d.kv_spread_s * d.kv_spread_s * b + spec.k_count_noise * d.c * d.c * b / replicas * unresolved
    done = complete(before, c, p, q, cells, classes, hist, spec, kind, d, point, output, SHORTEST_PASS * decode, 0.0,
                    uneven, 0.0, 0.0)  # fmt: skip
    q.running = max(0.0, q.running + part - done)
    z = luck.rough_normal(c.seed, luck.ANSWERS, p, c.step, 0)
    q.drift = q.drift * stay / (stay + h) + ANSWER_NOISE * math.sqrt(done) * z
