"""Erlang formulas against their definitions, staffing in a closed circle, the allocation program."""

from __future__ import annotations

import itertools
import math

import pytest

from agents.erlang import ErlangC, SquareRoot, erlang_b, erlang_c, erlang_c_servers, square_root_servers, wait_beyond
from rlscale.checks import ToyFleet, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError
from rlscale.lp import cheapest, cost


@pytest.mark.parametrize(("n", "a"), [(0, 2.0), (1, 0.5), (5, 3.0), (20, 18.0), (30, 40.0)])
def test_erlang_b_is_the_truncated_poisson_law(n: int, a: float):
    terms = [a**k / math.factorial(k) for k in range(n + 1)]
    assert erlang_b(n, a) == pytest.approx(terms[-1] / sum(terms), rel=1e-12)


def test_erlang_c_is_one_where_the_queue_is_unstable():
    assert erlang_c(5, 5.0) == erlang_c(4, 5.0) == 1.0
    assert erlang_c(1, 0.5) == pytest.approx(0.5)
    assert erlang_c(3, 0.0) == 0.0


@pytest.mark.parametrize("limit_s", [0.0, 0.05])
@pytest.mark.parametrize("most", [0.5, 0.01, 1e-6])
@pytest.mark.parametrize("a", [0.01, 0.9, 1.0, 5.0, 36.0, 37.0, 100.0, 480.0, 3000.0])
def test_the_staffing_is_the_smallest_by_the_exact_recursion(a: float, most: float, limit_s: float):
    n = erlang_c_servers(2 * a, 2.0, limit_s, most)
    assert wait_beyond(n, a, 2.0, limit_s) <= most
    assert n - 1 <= a or wait_beyond(n - 1, a, 2.0, limit_s) > most


def test_no_arrivals_need_no_server_and_nonsense_is_refused():
    assert erlang_c_servers(0.0, 1.0, 0.0, 0.1) == 0
    assert square_root_servers(0.0, 2.0) == 0
    assert square_root_servers(100.0, 1.0) == 110
    for wrong in ((-1.0, 1.0, 0.0, 0.1), (1.0, 0.0, 0.0, 0.1), (1.0, 1.0, -1.0, 0.1), (1.0, 1.0, 0.0, 0.0)):
        with pytest.raises(ScenarioError):
            erlang_c_servers(*wrong)


def test_a_larger_fleet_needs_relatively_less_spare():
    spare = [totals(drive(SquareRoot(limits_of(), beta=4.0), ToyFleet(limits_of(), rate), 30))[-1] * 10 / rate
             for rate in (10.0, 40.0, 160.0)]  # fmt: skip
    assert spare == sorted(spare, reverse=True)
    assert spare[0] > 1.3 > 1.2 > spare[-1]


def test_a_replica_as_server_is_the_more_careful_model():
    seen = observation(limits_of(), arrival_per_s=60.0, running=200.0)
    wanted = {server: ErlangC(limits_of(), server=server).decide(seen).capacity_per_s
              for server in ("sequence", "replica")}  # fmt: skip
    assert wanted["replica"] > wanted["sequence"] > 60.0


def test_little_s_law_gives_the_residence_where_asked():
    seen = observation(limits_of(), arrival_per_s=60.0, running=240.0)
    assert "load of 480.0" in SquareRoot(limits_of()).decide(seen).reason
    assert "load of 240.0" in SquareRoot(limits_of(), residence="measured").decide(seen).reason
    for wrong in ({"residence": "guessed"}, {"server": "node"}, {"beta": -1.0}):
        with pytest.raises(ScenarioError):
            SquareRoot(limits_of(), **wrong)


def test_the_cheapest_allocation_fills_in_the_order_of_price():
    assert cheapest(10, [1, 2], [4, 10]) == (4, 6)
    assert cheapest(3, [5, 1], [2, 2]) == (1, 2)
    assert cheapest(3, [1, 1], [2, 2]) == (2, 1)  # as listed
    assert cheapest(0, [1], [2]) == (0,)
    assert cheapest(5, [2, 1], [math.inf, 1]) == (4, 1)
    assert cheapest(0.1 + 0.2, [1, 1, 1], [0.1, 0.1, 0.1]) == pytest.approx((0.1, 0.1, 0.1))


def test_it_is_optimal_among_all_vertices():
    prices, limits = [3.0, 1.0, 2.0], [2.0, 1.5, 2.5]
    for demand in (0.5, 2.0, 4.2, 6.0):
        best = cost(cheapest(demand, prices, limits), prices)
        corners = itertools.product(*[(0.0, limit) for limit in limits])
        for corner in corners:
            for free in range(3):
                amounts = list(corner)
                amounts[free] = demand - (sum(corner) - corner[free])
                if 0 <= amounts[free] <= limits[free]:
                    assert best <= cost(amounts, prices) + 1e-12


@pytest.mark.parametrize(
    ("demand", "prices", "limits", "said"),
    [
        (10, [1, 1], [3, 3], "infeasible: demand 10, the limits together allow 6"),
        (math.nan, [1], [3], "demand"),
        (1, [math.nan], [3], "price = nan"),
        (1, [1], [-3], "limit = -3"),
        (1, [1, 2], [3], "2 prices for 1 limits"),
    ],
)
def test_what_cannot_be_allocated_is_said(demand: float, prices: list[float], limits: list[float], said: str):
    with pytest.raises(ScenarioError, match=said):
        cheapest(demand, prices, limits)
