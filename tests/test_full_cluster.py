"""The engine keeps its books with everything on: failures, spot, shortage, standby, families, sessions, jobs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from full_cluster import POOLS, busy_load, everything
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlscale.parts import Admission, Failures
from rlscale.sim import supply
from rlscale.sim.records import (
    ABSENT,
    AWAITS_NODE,
    DRAINING,
    FREE,
    LOADING,
    NODE_GONE,
    NODE_STOPPED,
    NODE_UP,
    NOTICED,
    ORDERED,
    READY,
    STANDBY,
    STOPPED,
    UP,
)
from rlscale.sim.world import SimWorld
from rlscale.types import ClusterSpec

START = np.array([2, 1, 1, 0])


def world_of(spec: ClusterSpec, seed: int, intervals: int = 40, log: int = 0) -> SimWorld:
    return SimWorld(spec, [busy_load(intervals)], [seed], START, log_events=log)


def check_books(world: SimWorld) -> None:
    """Requests, replicas, slots and nodes agree with each other."""
    c, in_system = world.counters(), world.in_system()
    left = c["arrived"] - c["finished"] - c["dropped"] - c["lost"] - in_system
    np.testing.assert_allclose(left, 0.0, atol=1e-6 * np.maximum(1.0, c["arrived"]).max())
    assert (c["missed"] <= c["arrived"] + 1e-6).all()
    assert world.cluster["thinking"][0] >= 0.0
    assert world.cluster["work"][0] <= world.tables.work[0, -1] + 1e-6
    assert 0.0 <= world.cluster["work_late"][0] <= world.cluster["work_due"][0] + 1e-6
    for p, pool in enumerate(world.spec.pools):
        q, nodes, slots = world.pool[0, p], world.node[0, p], world.slot[0, p]
        for name in world.pool.dtype.names:
            assert q[name] >= 0 or name == "drift" or name == "last_add_s", (name, q[name])
        state, sleeps = slots["state"], slots["sleeps"] == 1
        starting = np.isin(state, (AWAITS_NODE, LOADING))
        assert (state == READY).sum() == q["ready"]
        assert (starting & ~sleeps).sum() == q["pending"]
        assert (starting & sleeps).sum() == q["preparing"]
        assert (state == DRAINING).sum() == q["draining"]
        assert (state == STANDBY).sum() == q["standby"]
        assert q["ready"] + q["pending"] <= max(q["target"], pool.max_replicas)
        assert np.isin(nodes["state"], (UP, NOTICED)).sum() == q["nodes_up"]
        assert (nodes["state"] == STOPPED).sum() == q["nodes_stopped"]
        from_order = (nodes["state"] == ORDERED).sum() if world.spec.bill_from == "order" else 0
        assert q["nodes_up"] + from_order == q["nodes_billed"]
        per_node = pool.slots_per_node
        count = int(world.tables.pool_spec[p]["nodes"])
        used, at = state[: count * per_node].reshape(-1, per_node), nodes["state"][:count, None]
        assert not ((used != FREE) & (at == ABSENT)).any(), "a replica on a node that is not there"
        assert not (np.isin(used, (READY, DRAINING, LOADING)) & ~np.isin(at, (UP, NOTICED))).any()
        assert not (np.isin(used, (READY, LOADING)) & (at == NOTICED)).any()
        assert (state[count * per_node :] == FREE).all()
        assert (nodes["state"][count:] == ABSENT).all()


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    targets=st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=10, max_size=40),
    standby=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    bill=st.sampled_from(["up", "order"]),
    running=st.sampled_from(["lost", "requeued"]),
    policy=st.sampled_from(["queue", "reject", "degrade"]),
)
def test_books_balance_with_everything_on(
    seed: int, targets: list[list[int]], standby: list[int], bill: str, running: str, policy: str
) -> None:
    spec = everything(bill_from=bill, failures=Failures(1.0, 0.5, 0.5, 120.0, running),
                      admission=Admission(policy, 5.0, 30.0))  # fmt: skip
    world = world_of(spec, seed, len(targets))
    kept = np.array([standby]) * (np.array([pool.standby for pool in POOLS]) != "none")
    for target in targets:
        world.apply(np.array([target]), kept)
        world.wait()
        check_books(world)
    world.finish()
    check_books(world)


def test_everything_happens_in_a_long_run() -> None:
    """Seed 1, 2 000 intervals: a test of books in which nothing happens would prove nothing."""
    rng = np.random.default_rng(1)
    world = world_of(everything(), 1, 2000, log=100_000)
    kinds: set[int] = set()
    for _ in range(2000):
        world.apply(rng.integers(0, 5, (1, 4)))
        world.wait()
        check_books(world)
        kinds |= set(np.unique(world.node[0]["state"]).tolist())
    c = world.counters()
    assert kinds == {0, 1, 2, 3, 4, 5, 6}, "a kind of node never came up"
    assert set(np.unique(world.event_log(0)[:, 1]).astype(int)) == set(range(1, 12))
    for name in ("failed", "standby_s", "energy_j", "carbon_g", "energy_usd", "stopped_s"):
        assert c[name].sum() > 0.0, name
    assert c["preempted"][0, 1] > 10
    assert c["lost"][0] > 100
    assert world.cluster["work"][0] > 0.0
    assert c["dropped"][0] > 100


def test_what_is_billed_is_what_the_event_log_says() -> None:
    """Seed 2, 1 500 intervals, every pool: node-seconds by the log, up and stopped apart."""
    rng = np.random.default_rng(2)
    world = world_of(everything(), 2, 1500, log=100_000)
    for _ in range(1500):
        world.apply(rng.integers(0, 5, (1, 4)))
        world.wait()
    end_s = float(world.t_s[0])
    log = world.event_log(0)
    for p, pool in enumerate(world.spec.pools):
        asleep = pool.standby_replicas if pool.standby == "stopped" else 0
        ready = int(START[p]) + (0 if asleep else pool.standby_replicas)
        up = dict.fromkeys(range(-(-ready // pool.slots_per_node)), 0.0)
        stopped = dict.fromkeys(range(len(up), len(up) + asleep), 0.0)
        up_s = stopped_s = 0.0
        for time_s, kind, number, place in log:
            if number != p:
                continue
            if kind in (NODE_UP, NODE_GONE, NODE_STOPPED):
                stopped_s += time_s - stopped.pop(place) if place in stopped else 0.0
                up_s += time_s - up.pop(place) if place in up else 0.0
            if kind == NODE_UP:
                up[place] = time_s
            elif kind == NODE_STOPPED:
                stopped[place] = time_s
        up_s += sum(end_s - since for since in up.values())
        stopped_s += sum(end_s - since for since in stopped.values())
        assert world.pool["node_s"][0, p] == pytest.approx(up_s, rel=1e-9), pool.name
        assert world.pool["stopped_s"][0, p] == pytest.approx(stopped_s, rel=1e-9), pool.name
        assert up_s > 1000.0


def test_no_scaler_can_change_the_luck() -> None:
    """The same supply, failures drawn, and arrivals of an open load, whatever is decided."""
    load = replace(busy_load(300), continues=0.0)
    seen = []
    for target in (0, 2, 4):
        world = SimWorld(everything(), [load], [7], START)
        codes = []
        for _ in range(300):
            world.apply(np.full((1, 4), target))
            world.wait()
            codes.append(world.pool["supply"][0].tolist())
        seen.append((codes, float(world.cluster["arrived"][0])))
    assert seen[0] == seen[1] == seen[2]
    assert len({tuple(code) for code in seen[0][0]}) > 3


def test_a_batch_row_is_the_single_cluster_with_everything_on() -> None:
    loads = [busy_load(120), busy_load(120, 40.0)]
    rng = np.random.default_rng(3)
    targets = rng.integers(0, 5, (120, 4, 4))
    batch = SimWorld(everything(), loads, range(4), START, load_of_row=[0, 1, 0, 1])
    singles = [SimWorld(everything(), loads, [r], START, load_of_row=[r % 2]) for r in range(4)]
    for step in targets:
        batch.apply(step)
        batch.wait()
        for r, single in enumerate(singles):
            single.apply(step[r : r + 1])
            single.wait()
    for r, single in enumerate(singles):
        for name in ("cluster", "pool", "node", "slot", "queue", "cells", "classes", "hist", "held"):
            assert getattr(batch, name)[r].tobytes() == getattr(single, name)[0].tobytes(), name


def test_nothing_of_it_happens_unless_it_is_asked_for() -> None:
    """The counters of every part stay at zero in a plain cluster, and no part has a law of its own."""
    pools = tuple(replace(pool, standby="none", standby_replicas=0, max_standby=0, family="") for pool in POOLS)
    plain = ClusterSpec(pools, everything().slo, substep_s=5.0)
    assert not supply.needed(plain)
    world = SimWorld(plain, [replace(busy_load(100), continues=0.0, work_per_s=np.zeros(1))], [0], START)
    for _ in range(100):
        world.wait()
    c = world.counters()
    for name in ("preempted", "failed", "energy_j", "carbon_g", "energy_usd", "standby_s", "stopped_s"):
        assert c[name].sum() == 0.0, name
