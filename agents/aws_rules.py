"""The arithmetic of Amazon EC2 Auto Scaling and Application Auto Scaling policies: documentation only; exact
arithmetic of target tracking is unpublished.

After the vendors' user guides as of 2026; facts only, closed product.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlscale.errors import ScenarioError

Kind = Literal["PercentChangeInCapacity", "ChangeInCapacity", "ExactCapacity"]
KINDS = ("PercentChangeInCapacity", "ChangeInCapacity", "ExactCapacity")

SIMPLE_COOLDOWN_S = 300.0
PREDICTIVE_BUFFER_S = 300.0
FORECAST_HOURS = 48
MIN_HISTORY_HOURS = 24
MAX_HISTORY_HOURS = 14 * 24
REFRESH_HOURS = 6
IN_COOLDOWN_S, OUT_COOLDOWN_S = 300.0, 0.0  # Application Auto Scaling, most targets
POINT_S = 60.0  # of an alarm
POINTS_OUT, POINTS_IN = 3, 15
IN_BELOW = 0.9  # of the target
WARMUP_S = 300.0

UPSTREAM_DEFAULTS: dict[str, dict[str, Any]] = {
    "aws": {
        "simple_cooldown_s": SIMPLE_COOLDOWN_S,
        "predictive_buffer_s": PREDICTIVE_BUFFER_S,
        "predictive_forecast_hours": FORECAST_HOURS,
        "predictive_min_history_hours": MIN_HISTORY_HOURS,
    }
}


def percent_rounding(change: float) -> int:
    """Instances of a percent change: toward zero, but a change within one instance is one."""
    if 0 < change < 1:
        return 1
    if -1 < change < 0:
        return -1
    return math.trunc(change)


@dataclass(frozen=True, slots=True)
class Step:
    """An adjustment for metrics between two distances from the threshold; None is without end."""

    lower: float | None
    upper: float | None
    adjustment: float  # percent, instances or the capacity itself, by the kind of the policy


class StepPolicy:
    """The adjustment by how far the metric is beyond the alarm's threshold.

    Above the threshold a lower bound belongs to its step, below it an upper bound does. ScenarioError where steps
    overlap, leave a gap or end before they begin.
    """

    def __init__(
        self,
        threshold: float,
        breach: Literal["above", "below"],
        steps: Sequence[Step],
        kind: str = "PercentChangeInCapacity",
        min_magnitude: int = 0,
    ) -> None:
        if breach not in ("above", "below"):
            raise ScenarioError(f"step policy: breach = {breach!r}; expected 'above' or 'below'")
        if kind not in KINDS:
            raise ScenarioError(f"step policy: kind = {kind!r}; expected one of {', '.join(KINDS)}")
        self.threshold, self.breach, self.kind, self.min_magnitude = threshold, breach, kind, abs(min_magnitude)
        self.steps = _in_order(steps)

    def step(self, metric: float) -> Step | None:
        """The step the metric falls in; None when it falls in none."""
        for step in self.steps:
            low = -math.inf if step.lower is None else self.threshold + step.lower
            high = math.inf if step.upper is None else self.threshold + step.upper
            if low <= metric < high if self.breach == "above" else low < metric <= high:
                return step
        return None

    def capacity(self, capacity: int, metric: float) -> int:
        """The wanted capacity of a group of `capacity`; the same when the metric falls in no step."""
        step = self.step(metric)
        return capacity if step is None else adjusted(capacity, step.adjustment, self.kind, self.min_magnitude)


def adjusted(capacity: int, adjustment: float, kind: str, min_magnitude: int = 0) -> int:
    """Capacity after an adjustment, not below 0. The least magnitude applies to percentages, not to no change."""
    if kind == "ExactCapacity":
        return max(0, int(adjustment))
    if kind == "ChangeInCapacity":
        return max(0, capacity + int(adjustment))
    change = percent_rounding(capacity * adjustment / 100.0)
    if change and abs(change) < min_magnitude:
        change = min_magnitude if change > 0 else -min_magnitude
    return max(0, capacity + change)


def during_warmup(desired: int, wanted: int) -> int:
    """A breach while instances warm up: they count toward what is wanted, so only what they do not cover is added."""
    return max(desired, wanted)


def effective_max(forecast: float, max_capacity: int, buffer_pct: float, behavior: str) -> float:
    """The most instances predictive scaling may reach: the group's maximum, or the forecast and a buffer beyond it."""
    if behavior == "HonorMaxCapacity":
        return max_capacity
    if behavior != "IncreaseMaxCapacity":
        raise ScenarioError(f"predictive: {behavior!r}; expected 'HonorMaxCapacity' or 'IncreaseMaxCapacity'")
    return max(max_capacity, math.ceil(forecast * (100.0 + buffer_pct) / 100.0 - 1e-9))


def combined(current: int, wanted: Sequence[int]) -> int:
    """Several policies: the largest capacity wins, so the group shrinks only if all agree."""
    return max(wanted, default=current)


class TargetTracking:
    """An approximation of target tracking: two alarms on one-minute means.

    Out, when the last `points_out` points are all above the target: ceil(n metric/target). In, when the last
    `points_in` are all below 0.9 of it, to the same count, at which the metric is expected at the target or below.
    A minute without data is no point, and no action is taken on it.
    """

    def __init__(
        self,
        target: float,
        points_out: int = POINTS_OUT,
        points_in: int = POINTS_IN,
        in_cooldown_s: float = IN_COOLDOWN_S,
        out_cooldown_s: float = OUT_COOLDOWN_S,
        scale_in: bool = True,
    ) -> None:
        if not (math.isfinite(target) and target > 0):
            raise ScenarioError(f"target tracking: target = {target}; expected a number above 0")
        if min(points_out, points_in) < 1:
            raise ScenarioError(f"target tracking: {points_out} and {points_in} points; expected at least 1")
        self.target, self.points_out, self.points_in = target, points_out, points_in
        self.in_cooldown_s, self.out_cooldown_s, self.scale_in = in_cooldown_s, out_cooldown_s, scale_in
        self.reset()

    def reset(self) -> None:
        """Forget points and cooldowns."""
        self._points: deque[float] = deque(maxlen=max(self.points_out, self.points_in))
        self._in_until_s = self._out_until_s = -math.inf

    def state(self) -> dict[str, Any]:
        """Points and ends of cooldowns, as JSON can hold them (None: no cooldown)."""
        ends = [None if end == -math.inf else end for end in (self._in_until_s, self._out_until_s)]
        return {"points": list(self._points), "in_until_s": ends[0], "out_until_s": ends[1]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        self.reset()
        self._points.extend(state["points"])
        ends = [-math.inf if end is None else float(end) for end in (state["in_until_s"], state["out_until_s"])]
        self._in_until_s, self._out_until_s = ends

    def tick(self, t_s: float, metric: float, measured: int, desired: int) -> int:
        """The desired capacity after a minute whose mean was `metric` over `measured` instances that are warm."""
        if not math.isfinite(metric):
            return desired
        self._points.append(metric)
        last = list(self._points)
        wanted = math.ceil(measured * metric / self.target - 1e-9)
        if len(last) >= self.points_out and min(last[-self.points_out :]) > self.target:
            if wanted > desired and t_s >= self._out_until_s:
                self._out_until_s = t_s + self.out_cooldown_s
                self._in_until_s = -math.inf  # growing cancels a cooldown after shrinking
                return wanted
            return desired
        calm = len(last) >= self.points_in and max(last[-self.points_in :]) < IN_BELOW * self.target
        if self.scale_in and calm and wanted < desired and t_s >= max(self._in_until_s, self._out_until_s):
            self._in_until_s = t_s + self.in_cooldown_s
            return wanted
        return desired


def _in_order(steps: Sequence[Step]) -> tuple[Step, ...]:
    ordered = sorted(steps, key=lambda step: -math.inf if step.lower is None else step.lower)
    for step in ordered:
        if step.lower is not None and step.upper is not None and step.lower >= step.upper:
            raise ScenarioError(f"step policy: {step} ends before it begins")
    for one, following in itertools.pairwise(ordered):
        if one.upper is None or following.lower is None or one.upper != following.lower:
            raise ScenarioError(f"step policy: a gap or an overlap between {one} and {following}")
    return tuple(ordered)
