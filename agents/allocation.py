"""Allocation over pools: forecast to a program with whole replicas; spot with on-demand capacity behind it.

Both rules make before they break: ready replicas that are no longer wanted stay until what is ready carries the demand
without them.
"""

from __future__ import annotations

import math

import numpy as np

from agents.headroom import LEVELS
from rlscale.allocation_lp import Problem, cover, relaxed, whole
from rlscale.allocation_plans import Offer, spot_plan
from rlscale.decide import Window, blind, demand_per_s, hold, lead_s, positive
from rlscale.errors import ScenarioError
from rlscale.execute import by_price
from rlscale.predict import forecaster as build_forecaster
from rlscale.types import PENDING_AGES_S, Decision, Knob, Observation, ScalerKind, ScalingLimits

RESTART = 0.5  # a quarter of an hour of loading and idling per half an hour of service
AVAILABLE = 0.9  # of spot that is not known to be gone; 9 minutes of a mean spell of 4.3 h take 3 to 4 %
_ROUNDING = 1e-9


class LpAllocation:
    """headroom * (forecast + backlog/drain_s) as min sum price x, x <= limit, sum capacity x >= demand.

    What a pool has (ready and pending) costs its price, and what would have to be started `restart` more: two columns
    per pool. Without that, every change of demand would move the mix. Capacities add up, as everywhere here: a balancer
    that levels requests over fast and slow replicas carries less, which the program does not know. `solver` "exact" is
    branch and bound in plain Python, "highs" the same program by HiGHS (milliseconds), "lp" the relaxed one by HiGHS,
    rounded up.

    `problem` and `forecast_per_s` are those of the last decision.
    """

    def __init__(
        self, limits: ScalingLimits, headroom: float = 1.2, forecaster: str = "holt", restart: float = RESTART,
        solver: str = "exact", **parameters: float,
    ) -> None:  # fmt: skip
        if solver not in ("exact", "highs", "lp"):
            raise ScenarioError(f"lp-allocation: solver = '{solver}'; expected exact, highs or lp")
        if not (math.isfinite(restart) and restart >= 0.0):
            raise ScenarioError(f"lp-allocation: restart = {restart}; expected a number of at least 0")
        self.limits, self.restart, self.solver = limits, restart, solver
        self.headroom = positive("lp-allocation: headroom", headroom)
        self._forecaster = build_forecaster(forecaster, lead_s(limits), **parameters)
        self._least = tuple(int(count) for count in limits.min_replicas)
        self._each = tuple(float(each) for each in limits.capacity_per_s)
        most = zip(self._least, limits.max_replicas.tolist(), self._each, strict=True)
        self._most = tuple(int(count) if each > 0.0 else least for least, count, each in most)
        prices = tuple(float(usd) * 3600.0 for usd in limits.usd_per_replica_s)
        self._prices = prices + tuple((1.0 + restart) * price for price in prices)
        self._carried = math.fsum(count * each for count, each in zip(self._least, self._each, strict=True))
        self.reset()

    def reset(self) -> None:
        """Forget the rates."""
        self._forecaster.reset(np.zeros(0), 1.0)
        self.problem: Problem | None = None
        self.forecast_per_s = math.nan

    def decide(self, seen: Observation) -> Decision:
        """Forecast, program, replicas."""
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        self.forecast_per_s = self._forecaster.update(math.nan if why else seen.arrival_per_s, seen.interval_s)
        if why:
            return hold(seen, why)
        wanted = self.headroom * (self.forecast_per_s + float(seen.waiting) / self.limits.drain_s)
        self.problem = self._problem(wanted, seen)
        bought = self._solve(self.problem)
        pools = len(self._least)
        short = "" if bought else ", more than every pool together gives"
        units = bought or self.problem.limits
        target = [least + math.ceil(units[p] + units[pools + p] - _ROUNDING) for p, least in enumerate(self._least)]
        target = keep_until_replaced(target, wanted, seen, self.limits)
        return Decision(tuple(target), f"{self.forecast_per_s:.4g}/s forecast, {wanted:.4g}/s wanted{short}")

    def _problem(self, wanted_per_s: float, seen: Observation) -> Problem:
        """USD per hour and requests/s; columns: kept replicas of every pool above its minimum, then new ones."""
        kept, new = [], []
        for least, most, now in zip(self._least, self._most, np.asarray(seen.target).tolist(), strict=True):
            kept.append(float(min(max(0, int(now) - least), max(0, most - least))))
            new.append(max(0, most - least) - kept[-1])
        demand = max(0.0, wanted_per_s - self._carried)
        return Problem(self._prices, (*kept, *new), (self._each * 2,), (demand,), ("requests/s",))

    def _solve(self, problem: Problem) -> tuple[float, ...] | None:
        """Units per column; None when even all of them are not enough."""
        if self.solver == "exact":
            return cover(problem.prices, problem.limits, problem.capacity[0], problem.demand[0])
        try:
            return (whole if self.solver == "highs" else relaxed)(problem).amounts
        except ScenarioError:
            return None


class SpotFallback:
    """headroom * demand: spot over-provisioned by 1/`availability` and spread over zones, on-demand for the rest.

    A spot pool counts as gone once it lost ready replicas that it was to keep, or when an order has been pending for
    longer than the p95 start; until one of its replicas becomes ready or nothing is pending. What a gone pool still
    has ready counts, what it has ordered does not: on-demand replaces it, and the order stays (a node that does not
    come is not billed). No zone is expected to carry more than `zone_share`, unless the other pools are full. What is
    asked for is the largest demand of the last `window_s` seconds.
    """

    def __init__(
        self, limits: ScalingLimits, headroom: float = 1.2, availability: float = AVAILABLE, zone_share: float = 0.5,
        window_s: float = 300.0,
    ) -> None:  # fmt: skip
        self.limits = limits
        self.headroom = positive("spot-fallback: headroom", headroom)
        self.availability, self.zone_share = availability, zone_share
        for name, share in (("availability", availability), ("zone_share", zone_share)):
            if not 0.0 < share <= 1.0:
                raise ScenarioError(f"spot-fallback: {name} = {share}; expected a share above 0 and up to 1")
        pools = len(limits.min_replicas)
        self._spot = tuple(bool(spot) for spot in limits.spot) or (False,) * pools
        zones = limits.zones or ("",) * pools
        self._least = [int(count) for count in limits.min_replicas]
        self._offers = [
            Offer(float(limits.usd_per_replica_s[p]), max(0, int(limits.max_replicas[p]) - self._least[p]),
                  float(limits.capacity_per_s[p]), self._spot[p], zones[p], availability)
            for p in range(pools)
        ]  # fmt: skip
        # Ages of pending replicas come in classes; this is the first one that is late altogether.
        self._window = Window(window_s)
        self._late = [sum(edge < float(p95) for edge in PENDING_AGES_S[:-1]) + 1 for p95 in limits.start_p95_s]
        self.reset()

    def reset(self) -> None:
        """No pool is gone."""
        self._window.reset()
        self._gone = [False] * len(self._least)
        self._ready: list[int] = []
        self._target: list[int] = []

    def decide(self, seen: Observation) -> Decision:
        """Spot as if all were there, on-demand for what is not."""
        ready = [int(count) for count in seen.ready]
        self._watch(seen, ready)
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        if why:
            return hold(seen, why)
        wanted = self._window.extreme(seen.t_s, self.headroom * demand_per_s(seen, self.limits))
        target = self._fill(wanted, ready)
        kept = keep_until_replaced(target, wanted, seen, self.limits)
        self._target = kept
        gone = [p for p, is_gone in enumerate(self._gone) if is_gone]
        return Decision(tuple(kept), f"{wanted:.4g}/s wanted" + (f", pools {gone} gone" if gone else ""))

    def _fill(self, wanted_per_s: float, ready: list[int]) -> list[int]:
        offers = self._offers
        carried = [(offer.availability if offer.spot else 1.0) * offer.capacity * least
                   for offer, least in zip(offers, self._least, strict=True)]  # fmt: skip
        target = self._plan(max(0.0, wanted_per_s - math.fsum(carried)), offers)
        if any(self._gone):
            there = [
                (_without(offer), ready[p] * offer.capacity) if self._gone[p] else (offer, carried[p])
                for p, offer in enumerate(offers)
            ]
            missing = max(0.0, wanted_per_s - math.fsum(own for _, own in there))
            instead = self._plan(missing, [offer for offer, _ in there])
            target = [max(a, b) if self._spot[p] else b for p, (a, b) in enumerate(zip(target, instead, strict=True))]
        return [least + count for least, count in zip(self._least, target, strict=True)]

    def _plan(self, demand_per_s: float, offers: list[Offer]) -> list[int]:
        plan = spot_plan(demand_per_s, offers, self.zone_share)
        if plan.missing > 0.0 and self.zone_share < 1.0:
            plan = spot_plan(demand_per_s, offers, 1.0)
        return list(plan.counts)

    def _watch(self, seen: Observation, ready: list[int]) -> None:
        """Which spot pools have gone, and which are back."""
        pending = np.asarray(seen.pending).tolist()
        for p, spot in enumerate(self._spot):
            if not spot:
                continue
            before = self._ready[p] if self._ready else ready[p]
            asked = self._target[p] if self._target else ready[p]
            if ready[p] > before or pending[p] == 0:
                self._gone[p] = False
            late = pending[p] > 0 and seen.pending_by_age[p][self._late[p] :].any()
            if late or ready[p] < min(before, asked):
                self._gone[p] = True
        self._ready = ready


def keep_until_replaced(target: list[int], wanted_per_s: float, seen: Observation, limits: ScalingLimits) -> list[int]:
    """The target, and as many ready replicas beyond it, best value first, as are needed to carry
    `wanted_per_s` until the replicas it asks for are ready."""
    ready = [int(count) for count in seen.ready]
    if all(want >= have for want, have in zip(target, ready, strict=True)):
        return target
    each = limits.capacity_per_s
    serving = math.fsum(min(want, have) * float(each[p]) for p, (want, have) in enumerate(zip(target, ready)))
    missing, kept = wanted_per_s - serving, list(target)
    for p in by_price(limits):
        if missing > _ROUNDING * wanted_per_s and ready[p] > target[p]:
            more = min(ready[p] - target[p], math.ceil(missing / float(each[p]) - _ROUNDING))
            kept[p] += more
            missing -= more * float(each[p])
    return kept


def _without(offer: Offer) -> Offer:
    return Offer(offer.price, offer.limit, offer.capacity, offer.spot, offer.zone, 0.0)


_KNOB = Knob("headroom", LEVELS, 1.2, "capacity over demand")

SCALERS = {
    "lp-allocation": ScalerKind(
        LpAllocation, _KNOB, "forecast demand on the cheapest whole replicas of all pools", roles=False
    ),
    "spot-fallback": ScalerKind(
        SpotFallback, _KNOB, "over-provisioned spot over zones, on-demand while it is gone", roles=False
    ),
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "lp-allocation": {
        "headroom": ("float", 0.9, 3.0),
        "forecaster": ("choice", "last", "average", "exponential", "holt", "linear"),
        "restart": ("float", 0.0, 1.0),
        "solver": ("choice", "exact", "highs", "lp"),
    },
    "spot-fallback": {
        "headroom": ("float", 0.9, 3.0),
        "availability": ("float", 0.5, 1.0),
        "zone_share": ("float", 0.2, 1.0),
        "window_s": ("float", 0.0, 900.0),
    },
}
