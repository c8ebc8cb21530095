"""Monitor: from what happened to what can be seen, late, noisy and sometimes not at all.

The only seam between a world and a scaler. Metrics are those of the last scrape that had arrived at the decision;
rates are differences of counters over the scraped window. Counts of replicas come from the control plane and are
current. A failed scrape leaves NaN, never a guess; an empty window has latency 0 and attainment 1.
"""

from __future__ import annotations

import math
from dataclasses import fields
from operator import itemgetter
from typing import Any, Protocol

import numpy as np

from rlscale.sim import lifecycle, luck
from rlscale.sim.histogram import edges_s, quantile_between
from rlscale.sim.luck import kernel
from rlscale.sim.records import BEFORE, NOW
from rlscale.types import PENDING_AGES_S, WEEK_S, ClusterSpec, Floats, Ints, Observation, ScalingLimits

# Fields of an observation in the order of the blocks that `_watch` fills. Noise is drawn in the order of the metrics,
# the two occupancies after the rest.
METRICS = ("arrival_per_s", "waiting", "running", "ttft_s", "tpot_s", "attainment", "dropped_per_s")
MORE = ("ttft_p90_s", "tpot_p90_s", "prompt_tokens", "answer_tokens")
NUMBERS = (*METRICS, "t_s", "week_s", "age_s", "work_waiting", "work_urgent", *MORE, "decode_waiting")
OCCUPANCIES = ("compute_occupancy", "memory_occupancy", "carbon_g_per_kwh", "usd_per_kwh")  # and the electricity
COUNTS = ("ready", "pending", "draining", "target", "ready_at_scrape", "standby")
URGENT_S = 3600.0  # work due within this time is urgent
SCRAPED, ATTAINMENT, TTFT = len(METRICS), METRICS.index("attainment"), METRICS.index("ttft_s")
P90, TOKENS = NUMBERS.index("ttft_p90_s"), NUMBERS.index("prompt_tokens")
HANDED, WAITING = NUMBERS.index("decode_waiting"), METRICS.index("waiting")
LEAST = 1e-12  # below this there is nothing to divide by
# The fields of an observation among the values of the blocks: naming thirty of them takes longer than reading them.
_VALUES = (*NUMBERS, *OCCUPANCIES, *COUNTS, "pending_by_age", "interval_s", "limits", "forecast_per_s")
_IN_ORDER = itemgetter(*(_VALUES.index(field.name) for field in fields(Observation)))
Blocks = tuple[Floats, Floats, Ints, Floats]  # numbers, occupancies, counts, pending by age


class Watched(Protocol):
    """What the monitor reads of a world: scrapes, the fleet, the clock."""

    spec: ClusterSpec
    n: int
    pools: int
    cluster: Any
    pool: Any
    slot: Any
    scrape: Any
    scrape_before: Any
    pool_scrape: Any
    tables: Any
    hist_scrape: Any  # (n, 2, 2, BINS), or (n, 0, 2, BINS) where percentiles are not asked for


class Monitor:
    """Observations of a world, all rows at once; `one()` of a single cluster as plain numbers."""

    def __init__(self, world: Watched, known: ScalingLimits) -> None:
        self.world, self.known = world, known
        self._edges, self._bins_s = np.array(PENDING_AGES_S), edges_s()
        self._good_s = np.zeros(world.n)  # time of the last scrape that did not fail
        self._all = np.arange(world.n)
        spec = world.tables.spec[0]
        self._deadline_steps = int(spec["deadline_steps"]) if spec["has_work"] else -1  # -1: nothing can be deferred
        n, pools = world.n, world.pools
        self._shapes = ((len(NUMBERS), n), (len(OCCUPANCIES), n, pools), (len(COUNTS), n, pools),
                        (n, pools, len(PENDING_AGES_S) + 1))  # fmt: skip
        self._latest: Blocks | None = None

    def reset(self, rows: Any = slice(None)) -> None:
        """The given rows have begun anew."""
        self._good_s[rows] = 0.0

    def observe(self) -> Observation:
        """What can be seen now; every field has a leading axis of rows."""
        return self._observation(self._look(self._all, self._blank()))

    def observe_again(self, rows: Ints) -> Observation:
        """The last observation, with the given rows as they can be seen now."""
        if self._latest is None:
            return self.observe()
        numbers, occupancies, counts, by_age = self._latest
        return self._observation(self._look(rows, (numbers.copy(), occupancies.copy(), counts.copy(), by_age.copy())))

    def one(self) -> Observation:
        """The observation of the only cluster: floats, and arrays over pools."""
        numbers, occupancies, counts, by_age = self._look(self._all, self._blank())
        return Observation(*_IN_ORDER((*numbers[:, 0].tolist(), *occupancies[:, 0], *counts[:, 0], by_age[0],
                                       self.world.spec.interval_s, self.known, math.nan)))  # fmt: skip

    def _observation(self, blocks: Blocks) -> Observation:
        self._latest = numbers, occupancies, counts, by_age = blocks
        return Observation(
            interval_s=self.world.spec.interval_s,
            limits=self.known,
            pending_by_age=by_age,
            **dict(zip(NUMBERS, numbers, strict=True)),
            **dict(zip(OCCUPANCIES, occupancies, strict=True)),
            **dict(zip(COUNTS, counts, strict=True)),
        )

    def _blank(self) -> Blocks:
        numbers, occupancies, counts, by_age = self._shapes
        return np.empty(numbers), np.empty(occupancies), np.empty(counts, np.int64), np.empty(by_age)

    def _look(self, rows: Ints, blocks: Blocks) -> Blocks:
        world, spec = self.world, self.world.spec
        _watch(rows, world.cluster, world.pool, world.slot, world.scrape, world.scrape_before, world.pool_scrape,
               world.hist_scrape, self._bins_s, self.known.seats, self._edges, spec.substep_s, spec.metric_noise,
               spec.metric_missing_share, self._deadline_steps, world.tables.grid, world.tables.work, self._good_s,
               *blocks)  # fmt: skip
        return blocks


def row(seen: Observation, r: int) -> Observation:
    """One cluster out of a batch of observations."""
    picked: dict[str, Any] = {}
    for item in fields(seen):
        value = getattr(seen, item.name)
        if isinstance(value, np.ndarray):
            value = float(value[r]) if value.ndim == 1 else value[r]
        picked[item.name] = value
    return Observation(**picked)


@kernel
def _watch(
    rows: Ints, cluster: Any, pool: Any, slot: Any, scrape: Any, scrape_before: Any, pool_scrape: Any,
    hist_scrape: Any, bins_s: Floats, seats: Floats, edges_s: Floats, substep_s: float, noise: float,
    missing_share: float, deadline_steps: int, grid: Floats, work: Floats, good_s: Floats, numbers: Floats,
    occupancies: Floats, counts: Ints, by_age: Floats,
) -> None:  # fmt: skip
    """Fill the given rows of the blocks; see `NUMBERS`, `OCCUPANCIES` and `COUNTS` for their order."""
    for r in rows:
        c, now, then = cluster[r], scrape[r], scrape_before[r]

        # Differences of counters over the scraped window.
        window_s = max(now.t_s - then.t_s, 1e-9)
        gone = (now.dropped - then.dropped) + (now.lost - then.lost)
        outcomes = (now.finished - then.finished) + (now.dropped - then.dropped) + (now.lost - then.lost)
        admitted, answered = now.admitted - then.admitted, now.tpot_count - then.tpot_count
        missed = (now.missed - then.missed) / outcomes if outcomes > LEAST else 0.0
        numbers[0, r] = (now.arrived - then.arrived) / window_s
        numbers[1, r] = now.waiting
        numbers[2, r] = now.running
        numbers[HANDED, r] = now.decode_waiting
        numbers[3, r] = (now.ttft_sum_s - then.ttft_sum_s) / admitted if admitted > LEAST else 0.0
        numbers[4, r] = (now.tpot_sum_s - then.tpot_sum_s) / answered if answered > LEAST else 0.0
        numbers[5, r] = min(max(1.0 - missed, 0.0), 1.0)
        numbers[6, r] = gone / window_s
        for k in range(2):
            numbers[P90 + k, r] = math.nan
            if hist_scrape.shape[1] > 0:
                numbers[P90 + k, r] = quantile_between(hist_scrape[r, NOW, k], hist_scrape[r, BEFORE, k], 0.9, bins_s)
        answers = now.output_tokens - then.output_tokens
        prompts = now.total_tokens - then.total_tokens - answers
        numbers[TOKENS, r] = prompts / answered if answered > LEAST else math.nan
        numbers[TOKENS + 1, r] = answers / answered if answered > LEAST else math.nan

        # The fleet, by the control plane: current.
        for p in range(seats.shape[0]):
            q, seen = pool[r, p], pool_scrape[r, p]
            room = seen.ready * seats[p]
            occupancies[0, r, p] = seen.running / room if room > LEAST else 0.0
            occupancies[1, r, p] = seen.memory
            counts[0, r, p] = q.ready
            counts[1, r, p] = q.pending
            counts[2, r, p] = q.draining
            counts[3, r, p] = q.target
            counts[4, r, p] = seen.ready
            counts[5, r, p] = q.standby + q.preparing

        # Noise on every metric, and NaN where the scrape failed.
        scraped_s = now.t_s
        if noise > 0.0 or missing_share > 0.0:
            failed = luck.uniform(c.seed, luck.SCRAPE_FAILS, 0, 0, c.interval) < missing_share
            for k in range(SCRAPED + 2):
                z = luck.normal_quantile(luck.uniform(c.seed, luck.SCRAPE_NOISE, 0, k, c.interval))
                factor = math.nan if failed else max(0.0, 1.0 + noise * z)
                if k < SCRAPED:
                    noisy = numbers[k, r] * factor
                    numbers[k, r] = min(noisy, 1.0) if k == ATTAINMENT and not failed else noisy  # a share
                    if k == WAITING:
                        numbers[HANDED, r] *= factor
                    if k == TTFT or k == TTFT + 1:
                        numbers[P90 + k - TTFT, r] *= factor
                        numbers[TOKENS + k - TTFT, r] *= factor
                else:
                    for p in range(seats.shape[0]):
                        occupancies[k - SCRAPED, r, p] *= factor
            if not failed:
                good_s[r] = scraped_s
            scraped_s = good_s[r]

        # The clock, and how long ago what is pending was ordered.
        t_s = c.step * substep_s
        numbers[7, r] = t_s
        numbers[8, r] = (c.week_s + t_s) % WEEK_S
        numbers[9, r] = t_s - scraped_s
        hour = int((c.week_s + t_s) / 3600.0) % grid.shape[1]
        for p in range(seats.shape[0]):
            lifecycle.pending_by_age(t_s, pool[r, p], slot[r, p], edges_s, by_age[r, p])
            occupancies[2, r, p] = grid[p, hour, 0]
            occupancies[3, r, p] = grid[p, hour, 1]

        # Deferrable work, by the books of the service: current.
        numbers[10, r] = numbers[11, r] = 0.0
        if deadline_steps >= 0:
            begun = work[c.load, c.cell - 1] if c.cell > 0 else 0.0
            at = min(c.cell + c.step, work.shape[1] - 1)
            soon = at - deadline_steps + int(URGENT_S / substep_s)
            numbers[10, r] = max(0.0, c.work_come - c.work)
            if soon >= 0:
                numbers[11, r] = max(0.0, work[c.load, min(soon, at)] - begun - c.work)
