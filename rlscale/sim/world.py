"""World 1: n simulated clusters as rows of records; one row is a single cluster. Knows no scaler and no reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.errors import ScenarioError
from rlscale.sim import fluid, lifecycle
from rlscale.sim.compile import compile_tables, records_per_pool
from rlscale.sim.histogram import BINS, INF_BIN
from rlscale.sim.kappa import FITTED, Kappa
from rlscale.sim.records import (
    CLUSTER,
    COLUMNS,
    COUNTER_NAMES,
    NODE,
    POOL,
    POOL_SCRAPE,
    SCRAPE,
    SLOT,
    records,
)  # fmt: skip
from rlscale.sim.tables import CLASSES
from rlscale.types import ClusterSpec, Floats, Ints, Load

POOL_COUNTERS = (
    "ready_s", "pending_s", "draining_s", "node_s", "started", "preempted", "failed", "energy_j", "carbon_g",
    "energy_usd", "standby_s", "stopped_s",
)  # fmt: skip
LONGEST_HANDOVER_S = 600.0  # beyond that even an answer of thousands of tokens misses any TPOT
Snapshot = dict[str, Floats]


class SimWorld:
    """`apply` targets, `wait` one control interval, read the records.

    `loads` are shared by the rows: row r runs `loads[load_of_row[r]]` from cell `start_cell[r]` with luck `seeds[r]`.
    """

    def __init__(
        self,
        spec: ClusterSpec,
        loads: Sequence[Load],
        seeds: Sequence[int],
        initial: NDArray[Any],  # (n, P) or (P,) ready replicas at t = 0
        load_of_row: Sequence[int] | Ints | None = None,
        start_cell: Sequence[int] | None = None,
        log_events: int = 0,
        threads: int = 1,
        kappa: Kappa = FITTED,
        percentiles: bool = False,  # whether scrapes hold latency histograms; 10 KB more to copy per interval
    ) -> None:
        if not 1 <= len(spec.pools) <= 8:
            raise ScenarioError(f"got {len(spec.pools)} pools; expected 1 to 8")
        self.spec, self.loads, self.n, self.pools = spec, list(loads), len(seeds), len(spec.pools)
        self.tables = compile_tables(spec, loads, log_events > 0, kappa)
        n, p = self.n, self.pools
        slots = [records_per_pool(pool) for pool in spec.pools]
        self.cluster, self.pool = records((n,), CLUSTER), records((n, p), POOL)
        self.node = records((n, p, max(nodes for nodes, _ in slots)), NODE)
        self.slot = records((n, p, max(count for _, count in slots)), SLOT)
        self._engine = self._make_engine()
        self.hist = np.zeros((n, 3, BINS))
        self.scrape, self.scrape_before = records((n,), SCRAPE), records((n,), SCRAPE)
        self.pool_scrape = records((n, p), POOL_SCRAPE)
        self.hist_scrape = np.zeros((n, 2 if percentiles else 0, 2, BINS))  # now and before; TTFT and TPOT
        self.events = np.zeros((n, log_events + 1, 4))
        self.held = np.zeros((n, p, self.tables.held), np.int64)  # last wanted targets, for the HPA
        self._standby = np.array([pool.standby_replicas for pool in spec.pools])
        self._thinking = np.array([_thinking(load) for load in self.loads])
        self._week_s = np.array([load.week_s for load in self.loads])
        self._threads = ThreadPoolExecutor(threads) if threads > 1 else None
        self._split = np.linspace(0, n, threads + 1).astype(int)
        load_of_row = load_of_row if load_of_row is not None else [0] * n
        start_cell = start_cell if start_cell is not None else [0] * n
        self.reset(np.arange(n), seeds, initial, load_of_row, start_cell)

    def reset(
        self,
        rows: Sequence[int] | Ints,
        seeds: Sequence[int] | Ints,
        initial: NDArray[Any],
        load_of_row: Sequence[int] | Ints,
        start_cell: Sequence[int] | Ints,
    ) -> None:
        """Begin the given rows anew."""
        rows = np.asarray(rows)
        loads, cells = np.asarray(load_of_row), np.asarray(start_cell)
        fleet = np.empty((len(rows), self.pools), np.int64)
        fleet[:] = initial
        week_s = self._week_s[loads] + cells * self.spec.substep_s
        # Views are made anew each time: in a pickled world, those kept from before would be copies.
        state = tuple(
            _words(array)
            for array in (self.cluster, self.pool, self.node, self.slot, *self._engine, self.hist, self.scrape,
                          self.scrape_before, self.pool_scrape, self.events)
        )  # fmt: skip
        self.hist_scrape[rows] = 0.0
        t = self.tables
        lifecycle.start_rows(rows, np.asarray(seeds, np.uint64), loads, cells, fleet, self._standby, week_s, state,
                             self.cluster, self.pool, self.node, self.slot, self.pool_scrape, self.held, t.spec,
                             t.pool_spec, t.supply)  # fmt: skip
        if self._thinking.any():
            self.cluster["thinking"][rows] = self._thinking[loads]
        self._begin_rows(rows)

    def apply(self, target: NDArray[Any], standby: NDArray[Any] | None = None) -> None:
        """Bounded targets (n, P) for the coming interval, and replicas to keep in standby where that changes; in force
        after the control delay."""
        self.pool["wanted"] = target
        if standby is not None:
            self.pool["standby_wanted"] = standby

    def wait(self) -> None:
        """Let one control interval pass."""
        # Every interval has one scrape, which writes the whole record.
        self.scrape, self.scrape_before = self.scrape_before, self.scrape
        self._run(False)

    def wait_rows(self, rows: Sequence[int] | Ints) -> None:
        """Let one control interval pass for some rows only."""
        self._keep_scrapes(rows)
        arrays = self._arrays()
        for r in rows:
            fluid.run_batch(int(r), int(r) + 1, False, *arrays)

    def finish(self) -> None:
        """Stop arrivals, freeze the fleet and let the queue drain for scoring; nothing is billed any more."""
        limit_s = self.spec.timeout_s + 3600.0
        for _ in range(math.ceil(limit_s / self.spec.interval_s)):
            if float(self.in_system().max()) < 0.5:
                return
            self._run(True)
        if self.spec.has_roles:
            self._lose_rest()

    def _lose_rest(self) -> None:
        """Sequences never give up, so that some wait for ever where no decode replica is left: they are lost."""
        rest = self.in_system()
        for name in ("lost", "missed"):
            self.cluster[name] += rest
        self.hist[:, 1:, INF_BIN] += rest[:, None]
        self.cluster["joined"] = self.cluster["passed"]

    def in_system(self) -> Floats:
        """(n,) requests waiting or running."""
        waiting = np.maximum(0.0, self.cluster["queued"] - self.cluster["left"])
        waiting += np.maximum(0.0, self.cluster["passed"] - self.cluster["joined"])
        return np.asarray(waiting + (self.pool["running"] + self.pool["drain_running"]).sum(axis=1), dtype=np.float64)

    def counters(self) -> Snapshot:
        """Copies of the cumulative counters: (n,) per service, (n, P) per pool."""
        service = {name: np.array(self.cluster[name]) for name in COUNTER_NAMES}
        return service | {name: np.array(self.pool[name]) for name in POOL_COUNTERS}

    def cost_usd(self) -> Floats:
        """(n,) USD since t = 0: nodes, disks of stopped nodes, and electricity where it is paid for."""
        price = np.array([pool.node.usd_per_s(pool.spot) for pool in self.spec.pools])
        disk = np.array([pool.node.disk_usd_per_hour / 3600.0 for pool in self.spec.pools])
        billed = self.pool["node_s"] @ price + self.pool["stopped_s"] @ disk + self.pool["energy_usd"].sum(axis=1)
        return np.asarray(billed, dtype=np.float64)

    @property
    def t_s(self) -> Floats:
        """(n,) seconds since t = 0."""
        return np.asarray(self.cluster["step"] * self.spec.substep_s, dtype=np.float64)

    def event_log(self, row: int) -> Floats:
        """(events, 4): time, kind (see records.py), pool, number."""
        return np.array(self.events[row, 1 : 1 + int(self.events[row, 0, 0])])

    def _keep_scrapes(self, rows: Sequence[int] | Ints) -> None:
        _words(self.scrape_before)[rows] = _words(self.scrape)[rows]

    def _make_engine(self) -> tuple[NDArray[Any], ...]:
        """State of the engine alone; what is returned is cleared when rows begin anew."""
        if self.spec.prefix_cache_share > 0.0:
            raise ScenarioError("fleet.prefix_cache_share: the fluid engine knows no single prompts; run this scenario "
                                "with --engine request, or leave the key out")  # fmt: skip
        n, p = self.n, self.pools
        self.queue = np.zeros((n, _power_of_two(self.spec.timeout_s / self.spec.substep_s + 3)))
        self.cells = np.zeros((n, p, self._ring(), COLUMNS))
        self.classes = np.zeros((n, p, CLASSES, 2))
        self.sent = np.zeros((n, self._way() if self.spec.has_roles else 1, 3))
        return (self.queue, self.cells, self.classes, self.sent)

    def _begin_rows(self, rows: Ints) -> None:
        """What the engine does with cleared rows: for a fluid, nothing."""

    def _arrays(self) -> tuple[Any, ...]:
        t = self.tables
        return (self.cluster, self.pool, self.node, self.slot, self.queue, self.sent, self.cells, self.classes,
                self.hist, self.scrape, self.pool_scrape, self.hist_scrape, self.events, self.held, t.spec,
                t.pool_spec, t.demands, t.point, t.output, t.bank, t.law, t.block, t.block_steps, t.supply, t.grid,
                t.work, t.degraded)  # fmt: skip

    def _run(self, frozen: bool) -> None:
        arrays = self._arrays()
        if self._threads is None:
            fluid.run_batch(0, self.n, frozen, *arrays)
            return
        parts = [
            self._threads.submit(fluid.run_batch, int(a), int(b), frozen, *arrays)
            for a, b in zip(self._split[:-1], self._split[1:], strict=True)
        ]
        for part in parts:
            part.result()

    def _way(self) -> int:
        """Sub-steps that are remembered of what prefill pools hand over; who waits longer counts as if for so long."""
        delay_s = float(self.tables.demands["transfer_s"].max())
        return _power_of_two((delay_s + LONGEST_HANDOVER_S) / self.spec.substep_s + 3)

    def _ring(self) -> int:
        """Sub-steps a request can stay on a replica: the longest class of answers at the slowest iteration."""
        slowest = 0.0
        for p, pool in enumerate(self.spec.pools):
            if pool.profile.batching:
                d = self.tables.demands[:, p]
                iteration = d["c0"] + d["c"] * d["seats"] + d["chunk_s"]
                slowest = max(slowest, float((iteration * self.tables.output[:, :, 0].max(axis=1)).max()))
        return _power_of_two(slowest / self.spec.substep_s + 8)


def _thinking(load: Load) -> float:
    """Users between two requests when a load of sessions begins, at the equilibrium of its first minute."""
    first = float(load.rate_per_s[: max(1, round(60.0 / load.step_s))].mean())
    return first * load.continues * load.think_s


def _power_of_two(least: float) -> int:
    return int(2 ** math.ceil(math.log2(max(8.0, least))))


def _words(array: NDArray[Any]) -> NDArray[np.uint64]:
    """The same memory as rows of 8-byte words, which clear and copy faster than records."""
    return np.asarray(array).view(np.uint64).reshape(len(array), -1)
