"""Minimum, maximum, steps; and never zero by accident.

A service, or its prefill or decode side, goes without a replica only where every minimum is 0, scaling to zero is
allowed, and fresh metrics have shown no traffic for `idle_s`. An empty pool beside a serving one is none of this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlscale.deploy.shield_config import Limits as Setting
from rlscale.deploy.shields.base import Context, State, Target, Verdict
from rlscale.deploy.shields.capacity import priced, raised, side_per_s
from rlscale.deploy.shields.tolerance import ignored
from rlscale.execute import StepLimits, bound
from rlscale.types import Decision, Observation

EVIDENCE_S = 120.0  # for so long a fleet of nothing outlives its last fresh metric


class Limits:
    """The last word on every target."""

    counted = ("limits_bound", "limits_share", "limits_zero")

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._steps = StepLimits(setting.max_step_up or math.inf, setting.max_step_down or math.inf)
        self.reset()

    def reset(self) -> None:
        """No idle time seen."""
        self._idle_since_s = self._fresh_s = math.nan

    def apply(self, seen: Observation, wanted: Target, context: Context) -> Verdict:
        """Within the limits."""
        self._watch(seen, context)
        allowed = self._may_be_zero(context)
        bounded = bound(Decision(wanted), context.limits, context.current, self._steps)
        target, reasons, counted = bounded.target, [], []
        if bounded.reason:
            reasons.append(bounded.reason)
            counted.append("limits_bound")
        slower = self._slower(target, context)
        if slower != target:
            reasons.append(f"{target} takes more than {self.setting.max_share_down:.0%} of the capacity away")
            counted.append("limits_share")
        target = slower if allowed else _not_zero(slower, context)
        if target != slower:
            reasons.append(f"no scale to zero: {self._why_not(context)}")
            counted.append("limits_zero")
        if target != wanted and _lost(target, context):
            reasons.append(f"{target} is within the actuator's {context.tolerance:.0%}, which ignores it")
        return Verdict(target, f"limits: {'; '.join(reasons)}" if reasons else "", tuple(counted))

    def _slower(self, target: Target, context: Context) -> Target:
        """No more than a share of the present capacity less; a fleet may always lose its smallest part, a replica."""
        kept = 1.0 - self.setting.max_share_down
        for side in context.limits.sides:
            largest = max((float(context.limits.capacity_per_s[p]) for p in side if target[p] < context.current[p]),
                          default=0.0)  # fmt: skip
            present = side_per_s(context.current, side, context.limits)
            most = tuple(max(pair) for pair in zip(target, context.current, strict=True))
            target = raised(target, side, min(kept * present, present - largest), context.limits, most)
        return target

    def _watch(self, seen: Observation, context: Context) -> None:
        """Since when fresh metrics show no traffic."""
        if context.blind:
            if not context.now_s - self._fresh_s <= EVIDENCE_S:
                self._idle_since_s = math.nan
            return
        self._fresh_s = context.now_s
        busy = (seen.arrival_per_s, seen.waiting, seen.running, seen.decode_waiting)
        if not all(float(value) == 0.0 for value in busy):
            self._idle_since_s = math.nan
        elif math.isnan(self._idle_since_s):
            self._idle_since_s = context.now_s

    def _may_be_zero(self, context: Context) -> bool:
        idle = context.now_s - self._idle_since_s >= self.setting.idle_s
        there = not any(context.current)  # a fleet of nothing stays so for a moment without metrics
        return self.setting.scale_to_zero and idle and (there or not context.blind)

    def _why_not(self, context: Context) -> str:
        if not self.setting.scale_to_zero:
            return "not allowed"
        return context.blind or f"no {self.setting.idle_s:g} s without traffic yet"

    def state(self) -> State:
        """For JSON."""
        return {"idle_since_s": _none(self._idle_since_s), "fresh_s": _none(self._fresh_s)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        self._idle_since_s = math.nan if state["idle_since_s"] is None else float(state["idle_since_s"])
        self._fresh_s = math.nan if state["fresh_s"] is None else float(state["fresh_s"])


def _not_zero(target: Target, context: Context) -> Target:
    """One replica on every side that would have none: in the cheapest pool that has one now, or else that may."""
    counts = list(target)
    for side in context.limits.sides:
        open_ = [pool for pool in [*priced(side, context.limits), *side] if context.limits.max_replicas[pool] > 0]
        if open_ and not any(counts[pool] for pool in side):
            counts[next((pool for pool in open_ if context.current[pool] > 0), open_[0])] = 1
    return tuple(counts)


def _lost(target: Target, context: Context) -> bool:
    """Something was to change, and the actuator would ignore all of it."""
    changed = [pair for pair in zip(target, context.current, strict=True) if pair[0] != pair[1]]
    return bool(changed) and all(ignored(want, now, context.tolerance) for want, now in changed)


def _none(value: float) -> float | None:
    return None if math.isnan(value) else value
