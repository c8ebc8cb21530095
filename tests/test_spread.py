"""Admissions over the pools of a service: level, within their room, and none lost on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlscale.sim.compile import compile_tables
from rlscale.sim.kappa import FITTED
from rlscale.sim.profiles import node_type, service_profile
from rlscale.sim.records import POOL, records
from rlscale.sim.spread import spread
from rlscale.types import ClusterSpec, Load, Pool, Slo
from rlscale.workloads.tokens import CHAT

H100 = Pool("h100", node_type("h100-x1"), service_profile("h100-8b"), 0, 9)
A100 = Pool("a100", node_type("a100-x1"), service_profile("a100-8b"), 0, 9)
LOAD = Load("any", 1.0, np.zeros(10, np.float32), "poisson", (CHAT,))


def tables(*pools: Pool) -> Any:
    return compile_tables(ClusterSpec(pools, Slo(1.0, 0.05)), [LOAD], False, FITTED)


TABLES = {count: tables(*(H100, A100, H100, A100)[:count]) for count in (2, 3, 4)}


def parts(admitted: float, each: list[tuple[int, float, float]], h: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """What pools of (ready, running, room) get, and their sequences per replica at the end of the sub-step."""
    table = TABLES[len(each)]
    pools = records((len(each),), POOL)
    for pool, (ready, running, room) in zip(pools, each, strict=True):
        pool["ready"], pool["running"], pool["room"] = ready, running, room if ready else 0.0
    spread(h, admitted, pools, table.pool_spec, table.demands, 0)
    d = table.demands[0]
    ready = np.maximum(pools["ready"], 1)
    stays_s = d["no"] * (d["c0"] + d["c"] * pools["running"] / ready)
    return pools["part"].copy(), (pools["running"] + pools["part"]) / ready / (1.0 + h / stays_s)


def test_empty_pools_of_one_kind_share_by_their_replicas() -> None:
    got, _ = parts(12.0, [(1, 0.0, 99.0), (0, 0.0, 0.0), (3, 0.0, 99.0)])
    assert got == pytest.approx([3.0, 0.0, 9.0])


def test_at_the_same_level_the_faster_pool_takes_more() -> None:
    got, level = parts(30.0, [(3, 120.0, 999.0), (3, 120.0, 999.0)])
    assert got[0] > 1.5 * got[1] > 0.0
    assert level[0] == pytest.approx(level[1])


def test_a_pool_with_more_than_the_others_gets_nothing_until_they_are_level() -> None:
    assert parts(20.0, [(2, 300.0, 999.0), (2, 20.0, 999.0)])[0] == pytest.approx([0.0, 20.0])


def test_what_a_full_pool_cannot_take_goes_to_the_others() -> None:
    assert parts(20.0, [(2, 0.0, 1.0), (2, 0.0, 999.0)])[0] == pytest.approx([1.0, 19.0])


POOLS = st.lists(st.tuples(st.integers(0, 9), st.floats(0, 2000), st.floats(0.01, 500)), min_size=2, max_size=4)


@given(POOLS, st.floats(0, 1), st.sampled_from([0.5, 1.0, 5.0]))
def test_all_is_spread_within_the_room_and_open_pools_are_level(
    each: list[tuple[int, float, float]], share: float, h: float
) -> None:
    room = np.array([r if ready else 0.0 for ready, _, r in each])
    admitted = share * float(room.sum())
    got, level = parts(admitted, each, h)
    assert got.sum() == pytest.approx(admitted, rel=1e-9, abs=1e-9)
    assert (got >= 0.0).all() and (got <= room * (1.0 + 1e-9)).all()
    between = (got > 1e-6) & (got < room - 1e-6)
    if between.any():
        common = level[between].mean()
        assert level[between] == pytest.approx(common, rel=1e-6)
        full = (room > 0.0) & (got >= room - 1e-6)
        assert (level[full] <= common * (1.0 + 1e-6) + 1e-3).all()
        assert (level[(room > 0.0) & (got <= 1e-6)] >= common * (1.0 - 1e-6) - 1e-3).all()
