"""Floor and ceiling around the present load, by what replicas carry within the SLO.

Fewer replicas than carry the load let a queue grow without end; a multiple of them has no use. The ceiling only keeps
from adding: a rate that reads too low must not take a serving fleet away. While the service misses its SLO there is no
ceiling, because its replicas then carry less than the model says.

The floor needs a second witness. What arrives has been served or is still there: by Little's law running requests leave
at running x l_SLO / seats, up to `quicker` times as fast where replicas are hardly busy, and the rest makes the number
of requests present grow. A rate beyond both is a unit or a window gone wrong, and no reason to order a fleet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlscale.decide import demand_per_s
from rlscale.deploy.shield_config import Queueing as Setting
from rlscale.deploy.shields.base import Context, State, Target, Verdict
from rlscale.deploy.shields.capacity import lowered, priced, raised, side_per_s
from rlscale.deploy.shields.recent import Peaks, Recent
from rlscale.types import Observation, ScalingLimits


class Queueing:
    """Targets carry `floor_share` of the rate at least; they grow to `ceiling_factor` times the demand at most."""

    counted = ("queueing_floor", "queueing_ceiling")

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._rates, self._demands = Recent(setting.floor_window_s), Peaks(setting.ceiling_window_s)
        self._before: tuple[float, float] | None = None  # seconds, requests present

    def reset(self) -> None:
        """No load seen."""
        self._rates.clear()
        self._demands.clear()
        self._before = None

    def apply(self, seen: Observation, wanted: Target, context: Context) -> Verdict:
        """Within floor and ceiling; as it is while the load cannot be seen."""
        if context.blind:
            return Verdict(wanted)
        self._rates.add(context.now_s, min(float(seen.arrival_per_s), self._witnessed(seen, context)))
        self._demands.add(context.now_s, demand_per_s(seen, context.limits))
        floor = self.setting.floor_share * float(np.mean(self._rates.values))
        target = _floored(wanted, floor, context.limits)
        if target != wanted:
            return Verdict(target, f"queueing: {_words(wanted, target)} for {floor:.4g}/s", ("queueing_floor",))
        if suffers(seen, context.limits):
            return Verdict(wanted)
        ceiling = self.setting.ceiling_factor * max(self._demands.values)
        target = self._capped(wanted, ceiling, context)
        if target != wanted:
            return Verdict(target, f"queueing: {_words(wanted, target)}, {ceiling:.4g}/s is the most that "
                           "could be needed", ("queueing_ceiling",))  # fmt: skip
        return Verdict(wanted)

    def _witnessed(self, seen: Observation, context: Context) -> float:
        """Requests per second that can have come, by those present; infinite where they are not all told."""
        limits, present = context.limits, float(seen.waiting) + float(seen.running)
        told = math.isfinite(present) and seen.waiting >= 0.0 and seen.running >= 0.0
        before, self._before = self._before, (context.now_s, present) if told else None
        if limits.roles or before is None or self._before is None or not context.now_s > before[0]:
            return math.inf
        past_s = context.now_s - before[0]
        served = self.setting.quicker * float(seen.running) * float(np.max(limits.capacity_per_s / limits.seats))
        return served + max(0.0, present - before[1]) / past_s + float(np.nan_to_num(seen.dropped_per_s))

    def _capped(self, wanted: Target, ceiling_per_s: float, context: Context) -> Target:
        limits, target = context.limits, wanted
        least = tuple(min(now, want) for now, want in zip(context.current, wanted, strict=True))
        for side in limits.sides:
            pools = priced(side, limits)
            slack = self.setting.ceiling_slack * max((float(limits.capacity_per_s[pool]) for pool in pools), default=0)
            most = max(ceiling_per_s + slack, side_per_s(context.current, side, limits))
            target = lowered(target, side, most, limits, least)
        return target

    def state(self) -> State:
        """For JSON."""
        return {"rates": self._rates.state(), "demands": self._demands.state(), "before": self._before}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        self._rates.restore(state["rates"])
        self._demands.restore(state["demands"])
        before = state.get("before")
        self._before = None if before is None else (float(before[0]), float(before[1]))


def suffers(seen: Observation, limits: ScalingLimits) -> bool:
    """The service turns requests away or misses the SLO more often than it may."""
    return bool(seen.dropped_per_s > 0.0 or seen.attainment < limits.slo.attainment)


def _floored(wanted: Target, floor_per_s: float, limits: ScalingLimits) -> Target:
    most = tuple(max(int(high), want) for high, want in zip(limits.max_replicas, wanted, strict=True))
    target = wanted
    for side in limits.sides:
        target = raised(target, side, floor_per_s, limits, most)
    return target


def _words(wanted: Target, target: Target) -> str:
    return f"{_plain(wanted)} to {_plain(target)}"


def _plain(target: Target) -> str:
    return str(target[0]) if len(target) == 1 else str(list(target))
