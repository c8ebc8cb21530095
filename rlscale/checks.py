"""Contracts anyone can run on what they add. Knows a toy fleet and no simulator.

check_scaler(ScalerKind(MyScaler, knob=None, summary="mine"))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from rlscale.decide import carried_per_s
from rlscale.execute import allocate, bound
from rlscale.types import PENDING_AGES_S, Decision, Floats, Ints, Observation, Scaler, ScalerKind, ScalingLimits, Slo

INTERVAL_S = 15.0
START_S = 300.0
PATIENCE_S = 30.0
HOUR = 240  # intervals


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
    """A fluid of requests before replicas that carry l_SLO and no more, and take `start_s` to start."""

    def __init__(self, limits: ScalingLimits, rate_per_s: float, start_s: float = START_S) -> None:
        self.limits = limits
        self.rate_per_s = rate_per_s
        self.start_s = start_s
        self.blind_s = 0.0  # for how long no scrape has succeeded
        self.t_s = 0.0
        self.waiting = 0.0
        self.orders: list[tuple[float, int]] = []  # (time of the order, pool), oldest first
        self.ready = np.array(allocate(rate_per_s, limits).target)

    @property
    def pending(self) -> Ints:
        """(P,) ordered and not ready."""
        return np.bincount([pool for _, pool in self.orders], minlength=len(self.ready)).astype(np.int64)

    def apply(self, target: tuple[int, ...]) -> None:
        """Order what is missing; cancel the youngest orders first, then give back replicas."""
        for pool, wanted in enumerate(target):
            surplus = int(self.ready[pool] + self.pending[pool]) - wanted
            self.orders += [(self.t_s, pool)] * -surplus
            for _ in range(surplus):
                youngest = max((k for k, order in enumerate(self.orders) if order[1] == pool), default=None)
                if youngest is None:
                    self.ready[pool] -= 1
                else:
                    del self.orders[youngest]

    def wait(self) -> None:
        """One control interval; requests that would wait longer than their patience leave."""
        self.t_s += INTERVAL_S
        for at_s, pool in [order for order in self.orders if self.t_s - order[0] >= self.start_s]:
            self.orders.remove((at_s, pool))
            self.ready[pool] += 1
        served = carried_per_s(self.ready, self.limits) * INTERVAL_S
        queue = self.waiting + self.rate_per_s * INTERVAL_S - served
        self.waiting = min(max(0.0, queue), self.rate_per_s * PATIENCE_S)
        self.blind_s = self.blind_s + INTERVAL_S if self.blind_s else 0.0

    def measure(self) -> Observation:
        """What a scaler may see; every metric is NaN while blind, latencies also without traffic."""
        carried = carried_per_s(self.ready, self.limits)
        busy = min(1.0, (self.rate_per_s + self.waiting) / carried) if carried > 0 else 0.0
        value = math.nan if self.blind_s else 1.0
        latency = value if self.rate_per_s > 0 and carried > 0 else math.nan
        wait_s = min(PATIENCE_S, self.waiting / carried) if carried > 0 else math.nan
        occupancy = np.where(self.ready > 0, busy * value, math.nan)
        by_age = np.zeros((len(self.ready), len(PENDING_AGES_S) + 1), np.int64)
        for at_s, pool in self.orders:
            by_age[pool, np.searchsorted(PENDING_AGES_S, self.t_s - at_s, side="right")] += 1
        return observation(
            self.limits,
            t_s=self.t_s,
            week_s=self.t_s,
            age_s=2.0 + self.blind_s,
            arrival_per_s=self.rate_per_s * value,
            waiting=self.waiting * value,
            running=busy * float(self.ready @ self.limits.seats) * value,
            ttft_s=(0.1 / (1.0 - 0.9 * busy) + wait_s) * latency,  # ten times as long at l_SLO as alone
            tpot_s=0.03 * latency,
            attainment=value if self.rate_per_s > 0 else math.nan,
            dropped_per_s=0.0 * value,
            ready=self.ready.copy(),
            pending=self.pending,
            pending_by_age=by_age,
            target=self.ready + self.pending,
            ready_at_scrape=self.ready.copy(),
            compute_occupancy=occupancy,
            memory_occupancy=occupancy / 2,
            forecast_per_s=self.rate_per_s,
        )


def drive(scaler: Scaler, fleet: ToyFleet, intervals: int) -> list[Decision]:
    """Close the circle for so many intervals; every decision must be one that Execute takes as it is, or bounds."""
    taken = []
    for _ in range(intervals):
        seen = fleet.measure()
        decision = scaler.decide(seen)
        _readable(decision, len(fleet.ready))
        target = bound(decision, fleet.limits, seen.target).target
        fleet.apply(target)
        fleet.wait()
        taken.append(replace(decision, target=target))
    return taken


def totals(taken: list[Decision]) -> list[int]:
    """Replicas of all pools together, decision by decision."""
    return [sum(decision.target) for decision in taken]


def check_scaler(
    kind: ScalerKind, limits: ScalingLimits | None = None, *, reacts: bool = True, **parameters: Any
) -> None:
    """Raise AssertionError with a sentence unless a scaler keeps the contract. `reacts` False: it ignores the load.

    The maxima of `limits` should be ten times what the first replica carries or more, else nothing can overshoot.
    """
    limits = limits or limits_of()

    def fresh() -> Scaler:
        return kind.build(limits, **parameters)

    _repeats_itself(fresh, limits)
    _holds_without_metrics(fresh, limits, reacts)
    if reacts:
        _scales_in_without_traffic(fresh(), limits)
        _waits_for_what_it_ordered(fresh, limits)
        _keeps_a_fleet_that_starts(fresh(), limits)


def _readable(decision: Decision, pools: int) -> None:
    _expect(isinstance(decision, Decision), f"decide returned {decision!r}; expected a Decision")
    _expect(bool(decision.reason), f"{decision} gives no reason for the audit log")
    if len(decision.target) == 0:
        _expect(math.isfinite(decision.capacity_per_s), f"{decision} asks for neither replicas nor a finite capacity")
    else:
        _expect(len(decision.target) == pools, f"{decision} has {len(decision.target)} targets for {pools} pools")
        _expect(all(math.isfinite(count) for count in decision.target), f"{decision} has a target that is not finite")


def _repeats_itself(fresh: Callable[[], Scaler], limits: ScalingLimits) -> None:
    """The same run after reset, on a second object, and years later."""

    from unittest import mock  # loads asyncio, for one use

    def run(scaler: Scaler) -> str:
        fleet = ToyFleet(limits, 40.0)
        story = []
        for rate in (40.0, 90.0, 20.0, 0.0, 150.0, 60.0):
            fleet.rate_per_s = rate
            story += drive(scaler, fleet, 20)
        return repr(story)

    scaler = fresh()
    first = run(scaler)
    scaler.reset()
    _expect(run(scaler) == first, "after reset the same run gives other decisions; reset must forget everything")
    _expect(run(fresh()) == first, "two scalers built alike decide differently; randomness must be an argument")
    clocks = {name: mock.Mock(return_value=4e9) for name in ("time", "monotonic", "perf_counter")}
    with mock.patch.multiple("time", **clocks):
        _expect(run(fresh()) == first, "decisions depend on the wall clock; use seen.t_s")


def _holds_without_metrics(fresh: Callable[[], Scaler], limits: ScalingLimits, reacts: bool) -> None:
    scaler, fleet = fresh(), ToyFleet(limits, 40.0)
    before = drive(scaler, fleet, HOUR)[-1].target
    fleet.blind_s = INTERVAL_S
    blind = {decision.target for decision in drive(scaler, fleet, 20)}
    _expect(blind == {before}, f"without metrics the target went from {before} to {blind}; missing metrics mean hold")
    fleet.blind_s, fleet.rate_per_s = 0.0, 160.0
    after = drive(scaler, fleet, HOUR)[-1].target
    grown = carried_per_s(after, limits) > carried_per_s(before, limits)
    _expect(grown or not reacts, f"metrics came back with four times the load and the target stayed at {after}")


def _scales_in_without_traffic(scaler: Scaler, limits: ScalingLimits) -> None:
    fleet = ToyFleet(limits, 40.0)
    drive(scaler, fleet, HOUR)
    fleet.rate_per_s = 0.0
    idle = drive(scaler, fleet, HOUR)[-1].target
    least = tuple(int(count) for count in limits.min_replicas)
    _expect(idle == least, f"an hour without traffic left the target at {idle}; the minimum is {least}")


def _waits_for_what_it_ordered(fresh: Callable[[], Scaler], limits: ScalingLimits) -> None:
    """The load steps to 95 % of what is ready: no queue builds up, so all beyond the need was ordered twice."""
    settled = totals(_step_up(fresh(), limits, start_s=0.0))[-1]
    starting = totals(_step_up(fresh(), limits, START_S))[: int(START_S / INTERVAL_S)]
    early, late = starting[: len(starting) // 2], starting[len(starting) // 2 :]
    _expect(
        max(starting) <= 1.5 * settled + 1,
        f"while replicas took {START_S:.0f} s to start, the target rose to {max(starting)}, with instant ones it "
        f"settles at {settled}; count the pending ones",
    )
    _expect(
        max(late) <= max(settled, *early) + 1,  # a trend may still creep
        f"at a constant load the target was still rising, {starting}, before the first ordered replica was ready; "
        "count the pending ones",
    )


def _keeps_a_fleet_that_starts(scaler: Scaler, limits: ScalingLimits) -> None:
    """All replicas are still loading: nothing runs, which is not to say that nothing is wanted."""
    fleet = ToyFleet(limits, 40.0)
    ordered = totals([Decision(allocate(40.0, limits).target)])[0]
    fleet.orders = [(0.0, pool) for pool, count in enumerate(fleet.ready) for _ in range(count)]
    fleet.ready = np.zeros_like(fleet.ready)
    least = min(totals(drive(scaler, fleet, int(START_S / INTERVAL_S))))
    _expect(least >= ordered, f"with {ordered} replicas starting and none ready yet, the target fell to {least}")


def _step_up(scaler: Scaler, limits: ScalingLimits, start_s: float) -> list[Decision]:
    fleet = ToyFleet(limits, 40.0, start_s)
    drive(scaler, fleet, HOUR)
    fleet.rate_per_s = 0.95 * carried_per_s(fleet.ready, limits)
    return drive(scaler, fleet, HOUR)


def _expect(kept: bool, otherwise: str) -> None:
    """An assert that `python -O` keeps."""
    if not kept:
        raise AssertionError(otherwise)
