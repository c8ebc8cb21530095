"""Cost-attainment fronts and what is read off them. Knows no scaler, no load and no file.

Attainment is handled as its level x = -log10(1 - attainment): 90 % is 1, 99 % is 2, 99.9 % is 3. Arrays end in an
axis of knob values; everything before it (resamples, training seeds, blocks) broadcasts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlscale.types import Floats, Ints

Status = Literal["reached", "never", "above"]
REACHED, NEVER, ABOVE = 0, 1, 2
STATUS: tuple[Status, ...] = ("reached", "never", "above")


@dataclass(frozen=True, slots=True)
class At:
    """A front read at one level. `never`: no point gets there; `above`: even the cheapest point is better.

    `cost` is infinite for never, and for above the cheapest point's cost: an upper bound, as nothing is extrapolated.
    """

    cost: Floats  # (...)
    status: Ints  # (...)


@dataclass(frozen=True, slots=True)
class Frozen:
    """The knob value that training loads choose for a level; None when they never reach it."""

    knob: float | None
    status: Status


def level(missed: Floats | float, requests: Floats | float) -> Floats:
    """Attainment level. Without a single miss it is that of half a miss: n requests cannot show more."""
    n = np.maximum(np.asarray(requests, np.float64), 0.5)
    return -np.log10(np.clip(np.asarray(missed, np.float64), 0.5, n) / n)


def level_of(attainment: float) -> float:
    """Level of a target attainment, which is below 1."""
    return float(-np.log10(1.0 - attainment))


def attainment_of(x: Floats | float) -> Floats:
    """Share of requests within the SLO at a level."""
    return 1.0 - 10.0 ** -np.asarray(x, np.float64)


def on_front(cost: Floats, x: Floats) -> np.ndarray:
    """(K,) True for points that no cheaper or equally cheap point matches in attainment."""
    order = np.lexsort((-x, cost))
    best = np.concatenate(([-np.inf], np.maximum.accumulate(x[order])[:-1]))
    mask = np.zeros(len(cost), bool)
    mask[order] = x[order] > best
    return mask


def cost_at(cost: Floats, x: Floats, target: float, widest: float = math.inf) -> At:
    """Cost of the monotone front at level `target`, linear in the level between neighbouring front points.

    Where the dearer of the two costs more than `widest` times the other, nothing is said about what lies between: the
    status is `above`.
    """
    here, before, status = _bracket(cost, x, target)
    c1, x1 = _take(cost, here), _take(x, here)
    c0, x0 = _take(cost, before), _take(x, before)
    status = np.where((status == REACHED) & (x1 != target) & (c1 > widest * c0), ABOVE, status)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = c0 + (c1 - c0) * (target - x0) / (x1 - x0)
    value = np.where(status == REACHED, np.where(x1 == target, c1, between), c1)
    return At(np.where(status == NEVER, np.inf, value), status)


def knob_at(cost: Floats, x: Floats, knob: Floats, target: float) -> Frozen:
    """The knob for level `target`, from the (K,) points of the training loads; `knob` in sweep order.

    In between two neighbours of the sweep the knob is interpolated like the cost. A whole-number knob (replicas) and a
    front that skips a value take the cheapest swept value that reaches the target.
    """
    here, before, status = (int(v) for v in _bracket(cost, x, target))
    if status == NEVER:
        return Frozen(None, "never")
    whole = bool(np.all(knob == np.round(knob)))
    if status == ABOVE or x[here] == target or whole or abs(here - before) != 1:
        return Frozen(float(knob[here]), STATUS[status])
    share = (target - x[before]) / (x[here] - x[before])
    return Frozen(float(knob[before] + share * (knob[here] - knob[before])), "reached")


def hypervolume(cost: Floats, x: Floats, ref_cost: float, low: float = 1.0, high: float = 4.0) -> float:
    """Share of the box cost 0..ref_cost, level low..high that the (K,) points dominate, 0 to 1 (more is better)."""
    order = np.argsort(cost)
    best = np.clip(np.maximum.accumulate(x[order]), low, high)
    gain = np.diff(np.concatenate(([low], best)))
    area = float(np.sum(gain * np.maximum(0.0, ref_cost - cost[order])))
    return area / (ref_cost * (high - low))


def _bracket(cost: Floats, x: Floats, target: float) -> tuple[Ints, Ints, Ints]:
    """Indices of the cheapest point at or above the target and of the front point before it, and the status."""
    order = np.lexsort((-x, cost), axis=-1)
    ranked = np.take_along_axis(x, order, -1)
    reaches = ranked >= target
    first = np.argmax(reaches, axis=-1)
    # The front point before: the first to hold the running maximum of everything cheaper.
    cheaper = np.arange(x.shape[-1]) < first[..., None]
    previous = np.argmax(np.where(cheaper, ranked, -np.inf), axis=-1)
    exact = np.take_along_axis(ranked, first[..., None], -1)[..., 0] == target
    status = np.where(~reaches.any(axis=-1), NEVER, np.where((first == 0) & ~exact, ABOVE, REACHED))
    return _take(order, first), _take(order, previous), status


def _take(values: np.ndarray, index: Ints) -> np.ndarray:
    """values[..., index[...]]"""
    return np.take_along_axis(values, np.asarray(index)[..., None], -1)[..., 0]
