"""What the outputs of a model mean: the action maps of `rlscale.actions`, and when to hold, on plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from experiments.exported.arrays import Array
from experiments.exported.cluster import Known, Seen
from rlscale.allocation import _allocate

STALE_S, ROUNDING = 120.0, 1e-9
Move = tuple[list[int], str]  # targets, and the reason for a log


def preferred(outputs: list[float], opened: list[bool]) -> int:
    """The first of the largest among the open outputs."""
    return max((i for i, is_open in enumerate(opened) if is_open), key=lambda i: (outputs[i], -i))


def headroom(outputs: list[float], seen: Seen, known: Known, settings: Mapping[str, Any]) -> Move:
    """A level times the demand."""
    level = settings["levels"][preferred(outputs, [True] * len(outputs))]
    return allocated(level, seen, known), f"{level:g} x demand"


def continuous(outputs: list[float], seen: Seen, known: Known, settings: Mapping[str, Any]) -> Move:
    """A number in [-1, 1] between two levels."""
    share = (min(max(outputs[0], -1.0), 1.0) + 1.0) / 2.0
    level = settings["lowest"] * (settings["highest"] / settings["lowest"]) ** share
    return allocated(level, seen, known), f"{level:.4g} x demand"


def allocated(level: float, seen: Seen, known: Known) -> list[int]:
    """Replicas that carry `level` times the demand, the cheapest pools first."""
    handed = seen["decode_waiting"]
    waiting = handed if math.isnan(handed) else max(seen["waiting"], handed)
    pools = len(known.least)
    capacity: Any = Array([level * (seen["arrival_per_s"] + waiting / known.drain_s)], (1,))
    least: Any = Array(known.least, (pools,), "q")
    most: Any = Array(known.most, (pools,), "q")
    each: Any = Array(known.each_per_s, (pools,))
    target: Any = Array(held(seen), (1, pools), "q")
    for side, filling in zip(known.sides, known.filling):
        order: Any = Array(filling, (len(filling),), "q")
        _allocate(capacity, sum(known.least[p] * known.each_per_s[p] for p in side), order, least, most, each, target)
    return list(target.data)


def delta(outputs: list[float], seen: Seen, known: Known, settings: Mapping[str, Any]) -> Move:
    """Replicas more or fewer, of the cheapest pool, or of the side that carries less or more."""
    steps, target = settings["steps"], held(seen)
    if known.roles:
        moved = [sum(step_level(target, step, known)) - sum(target) == step for step in steps]
        step = steps[preferred(outputs, moved)]
        return step_level(target, step, known), f"{step:+d} replicas"
    pool = known.by_price[0]
    step = steps[preferred(outputs, feasible(target[pool], steps, known, pool))]
    target[pool] += step
    return bounded(target, known), f"{step:+d} replicas"


def pool_deltas(outputs: list[float], seen: Seen, known: Known, settings: Mapping[str, Any]) -> Move:
    """A step per pool."""
    steps, target, chosen = settings["steps"], held(seen), []
    for p, now in enumerate(target):
        own = outputs[p * len(steps) : (p + 1) * len(steps)]
        chosen.append(steps[preferred(own, feasible(now, steps, known, p))])
    moved = [now + step for now, step in zip(target, chosen)]
    return bounded(moved, known), ", ".join(f"{step:+d}" for step in chosen) + " replicas"


def vertical(outputs: list[float], seen: Seen, known: Known, settings: Mapping[str, Any]) -> Move:
    """A step of the pool that carries most, or all of it to the next smaller or larger replica."""
    steps, target = settings["steps"], held(seen)
    pools = range(len(target))
    active = max(pools, key=lambda p: (target[p] * known.each_per_s[p], -p))
    by_size = sorted(pools, key=lambda p: known.each_per_s[p])
    place = by_size.index(active)
    opened = [*feasible(target[active], steps, known, active), place > 0, place < len(by_size) - 1]
    choice = preferred(outputs, opened)
    if choice < len(steps):
        target[active] += steps[choice]
        return bounded(target, known), f"{steps[choice]:+d} replicas"
    larger = choice > len(steps)
    other = by_size[place + (1 if larger else -1)]
    moved = target[active] * known.each_per_s[active] / known.each_per_s[other]
    target[other] += math.ceil(moved - ROUNDING)
    target[active] = 0
    return bounded(target, known), "larger replicas" if larger else "smaller replicas"


ACTIONS = {"headroom": headroom, "continuous": continuous, "delta": delta, "pool-deltas": pool_deltas,
           "vertical": vertical}  # fmt: skip


def step_level(target: list[int], step: int, known: Known) -> list[int]:
    """A step taken replica by replica, so that prefill and decode pools stay level."""
    cheapest = [next(p for p in known.by_price if p in side) for side in known.sides]
    target, one = list(target), 1 if step > 0 else -1
    for _ in range(abs(step)):
        gained = [one * sum(target[p] * known.each_per_s[p] for p in side) for side in known.sides]
        opened = [s for s, p in enumerate(cheapest) if known.least[p] <= target[p] + one <= known.most[p]]
        if opened:
            target[cheapest[min(opened, key=gained.__getitem__)]] += one
    return bounded(target, known)


def feasible(now: int, steps: list[int], known: Known, pool: int) -> list[bool]:
    """Steps within the limits; standing still always is."""
    return [step == 0 or known.least[pool] <= now + step <= known.most[pool] for step in steps]


def bounded(target: list[int], known: Known) -> list[int]:
    """Within minimum and maximum."""
    return [min(max(count, low), high) for count, low, high in zip(target, known.least, known.most)]


def held(seen: Seen) -> list[int]:
    """The targets as they are."""
    return [int(count) for count in seen["target"]]


def blind(seen: Seen) -> str:
    """Why these metrics cannot be decided upon; empty when they can."""
    if not seen["age_s"] <= max(STALE_S, 3 * seen["interval_s"]):
        return f"metrics are {seen['age_s']:.0f} s old"
    names = ("arrival_per_s", "waiting")
    missing = [name for name in names if not math.isfinite(seen[name])]
    if missing:
        return f"no value for {', '.join(missing)}"
    return ", ".join(f"{name} is {seen[name]:g}" for name in names if seen[name] < 0)
