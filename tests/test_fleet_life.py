"""Failures, standby, hand-over within a family, node buying, and the HPA in between: what each does to a fleet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlscale.parts import Actuator, Failures
from rlscale.sim.profiles import node_type, service_profile
from rlscale.sim.records import NODE_ORDERED, NODE_UP
from rlscale.sim.world import SimWorld
from rlscale.types import ClusterSpec, DelayLaw, Load, Pool, Slo
from rlscale.workloads.tokens import CHAT

SLO = Slo(1.0, 0.05, 5000.0)
HOUR_S = 3600.0


def constant(seconds: float) -> DelayLaw:
    return DelayLaw(seconds, seconds)


def h100(node_s: float = 100.0, cold_s: float = 200.0, warm_s: float = 50.0, **changes: Any) -> Pool:
    node = replace(node_type("h100-x1"), provisioning=constant(node_s), wake_stopped=constant(85.0),
                   wake_sleeping=constant(3.0))  # fmt: skip
    profile = replace(service_profile("h100-8b"), cold_start=constant(cold_s), warm_start=constant(warm_s))
    return replace(Pool("h100", node, profile, 0, 20), **changes)


def steady(rate: float, seconds: int = 7200) -> Load:
    return Load("steady", 1.0, np.full(seconds, rate, np.float32), "poisson", (CHAT,))


def world_of(pools: tuple[Pool, ...], initial: list[int], rate: float = 10.0, **changes: Any) -> SimWorld:
    return SimWorld(ClusterSpec(pools, SLO, **changes), [steady(rate)], [0], np.array(initial), log_events=2000)


def ready_after(world: SimWorld, target: list[int], intervals: int, standby: list[int] | None = None) -> list[Any]:
    seen = []
    for _ in range(intervals):
        world.apply(np.array([target]), None if standby is None else np.array([standby]))
        world.wait()
        seen.append(world.pool["ready"][0].tolist())
    return seen


def test_replicas_and_nodes_fail_as_often_as_their_rates_say() -> None:
    """Seeds 0 to 399, two hours, eight replicas: 0.1 per hour of replicas and of nodes, within 4 standard errors."""
    load = steady(1.0)
    pool = h100(node_s=1.0, cold_s=1.0, warm_s=1.0)
    for fails in (Failures(replica_per_h=0.1), Failures(node_per_h=0.1)):
        spec = ClusterSpec((pool,), SLO, interval_s=60.0, scrape_interval_s=60.0, failures=fails)
        world = SimWorld(spec, [load], range(400), np.array([8]))
        for _ in range(120):
            world.apply(np.full((400, 1), 8))
            world.wait()
        expected = 0.1 * float(world.pool["ready_s"].sum()) / HOUR_S
        assert float(world.pool["failed"].sum()) == pytest.approx(expected, abs=4.0 * np.sqrt(expected))


def test_requests_of_a_dead_replica_are_lost_or_asked_again() -> None:
    found = {}
    for running in ("lost", "requeued"):
        world = world_of((h100(),), [4], 60.0, failures=Failures(replica_per_h=1.0, running=running))
        ready_after(world, [4], 240)
        world.finish()
        found[running] = {name: float(world.cluster[name][0]) for name in ("lost", "finished", "arrived", "dropped")}
    assert found["lost"]["arrived"] == found["requeued"]["arrived"]
    assert found["lost"]["lost"] > 50.0
    assert found["requeued"]["lost"] == 0.0
    gained = found["requeued"]["finished"] - found["lost"]["finished"]
    assert gained == pytest.approx(
        found["lost"]["lost"] + found["lost"]["dropped"] - found["requeued"]["dropped"], abs=1
    )


@pytest.mark.parametrize(("kind", "wake_s"), [("stopped", 85.0), ("sleeping", 3.0)])
def test_standby_wakes_in_its_own_time_and_is_refilled(kind: Any, wake_s: float) -> None:
    world = world_of((h100(standby=kind, standby_replicas=2, max_standby=4),), [3], node_idle_s=0.0)
    seen = ready_after(world, [5], 40)
    first = int(-(-wake_s // 15.0))
    assert seen[first - 1] == [5], "awake at the end of the interval in which the wake time ends"
    assert first == 1 or seen[first - 2] == [3]
    assert world.pool["standby"][0, 0] == 2, "two more were prepared, 300 s later"
    assert world.pool["started"][0, 0] == 2
    ready_after(world, [3], 30)
    assert world.pool["standby"][0, 0] == 2, "what was too many is gone"


def test_a_stopped_node_costs_its_disk_and_a_sleeping_one_a_node() -> None:
    costs = {}
    for kind in ("stopped", "sleeping"):
        world = world_of((h100(standby=kind, standby_replicas=2, max_standby=2),), [1])
        ready_after(world, [1], 240)
        costs[kind] = float(world.cost_usd()[0])
    assert costs["sleeping"] == pytest.approx(3 * 4.09)
    assert costs["stopped"] == pytest.approx(4.09 + 2 * 0.022)


def test_a_drained_replica_stands_by_where_standby_is_short() -> None:
    world = world_of((h100(standby="stopped", max_standby=3),), [4])
    ready_after(world, [2], 20, [2])
    q = world.pool[0, 0]
    assert (q["ready"], q["standby"], q["nodes_up"], q["nodes_stopped"]) == (2, 2, 2, 2)
    assert q["started"] == 0, "nothing was ordered for it"


def tensor_pools() -> tuple[Pool, Pool]:
    node = replace(node_type("h100-x8"), provisioning=constant(300.0))
    starts = {"cold_start": constant(400.0), "warm_start": constant(60.0)}
    four, eight = (replace(service_profile(f"h100-70b-tp{n}"), **starts) for n in (4, 8))
    return Pool("tp4", node, four, 0, 8, family="x8"), Pool("tp8", node, eight, 0, 8, family="x8")


def test_a_family_hands_its_nodes_over_without_ordering_new_ones() -> None:
    """Two replicas over four GPUs drain at once on their node; one over eight starts on it, warm."""
    world = world_of(tensor_pools(), [2, 1], 1.0, drain_s=30.0)
    seen = ready_after(world, [0, 2], 12)
    log = world.event_log(0)
    ups = log[log[:, 1] == NODE_UP]
    assert ups[:, 0].max() <= 31.0, "handed over as soon as it is empty"
    assert seen[6] == [0, 2], "drained for at most 30 s, then a warm start of 60 s"
    assert world.pool["nodes_up"][0].tolist() == [0, 2]
    assert world.pool["node_s"][0].sum() == pytest.approx(2 * 12 * 15.0)


def test_without_a_family_the_same_move_orders_a_node() -> None:
    pools = tuple(replace(pool, family="") for pool in tensor_pools())
    world = world_of(pools, [2, 1], 1.0, drain_s=30.0)
    seen = ready_after(world, [0, 2], 50)
    assert seen[6] == [0, 1]
    assert (world.event_log(0)[:, 1] == NODE_ORDERED).sum() == 1
    assert seen[-1] == [0, 2]


def test_no_node_is_given_back_within_the_time_after_an_addition() -> None:
    for delay_s, nodes in ((0.0, 3), (600.0, 4)):
        world = world_of((h100(node_s=10.0, cold_s=10.0),), [3], node_idle_s=30.0, node_delay_after_add_s=delay_s)
        ready_after(world, [4], 4)
        ready_after(world, [3], 16)
        assert world.pool["nodes_up"][0, 0] == nodes


def test_the_hpa_ignores_a_tenth_and_waits_before_a_decrease() -> None:
    world = world_of((h100(max_replicas=60),), [20], actuator=Actuator(0.1, 300.0))
    found = []
    for target in [21, 21, 23, *([10] * 25)]:
        world.apply(np.array([[target]]))
        world.wait()
        found.append(int(world.pool["target"][0, 0]))
    assert found[:3] == [20, 20, 23]
    # The window holds 20 decisions of 15 s, the one that asked for 23 is the third of them.
    assert found[3 : 3 + 19] == [23] * 19
    assert found[-1] == 10


def test_starts_in_stages_take_the_sum_of_their_stages() -> None:
    stages = (constant(20.0), constant(40.0), constant(50.0))
    pool = h100(node_s=60.0)
    pool = replace(pool, profile=replace(pool.profile, cold_stages=stages))
    seen = ready_after(world_of((pool,), [1]), [2], 20)
    assert seen[10] == [1]
    assert seen[11] == [2], "60 + 20 + 40 + 50 = 170 s"
