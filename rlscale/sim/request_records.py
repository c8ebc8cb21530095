"""The state of the request engine as records: one replica, one request on its way, one pool's law. Layout only."""

from __future__ import annotations

import numpy as np

from rlscale.types import Balancer

# What a replica does with requests. Its place among the slots of its pool is its number.
GONE, SERVES, DRAINS = 0, 1, 2
NOBODY = -1  # the end of a list

# Rows of the lists of numbers: replicas as a heap by the end of their run, requests on each of them, those that take
# requests, and a short list of requests between one kernel and the next.
BY_END, OUTSTANDING, LISTED, SOME = 0, 1, 2, 3
LISTS = 4

REPLICA = np.dtype(
    [
        ("state", "i8"), ("pool", "i8"), ("moves", "i8"),  # its queue has to go elsewhere
        # The run under way: equal batches back to back, or one iteration with prompts in it. `due`: second of its end.
        ("begun_s", "f8"), ("due", "f8"), ("passes", "i8"), ("prompts", "i8"),
        ("first_s", "f8"), ("growth_s", "f8"),  # duration of its first iteration, and what each further one adds
        ("iteration", "i8"),  # iterations before this run
        ("extra_s", "f8"),  # what deferrable sequences add to an iteration
        ("decoding", "i8"), ("prefilling", "i8"), ("waiting", "i8"),
        ("held", "f8"), ("reserved", "f8"),  # KV tokens of what decodes, and of prompts under way
        ("wait_head", "i8"), ("wait_tail", "i8"), ("fill_head", "i8"), ("fill_tail", "i8"),
        ("last", "i8"),  # the sequence that began to decode last
        ("place", "i8"),  # in the heap of replicas by the end of their run
        ("kept", "i8"), ("newest", "i8"), ("oldest", "i8"),  # blocks of prompts it has seen, by their last use
    ]
)  # fmt: skip

REQUEST = np.dtype(
    [
        ("number", "i8"), ("arrived_s", "f8"), ("asked_s", "f8"), ("prompt", "f8"), ("output", "f8"),
        ("to_process", "f8"), ("done", "f8"), ("chunk", "f8"),  # prompt tokens: in all, so far, in this iteration
        ("made", "i8"),  # tokens, as long as it does not decode
        ("birth", "i8"), ("due", "i8"),  # its replica's iteration with no token made; the one that makes its last
        ("ttft_s", "f8"), ("token_s", "f8"),  # time to and time of the first token
        # In a queue; among those that decode, by their beginning; on the way to a decode replica, by their arrival.
        ("next", "i8"), ("before", "i8"), ("after", "i8"), ("lands_s", "f8"),
        ("place", "i8"),  # in its replica's heap of those that decode, by their end
        ("key", "i8"),  # session or prefix
        ("block", "i8"), ("blocks", "i8"), ("group", "i8"),  # its prompt as blocks: from, how many, whose they are
    ]
)  # fmt: skip

# What every replica of a pool is like.
SERVER = np.dtype(
    [(name, "f8") for name in ("c0_s", "c1_s", "c2_s", "c3_s", "c4_s", "seats", "kv_capacity_tokens", "chunk_tokens")]
    + [("longest_tokens", "f8"), ("block_tokens", "f8"), ("kept_blocks", "i8"), ("role", "i8")]
    + [("grain_s", "f8")]  # above 0: an iteration takes whole grains, the rest is cut off, as in some simulators
)

# The requests of a cluster: what comes next, who has no replica, which records are free. A cluster has two of these:
# FRONT for requests, and BACK for sequences that go on from a prefill to a decode replica; arrivals and free records
# are with the first, those on the way between them with the second.
FRONT, BACK = 0, 1
FLOW = np.dtype(
    [
        ("next", "i8"), ("upto", "i8"),  # arrivals of the present sub-step: from, to
        ("free", "i8"),  # head of the list of free records
        ("active", "i8"),  # requests on their way
        ("wait_head", "i8"), ("wait_tail", "i8"), ("waiting", "i8"),  # the queue of those that no replica takes
        ("turn", "i8"), ("ready", "i8"), ("first", "i8"),  # dispatches so far; replicas that take requests, from where
        ("sent_head", "i8"), ("sent_tail", "i8"),  # on the way, by their arrival
    ]
)  # fmt: skip

# An arrival: when, lengths, session or prefix, its number in the log (or nobody's), its prompt as blocks.
ARRIVAL = np.dtype(
    [
        ("at_s", "f8"), ("prompt", "f8"), ("output", "f8"), ("key", "i8"), ("number", "i8"),
        ("block", "i8"), ("blocks", "i8"), ("group", "i8"),
    ]
)  # fmt: skip

# A block of a prompt that a replica has seen, among the others by their last use.
# `entry` at the hash of a block: where it is kept, plus one.
KEPT = np.dtype([("key", "u8"), ("newer", "i8"), ("older", "i8"), ("entry", "i8")])

# Balancers. The last one binds a request to the least busy replica only when that has a seat, and holds it back until
# then: one queue in front of all, which is what the fluid engine assumes.
ROUND_ROBIN, LEAST_OUTSTANDING, POWER_OF_TWO, HASHED, GATEWAY_QUEUE = 0, 1, 2, 3, 4
BALANCERS: dict[Balancer, int] = {
    "round-robin": ROUND_ROBIN, "least-outstanding": LEAST_OUTSTANDING, "power-of-two": POWER_OF_TWO,
    "consistent-hash": HASHED, "gateway-queue": GATEWAY_QUEUE,
}  # fmt: skip
