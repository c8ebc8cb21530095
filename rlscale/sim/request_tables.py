"""Values to the records of the request engine, and its state at the beginning. For a cluster and for bare replicas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.errors import ScenarioError
from rlscale.sim.luck import kernel
from rlscale.sim.records import ROLES, records
from rlscale.sim.request_records import ARRIVAL, BY_END, FRONT, KEPT, NOBODY, SERVER
from rlscale.types import Ints, IterationLaw, Requests, Role

LAW = ("c0_s", "c1_s", "c2_s", "c3_s", "c4_s")


@dataclass(frozen=True, slots=True)
class FastServer:
    """What a replica is like: `naive.Server` with an iteration law instead of any function."""

    law: IterationLaw
    seats: int
    kv_capacity_tokens: float = math.inf
    chunk_tokens: float = math.inf
    grain_s: float = 0.0  # above 0: iterations take whole grains, one at a time
    role: Role = "both"
    kept_blocks: int = 0  # of prompts seen before, in a memory of their own
    context_tokens: float = math.inf

    @property
    def longest_tokens(self) -> float:
        """Prompt and answer together that it can serve."""
        return min(self.kv_capacity_tokens, self.context_tokens)


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


def blocks_of(requests: Sequence[Requests | None], arrivals: NDArray[Any], spans: Ints) -> tuple[Ints, float]:
    """Block numbers of all prompts, and the tokens of a block; writes into the arrivals where theirs are.

    Their key becomes their first two blocks: the first one alone is often a prompt that the whole service shares.
    """
    there = [(one.blocks, span) for one, span in zip(requests, spans, strict=True)
             if one is not None and one.blocks is not None]  # fmt: skip
    if not there:
        return np.zeros(1, np.int64), 1.0
    sizes = {blocks.tokens for blocks, _ in there}
    if len(sizes) > 1:
        raise ScenarioError(f"loads with prompts in blocks of {' and '.join(map(str, sorted(sizes)))} tokens; expected "
                            "one size; run them apart")  # fmt: skip
    begins = np.cumsum([0, *(len(blocks.ids) for blocks, _ in there)])
    ids = np.concatenate([blocks.ids for blocks, _ in there])
    for begin, (blocks, (first, last)) in zip(begins, there, strict=False):
        part = arrivals[first:last]
        part["block"], part["blocks"], part["group"] = blocks.first + begin, blocks.count, blocks.group
        second = ids[np.minimum(part["block"] + 1, len(ids) - 1)]
        part["key"] = np.where(blocks.count > 1, second, ids[np.minimum(part["block"], len(ids) - 1)])
        part["key"] += part["group"] * (int(ids.max()) + 1)
    return ids, float(sizes.pop())


def cache_of(ids: Ints, shape: tuple[int, ...], kept: int) -> tuple[Ints, NDArray[Any]]:
    """Empty caches of `kept` blocks for replicas of that shape, with hash tables that are half full at most."""
    return ids, records((*shape, 2 ** math.ceil(math.log2(2 * kept)) if kept else 1), KEPT)


def servers_of(kinds: Sequence[FastServer], block_tokens: float) -> NDArray[Any]:
    """What the replicas of each kind are like."""
    found = records((len(kinds),), SERVER)
    for row, kind in zip(found, kinds, strict=True):
        for name in LAW:
            row[name] = getattr(kind.law, name)
        for name in ("seats", "kv_capacity_tokens", "chunk_tokens", "longest_tokens", "grain_s", "kept_blocks"):
            row[name] = getattr(kind, name)
        row["role"], row["block_tokens"] = ROLES[kind.role], block_tokens
    return found


@kernel
def begin_empty(flow: Any, replicas: Any, requests: Any, index: Ints) -> None:
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
        index[BY_END, r] = r
        q.wait_head = q.wait_tail = q.fill_head = q.fill_tail = q.last = q.newest = q.oldest = NOBODY


@kernel
def add_free(flow: Any, requests: Any, first: int) -> None:
    """Request records from `first` on are free as well."""
    count = requests.shape[0]
    for i in range(first, count):
        requests[i].next = i + 1 if i + 1 < count else flow[FRONT].free
    flow[FRONT].free = first
