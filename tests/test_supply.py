"""Availability of nodes: spot zones that hang together, waits for nodes, and what both do to orders and replicas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from full_cluster import POOLS

from rlscale.parts import Failures, Shortage, SpotMarket
from rlscale.sim import supply
from rlscale.sim.records import NODE_GONE, NODE_NOTICED, NODE_UP
from rlscale.sim.world import SimWorld
from rlscale.types import ClusterSpec, DelayLaw, Load, Slo
from rlscale.workloads.tokens import CHAT

HOUR_S = 3600.0
MARKET = SpotMarket(4.0 * HOUR_S, 2.0 * HOUR_S, 120.0, 0.4, 0.1)
ZONES = ("east/a", "east/b", "west/a", "west/b")


def test_spot_zones_have_the_runs_and_correlations_asked_for() -> None:
    """Seed 0, 2 000 days of four zones: mean runs within 4 %, correlations within 0.03."""
    on = supply.correlated(ZONES, round(2000 * supply.DAY_S / 60.0), 60.0, MARKET, np.random.default_rng(0))
    for zone in on:
        begun = np.count_nonzero(zone[1:] & ~zone[:-1])
        assert zone.sum() / 60.0 / begun == pytest.approx(4.0, rel=0.04)
        assert (~zone).sum() / 60.0 / begun == pytest.approx(2.0, rel=0.04)
    together = np.corrcoef(on)
    assert together[0, 1] == pytest.approx(0.4, abs=0.03)
    assert together[2, 3] == pytest.approx(0.4, abs=0.03)
    assert together[0, 2] == pytest.approx(0.1, abs=0.03)


def test_runs_of_spot_capacity_are_exponential() -> None:
    """Seed 1, 4 000 days of one zone: the standard deviation of the runs equals their mean within 5 %."""
    on = supply.correlated(ZONES[:1], round(4000 * supply.DAY_S / 60.0), 60.0, MARKET, np.random.default_rng(1))[0]
    edges = np.flatnonzero(np.diff(on.astype(int)))
    runs = np.diff(edges)[on[edges[:-1] + 1]]
    assert runs.std() == pytest.approx(runs.mean(), rel=0.05)


def test_orders_wait_as_often_and_as_long_as_the_law_says() -> None:
    """Seed 2, 3 000 days in cells of 15 s: shares within 8 %."""
    law = Shortage()
    opened = supply.shortages(law, round(3000 * supply.DAY_S / 15.0), 15.0, np.random.default_rng(2))
    assert (~opened).mean() == pytest.approx(law.share, rel=0.08)
    edges = np.flatnonzero(np.diff(opened.astype(int)))
    spells = np.diff(edges)[~opened[edges[:-1] + 1]] * 15.0
    assert spells[spells > 900.0].sum() / spells.sum() > 0.5 * law.long_weight


def given(values: tuple[float, ...], step_s: float, **changes: object) -> ClusterSpec:
    """One spot pool whose capacity is there where a value is above 0; starts take a minute."""
    pool = POOLS[1]
    node = replace(pool.node, provisioning=DelayLaw(30.0, 30.0))
    law = DelayLaw(30.0, 30.0)
    profile = replace(pool.profile, cold_start=law, warm_start=law)
    market = SpotMarket(notice_s=60.0, series=((pool.zone, values),), series_step_s=step_s)
    spec = ClusterSpec((replace(pool, node=node, profile=profile, family=""),), Slo(1.0, 0.05, 5000.0), spot=market,
                       drain_s=300.0)  # fmt: skip
    return replace(spec, **changes)


def play(spec: ClusterSpec, seconds: int, target: int, rate: float = 20.0) -> tuple[SimWorld, list[tuple[int, ...]]]:
    load = Load("steady", 1.0, np.full(seconds, rate, np.float32), "poisson", (CHAT,))
    world = SimWorld(spec, [load], [0], np.array([3]), log_events=1000)
    seen = []
    for _ in range(seconds // 15):
        world.apply(np.array([[target]]))
        world.wait()
        q = world.pool[0, 0]
        seen.append((int(q["ready"]), int(q["pending"]), int(q["draining"]), int(q["nodes_up"])))
    return world, seen


def test_a_spot_node_is_taken_after_its_notice_and_its_order_waits_for_capacity() -> None:
    """Capacity goes at 600 s and comes again at 1 200 s; notice 60 s, start-up 60 s."""
    world, seen = play(given((1.0, 0.0, 1.0, 1.0, 1.0), 600.0), 1800, 3)
    log = world.event_log(0)
    assert set(log[log[:, 1] == NODE_NOTICED][:, 0]) == {600.0}
    assert set(log[log[:, 1] == NODE_GONE][:, 0]) == {660.0}
    assert set(log[log[:, 1] == NODE_UP][:, 0]) == {1230.0}
    assert seen[39] == (3, 0, 0, 3)
    assert seen[41][0] == 0, "nothing serves after the notice"
    assert seen[41][3] == 3, "a noticed node is up, and billed"
    assert seen[60] == (0, 3, 0, 0), "orders wait"
    assert seen[90] == (3, 0, 0, 3)
    assert world.pool["preempted"][0, 0] == 3
    assert world.cluster["dropped"][0] > 0
    assert world.pool["node_s"][0, 0] == pytest.approx(3 * (660.0 + 1800.0 - 1230.0))


def test_what_still_runs_when_a_spot_node_is_taken_is_lost() -> None:
    """At notice 0 every running request is; with the grace of a minute hardly one is."""
    lost = []
    for notice_s in (0.0, 60.0):
        spec = given((1.0, 0.0, 0.0), 600.0)
        assert spec.spot is not None
        world, _ = play(replace(spec, spot=replace(spec.spot, notice_s=notice_s)), 900, 3, rate=40.0)
        lost.append(float(world.cluster["lost"][0]))
    assert lost[0] > 20.0
    assert lost[1] < 0.1 * lost[0]


def test_a_zone_that_fails_takes_everything_and_comes_back_empty() -> None:
    spec = replace(given((1.0,) * 10, 600.0), spot=None, failures=Failures(zone_per_h=1.0, zone_outage_s=300.0))
    world, seen = play(spec, 14_400, 3)
    log = world.event_log(0)
    gone = log[log[:, 1] == NODE_GONE]
    assert len(gone) >= 9, "three nodes in at least three outages of four hours"
    assert world.pool["failed"][0, 0] == len(gone)
    assert world.cluster["lost"][0] > 0.0
    assert any(ready == 0 and pending == 3 for ready, pending, _, _ in seen)
    assert seen[-1][0] + seen[-1][1] == 3


def test_an_order_in_a_shortage_waits_and_bills_nothing() -> None:
    """Closed for good: the fleet that is there stays, what is ordered never comes."""
    spec = replace(given((1.0,) * 10, 600.0), spot=None, shortage=Shortage(0.999, 1e9, 1e9, 0.5), bill_from="order")
    world, seen = play(spec, 1200, 5)
    assert seen[-1] == (3, 2, 0, 3)
    assert world.pool["node_s"][0, 0] == pytest.approx(3 * 1200.0)
