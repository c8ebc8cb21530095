"""A toy fleet to close the circle with, and made-up moments of it. Knows no simulator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from rlscale.decide import carried_per_s
from rlscale.execute import allocate, bound
from rlscale.types import PENDING_AGES_S, Decision, Floats, Ints, Observation, Scaler, ScalingLimits, Slo

INTERVAL_S = 15.0
START_S = 300.0
PATIENCE_S = 30.0
HOUR = 240  # intervals
CROWDED = 1.25  # a replica holds up to so many times its sequences at l_SLO, and is none the faster
STALE = (
    "arrival_per_s",
    "waiting",
    "running",
    "ttft_s",
    "tpot_s",
    "attainment",
    "compute_occupancy",
    "memory_occupancy",
)


def limits_of(pools: int = 1) -> ScalingLimits:
    """Made-up limits: 1 to 40 replicas of 10 requests/s in the first pool, smaller and dearer ones behind it."""
    shrink: Floats = np.power(0.5, np.arange(pools, dtype=np.float64))
    return ScalingLimits(
        min_replicas=np.array([1] + [0] * (pools - 1)),
        max_replicas=np.full(pools, 40),
        capacity_per_s=10.0 * shrink,
        seats=80.0 * shrink,
        start_median_s=np.full(pools, START_S),
        start_p95_s=np.full(pools, 2 * START_S),
        usd_per_replica_s=0.001 * np.sqrt(shrink),
        slo=Slo(ttft_s=1.0),
        drain_s=60.0,
    )


def observation(limits: ScalingLimits, **changes: Any) -> Observation:
    """A calm moment: two replicas in the first pool, no traffic, all counts alike; then your changes."""
    pools = len(limits.seats)
    fleet = changes.get("ready", np.array([2] + [0] * (pools - 1)))
    calm: dict[str, Any] = {
        **dict.fromkeys(("arrival_per_s", "waiting", "running", "dropped_per_s"), 0.0),
        **dict.fromkeys(("ttft_s", "tpot_s", "attainment"), math.nan),
        **dict.fromkeys(("pending", "draining"), np.zeros(pools, np.int64)),
        **dict.fromkeys(("compute_occupancy", "memory_occupancy"), np.zeros(pools)),
        **dict.fromkeys(("ready", "target", "ready_at_scrape"), fleet),
        "pending_by_age": np.zeros((pools, len(PENDING_AGES_S) + 1), np.int64),
    }
    when: dict[str, Any] = {"t_s": 0.0, "week_s": 0.0, "interval_s": INTERVAL_S, "age_s": 2.0, "limits": limits}
    return Observation(**(when | calm | changes))


class ToyFleet:
    """A fluid of requests before replicas that carry l_SLO and no more, and take `start_s` to start.

    Replicas that are given back drain for `limits.drain_s` seconds: they count nowhere but in `draining`.
    """

    def __init__(self, limits: ScalingLimits, rate_per_s: float, start_s: float = START_S) -> None:
        self.limits = limits
        self.rate_per_s = rate_per_s
        self.start_s = start_s
        self.blind_s = 0.0  # for how long no scrape has succeeded
        self.missing = ""  # a metric that is NaN whatever happens
        self.frozen: Observation | None = None  # what every scrape since a failure repeats
        self.t_s = 0.0
        self.skew_s = 0.0  # what the clock that scalers read is ahead of the time that passes
        self.waiting = 0.0
        self.leaving: list[tuple[float, int]] = []  # (time of the end of the drain, pool)
        self.orders: list[tuple[float, int]] = []  # (time of the order, pool), oldest first
        self.ready = np.array(allocate(rate_per_s, limits).target)

    @property
    def pending(self) -> Ints:
        """(P,) ordered and not ready."""
        return self._per_pool(self.orders)

    @property
    def draining(self) -> Ints:
        """(P,) given back, with requests to finish."""
        return self._per_pool(self.leaving)

    def _per_pool(self, listed: list[tuple[float, int]]) -> Ints:
        return np.bincount([pool for _, pool in listed], minlength=len(self.ready)).astype(np.int64)

    def apply(self, target: tuple[int, ...]) -> None:
        """Order what is missing; cancel the youngest orders first, then give back replicas."""
        for pool, wanted in enumerate(target):
            surplus = int(self.ready[pool] + self.pending[pool]) - wanted
            self.orders += [(self.t_s, pool)] * -surplus
            for _ in range(surplus):
                youngest = max((k for k, order in enumerate(self.orders) if order[1] == pool), default=None)
                if youngest is None:
                    self.ready[pool] -= 1
                    self.leaving.append((self.t_s + self.limits.drain_s, pool))
                else:
                    del self.orders[youngest]

    def wait(self) -> None:
        """One control interval; requests that would wait longer than their patience leave."""
        self.t_s += INTERVAL_S
        for at_s, pool in [order for order in self.orders if self.t_s - order[0] >= self.start_s]:
            self.orders.remove((at_s, pool))
            self.ready[pool] += 1
        self.leaving = [end for end in self.leaving if end[0] > self.t_s]
        served = carried_per_s(self.ready, self.limits) * INTERVAL_S
        queue = self.waiting + self.rate_per_s * INTERVAL_S - served
        self.waiting = min(max(0.0, queue), self.rate_per_s * PATIENCE_S)
        self.blind_s = self.blind_s + INTERVAL_S if self.blind_s else 0.0

    def measure(self) -> Observation:
        """What a scaler may see; every metric is NaN while blind, latencies also without traffic."""
        carried = carried_per_s(self.ready, self.limits)
        busy = min(1.0, (self.rate_per_s + self.waiting) / carried) if carried > 0 else 0.0
        value = math.nan if self.blind_s and self.frozen is None else 1.0
        full = min(CROWDED, (self.rate_per_s + self.waiting) / carried) if carried > 0 else 0.0
        latency = value if self.rate_per_s > 0 and carried > 0 else math.nan
        wait_s = min(PATIENCE_S, self.waiting / carried) if carried > 0 else math.nan
        occupancy = np.where(self.ready > 0, full * value, math.nan)
        by_age = np.zeros((len(self.ready), len(PENDING_AGES_S) + 1), np.int64)
        for at_s, pool in self.orders:
            by_age[pool, np.searchsorted(PENDING_AGES_S, self.t_s - at_s, side="right")] += 1
        seen = observation(
            self.limits,
            t_s=self.t_s + self.skew_s,
            week_s=max(0.0, self.t_s + self.skew_s),
            age_s=2.0 + self.blind_s,
            arrival_per_s=self.rate_per_s * value,
            waiting=self.waiting * value,
            running=full * float(self.ready @ self.limits.seats) * value,
            ttft_s=(0.1 / (1.0 - 0.9 * busy) + wait_s) * latency,  # ten times as long at l_SLO as alone
            tpot_s=0.03 * latency,
            attainment=value if self.rate_per_s > 0 else math.nan,
            dropped_per_s=0.0 * value,
            ready=self.ready.copy(),
            pending=self.pending,
            draining=self.draining,
            pending_by_age=by_age,
            target=self.ready + self.pending,
            ready_at_scrape=self.ready.copy(),
            compute_occupancy=occupancy,
            memory_occupancy=occupancy / 2,
            forecast_per_s=self.rate_per_s,
        )
        if self.missing:
            lost = getattr(seen, self.missing) * math.nan
            seen = replace(seen, **{self.missing: lost})
        if self.frozen is None:
            return seen
        return replace(seen, age_s=2.0 + self.blind_s, **{name: getattr(self.frozen, name) for name in STALE})

    def freeze(self, rate_per_s: float) -> None:
        """From now on scrapes repeat, ever older, what was seen while `rate_per_s` came and queued."""
        now = self.rate_per_s, self.waiting
        self.rate_per_s, self.waiting = rate_per_s, rate_per_s * PATIENCE_S
        self.frozen = self.measure()
        self.rate_per_s, self.waiting = now
        self.blind_s = 3600.0

    def thaw(self) -> None:
        """Scrapes are fresh again."""
        self.frozen, self.blind_s = None, 0.0


def drive(
    scaler: Scaler, fleet: ToyFleet, intervals: int, judge: Callable[[Decision], None] | None = None
) -> list[Decision]:
    """Close the circle for so many intervals; what Execute makes of every decision. `judge` sees them before that."""
    taken = []
    for _ in range(intervals):
        seen = fleet.measure()
        decision = scaler.decide(seen)
        if judge is not None:
            judge(decision)
        target = bound(decision, fleet.limits, seen.target).target
        fleet.apply(target)
        fleet.wait()
        taken.append(replace(decision, target=target))
    return taken


def settle(scaler: Scaler, fleet: ToyFleet) -> tuple[int, ...]:
    """The target at a constant load, after hours of it until none ends with more than the one before, at most ten."""
    before = drive(scaler, fleet, HOUR)[-1].target
    for _ in range(9):
        after = drive(scaler, fleet, HOUR)[-1].target
        if sum(after) <= sum(before):
            break
        before = after
    return after


def totals(taken: list[Decision]) -> list[int]:
    """Replicas of all pools together, decision by decision."""
    return [sum(decision.target) for decision in taken]
