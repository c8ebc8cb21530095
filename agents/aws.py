"""Scalers after AWS: target tracking (an approximation), step, simple and predictive policies on requests per seat.

Documentation only; the exact arithmetic of target tracking and of the forecast is unpublished.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from agents.averages import Averages, from_zero, instances, seat_share
from agents.aws_predictive import HourlyForecast
from agents.aws_rules import (
    IN_COOLDOWN_S,
    OUT_COOLDOWN_S,
    POINT_S,
    POINTS_IN,
    POINTS_OUT,
    PREDICTIVE_BUFFER_S,
    SIMPLE_COOLDOWN_S,
    UPSTREAM_DEFAULTS,
    Step,
    StepPolicy,
    TargetTracking,
    combined,
    during_warmup,
    effective_max,
)
from agents.threshold import OCCUPANCIES
from rlscale.decide import hold, positive
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

__all__ = ["SCALERS", "SEARCH", "UPSTREAM_DEFAULTS", "Predictive", "Simple", "Stepped", "Tracking"]

# Shares of the target, in percent beyond the threshold.
OUT_STEPS = (Step(0, 50, 10), Step(50, 100, 30), Step(100, None, 100))
IN_STEPS = (Step(-25, 0, -10), Step(None, -25, -30))


class _Group:
    """One scaling group per pool, all on the service's requests per seat; one evaluation a minute."""

    def __init__(self, limits: ScalingLimits, target: float) -> None:
        self.limits = limits
        self.target = positive("aws: target", target)
        self._minute = Averages(POINT_S)
        self._last_s = -math.inf

    def reset(self) -> None:
        """Forget everything."""
        self._minute.reset()
        self._last_s = -math.inf

    def decide(self, seen: Observation) -> Decision:
        """An evaluation of every group's policies, once a minute; without data, no action."""
        if seen.t_s < self._last_s:
            self.reset()  # the clock jumped back: cooldowns would last for ever
        self._last_s = seen.t_s
        called = from_zero(seen, self.limits)
        if called:
            return called
        share, why = seat_share(seen, self.limits)
        mean = self._minute.take(seen.t_s, share)
        if mean is None:
            return hold(seen, "between one-minute points")
        if not math.isfinite(share):
            return hold(seen, why)
        target = tuple(self._evaluate(pool, mean, seen) for pool in range(len(self.limits.seats)))
        return Decision(target, f"{mean:.2f} requests per seat, target {self.target:.2f}")

    def _evaluate(self, pool: int, mean: float, seen: Observation) -> int:
        raise NotImplementedError


class Tracking(_Group):
    """Target tracking, approximated; replicas that start are in warm-up and left out of the metric."""

    def __init__(
        self,
        limits: ScalingLimits,
        target: float = 0.5,
        points_out: int = POINTS_OUT,
        points_in: int = POINTS_IN,
        in_cooldown_s: float = IN_COOLDOWN_S,
        out_cooldown_s: float = OUT_COOLDOWN_S,
        scale_in: bool = True,
    ) -> None:
        super().__init__(limits, target)
        settings = (self.target, int(points_out), int(points_in), in_cooldown_s, out_cooldown_s, bool(scale_in))
        self.policies = [TargetTracking(*settings) for _ in limits.seats]

    def reset(self) -> None:
        """Forget points and cooldowns."""
        super().reset()
        for policy in self.policies:
            policy.reset()

    def _evaluate(self, pool: int, mean: float, seen: Observation) -> int:
        return self.policies[pool].tick(seen.t_s, mean, *instances(seen, pool))

    def state(self) -> dict[str, Any]:
        """Of every policy and the minute under way, as JSON can hold it."""
        return {"minute": self._minute.state(), "policies": [policy.state() for policy in self.policies]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        self._minute.restore(state["minute"])
        for policy, one in zip(self.policies, state["policies"], strict=True):
            policy.restore(one)


class Predictive(Tracking):
    """Target tracking, and a forecast by hours of the day that only adds to it."""

    def __init__(
        self,
        limits: ScalingLimits,
        target: float = 0.5,
        buffer_s: float = PREDICTIVE_BUFFER_S,
        max_behavior: str = "HonorMaxCapacity",
        max_buffer_pct: float = 0.0,
    ) -> None:
        super().__init__(limits, target)
        effective_max(0.0, 0, max_buffer_pct, max_behavior)
        self.max_behavior, self.max_buffer_pct = max_behavior, max_buffer_pct
        self.forecast = HourlyForecast(buffer_s=buffer_s)

    def reset(self) -> None:
        """Forget the history too."""
        super().reset()
        self.forecast.reset()

    def decide(self, seen: Observation) -> Decision:
        """The larger of tracking and forecast; the forecast counts the load in busy seats."""
        share, _ = seat_share(seen, self.limits)
        self.forecast.learn(seen.t_s, share * float(seen.ready_at_scrape @ self.limits.seats))
        return super().decide(seen)

    def _evaluate(self, pool: int, mean: float, seen: Observation) -> int:
        tracked = super()._evaluate(pool, mean, seen)
        load = self.forecast.ahead(seen.t_s)
        ready_seats = float(seen.target @ self.limits.seats)
        if not math.isfinite(load) or ready_seats <= 0:
            return tracked
        share = float(self.limits.seats[pool]) * int(seen.target[pool]) / ready_seats
        forecast = math.ceil(share * load / (self.target * float(self.limits.seats[pool])) - 1e-9)
        most = effective_max(forecast, int(self.limits.max_replicas[pool]), self.max_buffer_pct, self.max_behavior)
        return combined(int(seen.target[pool]), (tracked, min(forecast, int(most))))

    def state(self) -> dict[str, Any]:
        """With the history."""
        return {**super().state(), "forecast": self.forecast.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        super().restore(state)
        self.forecast.restore(state["forecast"])


class _Alarms(_Group):
    """Two alarms on the metric in percent of the target: above 100, and below `in_below_pct`."""

    def __init__(
        self, limits: ScalingLimits, target: float, points_out: int, points_in: int, in_below_pct: float
    ) -> None:
        super().__init__(limits, target)
        self.points_out, self.points_in, self.in_below_pct = int(points_out), int(points_in), in_below_pct
        self._points: list[float] = []

    def reset(self) -> None:
        """Forget the points."""
        super().reset()
        self._points = []

    def _breach(self) -> str:
        recent = self._points
        if len(recent) >= self.points_out and min(recent[-self.points_out :]) >= 100.0:
            return "above"
        calm = len(recent) >= self.points_in and max(recent[-self.points_in :]) <= self.in_below_pct
        return "below" if calm else ""

    def _point(self, pool: int, mean: float) -> float:
        percent = 100.0 * mean / self.target
        if pool == 0:  # the metric is the service's: one point a minute
            self._points = [*self._points, percent][-max(self.points_out, self.points_in) :]
        return percent

    def state(self) -> dict[str, Any]:
        """The points, as JSON can hold them."""
        return {"minute": self._minute.state(), "points": list(self._points)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        self._minute.restore(state["minute"])
        self._points = list(state["points"])


class Stepped(_Alarms):
    """Step policies: the larger the breach, the larger the percent change, anew every minute while the alarm lasts.

    Replicas that start count toward what a breach asks for, and none is removed while any starts.
    """

    def __init__(
        self,
        limits: ScalingLimits,
        target: float = 0.5,
        points_out: int = 3,
        points_in: int = 5,
        in_below_pct: float = 50.0,
        min_magnitude: int = 1,
    ) -> None:
        super().__init__(limits, target, points_out, points_in, in_below_pct)
        self.out = StepPolicy(100.0, "above", OUT_STEPS, min_magnitude=int(min_magnitude))
        self.into = StepPolicy(in_below_pct, "below", IN_STEPS, min_magnitude=int(min_magnitude))

    def _evaluate(self, pool: int, mean: float, seen: Observation) -> int:
        percent = self._point(pool, mean)
        warm, desired = instances(seen, pool)
        breach = self._breach()
        if breach == "above":
            return during_warmup(desired, self.out.capacity(warm, percent))
        if breach == "below" and not seen.pending[pool]:
            return min(desired, self.into.capacity(desired, percent))
        return desired


class Simple(_Alarms):
    """Simple policies: one change of so many replicas, then a cooldown during which nothing happens at all."""

    def __init__(
        self,
        limits: ScalingLimits,
        target: float = 0.5,
        add: int = 1,
        remove: int = 1,
        cooldown_s: float = SIMPLE_COOLDOWN_S,
        points_out: int = 3,
        points_in: int = 5,
        in_below_pct: float = 50.0,
    ) -> None:
        super().__init__(limits, target, points_out, points_in, in_below_pct)
        self.add, self.remove, self.cooldown_s = int(add), int(remove), cooldown_s
        self._until_s = [-math.inf for _ in limits.seats]

    def reset(self) -> None:
        """Forget points and cooldowns."""
        super().reset()
        self._until_s = [-math.inf for _ in self._until_s]

    def _evaluate(self, pool: int, mean: float, seen: Observation) -> int:
        self._point(pool, mean)
        desired, breach = int(seen.target[pool]), self._breach()
        wanted = desired + (self.add if breach == "above" else -self.remove if breach == "below" else 0)
        bounded = min(max(wanted, int(self.limits.min_replicas[pool])), int(self.limits.max_replicas[pool]))
        if bounded == desired or seen.t_s < self._until_s[pool]:
            return desired
        self._until_s[pool] = seen.t_s + self.cooldown_s
        return bounded

    def state(self) -> dict[str, Any]:
        """With the ends of the cooldowns (None: none)."""
        return {**super().state(), "until_s": [None if end == -math.inf else end for end in self._until_s]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        super().restore(state)
        self._until_s = [-math.inf if end is None else float(end) for end in state["until_s"]]


_KNOB = Knob("target", OCCUPANCIES, 0.5, "running + waiting requests per seat at l_SLO")
_NOTE = "(documentation only; exact arithmetic is unpublished)"
_TARGET = {"target": ("log", 0.07, 1.0)}
_POINTS = {"points_out": ("int", 1, 10), "points_in": ("int", 1, 30)}

SCALERS = {
    "aws-target-tracking": ScalerKind(
        Tracking,
        _KNOB,
        f"AWS target tracking on requests per seat, an approximation {_NOTE}",
        native_s=POINT_S,
        upstream={"points_out": POINTS_OUT, "points_in": POINTS_IN, "in_cooldown_s": IN_COOLDOWN_S},
    ),
    "aws-step": ScalerKind(Stepped, _KNOB, f"AWS step policies on requests per seat {_NOTE}", native_s=POINT_S),
    "aws-simple": ScalerKind(
        Simple,
        _KNOB,
        f"AWS simple policies with a cooldown on requests per seat {_NOTE}",
        native_s=POINT_S,
        upstream={"cooldown_s": SIMPLE_COOLDOWN_S},
    ),
    "aws-predictive": ScalerKind(
        Predictive,
        _KNOB,
        f"AWS target tracking and an hourly forecast that only adds, an approximation {_NOTE}",
        native_s=POINT_S,
        upstream={"buffer_s": PREDICTIVE_BUFFER_S},
    ),
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "aws-target-tracking": {
        **_TARGET, **_POINTS, "in_cooldown_s": ("float", 0.0, 900.0), "out_cooldown_s": ("float", 0.0, 900.0),
    },
    "aws-step": {**_TARGET, **_POINTS, "in_below_pct": ("float", 20.0, 90.0), "min_magnitude": ("int", 1, 5)},
    "aws-simple": {
        **_TARGET, **_POINTS, "add": ("int", 1, 8), "remove": ("int", 1, 8), "cooldown_s": ("float", 60.0, 900.0),
        "in_below_pct": ("float", 20.0, 90.0),
    },
    "aws-predictive": {**_TARGET, "buffer_s": ("float", 0.0, 3600.0)},
}  # fmt: skip
