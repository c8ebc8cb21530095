"""Allocation with a twist: spot capacity that may go, with on-demand behind it; and one size of replica for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlscale.errors import ScenarioError

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Offer:
    """A pool as something to buy whole replicas from."""

    price: float  # per replica
    limit: int  # replicas
    capacity: float  # of a replica
    spot: bool = False
    zone: str = ""
    availability: float = 1.0  # expected share of the ordered replicas that is there, 0 to 1; 0: known to be gone


@dataclass(frozen=True, slots=True)
class SpotPlan:
    """Replicas per offer, the capacity expected of them, and what of the demand no offer could give."""

    counts: tuple[int, ...]
    expected: float
    missing: float


def spot_plan(demand: float, offers: Sequence[Offer], zone_share: float = 0.5) -> SpotPlan:
    """The cheapest expected capacity of at least `demand`, from spot and on-demand pools.

    Spot is over-provisioned: of 1/availability replicas one is expected to be there. Its price is not: a replica that
    is not there is not billed. All spot of one zone together is expected to carry `zone_share` of the demand at most;
    on-demand carries the rest, and all that is known to be unavailable. Filled in the order of price per capacity, spot
    first where that is equal: for divisible replicas the least expected bill. The last replica is rounded up.
    """
    _check(demand, offers, zone_share)
    counts, rooms = (
        [0] * len(offers),
        dict.fromkeys((offer.zone for offer in offers if offer.spot), zone_share * demand),
    )
    missing, expected = demand, 0.0
    for i in sorted((i for i, offer in enumerate(offers) if _each(offer) > 0.0), key=lambda i: _rank(offers[i])):
        each = _each(offers[i])
        if missing <= _ROUNDING * max(1.0, demand):
            break
        counts[i] = math.ceil(min(offers[i].limit, missing / each) - _ROUNDING)
        if offers[i].spot:
            counts[i] = math.floor(min(counts[i], rooms[offers[i].zone] / each + _ROUNDING))
            rooms[offers[i].zone] -= counts[i] * each
        expected += counts[i] * each
        missing -= counts[i] * each
    return SpotPlan(tuple(counts), expected, missing if missing > _ROUNDING * max(1.0, demand) else 0.0)


def vertical_choice(
    demand: float, prices: Sequence[float], limits: Sequence[int], capacity: Sequence[float],
    now: int | None = None, saving: float = 0.0,
) -> tuple[int, int]:  # fmt: skip
    """(size, replicas): the size whose whole replicas carry all of a demand at least cost; ties go to the larger.

    The size in use, `now`, stays unless it cannot carry the demand or another one costs less by more than the share
    `saving`. ScenarioError when no size can carry it.
    """
    costs: dict[int, float] = {}
    counts = [math.ceil(demand / each - _ROUNDING) if each > 0.0 else math.inf for each in capacity]
    for size, count in enumerate(counts):
        if count <= limits[size]:
            costs[size] = count * prices[size]
    if not costs:
        most = max((each * limit for each, limit in zip(capacity, limits, strict=True)), default=0.0)
        raise ScenarioError(f"infeasible: {demand:g} asked of one size, the most that one gives is {most:g}")
    least = min(costs.values())
    best = max((size for size in costs if costs[size] <= least * (1.0 + _ROUNDING)), key=lambda size: capacity[size])
    if now is not None and now in costs and saving > 0.0 and costs[best] >= (1.0 - saving) * costs[now]:
        best = now
    return best, int(counts[best])


def _each(offer: Offer) -> float:
    return offer.capacity * (offer.availability if offer.spot else 1.0)


def _rank(offer: Offer) -> tuple[float, bool]:
    return offer.price / offer.capacity, not offer.spot


def _check(demand: float, offers: Sequence[Offer], zone_share: float) -> None:
    if not (math.isfinite(demand) and demand >= 0.0):
        raise ScenarioError(f"demand = {demand}; expected a number of at least 0")
    if not 0.0 <= zone_share <= 1.0:
        raise ScenarioError(f"zone_share = {zone_share}; expected a share, 0 to 1")
    for offer in offers:
        if not 0.0 <= offer.availability <= 1.0:
            raise ScenarioError(f"availability = {offer.availability}; expected a share, 0 to 1")
        if not (offer.price >= 0.0 and offer.capacity >= 0.0 and offer.limit >= 0):
            raise ScenarioError(f"{offer}; expected price, capacity and limit of at least 0")
