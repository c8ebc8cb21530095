"""Recorded intervals shown to what runs live: as metrics and a fleet, or as what Ray Serve tells its policies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fake_ray import FakeContext, config, told
from live_fakes import FakeClock
from recorded import intervals_of

from rlscale.actions import Headroom
from rlscale.circle import begin, turn
from rlscale.deploy.base import Fleet, Reading
from rlscale.deploy.ray_pilot import Pilot
from rlscale.deploy.world import LiveWorld, Place
from rlscale.policy_folder import load_policy
from rlscale.record import Recorded
from rlscale.scenario import Scenario
from rlscale.types import Observation

MONDAY_S = 4 * 86_400.0  # unix time of a Monday, 00:00 UTC
SAID = ("arrival_per_s", "waiting", "running", "ttft_s", "tpot_s", "attainment", "dropped_per_s", "ttft_p90_s",
        "tpot_p90_s", "prompt_tokens", "answer_tokens")  # fmt: skip
RECORDED = ("dropped_per_s", "tpot_s", "attainment", "prompt_tokens", "answer_tokens")  # as a replica tells them
LONG_S = 1e9
ENOUGH = Headroom((1.2, 1.4, 1.6, 1.8, 2.0))
CLOSED = ("breaker", "metrics", "silence", "distribution", "queueing", "flap", "tolerance")
OFF: dict[str, Any] = {name: {"on": False} for name in CLOSED} | {"limits": {"max_share_down": 1.0}}


class Replayed:
    """Source and backend in one: metrics and fleet of one recorded interval after the other. Orders go to `ordered`."""

    tolerance = 0.0

    def __init__(self, seen: tuple[Observation, ...], clock: FakeClock, ordered: Callable[[Any], None]) -> None:
        self._left, self._clock, self.order = iter(seen), clock, ordered
        self.now: Observation | None = None

    def fleet(self) -> Fleet:
        self.now = seen = next(self._left)
        counts = (seen.ready, seen.pending, seen.target, seen.draining)
        return Fleet(*(tuple(int(count) for count in some) for some in counts))

    def read(self) -> Reading:
        seen = self.now
        assert seen is not None
        values = {name: float(getattr(seen, name)) for name in SAID}
        return Reading(self._clock.unix_s() - seen.age_s, **values, memory=tuple(seen.memory_occupancy),
                       replicas=tuple(seen.ready_at_scrape))  # fmt: skip

    def close(self) -> None:
        pass


def clock_of(one: Recorded) -> FakeClock:
    """A clock that shows the time of day and week at which a run began."""
    return FakeClock(epoch_s=MONDAY_S + float(one.seen[0].week_s))


def lived(
    scenario: Scenario, one: Recorded, scaler: Any, ordered: Callable[[Any], None] = lambda _: None
) -> Iterator[tuple[int, ...]]:
    """Targets of a live loop that is shown the metrics and fleets of a recorded run."""
    clock = clock_of(one)
    parts = Replayed(one.seen, clock, ordered)
    world = LiveWorld(Place(scenario.limits, scenario.cluster.interval_s), parts, parts, clock)
    world._began_s -= float(one.seen[0].t_s)
    begin(scaler, one.history_per_s, one.history_step_s)
    for _ in one.seen:
        assert world.wait()
        yield turn(world, scaler, scenario.limits).bounded.target


class AsServeTells:
    """Another scaler, told no more than Ray Serve does: neither which replicas drain nor the load before."""

    def __init__(self, scaler: Any) -> None:
        self.scaler, self.reset = scaler, scaler.reset

    def decide(self, seen: Observation) -> Any:
        return self.scaler.decide(replace(seen, draining=np.zeros_like(seen.draining)))


def contexts(one: Recorded, scenario: Scenario, clock: FakeClock, make: Any = FakeContext) -> Iterator[Any]:
    """What Serve would tell of every interval: the load in equal shares in the records of the replicas, the fleet
    as it was.

    A mean latency that Serve's queue is part of is recorded without it, since the policy adds the wait.
    """
    pool = scenario.cluster.pools[0]
    settings = config(min_replicas=pool.min_replicas, max_replicas=pool.max_replicas, look_back_period_s=LONG_S)
    before, every_s = 0.0, scenario.cluster.interval_s
    for i, seen in enumerate(one.seen):
        grown_per_s = (float(seen.waiting) - before) / every_s if i else 0.0
        before = float(seen.waiting)
        started_per_s = float(seen.arrival_per_s) - grown_per_s
        wait_s = before / started_per_s if before else 0.0
        values = {name: float(getattr(seen, name)) for name in RECORDED}
        serving = range(int(seen.ready_at_scrape[0]))
        values |= {"arrival_per_s": started_per_s, "ttft_s": float(seen.ttft_s) - wait_s,
                   "memory_occupancy": float(seen.memory_occupancy[0])}  # fmt: skip
        shares = dict.fromkeys(("arrival_per_s", "dropped_per_s"), len(serving))
        recorded = {name: dict.fromkeys(serving, value / shares.get(name, 1))
                    for name, value in values.items() if not math.isnan(value)}  # fmt: skip
        yield make(
            total_num_requests=float(seen.waiting + seen.running), total_queued_requests=float(seen.waiting),
            current_num_replicas=int(seen.ready[0]), target_num_replicas=int(seen.target[0]),
            capacity_adjusted_min_replicas=pool.min_replicas, capacity_adjusted_max_replicas=pool.max_replicas,
            config=settings, **told(clock.unix_s() - float(seen.age_s), **recorded),
        )  # fmt: skip
        clock.wait(every_s)


def piloted(scenario: Scenario, path: Path, make: Any = FakeContext) -> tuple[list[Any], list[Any]]:
    """Targets of the policy of Ray Serve, shown the intervals that the policy of a folder met, and those it decided."""
    (one,) = intervals_of(scenario, AsServeTells(load_policy(path, scenario.limits)))
    clock = clock_of(one)
    pilot = Pilot({"policy": str(path), "shields": OFF}, clock)
    found = [(pilot.tick(ctx)[0],) for ctx in contexts(one, scenario, clock, make)]
    status = pilot.status()["rlscale"]
    assert status["decisions"] == len(found) and not status["errors"], status["last_error"]
    return found, list(one.targets)
