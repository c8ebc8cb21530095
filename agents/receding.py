"""Receding horizon: forecast a path, plan the cheapest fleets along it, do the first step, and plan anew."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from agents.headroom import LEVELS
from rlscale.decide import blind, called_from_zero, hold, lead_s, positive
from rlscale.errors import ScenarioError
from rlscale.execute import allocate, by_price
from rlscale.predict import forecaster as build_forecaster
from rlscale.types import PENDING_AGES_S, Decision, Floats, Knob, Observation, ScalerKind, ScalingLimits

if TYPE_CHECKING:
    from rlscale.optimal import Spells

PLANNED = 4096  # replicas: of more, which no scenario can have, the largest need within the lead time is asked for
KNOTS = (0.5, 1.0, 1.5, 2.0)  # lead times ahead for which there is a forecast; the path between them is straight


class RecedingHorizon:
    """The plan with the least price x billed replicas + penalty x replicas missing, over two lead times and an idle
    spell; its first step is executed.

    Demand is headroom * forecast, plus the backlog, which is to be gone `drain_s` after the first order can serve. In
    every interval of the horizon it is divided over the pools in the order of price (for one resource and divisible
    replicas that is the optimum of the allocation program), and each pool is planned by `rlscale.optimal`: a replica
    that is ordered bills for the share `loading` of its start before it serves, one that is let go bills for `idle_s`.
    `penalty`: what an interval without a replica that is needed costs, in prices of a replica.
    """

    def __init__(
        self, limits: ScalingLimits, headroom: float = 1.2, forecaster: str = "holt", penalty: float = 20.0,
        idle_s: float = 600.0, loading: float = 0.5, **parameters: float,
    ) -> None:  # fmt: skip
        self.limits = limits
        self.headroom = positive("receding-horizon: headroom", headroom)
        self.penalty = positive("receding-horizon: penalty", penalty)
        if not (math.isfinite(idle_s) and idle_s >= 0.0):
            raise ScenarioError(f"receding-horizon: idle_s = {idle_s}; expected seconds, 0 or more")
        if not 0.0 <= loading <= 1.0:
            raise ScenarioError(f"receding-horizon: loading = {loading}; expected a share, 0 to 1")
        self.idle_s, self.loading, self._lead_s = idle_s, loading, lead_s(limits)
        self._knots_s = [0.0, *(knot * self._lead_s for knot in KNOTS)]
        self._forecasters = [build_forecaster(forecaster, max(1.0, at_s), **parameters) for at_s in self._knots_s]
        self._order = by_price(limits)
        self._ready_planner()
        self.reset()

    def reset(self) -> None:
        """Forget the rates."""
        for forecaster in self._forecasters:
            forecaster.reset(np.zeros(0), 1.0)

    def decide(self, seen: Observation) -> Decision:
        """The first step of the best plan."""
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        rate = math.nan if why else float(seen.arrival_per_s)
        ahead = [forecaster.update(rate, seen.interval_s) for forecaster in self._forecasters]
        if why:
            return hold(seen, why)
        demand = self.headroom * self.path(ahead, seen)
        target = self.plan(demand, seen)
        if called_from_zero(seen) and not any(target):
            target = list(allocate(1e-6, self.limits).target)
        at_lead = demand[min(len(demand) - 1, round(self._lead_s / seen.interval_s))]
        return Decision(tuple(target), f"{demand[0]:.4g}/s wanted now, {at_lead:.4g}/s one lead time ahead")

    def path(self, ahead: list[float], seen: Observation) -> Floats:
        """(T,) requests/s to be carried in the coming control intervals, without headroom."""
        horizon_s = KNOTS[-1] * self._lead_s + self.idle_s
        at_s = np.arange(max(2, math.ceil(horizon_s / seen.interval_s))) * seen.interval_s
        rates: Floats = np.interp(at_s, self._knots_s, ahead)
        if seen.waiting > 0:
            rates[at_s <= self._lead_s + self.limits.drain_s] += float(seen.waiting) / self.limits.drain_s
        return rates

    def plan(self, demand_per_s: Floats, seen: Observation) -> list[int]:
        """Replicas per pool to ask for now, when so many requests/s are to be carried in the coming intervals."""
        known = self.limits
        target = [int(count) for count in known.min_replicas]
        rest = np.maximum(0.0, demand_per_s - float(np.dot(target, known.capacity_per_s)))
        for pool in self._order:
            each, least = float(known.capacity_per_s[pool]), target[pool]
            own = np.minimum(rest, (int(known.max_replicas[pool]) - least) * each)
            rest = rest - own
            target[pool] = self._first_step(own / each + least, pool, least, seen)
        return target

    def _first_step(self, needed: Floats, pool: int, least: int, seen: Observation) -> int:
        """Replicas of one pool to ask for now; `needed` (T,) along the horizon."""
        from rlscale.optimal import best_plan

        spells = self._spells(pool, seen.interval_s)
        lead = spells.provision + spells.load
        most = int(self.limits.max_replicas[pool])
        if max(float(needed.max()), int(seen.ready[pool]) + int(seen.pending[pool]), least) > PLANNED:
            return min(max(least, math.ceil(float(needed[: lead + 1].max()))), most)
        ready, due = int(seen.ready[pool]), self._due(pool, seen, lead)
        begun = ready + len(due)
        top = max(begun, math.ceil(float(needed.max()) - 1e-9), least)
        saved = self.penalty * np.clip(needed[:, None] - np.arange(top), 0.0, 1.0)
        for k, wait in enumerate(due, ready):
            # On its way: it serves nobody until it comes, and bills nothing before its node is up.
            unbilled = max(0, wait - spells.load)
            saved[:unbilled, k], saved[unbilled:wait, k] = 1.0, 0.0
        loss = np.zeros((len(needed), top + 1))
        loss[:, :-1] = np.cumsum(saved[:, ::-1], axis=1)[:, ::-1]
        serving = best_plan(loss, 1.0, spells, begun, min(least, begun)).ready
        return min(max(least, int(serving[0]), int(serving[min(lead, len(serving) - 1)])), most)

    def _spells(self, pool: int, interval_s: float) -> Spells:
        from rlscale.optimal import Spells

        start_s = float(self.limits.start_median_s[pool])
        load = round(self.loading * start_s / interval_s)
        return Spells(math.ceil(start_s / interval_s - 1e-9) - load, load, round(self.idle_s / interval_s))

    def _due(self, pool: int, seen: Observation, lead: int) -> list[int]:
        """Intervals until each pending replica is ready, by the youngest age it can have, soonest first."""
        if not seen.pending[pool]:
            return []
        counts = [int(count) for count in seen.pending_by_age[pool]]
        youngest_s = (seen.interval_s, *PENDING_AGES_S)
        due = []
        for count, age_s in zip(counts, youngest_s, strict=True):
            due += [max(0, lead - math.floor(age_s / seen.interval_s + 1e-9))] * count
        return sorted(due)

    def _ready_planner(self) -> None:
        """Compile or load the planner's kernel now and not in the first decision."""
        from rlscale.optimal import Spells, best_plan

        best_plan(np.zeros((2, 2)), 1.0, Spells(1, 1, 1), 1)


SCALERS = {
    "receding-horizon": ScalerKind(
        RecedingHorizon,
        Knob("headroom", LEVELS, 1.2, "capacity over demand"),
        "the first step of the cheapest plan along a forecast, start-ups and idle nodes billed",
        roles=False,
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "receding-horizon": {
        "headroom": ("float", 0.9, 3.0),
        "forecaster": ("choice", "last", "average", "exponential", "holt", "linear"),
        "penalty": ("log", 2.0, 200.0),
        "idle_s": ("float", 0.0, 1200.0),
        "loading": ("float", 0.0, 1.0),
    }
}
