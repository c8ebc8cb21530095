"""Values to the records of the request engine, and its state at the beginning. For a cluster and for bare replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.sim.luck import kernel
from rlscale.sim.records import ROLES, records
from rlscale.sim.request_records import ARRIVAL, FRONT, NOBODY, SERVER
from rlscale.types import Ints, IterationLaw, Requests, Role

LAW = ("c0_s", "c1_s", "c2_s", "c3_s", "c4_s")
Kind = tuple[IterationLaw, int, float, float, float, Role]  # law, seats, KV and chunk tokens, grain


def arrivals_of(requests: Sequence[Requests | None]) -> tuple[NDArray[Any], Ints]:
    """Recorded requests, one list after the other and numbered like that; and where each list begins and ends, (lists,
    2). A prompt and an answer have one token at least: the pass that reads a prompt makes one."""
    ends = np.cumsum([0, *(0 if one is None else len(one) for one in requests)])
    spans = np.stack([ends[:-1], ends[1:]], axis=1)
    found = records((int(ends[-1]),), ARRIVAL)
    found["number"] = np.arange(len(found))
    for one, (first, last) in zip(requests, spans, strict=True):
        if one is not None:
            part = found[first:last]
            part["at_s"] = one.arrival_s
            part["prompt"], part["output"] = np.maximum(1.0, one.prompt_tokens), np.maximum(1.0, one.output_tokens)
    return found, spans


def servers_of(kinds: Sequence[Kind]) -> NDArray[Any]:
    """What the replicas of each kind are like."""
    found = records((len(kinds),), SERVER)
    for row, (law, seats, kv_capacity_tokens, chunk_tokens, grain_s, role) in zip(found, kinds, strict=True):
        for name in LAW:
            row[name] = getattr(law, name)
        row["seats"], row["kv_capacity_tokens"] = seats, kv_capacity_tokens
        row["chunk_tokens"], row["grain_s"], row["role"] = chunk_tokens, grain_s, ROLES[role]
    return found


@kernel
def begin_empty(flow: Any, replicas: Any, requests: Any, heap: Ints) -> None:
    """Of cleared records of a cluster: replicas that hold nothing, empty queues, all request records free."""
    flow[FRONT].free = NOBODY
    add_free(flow, requests, 0)
    for s in range(flow.shape[0]):
        side = flow[s]
        side.wait_head = side.wait_tail = side.sent_head = side.sent_tail = NOBODY
    for r in range(replicas.shape[0]):
        q = replicas[r]
        q.due = np.inf
        q.place = r
        heap[r] = r
        q.wait_head = q.wait_tail = q.fill_head = q.fill_tail = q.last = NOBODY


@kernel
def add_free(flow: Any, requests: Any, first: int) -> None:
    """Request records from `first` on are free as well."""
    count = requests.shape[0]
    for i in range(first, count):
        requests[i].next = i + 1 if i + 1 < count else flow[FRONT].free
    flow[FRONT].free = first
