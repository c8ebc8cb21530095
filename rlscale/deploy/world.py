"""World 2: a real service. Metrics from a source, the fleet and the orders through a backend, time from a clock."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

import numpy as np

from rlscale.deploy.base import Backend, BackendError, Clock, Fleet, MetricsError, Reading, Source
from rlscale.deploy.orders import Orders
from rlscale.execute import Bounded
from rlscale.types import WEEK_S, Observation, ScalingLimits

BLANK = Reading(math.nan)
REMEMBERED = 256  # fleets, to find the one that served when metrics were taken


@dataclass(frozen=True, slots=True)
class Place:
    """A service as the world sees it: what never changes."""

    limits: ScalingLimits
    interval_s: float
    timezone: tzinfo = UTC  # of the days and weeks that a scaler has learnt


class LiveWorld:
    """One service. Nothing that fails in here ends the circle: metrics that cannot be read grow old, orders that cannot
    be placed are placed again at the next decision, and the fleet is what it last was.

    `on_error(where, error)` hears of every failure; by default it is logged. `may_order()` says whether this instance
    is the one that acts.
    """

    def __init__(
        self, place: Place, source: Source, backend: Backend, clock: Clock,
        may_order: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        self.place, self.source, self.backend, self.clock = place, source, backend, clock
        self.on_error: Callable[[str, Exception], None] = _log
        self._may_order = may_order
        self._began_s = clock.steady_s()
        self._orders = Orders(len(place.limits.min_replicas))
        self._fleets: deque[tuple[float, tuple[int, ...]]] = deque(maxlen=REMEMBERED)  # (unix time, ready)
        self._turn_s: float | None = None  # the beat that a turn belongs to; None where somebody asks for turns
        self._next_s = self._began_s  # the first decision at once: a service that comes back must not wait
        self._reading, self._fresh_s = BLANK, -math.inf  # steady time when the newest sample was first seen
        self._fleet: Fleet | None = None
        self._fleet_s = -math.inf
        self.target: tuple[int, ...] | None = None  # in force, by this instance
        self.ordered = False  # whether the last targets were placed
        self.missed_intervals = 0  # beats that were slept through

    def wait(self) -> bool:
        """Until the next beat, and until a fleet has been seen; False when everything is to stop."""
        while True:
            if not self.clock.wait(self._next_s - self.clock.steady_s()):
                return False
            now_s, every_s = self.clock.steady_s(), self.place.interval_s
            late = max(0, math.floor((now_s - self._next_s) / every_s))
            self.missed_intervals += late
            self._next_s += (late + 1) * every_s
            self._turn_s = self._next_s - every_s
            self.look()
            if self._fleet is not None:
                return True

    def observe(self) -> Observation:
        """What is known, with the age of the older of metrics and fleet."""
        fleet, limits = self._fleet, self.place.limits
        assert fleet is not None, "observe comes after wait"
        # The beat, not the moment: a rule that syncs every interval would skip one whenever it is asked a little sooner
        # after its beat than the time before.
        t_s = self.t_s if self._turn_s is None else self._turn_s - self._began_s
        reading = self._reading
        ready = np.array(fleet.ready, dtype=np.int64)
        target = self.target if self.target is not None else fleet.target
        then = np.array(reading.replicas or self._ready_at(reading.taken_s, fleet), dtype=np.int64)
        room = then * limits.seats
        running = np.array(reading.running_by_pool) if reading.running_by_pool else _shared(reading.running, room)
        latency = {name: _of_none(getattr(reading, name), reading, 0.0) for name in ("ttft_s", "tpot_s")}
        return Observation(
            t_s=t_s, week_s=self._week_s(), interval_s=self.place.interval_s, age_s=self._age_s(),
            arrival_per_s=reading.arrival_per_s, waiting=reading.waiting, running=reading.running,
            attainment=_of_none(reading.attainment, reading, 1.0), dropped_per_s=reading.dropped_per_s, **latency,
            ready=ready, pending=np.array(fleet.pending, dtype=np.int64),
            pending_by_age=self._orders.by_age(t_s, fleet.pending),
            draining=np.array(fleet.draining or [0] * len(ready), dtype=np.int64),
            target=np.array(target, dtype=np.int64), ready_at_scrape=then,
            compute_occupancy=np.divide(running, room, out=np.zeros(len(room)), where=room > 0),
            memory_occupancy=np.array(reading.memory or [math.nan] * len(ready)),
            ttft_p90_s=reading.ttft_p90_s, tpot_p90_s=reading.tpot_p90_s, prompt_tokens=reading.prompt_tokens,
            answer_tokens=reading.answer_tokens, limits=limits, standby=np.zeros(len(ready), dtype=np.int64),
            carbon_g_per_kwh=np.zeros(len(ready)), usd_per_kwh=np.zeros(len(ready)),
        )  # fmt: skip

    def apply(self, seen: Observation, bounded: Bounded) -> None:
        """Order the targets, every time: what somebody else changed in between is put right."""
        self.ordered = False
        if not self._may_order():
            self.target = None  # whoever acts decides from what is really ordered
            withdraw = getattr(self.backend, "withdraw", None)  # a backend that is asked must not tell an old order
            if withdraw is not None:
                withdraw()
            return
        try:
            self.backend.order(bounded.target)
        except BackendError as error:
            self.on_error("order", error)
            return
        before = self.target if self.target is not None else tuple(int(count) for count in seen.target)
        self._orders.placed(self.t_s, [wanted - was for wanted, was in zip(bounded.target, before, strict=True)])
        self.ordered, self.target = True, bounded.target

    @property
    def t_s(self) -> float:
        """Seconds since the service was first started, restarts included."""
        return self.clock.steady_s() - self._began_s

    def state(self) -> dict[str, Any]:
        """To be kept over a restart."""
        return {"t_s": self.t_s, "unix_s": self.clock.unix_s(), "orders": self._orders.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another process ended; the time in between has passed for real."""
        gone_s = max(0.0, self.clock.unix_s() - float(state["unix_s"]))
        self._began_s = self.clock.steady_s() - float(state["t_s"]) - gone_s
        self._orders.restore(state.get("orders"))

    def look(self) -> None:
        """Read fleet and metrics; what fails is told and stays as it was."""
        try:
            fleet = self.backend.fleet()
            self._fleet, self._fleet_s = fleet, self.clock.steady_s()
            self._fleets.append((self.clock.unix_s(), fleet.ready))
        except BackendError as error:
            self.on_error("fleet", error)
        try:
            reading = self.source.read()
        except MetricsError as error:
            self.on_error("metrics", error)
            return
        if reading.taken_s != self._reading.taken_s:
            self._fresh_s = self.clock.steady_s()
        self._reading = reading

    def _age_s(self) -> float:
        """Of the newest sample, by the wall clock; a clock that was set back makes nothing young again, and a fleet
        that cannot be read any more is as bad as metrics that cannot."""
        now_s = self.clock.steady_s()
        by_wall_s = self.clock.unix_s() - self._reading.taken_s
        since_s = now_s - self._fresh_s
        ages = [since_s, now_s - self._fleet_s]
        if math.isfinite(by_wall_s):
            ages.append(by_wall_s)
        return max(0.0, *ages)

    def _ready_at(self, unix_s: float, fleet: Fleet) -> tuple[int, ...]:
        """Who served when the metrics were taken."""
        found = fleet.ready
        for seen_s, ready in reversed(self._fleets):
            found = ready
            if seen_s <= unix_s:
                break
        return found

    def _week_s(self) -> float:
        local = datetime.fromtimestamp(self.clock.unix_s(), self.place.timezone)
        midnight_s = local.hour * 3600.0 + local.minute * 60.0 + local.second + local.microsecond / 1e6
        return (local.weekday() * 86_400.0 + midnight_s) % WEEK_S


def _log(where: str, error: Exception) -> None:
    logging.getLogger("rlscale.live").warning("%s: %s", where, error)


def _shared(running: float, room: Any) -> Any:
    """Running requests by pool when only their sum is known: as full everywhere."""
    total = float(np.sum(room))
    return running * room / total if total > 0 else np.full(len(room), running)


def _of_none(value: float, reading: Reading, without: float) -> float:
    """A mean over no request has no value; that is not a metric that is missing."""
    idle = reading.arrival_per_s == 0.0 and not reading.waiting > 0.0
    return without if math.isnan(value) and idle else value
