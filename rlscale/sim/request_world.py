"""World 2: the same clusters request by request. `SimWorld` with another engine; whoever looks at it sees the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.errors import ScenarioError
from rlscale.sim.luck import kernel
from rlscale.sim.records import COLUMNS, READY, records
from rlscale.sim.request_interval import DONE, run_requests
from rlscale.sim.request_records import (
    ARRIVAL,
    FLOW,
    GONE,
    HASHED,
    LEAST_OUTSTANDING,
    NOBODY,
    POWER_OF_TWO,
    REPLICA,
    REQUEST,
    ROUND_ROBIN,
    SERVER,
    SERVES,
)  # fmt: skip
from rlscale.sim.tables import CLASSES
from rlscale.sim.world import SimWorld
from rlscale.types import ClusterSpec, Floats, Ints, Load, Requests, TokenLaw

BALANCERS = {
    "round-robin": ROUND_ROBIN, "least-outstanding": LEAST_OUTSTANDING, "power-of-two": POWER_OF_TWO,
    "consistent-hash": HASHED,
}  # fmt: skip
ROOM, SUBSTEP_ROOM = 1024, 256  # requests on their way and arrivals of a sub-step at first; both double when short
LATEST = 1 << 60  # of classes that hold nothing, see below


class RequestWorld(SimWorld):
    """`apply` targets, `wait` one control interval, read the records.

    `given`: recorded requests that come instead of drawn ones, the same for all rows; `log` of (number, 3) TTFT, TPOT
    and E2E in seconds takes theirs, infinite where a request never got there.
    """

    def __init__(
        self, spec: ClusterSpec, loads: Sequence[Load], seeds: Sequence[int], initial: NDArray[Any],
        *args: Any, balancer: str = "least-outstanding", given: Requests | None = None, **more: Any,
    ) -> None:  # fmt: skip
        if balancer not in BALANCERS:
            raise ScenarioError(f"balancer '{balancer}'; expected one of {', '.join(BALANCERS)}")
        self._balancer = BALANCERS[balancer]
        self._given = _given(given)
        self.log = np.full((0 if given is None else len(given), 3), np.inf)
        super().__init__(spec, loads, seeds, initial, *args, **more)

    def _make_engine(self) -> tuple[NDArray[Any], ...]:
        n, replicas = self.n, self.pools * self.slot.shape[2]
        profiles = [pool.profile for pool in self.spec.pools]
        if any(not profile.batching and profile.max_seats > 1 for profile in profiles):
            raise ScenarioError("the request engine serves one request at a time per replica where nothing is batched; "
                                "give such a profile max_seats: 1 and more replicas")  # fmt: skip
        self.flow = records((n,), FLOW)
        self.replicas = records((n, replicas), REPLICA)
        self.requests = records((n, ROOM), REQUEST)
        self.arrivals = records((n, SUBSTEP_ROOM), ARRIVAL)
        seats = max(profile.max_seats for profile in profiles)
        self._decode = np.zeros((n, replicas, seats), np.int32)
        self._heap, self._outstanding, self._ready = (np.zeros((n, replicas), np.int64) for _ in range(3))
        self._cursor = np.zeros((n, 1), np.int64)
        # The fluid's books of admissions, empty for good: what takes shares out of them finds nothing.
        self._cells = np.zeros((self.pools, 1, COLUMNS))
        self._classes = np.full((self.pools, CLASSES, 2), LATEST, np.float64)
        self._servers, self._knots = _servers(self.spec), _knots(self.tables.laws)
        self.tables.spec["balancer"] = self._balancer
        self.tables.spec["largest_kv_tokens"] = max(profile.kv_capacity_tokens for profile in profiles)
        return (self.flow, self.replicas, self.requests)

    def _begin_rows(self, rows: NDArray[Any]) -> None:
        if len(self._given):
            begun_s = self.cluster["cell"][rows] * self.spec.substep_s
            self._cursor[rows, 0] = np.searchsorted(self._given["at_s"], begun_s)
        _begin_rows(
            rows, self.slot, self.flow, self.replicas, self.requests, self._heap, self._outstanding, self._ready
        )

    def _run(self, frozen: bool) -> None:
        goal = np.array(self.cluster["interval"]) + 1
        self._until(goal, frozen)

    def wait_rows(self, rows: Any) -> None:
        """Let one control interval pass for some rows only."""
        self._keep_scrapes(rows)
        goal = np.array(self.cluster["interval"])
        goal[rows] += 1
        self._until(goal, False)

    def in_system(self) -> Floats:
        """(n,) requests waiting or running."""
        return np.asarray(self.flow["active"], dtype=np.float64)

    def _until(self, goal: NDArray[Any], frozen: bool) -> None:
        while True:
            some = np.zeros((self.n, self.requests.shape[1] + 2), np.int64)
            t = self.tables
            short = run_requests(
                0, self.n, frozen, goal, self.cluster, self.pool, self.node, self.slot, self.flow, self.arrivals,
                self.replicas, self.requests, self._decode, self._heap, self._outstanding, self._ready, some,
                self._cells, self._classes, self.hist, self.scrape, self.pool_scrape, self.hist_scrape, self.events,
                self.held, t.spec, t.pool_spec, t.demands, self._servers, self._knots, t.bank, t.law, self._given,
                self._cursor, t.block, t.block_steps, t.supply, t.grid, t.work, t.degraded, self.log,
            )  # fmt: skip
            if short == DONE:
                return
            self._grow()

    def _grow(self) -> None:
        """Twice the room for every row: requests that were on their way stay where they are."""
        n, room = self.requests.shape
        wider = records((n, 2 * room), REQUEST)
        wider[:, :room] = self.requests
        self.requests = wider
        self.arrivals = records((n, 2 * self.arrivals.shape[1]), ARRIVAL)
        _add_free(self.flow, self.requests, room)


def _given(requests: Requests | None) -> NDArray[Any]:
    found = records((0 if requests is None else len(requests),), ARRIVAL)
    if requests is not None:
        found["at_s"], found["prompt"] = requests.arrival_s, requests.prompt_tokens
        found["output"], found["number"] = requests.output_tokens, np.arange(len(requests))
    return found


def _servers(spec: ClusterSpec) -> NDArray[Any]:
    found = records((len(spec.pools),), SERVER)
    for row, pool in zip(found, spec.pools, strict=True):
        profile = pool.profile
        for name in ("c0_s", "c1_s", "c2_s", "c3_s", "c4_s"):
            row[name] = getattr(profile.law, name)
        row["seats"], row["kv_capacity_tokens"] = profile.max_seats, profile.kv_capacity_tokens
        row["chunk_tokens"] = profile.chunk_tokens
    return found


def _knots(laws: Sequence[TokenLaw]) -> NDArray[np.float64]:
    """(laws, 2, 2, K) probabilities and tokens of prompts and answers, the last knot repeated."""
    pairs = [((law.prompt_p, law.prompt_tokens), (law.output_p, law.output_tokens)) for law in laws]
    longest = max(len(p) for both in pairs for p, _ in both)
    found = np.empty((len(laws), 2, 2, longest))
    for row, both in zip(found, pairs, strict=True):
        for table, (p, tokens) in zip(row, both, strict=True):
            table[0], table[1] = p[-1], tokens[-1]
            table[0, : len(p)], table[1, : len(tokens)] = p, tokens
    return found


@kernel
def _begin_rows(
    rows: Ints, slot: Any, flow: Any, replicas: Any, requests: Any, heap: Ints, outstanding: Ints, ready: Ints
) -> None:
    """Cleared rows: idle replicas where slots are ready, empty queues, all request records free."""
    for r in rows:
        f = flow[r]
        f.head = f.tail = NOBODY
        f.free = 0
        for i in range(requests.shape[1]):
            requests[r, i].next = i + 1 if i + 1 < requests.shape[1] else NOBODY
        count = slot.shape[2]
        f.ready = 0
        for k in range(replicas.shape[1]):
            q = replicas[r, k]
            q.pool = k // count
            q.end_s = np.inf
            q.place = k
            heap[r, k] = k
            outstanding[r, k] = 0
            q.wait_head = q.wait_tail = q.fill_head = q.fill_tail = q.last = NOBODY
            q.state = GONE
            if slot[r, k // count, k % count].state == READY:
                q.state = SERVES
                ready[r, f.ready] = k
                f.ready += 1


@kernel
def _add_free(flow: Any, requests: Any, first: int) -> None:
    for r in range(flow.shape[0]):
        for i in range(first, requests.shape[1]):
            requests[r, i].next = i + 1 if i + 1 < requests.shape[1] else flow[r].free
        flow[r].free = first
