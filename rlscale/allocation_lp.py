"""Allocation over pools as a linear and as an integer program, with several resources: relaxed, whole, greedy, exact.

    min sum_i price_i x_i   with   0 <= x_i <= limit_i   and   sum_i capacity_ri x_i >= demand_r for every resource r

`relaxed` and `whole` are HiGHS (scipy); `cover` is exact for one resource and fast enough for every control interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlscale.errors import ScenarioError
from rlscale.types import Pool

_ROUNDING = 1e-9  # what sums of floats may miss of a demand, as a share of it
_EQUAL = 1.0 - 1e-12  # costs closer than this are the same
SEARCHED = 1000  # nodes of the tree after which `cover` returns the best it has
RESOURCES = ("gpus", "cpus", "memory_gib")


@dataclass(frozen=True, slots=True)
class Problem:
    """Columns are pools (or anything that is bought), rows are resources.

    ScenarioError for numbers that make no sense: lengths that differ, NaN, a negative or infinite price, capacity or
    demand, a negative limit. A limit may be infinite.
    """

    prices: tuple[float, ...]  # per unit
    limits: tuple[float, ...]  # units
    capacity: tuple[tuple[float, ...], ...]  # (resources, columns) of one unit
    demand: tuple[float, ...]  # per resource
    names: tuple[str, ...] = ()  # of the resources, for errors

    def __post_init__(self) -> None:
        columns = len(self.prices)
        if len(self.limits) != columns or any(len(row) != columns for row in self.capacity):
            raise ScenarioError(f"{columns} prices; expected as many limits and, per resource, as many capacities")
        if len(self.capacity) != len(self.demand) or not self.demand:
            raise ScenarioError(f"{len(self.demand)} demands for {len(self.capacity)} rows of capacities")
        for what, values in (
            ("price", self.prices),
            ("demand", self.demand),
            *(("capacity", c) for c in self.capacity),
        ):
            for value in values:
                if not (math.isfinite(value) and value >= 0.0):
                    raise ScenarioError(f"{what} = {value}; expected a number of at least 0")
        for limit in self.limits:
            if not limit >= 0.0:
                raise ScenarioError(f"limit = {limit}; expected a number of at least 0")

    def name(self, resource: int) -> str:
        """Of a resource, by number where it has none."""
        return self.names[resource] if resource < len(self.names) else f"resource {resource}"


@dataclass(frozen=True, slots=True)
class Solution:
    """Units per column, what they cost, and, of a relaxed problem, what one more unit of each demand would cost."""

    amounts: tuple[float, ...]
    cost: float
    shadow: tuple[float, ...] = ()


def relaxed(problem: Problem) -> Solution:
    """The optimum in divisible units, with the shadow price of every demand; ScenarioError when it is infeasible."""
    from scipy.optimize import linprog

    check_feasible(problem, problem.limits)
    found = linprog(
        problem.prices,
        A_ub=[[-each for each in row] for row in problem.capacity],
        b_ub=[-demand for demand in problem.demand],
        bounds=[(0.0, limit) for limit in problem.limits],
        method="highs",
    )
    amounts = _solved(problem, found)
    return Solution(amounts, _cost(problem, amounts), tuple(-float(price) for price in found.ineqlin.marginals))


def whole(problem: Problem) -> Solution:
    """The optimum in whole units, by branch and cut; limits are rounded down. ScenarioError when it is infeasible."""
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    limits = _floors(problem)
    check_feasible(problem, limits)
    found = milp(
        problem.prices,
        constraints=LinearConstraint(np.array(problem.capacity), np.array(problem.demand), math.inf),
        bounds=Bounds(0.0, limits),
        integrality=np.ones(len(problem.prices)),
        options={"mip_rel_gap": 0.0},
    )
    amounts = tuple(float(round(amount)) for amount in _solved(problem, found))
    return Solution(amounts, _cost(problem, amounts))


def greedy(problem: Problem) -> Solution:
    """Whole units in the order of price per capacity; capacity counts as a share of each demand that is still missing.

    With one resource this is the order of `rlscale.execute.allocate`. Never cheaper than `whole`, often the same.
    """
    limits = _floors(problem)
    check_feasible(problem, limits)
    amounts, missing = [0.0] * len(limits), list(problem.demand)
    while any(_open(problem, missing, r) for r in range(len(missing))):
        rows = [r for r in range(len(missing)) if _open(problem, missing, r)]
        useful = [(problem.prices[i] / gain, i) for i in range(len(limits)) if amounts[i] < limits[i]
                  for gain in [sum(problem.capacity[r][i] / missing[r] for r in rows)] if gain > 0.0]  # fmt: skip
        i = min(useful)[1]
        # As many as complete one demand: then the order is another one.
        steps = [missing[r] / problem.capacity[r][i] for r in rows if problem.capacity[r][i] > 0.0]
        units = max(1.0, min(limits[i] - amounts[i], float(math.ceil(min(steps) - _ROUNDING))))
        amounts[i] += units
        missing = [left - units * problem.capacity[r][i] for r, left in enumerate(missing)]
    return Solution(tuple(amounts), _cost(problem, amounts))


def check_feasible(problem: Problem, limits: Sequence[float]) -> None:
    """ScenarioError that names the first resource which all limits together do not give.

    Capacities are not negative, so buying everything gives the most of every resource at once.
    """
    for r, (row, demand) in enumerate(zip(problem.capacity, problem.demand, strict=True)):
        most = math.fsum(each * limit for each, limit in zip(row, limits, strict=True) if each > 0.0)
        if most < demand * (1.0 - _ROUNDING):
            raise ScenarioError(
                f"infeasible: {problem.name(r)} {demand:g} asked, all limits together give {most:g}; "
                "raise a limit or ask for less"
            )


def cover(
    prices: Sequence[float], limits: Sequence[float], capacity: Sequence[float], demand: float
) -> tuple[int, ...] | None:
    """Whole units of least cost for one resource; None when all of them are not enough.

    Depth first in the order of price per capacity, cut off by the relaxed optimum of what is left; columns that are
    alike are one. Exact unless the tree has more than `SEARCHED` nodes, where the best so far is returned: it is at
    least as good as the greedy rounding.
    """
    groups: dict[tuple[float, float], list[int]] = {}
    for i, (price, each) in enumerate(zip(prices, capacity, strict=True)):
        if each > 0.0 and limits[i] >= 1.0:
            groups.setdefault((price, each), []).append(i)
    order = sorted(groups, key=lambda group: group[0] / group[1])
    rooms = [sum(_floor(limits[i]) for i in groups[group]) for group in order]
    best = _Search([p for p, _ in order], [c for _, c in order], rooms).best(demand)
    if best is None:
        return None
    amounts = [0] * len(prices)
    for group, count in zip(order, best, strict=True):
        for i in groups[group]:
            amounts[i] = min(count, _floor(limits[i]))
            count -= amounts[i]  # noqa: PLW2901
    return tuple(amounts)


class _Search:
    """Columns in the order of price per capacity."""

    def __init__(self, prices: list[float], capacity: list[float], rooms: list[int]) -> None:
        self.prices, self.capacity, self.rooms = prices, capacity, rooms

    def best(self, demand: float) -> list[int] | None:
        self._least, self._kept, self._left = math.inf, None, SEARCHED
        self._allowed = _ROUNDING * max(1.0, demand)
        self._descend(0, demand, 0.0, [0] * len(self.prices))
        return self._kept

    _kept: list[int] | None

    def _descend(self, i: int, missing: float, spent: float, counts: list[int]) -> None:
        self._left -= 1
        if missing <= self._allowed:
            if spent < self._least:
                self._least, self._kept = spent, counts.copy()
            return
        if i == len(self.prices) or self._bound(i, missing, spent) >= self._least * _EQUAL:
            return
        each, price = self.capacity[i], self.prices[i]
        most = min(self.rooms[i], math.ceil((missing - self._allowed) / each))
        for count in range(most, -1, -1):
            left, cost = missing - count * each, spent + count * price
            # Short of the demand, fewer of the best value only raise the bound; the last one may be too dear.
            short = self._kept is not None and left > self._allowed
            if short and (self._left <= 0 or self._bound(i + 1, left, cost) >= self._least * _EQUAL):
                break
            counts[i] = count
            self._descend(i + 1, left, cost, counts)
        counts[i] = 0

    def _bound(self, i: int, missing: float, spent: float) -> float:
        """Cost of filling what is missing with divisible units of the columns from i on."""
        while missing > self._allowed:
            if i == len(self.prices):
                return math.inf
            whole_room = self.rooms[i] * self.capacity[i]
            if whole_room >= missing:
                return spent + missing / self.capacity[i] * self.prices[i]
            missing -= whole_room
            spent += self.rooms[i] * self.prices[i]
            i += 1
        return spent


def of_nodes(pools: Sequence[Pool], gpus: float = 0.0, cpus: float = 0.0, memory_gib: float = 0.0) -> Problem:
    """Nodes of every pool for GPUs, CPUs and memory (GiB): price USD per second and node, limit in whole nodes.

    What a node has without limit (infinite CPUs) meets any demand by itself.
    """
    asked = (gpus, cpus, memory_gib)
    there = [(pool.node.gpus, pool.node.cpus, pool.node.memory_gib) for pool in pools]
    return Problem(
        tuple(pool.node.usd_per_s(pool.spot) for pool in pools),
        tuple(float(-(-pool.max_replicas // pool.slots_per_node)) for pool in pools),
        tuple(tuple(min(float(own[r]), max(1.0, asked[r])) if math.isinf(own[r]) else float(own[r]) for own in there)
              for r in range(len(RESOURCES))),
        asked,
        RESOURCES,
    )  # fmt: skip


def _open(problem: Problem, missing: Sequence[float], resource: int) -> bool:
    return missing[resource] > _ROUNDING * max(1.0, problem.demand[resource])


def _floors(problem: Problem) -> list[float]:
    return [math.floor(limit + _ROUNDING) if math.isfinite(limit) else math.inf for limit in problem.limits]


def _floor(limit: float) -> int:
    return math.floor(min(limit, 1e12) + _ROUNDING)


def _cost(problem: Problem, amounts: Sequence[float]) -> float:
    return math.fsum(price * amount for price, amount in zip(problem.prices, amounts, strict=True))


def _solved(problem: Problem, found: Any) -> tuple[float, ...]:
    if found.x is None:
        raise ScenarioError(f"HiGHS found no solution for {problem}: {found.message}")
    return tuple(float(amount) for amount in found.x)
