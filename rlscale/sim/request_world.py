"""World 2: the same clusters request by request. `SimWorld` with another engine; whoever looks at it sees the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.errors import ScenarioError
from rlscale.sim.dispatch import list_ready, take_up
from rlscale.sim.luck import kernel
from rlscale.sim.naive import largest_kv_tokens
from rlscale.sim.records import COLUMNS, READY, records
from rlscale.sim.request_interval import DONE, run_requests
from rlscale.sim.request_records import ARRIVAL, BALANCERS, FLOW, FRONT, LISTS, REPLICA, REQUEST
from rlscale.sim.request_tables import FastServer, add_free, arrivals_of, begin_empty, blocks_of, cache_of, servers_of
from rlscale.sim.tables import CLASSES
from rlscale.sim.world import SimWorld
from rlscale.types import ClusterSpec, Floats, Ints, Load, Pool, TokenLaw

ROOM, SUBSTEP_ROOM = 1024, 256  # requests on their way and arrivals of a sub-step at first; both double when short
LATEST = 1 << 60  # of classes that hold nothing, see below


class RequestWorld(SimWorld):
    """`apply` targets, `wait` one control interval, read the records.

    Loads that know their requests bring them; those of the others are drawn. With `log_requests`, `log` of (number, 3)
    holds TTFT, TPOT and E2E in seconds of every known request, load after load, infinite where one never got there; for
    one row per load.
    """

    def __init__(
        self, spec: ClusterSpec, loads: Sequence[Load], seeds: Sequence[int], initial: NDArray[Any],
        *args: Any, log_requests: bool = False, **more: Any,
    ) -> None:  # fmt: skip
        recorded = [load.requests for load in loads]
        self._given, self._spans = arrivals_of(recorded)
        self._ids, self._block_tokens = blocks_of(recorded, self._given, self._spans)
        self.log = np.full((len(self._given) if log_requests else 0, 3), np.inf)
        super().__init__(spec, loads, seeds, initial, *args, **more)

    def _make_engine(self) -> tuple[NDArray[Any], ...]:
        n, replicas = self.n, self.pools * self.slot.shape[2]
        profiles = [pool.profile for pool in self.spec.pools]
        if any(not profile.batching and profile.max_seats > 1 for profile in profiles):
            raise ScenarioError("the request engine serves one request at a time per replica where nothing is batched; "
                                "give such a profile max_seats: 1 and more replicas")  # fmt: skip
        self.flow = records((n, 2), FLOW)
        self.replicas = records((n, replicas), REPLICA)
        self.requests = records((n, ROOM), REQUEST)
        self.arrivals = records((n, SUBSTEP_ROOM), ARRIVAL)
        seats = max(profile.max_seats for profile in profiles)
        self._decode = np.zeros((n, replicas, seats), np.int32)
        self._index = np.zeros((n, LISTS, max(replicas, ROOM + 2)), np.int64)
        self._cursor = np.zeros((n, 1), np.int64)
        # The fluid's books of admissions, empty for good: what takes shares out of them finds nothing.
        self._cells = np.zeros((self.pools, 1, COLUMNS))
        self._classes = np.full((self.pools, CLASSES, 2), LATEST, np.float64)
        kinds = [self._server(pool) for pool in self.spec.pools]
        self._servers = servers_of(kinds, self._block_tokens)
        self._cache = cache_of(self._ids, (n, replicas), max(kind.kept_blocks for kind in kinds))
        self._knots = _knots(self.tables.laws)
        self.tables.spec["balancer"] = BALANCERS[self.spec.balancer]
        sizes = [(kind.role, kind.longest_tokens) for kind in kinds]
        self.tables.spec["largest_kv_tokens"] = largest_kv_tokens(sizes)
        return (self.flow, self.replicas, self.requests)

    def _server(self, pool: Pool) -> FastServer:
        """A replica of a pool; prompts seen before take their share of its memory where prompts are known at all."""
        profile, share = pool.profile, self.spec.prefix_cache_share
        kept = int(share * profile.kv_capacity_tokens / self._block_tokens) if self._block_tokens > 1.0 else 0
        room = (1.0 - share) * profile.kv_capacity_tokens
        return FastServer(profile.law, profile.max_seats, room, profile.chunk_tokens, 0.0, pool.role, kept,
                          profile.context_tokens)  # fmt: skip

    def _begin_rows(self, rows: NDArray[Any]) -> None:
        for row in rows if len(self._given) else ():
            first, last = self._spans[self.cluster["load"][row]]
            begun_s = self.cluster["cell"][row] * self.spec.substep_s
            self._cursor[row, 0] = first + np.searchsorted(self._given["at_s"][first:last], begun_s)
        _begin_rows(rows, self.slot, self.flow, self.replicas, self.requests, self._cache, self._index, self._servers)

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
        return np.asarray(self.flow["active"][:, FRONT], dtype=np.float64)

    def _lose_rest(self) -> None:
        super()._lose_rest()
        self.flow["active"] = 0

    def _until(self, goal: NDArray[Any], frozen: bool) -> None:
        while True:
            t = self.tables
            short = run_requests(
                0, self.n, frozen, goal, self.cluster, self.pool, self.node, self.slot, self.flow, self.arrivals,
                self.replicas, self.requests, self._decode, self._cache, self._index, self._cells,
                self._classes, self.hist, self.scrape, self.pool_scrape, self.hist_scrape, self.events,
                self.held, t.spec, t.pool_spec, t.demands, self._servers, self._knots, t.bank, t.law, self._given,
                self._spans, self._cursor, t.block, t.block_steps, t.supply, t.grid, t.work, t.degraded, self.log,
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
        lists = np.zeros((n, LISTS, max(self._index.shape[2], 2 * room + 2)), np.int64)
        lists[:, :, : self._index.shape[2]] = self._index
        self._index = lists
        _add_free(self.flow, self.requests, room)


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
    rows: Ints, slot: Any, flow: Any, replicas: Any, requests: Any, cache: Any, index: Ints, servers: Any
) -> None:
    """Cleared rows: idle replicas where slots are ready."""
    count = slot.shape[2]
    for r in rows:
        begin_empty(flow[r], replicas[r], requests[r], index[r])
        for k in range(replicas.shape[1]):
            replicas[r, k].pool = k // count
            if slot[r, k // count, k % count].state == READY:
                take_up(k, replicas[r], index[r], (cache[0], cache[1][r]))
        list_ready(replicas[r], index[r], flow[r], servers)


@kernel
def _add_free(flow: Any, requests: Any, first: int) -> None:
    for r in range(flow.shape[0]):
        add_free(flow[r], requests[r], first)
