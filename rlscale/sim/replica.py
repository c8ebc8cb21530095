"""One replica's work: continuous batching with chunked prefill, many iterations at a time where the batch stays equal.

Between two events (a completion, the end of a prompt's chunk, a full KV memory, an arrival, an expired wait) a batch of
B sequences makes B tokens per iteration, and every iteration takes c3 B longer than the one before. So i iterations
take i*first + growth*i*(i-1)/2, and the iteration in which something happens next follows from a square root. What
happens is that of `naive.py`, iteration by iteration.

Scalar code over the records of one cluster; `r` is a replica, `i` a request. Knows no pools, no balancer, no fleet.
"""

from __future__ import annotations

import math

from rlscale.sim.heaps import settle, take_out
from rlscale.sim.luck import inlined, kernel
from rlscale.sim.prefix import keep_prompt, seen_tokens
from rlscale.sim.records import PREFILL
from rlscale.sim.request_records import NOBODY, SOME

FOREVER_S = math.inf


@inlined
def begin(now_s, r, timeout_s, replicas, requests, decode, cache, server, index):
    """Put the next run together, or fall idle. The row SOME of `index` takes those that
    waited too long, their number first."""
    q = replicas[r]
    _preempt(r, replicas, requests, decode, server)
    budget = server.chunk_tokens - q.decoding
    prompts = 0
    tokens = 0.0
    square = 0.0
    i = q.fill_head
    while i != NOBODY:
        job = requests[i]
        job.chunk = max(0.0, min(budget, job.to_process - job.done))
        if job.chunk > 0.0:
            prompts += 1
            tokens += job.chunk
            end = job.done + job.chunk
            square += end * end - job.done * job.done
            budget -= job.chunk
        i = job.next
    while q.waiting > 0 and budget > 0.0:
        i = q.wait_head
        job = requests[i]
        if job.made == 0 and now_s - job.asked_s > timeout_s:
            leave_queue(q, requests)
            index[SOME, 0] += 1
            index[SOME, index[SOME, 0]] = i
            continue
        if q.prefilling + q.decoding >= server.seats:
            break
        if has_kv(job):
            # With the token that everybody makes in this iteration.
            if q.held + q.reserved + job.prompt + job.made + q.decoding + 1 > server.kv_capacity_tokens:
                break
            leave_queue(q, requests)
            _decode(i, r, replicas, requests, decode)
            budget -= 1
            continue
        if q.held + q.reserved + job.to_process > server.kv_capacity_tokens:
            break
        leave_queue(q, requests)
        _begin_prompt(i, r, replicas, requests)
        if server.kept_blocks > 0:
            job.done = seen_tokens(job, r, replicas, cache, server)
        job.chunk = min(budget, job.to_process - job.done)
        prompts += 1
        tokens += job.chunk
        end = job.done + job.chunk
        square += end * end - job.done * job.done
        budget -= job.chunk
    q.begun_s = now_s
    q.prompts = prompts
    if prompts == 0 and q.decoding == 0:
        q.passes = 0
        q.due = FOREVER_S
        return
    q.first_s = (
        server.c0_s + server.c1_s * (prompts + q.decoding) + server.c2_s * tokens + server.c3_s * q.held
        + server.c4_s * square + q.extra_s
    )  # fmt: skip
    q.growth_s = server.c3_s * q.decoding
    if server.grain_s > 0.0:
        q.first_s = math.floor(q.first_s / server.grain_s) * server.grain_s
    q.passes = 1 if prompts > 0 or server.grain_s > 0.0 else _passes(r, timeout_s, replicas, requests, decode, server)
    q.due = now_s + run_s(q.passes, q)


@inlined
def end_run(now_s, r, replicas, requests, decode, cache, server, index):
    """The run is over: prompts that are through begin to decode, on a prefill replica those of one token only, which
    are complete. The row SOME of `index` takes those with a first token."""
    q = replicas[r]
    q.iteration += q.passes
    q.held += float(q.passes * q.decoding)
    q.passes = 0
    index[SOME, 0] = 0
    if q.prompts > 0:
        _end_prompts(now_s, r, replicas, requests, decode, cache, server, index)


@kernel
def next_finished(r, replicas, requests, decode):
    """Take out a sequence that has made its last token; NOBODY when there is none."""
    q = replicas[r]
    if q.decoding == 0:
        return NOBODY
    i = decode[r, 0]
    if requests[i].due > q.iteration:
        return NOBODY
    _stop_decoding(i, r, replicas, requests, decode)
    return i


@kernel
def has_kv(job):
    """Whether the prompt of a waiting sequence was computed elsewhere and comes with it."""
    return job.done >= job.to_process


@kernel
def join_queue(i, q, requests):
    """A request waits for its turn: on a replica, or at the service while no replica takes any."""
    requests[i].next = NOBODY
    if q.waiting == 0:
        q.wait_head = i
    else:
        requests[q.wait_tail].next = i
    q.wait_tail = i
    q.waiting += 1


@kernel
def leave_queue(q, requests):
    """Take the head of a queue."""
    i = q.wait_head
    q.wait_head = requests[i].next
    q.waiting -= 1
    return i


@kernel
def shorten(at_s, r, replicas):
    """End the run with the iteration that is under way at `at_s`; returns whether it ends any sooner."""
    q = replicas[r]
    if q.passes <= 1 or at_s >= q.due:
        return False
    passes = _pass_at(at_s, q)
    if passes >= q.passes:
        return False
    q.passes = passes
    q.due = q.begun_s + run_s(passes, q)
    return True


@kernel
def run_s(passes, q):
    """Duration of so many iterations of the run under way."""
    n = float(passes)
    return n * q.first_s + 0.5 * q.growth_s * n * (n - 1.0)


@kernel
def _pass_at(at_s, q):
    """The number, from 1, of the iteration under way at `at_s`; one that ends there is over."""
    x = at_s - q.begun_s
    b = q.first_s - 0.5 * q.growth_s
    n = int(2.0 * x / (b + math.sqrt(b * b + 2.0 * q.growth_s * max(x, 0.0)))) + 1
    n = max(1, n)
    while n > 1 and run_s(n - 1, q) > x:
        n -= 1
    while run_s(n, q) <= x:
        n += 1
    return n


@kernel
def _passes(r, timeout_s, replicas, requests, decode, server):
    """Iterations until the batch, or what may join it, changes."""
    q = replicas[r]
    passes = requests[decode[r, 0]].due - q.iteration
    if q.decoding > 1:
        room = server.kv_capacity_tokens - q.held - q.reserved - q.decoding
        if room < float(passes) * q.decoding:
            passes = min(passes, int(room / q.decoding) + 1)
    if q.waiting > 0 and timeout_s < FOREVER_S:
        job = requests[q.wait_head]
        if job.made == 0 and job.asked_s + timeout_s < q.begun_s + run_s(passes, q):
            passes = min(passes, _pass_at(job.asked_s + timeout_s, q))
    return max(1, passes)


@kernel
def _preempt(r, replicas, requests, decode, server):
    """While decoding outgrows the memory, the sequence that began last goes back to the head of the queue."""
    q = replicas[r]
    while q.decoding > 1 and q.held + q.reserved + q.decoding > server.kv_capacity_tokens:
        i = q.last
        job = requests[i]
        _stop_decoding(i, r, replicas, requests, decode)
        job.done = 0.0
        job.to_process = job.prompt + job.made
        job.next = q.wait_head if q.waiting > 0 else NOBODY
        if q.waiting == 0:
            q.wait_tail = i
        q.wait_head = i
        q.waiting += 1


@kernel
def _begin_prompt(i, r, replicas, requests):
    q = replicas[r]
    requests[i].next = NOBODY
    if q.prefilling == 0:
        q.fill_head = i
    else:
        requests[q.fill_tail].next = i
    q.fill_tail = i
    q.prefilling += 1
    q.reserved += requests[i].to_process


@inlined
def _end_prompts(now_s, r, replicas, requests, decode, cache, server, index):
    """Prompts move on by their chunks; those that are through have made a token and decode from now on."""
    q = replicas[r]
    before = NOBODY
    i = q.fill_head
    while i != NOBODY:
        job = requests[i]
        after = job.next
        job.done += job.chunk
        if job.chunk > 0.0 and job.done >= job.to_process:
            if before == NOBODY:
                q.fill_head = after
            else:
                requests[before].next = after
            if after == NOBODY:
                q.fill_tail = before
            q.prefilling -= 1
            q.reserved -= job.to_process
            if server.kept_blocks > 0:
                keep_prompt(job, r, replicas, cache, server)
            if job.made == 0:
                job.ttft_s = now_s - job.asked_s
                job.token_s = now_s
                index[SOME, 0] += 1
                index[SOME, index[SOME, 0]] = i
            job.made += 1
            if server.role != PREFILL or job.output <= 1.0:
                _decode(i, r, replicas, requests, decode)
        else:
            before = i
        job.chunk = 0.0
        i = after
    if q.prefilling == 0:
        q.fill_head = NOBODY
        q.reserved = 0.0  # exactly: differences of large sums need not


@kernel
def _decode(i, r, replicas, requests, decode):
    q = replicas[r]
    job = requests[i]
    job.birth = q.iteration - job.made
    made_last = q.iteration - job.made + math.ceil(job.output)
    job.due = max(q.iteration, int(made_last))
    job.before = q.last if q.decoding > 0 else NOBODY
    job.after = NOBODY
    if q.decoding > 0:
        requests[q.last].after = i
    q.last = i
    q.decoding += 1
    settle(q.decoding - 1, i, q.decoding, decode, r, requests)
    q.held += job.prompt + job.made


@kernel
def _stop_decoding(i, r, replicas, requests, decode):
    """Out of the batch, finished or not; `made` says how many tokens it has."""
    q = replicas[r]
    job = requests[i]
    job.made = q.iteration - job.birth
    take_out(job.place, q.decoding, decode, r, requests)
    q.decoding -= 1
    q.held = q.held - (job.prompt + job.made) if q.decoding > 0 else 0.0
    if job.before != NOBODY:
        requests[job.before].after = job.after
    if job.after != NOBODY:
        requests[job.after].before = job.before
    if q.last == i:
        q.last = job.before
