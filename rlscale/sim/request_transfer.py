"""KV caches on their way from prefill to decode replicas, in the order in which they arrive.

A list and not a heap: delays differ by the length of prompts only, so that one that is sent overtakes few. Scalar code
over the records of one cluster. Knows no replicas.
"""

from __future__ import annotations

import math

from rlscale.sim.luck import inlined, kernel
from rlscale.sim.request_records import BACK, NOBODY

_NEVER_S = math.inf


@inlined
def lands_next_s(flow, requests):
    """When the next one arrives."""
    i = flow[BACK].sent_head
    return requests[i].lands_s if i != NOBODY else _NEVER_S


@kernel
def send(now_s, i, flow, requests, spec):
    """The KV cache of a sequence sets out; of one instant, first come those that were sent first."""
    side, job = flow[BACK], requests[i]
    job.lands_s = now_s + (spec.transfer_s + job.prompt * spec.transfer_s_per_token)
    before, after = side.sent_tail, NOBODY
    while before != NOBODY and requests[before].lands_s > job.lands_s:
        after = before
        before = requests[before].before
    job.before, job.after = before, after
    if before == NOBODY:
        side.sent_head = i
    else:
        requests[before].after = i
    if after == NOBODY:
        side.sent_tail = i
    else:
        requests[after].before = i


@kernel
def next_landed(flow, requests):
    """Take the first one off the list."""
    side = flow[BACK]
    i = side.sent_head
    side.sent_head = requests[i].after
    if side.sent_head == NOBODY:
        side.sent_tail = NOBODY
    else:
        requests[side.sent_head].before = NOBODY
    return i
