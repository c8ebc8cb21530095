"""Allocation programs against hand-worked cases, against trying everything, and against each other."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import get_scenario
from rlscale import lp
from rlscale.allocation_lp import Problem, cover, greedy, of_nodes, relaxed, whole
from rlscale.allocation_plans import Offer, spot_plan, vertical_choice
from rlscale.errors import ScenarioError
from rlscale.execute import allocate
from rlscale.types import ScalingLimits, Slo


def one(prices: list[float], limits: list[float], capacity: list[float], demand: float) -> Problem:
    return Problem(tuple(prices), tuple(limits), (tuple(capacity),), (demand,))


def instance(seed: int, resources: int = 0) -> Problem:
    """2 to 4 columns, 1 to 3 resources, limits of 1 to 5 units, feasible; odd seeds have prices that tie."""
    rng = np.random.default_rng(seed)
    columns, rows = int(rng.integers(2, 5)), resources or int(rng.integers(1, 4))
    limits = rng.integers(1, 6, columns).astype(float)
    capacity = rng.integers(0, 9, (rows, columns)) + rng.random((rows, columns)) * (seed % 3 > 0)
    capacity[:, 0] += 1.0
    demand = rng.uniform(0.0, 1.0, rows) * (capacity @ limits)
    prices = rng.integers(1, 5, columns) * 1.0 if seed % 2 else rng.uniform(0.5, 5.0, columns)
    return Problem(tuple(prices), tuple(limits), tuple(map(tuple, capacity)), tuple(demand))


def tried(problem: Problem) -> float:
    """The least cost of all whole amounts."""
    costs = []
    for amounts in itertools.product(*(range(int(limit) + 1) for limit in problem.limits)):
        given_ = [math.fsum(c * x for c, x in zip(row, amounts, strict=True)) for row in problem.capacity]
        if all(have >= want * (1 - 1e-9) for have, want in zip(given_, problem.demand, strict=True)):
            costs.append(math.fsum(p * x for p, x in zip(problem.prices, amounts, strict=True)))
    return min(costs)


def test_two_pools_and_one_resource_worked_by_hand() -> None:
    """10 a unit for 4.0 (0.40 per request) up to 6 units, 5 a unit for 1.0 (0.20) up to 8: fill the second first."""
    problem = one([4.0, 1.0], [6, 8], [10.0, 5.0], 63.0)
    best = relaxed(problem)
    assert best.amounts == pytest.approx((2.3, 8.0))
    assert best.cost == pytest.approx(17.2)
    assert best.shadow == pytest.approx((0.4,))  # the next request comes from the first pool
    assert whole(problem).amounts == (3.0, 7.0)  # 65 for 19


def test_three_resources_worked_by_hand() -> None:
    """8 GPUs, 100 CPUs and 300 GiB from nodes of (8, 32, 128) for 10 and (1, 16, 64) for 2.

    GPUs and CPUs bind: 8a + b = 8 and 32a + 16b = 100 give a = 7/24, b = 17/3, cost 14.25; y = (1, 1/16, 0) is dual
    feasible and gives 8 + 100/16 = 14.25 as well. In whole nodes: 8 of the second for 16.
    """
    sizes = ((8, 1), (32, 16), (128, 64))
    problem = Problem((10.0, 2.0), (4, 20), sizes, (8.0, 100.0, 300.0), ("gpus", "cpus", "memory"))
    best = relaxed(problem)
    assert best.amounts == pytest.approx((7 / 24, 17 / 3))
    assert best.cost == pytest.approx(14.25)
    assert best.shadow == pytest.approx((1.0, 1 / 16, 0.0))
    assert whole(problem).amounts == (0.0, 8.0)


def test_greedy_pays_more_where_the_last_unit_is_too_large() -> None:
    """11 needed: the cheaper one per request gives 10 a unit, the dearer 1; greedy buys two of the first."""
    problem = one([10.0, 1.1], [5, 5], [10.0, 1.0], 11.0)
    assert greedy(problem).amounts == (2.0, 0.0)
    assert greedy(problem).cost == 20.0
    assert whole(problem).amounts == (1.0, 1.0)


def test_what_is_infeasible_is_said_with_the_resource_and_both_numbers() -> None:
    problem = Problem((1.0, 2.0), (3, 2), ((8, 8), (4, 0)), (16.0, 13.0), ("gpus", "cpus"))
    for solve in (relaxed, whole, greedy):
        with pytest.raises(ScenarioError, match=r"infeasible: cpus 13 asked, all limits together give 12"):
            solve(problem)
    assert cover((1.0,), (3,), (4.0,), 13.0) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prices": (-1.0, 1.0)}, "price = -1.0"),
        ({"limits": (1.0, math.nan)}, "limit = nan"),
        ({"capacity": ((1.0, math.inf),)}, "capacity = inf"),
        ({"demand": (math.nan,)}, "demand = nan"),
        ({"demand": (1.0, 1.0)}, "2 demands for 1 rows"),
        ({"limits": (1.0,)}, "expected as many limits"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(change: dict[str, object], said: str) -> None:
    good = {"prices": (1.0, 2.0), "limits": (1.0, 2.0), "capacity": ((1.0, 1.0),), "demand": (2.0,)}
    with pytest.raises(ScenarioError, match=said):
        Problem(**(good | change))  # type: ignore[arg-type]


amounts = st.floats(0.0, 100.0).map(lambda value: round(value, 3))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(amounts, amounts), min_size=1, max_size=5), st.floats(0.0, 1.0))
def test_the_program_of_one_resource_costs_what_filling_by_price_does(
    pools: list[tuple[float, float]], share: float
) -> None:
    prices, limits = [price for price, _ in pools], [limit for _, limit in pools]
    demand = share * math.fsum(limits)
    by_price = lp.cost(lp.cheapest(demand, prices, limits), prices)
    assert relaxed(one(prices, limits, [1.0] * len(pools), demand)).cost == pytest.approx(by_price, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(120))
def test_whole_units_cost_what_trying_everything_finds_and_lie_between_relaxed_and_greedy(seed: int) -> None:
    """120 instances; costs to 1e-6."""
    problem = instance(seed)
    best = whole(problem)
    assert best.cost == pytest.approx(tried(problem), rel=1e-6, abs=1e-9)
    assert all(amount == int(amount) for amount in best.amounts)
    assert relaxed(problem).cost <= best.cost + 1e-6
    assert best.cost <= greedy(problem).cost + 1e-6


@pytest.mark.parametrize("seed", range(300))
def test_branch_and_bound_costs_what_trying_everything_finds(seed: int) -> None:
    problem = instance(seed, resources=1)
    best = cover(problem.prices, problem.limits, problem.capacity[0], problem.demand[0])
    assert best is not None
    assert all(0 <= count <= limit for count, limit in zip(best, problem.limits, strict=True))
    assert math.fsum(c * x for c, x in zip(problem.capacity[0], best, strict=True)) >= problem.demand[0] * (1 - 1e-8)
    cost = math.fsum(p * x for p, x in zip(problem.prices, best, strict=True))
    assert cost == pytest.approx(tried(problem), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_branch_and_bound_is_never_worse_than_greedy_on_fleets_of_real_size(seed: int) -> None:
    """8 columns of up to 60 units: HiGHS agrees to 1e-6 where the tree was searched to its end, and always below."""
    rng = np.random.default_rng(seed)
    capacity, limits = rng.uniform(2.0, 20.0, 8), rng.integers(5, 61, 8)
    prices = capacity * rng.uniform(0.8, 1.2, 8)
    problem = one(list(prices), list(limits), list(capacity), float(rng.uniform(0.1, 0.9) * (capacity @ limits)))
    best = cover(problem.prices, problem.limits, problem.capacity[0], problem.demand[0])
    assert best is not None
    cost = float(prices @ np.array(best))
    assert whole(problem).cost <= cost + 1e-6
    assert cost <= greedy(problem).cost + 1e-9
    assert cost == pytest.approx(whole(problem).cost, rel=2e-3)


@pytest.mark.parametrize("seed", range(40))
def test_greedy_of_one_resource_is_what_execute_allocates(seed: int) -> None:
    problem = instance(seed, resources=1)
    known = ScalingLimits(
        np.zeros(len(problem.limits), np.int64), np.array(problem.limits, np.int64), np.array(problem.capacity[0]),
        *([np.ones(len(problem.limits))] * 3), np.array(problem.prices), Slo(1.0), 60.0,
    )  # fmt: skip
    assert greedy(problem).amounts == allocate(problem.demand[0], known).target


def test_nodes_of_a_scenario_are_bought_for_gpus_cpus_and_memory() -> None:
    pools = get_scenario("vertical-70b").cluster.pools
    problem = of_nodes(pools, gpus=20, cpus=10, memory_gib=100)
    best = whole(problem)
    assert problem.names == ("gpus", "cpus", "memory_gib")
    assert sum(best.amounts) == 3  # of 8 GPUs
    assert best.cost == pytest.approx(3 * pools[0].node.usd_per_s(False))
    with pytest.raises(ScenarioError, match="gpus 100000 asked"):
        whole(of_nodes(pools, gpus=1e5))


# Spot with on-demand behind it, and one size for all.
ON_DEMAND = Offer(4.0, 40, 10.0, zone="a")
SPOT_B, SPOT_C = (Offer(3.0, 40, 10.0, spot=True, zone=zone, availability=0.8) for zone in "bc")


def test_spot_is_over_provisioned_and_spread_and_on_demand_carries_the_rest() -> None:
    """100/s: at most 40 per zone and 8 expected of a spot replica: 5 and 5 of them, 2 on demand."""
    plan = spot_plan(100.0, [ON_DEMAND, SPOT_B, SPOT_C], zone_share=0.4)
    assert plan.counts == (2, 5, 5)
    assert plan.expected == pytest.approx(100.0)
    assert plan.missing == 0.0


def test_on_demand_replaces_what_is_known_to_be_gone() -> None:
    gone = Offer(3.0, 40, 10.0, spot=True, zone="b", availability=0.0)
    assert spot_plan(100.0, [ON_DEMAND, gone, SPOT_C], 0.4).counts == (6, 0, 5)
    assert spot_plan(500.0, [ON_DEMAND, gone, SPOT_C], 0.1).missing == pytest.approx(500.0 - 400.0 - 48.0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.floats(0.0, 500.0).map(lambda value: round(value, 3)),
    st.floats(0.0, 1.0),
    st.lists(
        st.builds(Offer, st.floats(0.5, 5.0), st.integers(0, 30), st.floats(0.0, 20.0), st.booleans(),
                  st.sampled_from("ab"), st.floats(0.0, 1.0)),
        max_size=5,
    ),
)  # fmt: skip
def test_what_every_spot_plan_keeps(demand: float, zone_share: float, offers: list[Offer]) -> None:
    plan = spot_plan(demand, offers, zone_share)
    each = [offer.capacity * (offer.availability if offer.spot else 1.0) for offer in offers]
    assert all(0 <= count <= offer.limit for count, offer in zip(plan.counts, offers, strict=True))
    assert plan.expected == pytest.approx(sum(c * n for c, n in zip(each, plan.counts, strict=True)))
    assert plan.expected + plan.missing >= demand * (1 - 1e-6)
    for zone in "ab":
        spot = sum(each[i] * plan.counts[i] for i, offer in enumerate(offers) if offer.spot and offer.zone == zone)
        assert spot <= zone_share * demand + 1e-6 * max(1.0, demand) + 1e-8 * 20.0 * 5
    if plan.missing > 0.0:  # then on-demand is exhausted
        assert all(plan.counts[i] == offer.limit for i, offer in enumerate(offers) if not offer.spot and each[i] > 1e-6)


def test_numbers_of_a_spot_plan_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ScenarioError, match="demand = nan"):
        spot_plan(math.nan, [ON_DEMAND])
    with pytest.raises(ScenarioError, match=r"zone_share = 1\.5"):
        spot_plan(1.0, [ON_DEMAND], 1.5)
    with pytest.raises(ScenarioError, match=r"availability = 1\.2"):
        spot_plan(1.0, [Offer(1.0, 1, 1.0, True, "a", 1.2)])


def test_the_cheapest_size_that_carries_all_is_chosen_and_a_tie_goes_to_the_larger() -> None:
    prices, limits, capacity = (4.0, 8.0), (32, 16), (7.0, 14.0)
    assert vertical_choice(14.0, prices, limits, capacity) == (1, 1)  # 2 small for 8 or 1 large for 8
    assert vertical_choice(7.0, prices, limits, capacity) == (0, 1)
    assert vertical_choice(15.0, prices, limits, capacity) == (0, 3)
    assert vertical_choice(30.0, prices, (3, 16), capacity) == (1, 3)  # 5 small ones are too many
    with pytest.raises(ScenarioError, match="1000 asked of one size, the most that one gives is 224"):
        vertical_choice(1000.0, prices, limits, capacity)


def test_a_size_in_use_stays_until_another_saves_enough() -> None:
    prices, limits, capacity = (4.0, 8.0), (32, 16), (7.0, 14.0)
    assert vertical_choice(15.0, prices, limits, capacity, now=1, saving=0.3) == (1, 2)  # 12 instead of 16: a quarter
    assert vertical_choice(15.0, prices, limits, capacity, now=1, saving=0.2) == (0, 3)
    assert vertical_choice(14.0, prices, limits, capacity, now=0, saving=0.1) == (0, 2)
    assert vertical_choice(70.0, prices, (3, 16), capacity, now=0, saving=0.9) == (1, 5)  # it cannot carry it
