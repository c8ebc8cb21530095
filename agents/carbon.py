"""Capacity where and when electricity is clean: pools by price with their carbon, deferrable work in clean hours."""

from __future__ import annotations

import math

import numpy as np

from agents.headroom import LEVELS
from rlscale.decide import blind, demand_per_s, hold, positive
from rlscale.types import Decision, Floats, Knob, Observation, ScalerKind, ScalingLimits

DAY_S = 86_400.0
CLEAN = 0.9  # of the mean intensity of the last day: below it deferrable work is done
HURRY_S = 3600.0  # in which waiting work is to be done once it is clean, or urgent


class CarbonAware:
    """Headroom times demand, filled into the pools whose bill and carbon together are least per request.

    Carbon is charged at `usd_per_kg`. Work that may wait gets replicas of its own while the electricity of the best
    pool is cleaner than over the last day, and always what is due within the hour.
    """

    def __init__(self, limits: ScalingLimits, headroom: float = 1.2, usd_per_kg: float = 0.2) -> None:
        self.limits = limits
        self.headroom = positive("carbon-aware: headroom", headroom)
        self.usd_per_kg = positive("carbon-aware: usd_per_kg", usd_per_kg)
        self.reset()

    def reset(self) -> None:
        """Forget the intensities."""
        self._mean = math.nan

    def decide(self, seen: Observation) -> Decision:
        """Cleanest and cheapest first."""
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        if why:
            return hold(seen, why)
        charged = self.charged_usd_per_s(seen)
        order = [int(p) for p in np.argsort(charged / np.maximum(self.limits.capacity_per_s, 1e-12), kind="stable")]
        work = self._work_replicas(seen, order[0])
        wanted = self.headroom * demand_per_s(seen, self.limits)
        target = self._fill(wanted, order)
        room = int(self.limits.max_replicas[order[0]]) - target[order[0]]
        target[order[0]] += min(room, work)
        return Decision(tuple(target), f"{wanted:.4g}/s wanted, {work} replicas for work, first pool {order[0]}")

    def charged_usd_per_s(self, seen: Observation) -> Floats:
        """(P,) a replica's price, and its carbon at the present intensity."""
        count = len(self.limits.capacity_per_s)
        grams_per_s = self.limits.watts_per_replica[:count] / 3.6e6 * np.asarray(seen.carbon_g_per_kwh, np.float64)
        return np.asarray(self.limits.usd_per_replica_s + self.usd_per_kg / 1e3 * grams_per_s)

    def _work_replicas(self, seen: Observation, pool: int) -> int:
        intensity = float(np.broadcast_to(seen.carbon_g_per_kwh, len(self.limits.capacity_per_s))[pool])
        share = min(1.0, seen.interval_s / DAY_S)
        self._mean = intensity if math.isnan(self._mean) else self._mean + share * (intensity - self._mean)
        tokens = seen.work_waiting if intensity <= CLEAN * self._mean else seen.work_urgent
        each_per_s = float(self.limits.work_tokens_per_s[pool])
        return math.ceil(tokens / (each_per_s * HURRY_S)) if tokens > 0.0 and each_per_s > 0.0 else 0

    def _fill(self, wanted_per_s: float, order: list[int]) -> list[int]:
        target = [int(count) for count in self.limits.min_replicas]
        missing = wanted_per_s - float(np.dot(target, self.limits.capacity_per_s))
        for pool in order:
            each = float(self.limits.capacity_per_s[pool])
            if missing > 0.0 and each > 0.0:
                added = min(int(self.limits.max_replicas[pool]) - target[pool], math.ceil(missing / each - 1e-9))
                target[pool] += added
                missing -= added * each
        return target


SCALERS = {
    "carbon-aware": ScalerKind(
        CarbonAware,
        Knob("headroom", LEVELS, 1.2, "capacity over demand"),
        "pools by price and carbon, deferrable work in clean hours",
        roles=False,
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {"carbon-aware": {"headroom": ("log", 0.7, 3.0)}}
