"""Vertical scaling: the whole demand on the size of replica that carries it at least cost, large or small."""

from __future__ import annotations

import math

from agents.headroom import LEVELS
from rlscale.decide import blind, demand_per_s, hold, positive
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

SAVING = 0.1  # a change of size restarts every replica: it has to be worth that
CALM_S = 1800.0  # and to have been so for this long


class Vertical:
    """headroom * demand on one pool: the one whose whole replicas are cheapest for it.

    It moves when another size would have been cheaper by `saving` for half an hour. Meanwhile both run: the old
    replicas stay until the new ones are ready.
    """

    def __init__(self, limits: ScalingLimits, headroom: float = 1.2, saving: float = SAVING) -> None:
        self.limits = limits
        self.headroom = positive("vertical: headroom", headroom)
        self.saving = positive("vertical: saving", saving)
        self.reset()

    def reset(self) -> None:
        """Forget the sizes."""
        self._size: int | None = None
        self._since_s = math.nan

    def decide(self, seen: Observation) -> Decision:
        """All on one size."""
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        if why:
            return hold(seen, why)
        wanted = self.headroom * demand_per_s(seen, self.limits)
        counts = [self._count(wanted, pool) for pool in range(len(self.limits.capacity_per_s))]
        fleet = zip(counts, self.limits.usd_per_replica_s.tolist(), self.limits.capacity_per_s.tolist(), strict=True)
        prices = [count * usd if each > 0 else math.inf for count, usd, each in fleet]
        best = min(range(len(prices)), key=prices.__getitem__)
        self._choose(best, prices, seen)
        target = [int(count) for count in self.limits.min_replicas]
        for pool, count in enumerate(seen.ready):
            if pool != self._size and not self._carried(wanted, seen):
                target[pool] = max(target[pool], int(count))
        assert self._size is not None
        target[self._size] = counts[self._size]
        return Decision(tuple(target), f"{wanted:.4g}/s wanted, on pool {self._size}")

    def _count(self, wanted_per_s: float, pool: int) -> int:
        each = float(self.limits.capacity_per_s[pool])
        least, most = int(self.limits.min_replicas[pool]), int(self.limits.max_replicas[pool])
        return min(max(least, math.ceil(wanted_per_s / each - 1e-9)), most) if each > 0 else least

    def _choose(self, best: int, prices: list[float], seen: Observation) -> None:
        if self._size is None:
            self._size = max(range(len(prices)), key=lambda pool: float(seen.target[pool]))
        if best == self._size or prices[best] > (1.0 - self.saving) * prices[self._size]:
            self._since_s = math.nan
        elif math.isnan(self._since_s):
            self._since_s = float(seen.t_s)
        elif seen.t_s - self._since_s >= CALM_S:
            self._size, self._since_s = best, math.nan

    def _carried(self, wanted_per_s: float, seen: Observation) -> bool:
        """Whether the chosen size can carry the load already."""
        assert self._size is not None
        carried_per_s = int(seen.ready[self._size]) * float(self.limits.capacity_per_s[self._size])
        return carried_per_s >= wanted_per_s * (1.0 - 1e-9)


SCALERS = {
    "vertical": ScalerKind(
        Vertical,
        Knob("headroom", LEVELS, 1.2, "capacity over demand"),
        "the demand on the size of replica that carries it at least cost",
        roles=False,
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "vertical": {"headroom": ("log", 0.7, 3.0), "saving": ("log", 0.01, 0.5)}
}
