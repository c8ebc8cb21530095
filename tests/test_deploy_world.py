"""The live world: what is seen when everything works, and that nothing that fails ends the circle or makes zeros."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_fakes import REFUSED, UNREACHABLE, FakeBackend, FakeClock, FakeSource

from agents.headroom import Headroom
from envs import get_scenario
from rlscale.circle import turn, turns
from rlscale.deploy.orders import Orders
from rlscale.deploy.world import LiveWorld, Place
from rlscale.execute import Bounded
from rlscale.types import PENDING_AGES_S, Observation, ScalingLimits


@pytest.fixture(scope="module")
def limits() -> ScalingLimits:
    return get_scenario("chat").limits


@pytest.fixture
def parts(limits: ScalingLimits) -> tuple[LiveWorld, FakeClock, FakeSource, FakeBackend]:
    clock = FakeClock()
    source, backend = FakeSource(clock), FakeBackend()
    return LiveWorld(Place(limits, 15.0), source, backend, clock), clock, source, backend


Parts = tuple[LiveWorld, FakeClock, FakeSource, FakeBackend]


def seen_after(world: LiveWorld, intervals: int) -> Observation:
    for _ in range(intervals):
        assert world.wait()
    return world.observe()


def test_the_first_decision_comes_at_once_and_the_others_on_the_beat(parts: Parts) -> None:
    world, clock, *_ = parts
    times = []
    for _ in range(4):
        world.wait()
        times.append(clock.now_s)
        clock.now_s += 1.3  # deciding takes its time
    assert times == [0.0, 15.0, 30.0, 45.0] and world.missed_intervals == 0


def test_beats_that_were_slept_through_are_counted_and_the_beat_stays(parts: Parts) -> None:
    world, clock, *_ = parts
    world.wait()
    clock.now_s = 52.0
    world.wait()
    assert world.missed_intervals == 2 and clock.now_s == 52.0
    world.wait()
    assert clock.now_s == 60.0 and world.missed_intervals == 2


def test_an_observation_holds_what_source_and_backend_said(parts: Parts, limits: ScalingLimits) -> None:
    world, _, source, backend = parts
    source.values |= {"ttft_s": 0.2, "tpot_s": 0.03, "attainment": 0.98, "memory": (0.4,)}
    backend.pending = (2,)
    seen = seen_after(world, 2)
    assert (seen.t_s, seen.age_s, seen.arrival_per_s, seen.ttft_s, seen.attainment) == (15.0, 0.0, 10.0, 0.2, 0.98)
    assert seen.ready.tolist() == [4] and seen.pending.tolist() == [2] and seen.target.tolist() == [4]
    assert seen.compute_occupancy == pytest.approx(5.0 / (4 * limits.seats)) and seen.memory_occupancy == [0.4]
    assert seen.pending_by_age.tolist() == [[2.0, 0, 0, 0, 0, 0, 0]]


def test_metrics_that_cannot_be_read_grow_old(parts: Parts) -> None:
    world, _, source, _ = parts
    heard: list[str] = []
    world.on_error = lambda where, error: heard.append(f"{where}: {error}")
    seen_after(world, 1)
    source.error = UNREACHABLE
    assert [seen_after(world, 1).age_s for _ in range(3)] == [15.0, 30.0, 45.0]
    assert heard == [f"metrics: {UNREACHABLE}"] * 3
    source.error = None
    assert seen_after(world, 1).age_s == 0.0


def test_metrics_that_stand_still_grow_old(parts: Parts) -> None:
    world, clock, source, _ = parts
    source.stuck_at_s = clock.unix_s()
    assert [seen_after(world, 1).age_s for _ in range(3)] == [0.0, 15.0, 30.0]


@pytest.mark.parametrize(("jump_s", "least_s"), [(-3600.0, 30.0), (3600.0, 30.0)])
def test_a_jump_of_the_clock_makes_nothing_young(parts: Parts, jump_s: float, least_s: float) -> None:
    world, clock, source, _ = parts
    seen_after(world, 1)
    source.stuck_at_s = clock.unix_s()
    seen_after(world, 1)
    clock.epoch_s += jump_s
    assert seen_after(world, 2).age_s >= least_s
    assert clock.now_s == 45.0, "the beat is not the wall clock's"


def test_a_fleet_that_cannot_be_read_makes_the_observation_old(parts: Parts) -> None:
    world, _, _, backend = parts
    seen_after(world, 1)
    backend.error = REFUSED
    seen = seen_after(world, 2)
    assert seen.age_s == 30.0 and seen.ready.tolist() == [4]


def test_nothing_is_decided_before_a_fleet_was_seen(parts: Parts) -> None:
    world, clock, _, backend = parts
    backend.error = REFUSED

    def mend(now_s: float) -> None:
        backend.error = None if now_s >= 45.0 else REFUSED

    clock.before = mend
    assert world.wait() and clock.now_s == 45.0


def test_an_order_that_failed_is_placed_again(parts: Parts, limits: ScalingLimits) -> None:
    world, _, _, backend = parts
    seen = seen_after(world, 1)
    backend.error = REFUSED
    world.apply(seen, Bounded((6,), ""))
    assert not world.ordered and world.observe().target.tolist() == [4]
    backend.error = None
    world.apply(seen, Bounded((6,), ""))
    assert world.ordered and backend.orders == [(6,)]


def test_who_does_not_lead_orders_nothing(limits: ScalingLimits) -> None:
    clock, leads = FakeClock(), [False]
    backend = FakeBackend()
    world = LiveWorld(Place(limits, 15.0), FakeSource(clock), backend, clock, lambda: leads[0])
    seen = seen_after(world, 1)
    world.apply(seen, Bounded((9,), ""))
    assert backend.orders == [] and world.observe().target.tolist() == [4]
    leads[0] = True
    world.apply(seen, Bounded((9,), ""))
    assert backend.orders == [(9,)]


def test_no_traffic_is_a_metric_and_no_value_is_none(parts: Parts) -> None:
    world, _, source, _ = parts
    source.values = {"arrival_per_s": 0.0, "waiting": 0.0, "running": 0.0}
    seen = seen_after(world, 1)
    assert (seen.ttft_s, seen.attainment) == (0.0, 1.0)
    source.values = {}
    seen = seen_after(world, 1)
    assert all(math.isnan(value) for value in (seen.arrival_per_s, seen.waiting, seen.ttft_s, seen.attainment))


def test_days_and_weeks_are_those_of_the_time_zone(limits: ScalingLimits) -> None:
    zone = ZoneInfo("Europe/Berlin")
    monday = datetime(2026, 3, 30, 1, 30, tzinfo=zone).timestamp()  # the day after summer time began
    clock = FakeClock(epoch_s=monday)
    world = LiveWorld(Place(limits, 15.0, zone), FakeSource(clock), FakeBackend(), clock)
    assert seen_after(world, 1).week_s == 5400.0


def test_the_metrics_of_a_moment_belong_to_the_fleet_of_that_moment(parts: Parts) -> None:
    world, clock, source, backend = parts
    seen_after(world, 1)
    source.stuck_at_s = clock.unix_s()
    backend.replicas = (8,)
    assert seen_after(world, 1).ready_at_scrape.tolist() == [4]


def test_a_restart_goes_on_where_it_was(parts: Parts, limits: ScalingLimits) -> None:
    world, clock, _, backend = parts
    backend.pending = (2,)
    seen_after(world, 3)
    world.observe()
    state = world.state()
    clock.now_s += 100.0  # the process is gone
    again = LiveWorld(Place(limits, 15.0), FakeSource(clock), backend, clock)
    again.restore(state)
    assert again.t_s == pytest.approx(world.t_s)
    seen = seen_after(again, 1)
    assert seen.pending_by_age[0].tolist() == [0, 0, 2.0, 0, 0, 0, 0], "ordered 100 s ago"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_orders_always_add_up_and_only_age(counts: list[int]) -> None:
    orders = Orders(1)
    for i, count in enumerate(counts):
        table = orders.by_age(40.0 * i, [count])
        assert table.sum() == count and table.shape == (1, len(PENDING_AGES_S) + 1)
    times = orders.state()[0]
    assert times == sorted(times)


FINITE = st.floats(0, 1e6) | st.just(math.nan)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(FINITE, FINITE, FINITE, st.booleans(), st.booleans(), st.integers(0, 50)), max_size=20))
def test_whatever_fails_targets_stay_within_limits(events: list[tuple[Any, ...]]) -> None:
    known = replace(get_limits(), min_replicas=np.array([1]), max_replicas=np.array([12]))
    clock = FakeClock()
    source, backend = FakeSource(clock), FakeBackend()
    world = LiveWorld(Place(known, 15.0), source, backend, clock)
    world.on_error = lambda where, error: None
    for rate, waiting, running, no_metrics, no_backend, ready in [(1.0, 0.0, 1.0, False, False, 4), *events]:
        source.values = {"arrival_per_s": rate, "waiting": waiting, "running": running}
        source.error = UNREACHABLE if no_metrics else None
        backend.replicas = (ready,)
        world.wait()
        backend.error = REFUSED if no_backend else None
        turn(world, Headroom(known), known)
        backend.error = None
    assert all(1 <= order[0] <= 12 for order in backend.orders)


def get_limits() -> ScalingLimits:
    if not LIMITS:
        LIMITS.append(get_scenario("chat").limits)
    return LIMITS[0]


LIMITS: list[ScalingLimits] = []


def test_the_circle_ends_with_the_clock(limits: ScalingLimits) -> None:
    clock = FakeClock(end_s=100.0)
    world = LiveWorld(Place(limits, 15.0), FakeSource(clock), FakeBackend(), clock)
    kept = list(itertools.islice(turns(world, Headroom(limits), limits), 50))
    assert len(kept) == 7 and clock.now_s == 105.0
