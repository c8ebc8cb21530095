"""When nodes can be had: orders go through, spot capacity is there, the zone is up, by zone and time.

Three on/off processes, one bit each, in cells of a few seconds. They are drawn once per scenario and shared by all
rows; a row begins at a moment of its own, drawn from its luck and the same for every zone, so that what hangs together
between zones stays together. No scaler can change any of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rlscale.parts import Failures, Shortage, SpotMarket
from rlscale.types import DAY_S, ClusterSpec, Floats

OPEN, SPOT, UP = 1, 2, 4  # bits: orders go through, spot capacity is there, the zone is up
ALL = OPEN | SPOT | UP
CELL_S = 15.0
LENGTH_S = 60 * DAY_S  # drawn ahead; a row goes round
SEED = 20_260

Codes = NDArray[np.uint8]
Switches = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Supply:
    """Codes per pool and cell, (P, cells), and how many of the cells a run may begin in."""

    codes: Codes
    cell_s: float
    starts: int  # a given series is not gone round: the run must fit behind its first cell


def needed(spec: ClusterSpec) -> bool:
    """Whether anything ever interrupts the supply."""
    preempted = spec.spot is not None and any(pool.spot for pool in spec.pools)
    return spec.shortage is not None or spec.failures.zone_per_h > 0.0 or preempted


def supply(spec: ClusterSpec, longest_s: float) -> Supply:
    """All processes of a cluster; `longest_s` is the longest run that has to fit into a given series."""
    return _drawn(spec.shortage, spec.spot, spec.failures, tuple((pool.zone, pool.spot) for pool in spec.pools),
                  longest_s if spec.spot is not None and spec.spot.series else 0.0)  # fmt: skip


@lru_cache(maxsize=16)
def _drawn(
    shortage: Shortage | None, spot: SpotMarket | None, failures: Failures, pools: tuple[tuple[str, bool], ...],
    longest_s: float,
) -> Supply:  # fmt: skip
    codes = np.full((len(pools), round(LENGTH_S / CELL_S)), ALL, np.uint8)
    cell_s, starts = CELL_S, codes.shape[1]
    if spot is not None and spot.series:
        cell_s = spot.series_step_s
        codes = np.full((len(pools), min(len(values) for _, values in spot.series)), ALL, np.uint8)
        starts = max(1, codes.shape[1] - math.ceil(longest_s / cell_s))
    zones = list(dict.fromkeys(zone for zone, _ in pools))
    cells = codes.shape[1]
    for switches, bit in (
        (_shortages(shortage, zones, cells, cell_s), OPEN),
        (_spot(spot, zones, cells, cell_s), SPOT),
        (_outages(failures, zones, cells, cell_s), UP),
    ):
        for p, (zone, is_spot) in enumerate(pools):
            if switches is not None and (is_spot or bit != SPOT):
                codes[p, ~switches[zones.index(zone)]] &= np.uint8(ALL - bit)
    return Supply(codes, cell_s, starts)


def region(zone: str) -> str:
    """`us-east/a` lies in `us-east`; a zone without a slash is a region of its own."""
    return zone.split("/")[0]


def correlated(
    zones: Sequence[str], cells: int, cell_s: float, market: SpotMarket, rng: np.random.Generator
) -> Switches:
    """On/off chains with exponential runs of means `on_s` and `off_s`, coupled within and across regions; (Z, cells).

    A two-state chain is renewed at the rate 1/on + 1/off, each time on with probability on/(on + off). A share `s` of
    the renewals is common to a region, and brings all its zones the same draw: two of its zones agree since their last
    renewal with probability s/(2 - s), which is their correlation. A share of the common ones is common to all regions.
    """
    rate_per_s = 1.0 / market.on_s + 1.0 / market.off_s
    available = market.on_s / (market.on_s + market.off_s)
    everywhere, together = (2.0 * c / (1.0 + c) for c in (market.correlation_far, market.correlation))
    regions = [region(zone) for zone in zones]
    common = _renewals(rate_per_s * everywhere, cells, cell_s, rng)
    regional = {name: _renewals(rate_per_s * (together - everywhere), cells, cell_s, rng)
                for name in dict.fromkeys(regions)}  # fmt: skip
    rows = []
    for name in regions:
        own = _renewals(rate_per_s * (1.0 - together), cells, cell_s, rng)
        rows.append(_latest([common, regional[name], own], rng.random()) < available)
    return np.array(rows)


def shortages(law: Shortage, cells: int, cell_s: float, rng: np.random.Generator) -> Switches:
    """Whether orders go through, (cells,): closed spells of two exponential lengths, open ones in between."""
    spells = []
    left = cells * cell_s
    open_s = law.mean_closed_s * (1.0 - law.share) / law.share
    now_open = rng.random() >= law.share
    while left > 0.0:
        if now_open:
            length = rng.exponential(open_s)
        else:
            length = rng.exponential(law.long_s if rng.random() < law.long_spells else law.short_s)
        spells.append((now_open, length))
        left -= length
        now_open = not now_open
    ends = np.cumsum([length for _, length in spells])
    at = np.searchsorted(ends, (np.arange(cells) + 0.5) * cell_s)
    return np.array([state for state, _ in spells])[at]


def _renewals(rate_per_s: float, cells: int, cell_s: float, rng: np.random.Generator) -> tuple[Switches, Floats]:
    """In which cells something is renewed, and with which draw."""
    hit = rng.random(cells) < 1.0 - math.exp(-rate_per_s * cell_s)
    return hit, rng.random(cells)


def _latest(sources: Sequence[tuple[Switches, Floats]], first: float) -> Floats:
    """The draw of the last renewal of any source, (cells,); of several in one cell that of the first source."""
    cells = len(sources[0][0])
    draws, hit = np.full(cells, first), np.zeros(cells, np.bool_)
    hit[0] = True
    for found, values in reversed(sources):
        draws[found], hit[found] = values[found], True
    last = np.maximum.accumulate(np.where(hit, np.arange(cells), 0))
    return draws[last]


def _spot(market: SpotMarket | None, zones: Sequence[str], cells: int, cell_s: float) -> Switches | None:
    if market is None:
        return None
    if market.series:
        given = dict(market.series)
        return np.array([np.asarray(given.get(zone, np.ones(cells)))[:cells] > 0 for zone in zones])
    return correlated(zones, cells, cell_s, market, np.random.default_rng([SEED, SPOT]))


def _shortages(law: Shortage | None, zones: Sequence[str], cells: int, cell_s: float) -> Switches | None:
    if law is None:
        return None
    rng = np.random.default_rng([SEED, OPEN])
    return np.array([shortages(law, cells, cell_s, rng) for _ in zones])


def _outages(law: Failures, zones: Sequence[str], cells: int, cell_s: float) -> Switches | None:
    if law.zone_per_h <= 0.0:
        return None
    between = SpotMarket(on_s=3600.0 / law.zone_per_h, off_s=law.zone_outage_s, correlation=0.0, correlation_far=0.0)
    return correlated(zones, cells, cell_s, between, np.random.default_rng([SEED, UP]))
