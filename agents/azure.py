"""Azure Monitor autoscale: rules on averages, the anti-flapping projection, cooldowns; on requests per seat.

Documentation only; exact arithmetic is unpublished. After the vendor's guide as of 2026; facts only, closed product.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agents.averages import Averages, from_zero, seat_share
from agents.threshold import OCCUPANCIES
from rlscale.decide import hold, positive
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

COOLDOWN_S = 300.0
DURATION_S = 600.0
TIME_GRAIN_S = 60.0

UPSTREAM_DEFAULTS: dict[str, dict[str, Any]] = {
    "azure": {"cooldown_s": COOLDOWN_S, "duration_s": DURATION_S, "time_grain_s": TIME_GRAIN_S}
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A change by `change` instances when a metric, averaged over instances and `duration_s`, passes a threshold."""

    direction: Literal["out", "in"]
    threshold: float
    change: int = 1
    duration_s: float = DURATION_S
    cooldown_s: float = COOLDOWN_S
    inclusive: bool = False  # the threshold itself fires too (operators with "or equal")

    def fires(self, metric: float) -> bool:
        """Whether the metric is beyond the threshold; NaN is not."""
        if self.inclusive and metric == self.threshold:
            return True
        return metric > self.threshold if self.direction == "out" else metric < self.threshold


def action(out_rules: Sequence[bool], in_rules: Sequence[bool]) -> Literal["out", "in", "none"]:
    """Which way, given which rules fire: any rule scales out; all rules together scale in."""
    if any(out_rules):
        return "out"
    return "in" if in_rules and all(in_rules) else "none"


def calm_count(instances: int, metric: float, rules: Sequence[Rule], wanted: int) -> int:
    """The count nearest to a smaller `wanted` one at which no scale-out rule would fire, by metric * n/n'."""
    out = [rule for rule in rules if rule.direction == "out"]
    for count in range(max(0, wanted), instances):
        projected = metric * instances / count if count else math.inf if metric > 0 else 0.0
        if not any(rule.fires(projected) for rule in out):
            return count
    return instances


class Autoscale:
    """What one autoscale setting remembers: the averages of each grain, and when it acted last."""

    def __init__(self, rules: Sequence[Rule], grain_s: float = TIME_GRAIN_S) -> None:
        if not any(rule.direction == "out" for rule in rules):
            raise ScenarioError("azure: no rule scales out")
        for rule in rules:
            if rule.change < 1 or not rule.duration_s >= grain_s:
                raise ScenarioError(
                    f"azure: {rule}; expected a change of at least 1 and a duration of at least a grain"
                )
        self.rules = tuple(rules)
        self._grains: deque[tuple[float, float]] = deque()
        self._acted_s = -math.inf

    def reset(self) -> None:
        """Forget averages and actions."""
        self._grains.clear()
        self._acted_s = -math.inf

    def state(self) -> dict[str, Any]:
        """Averages and time of the last action, as JSON can hold them."""
        acted = None if self._acted_s == -math.inf else self._acted_s
        return {"grains": [list(grain) for grain in self._grains], "acted_s": acted}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        self._grains = deque((float(at_s), float(mean)) for at_s, mean in state["grains"])
        self._acted_s = -math.inf if state["acted_s"] is None else float(state["acted_s"])

    def tick(self, t_s: float, mean: float, instances: int, bounds: tuple[int, int]) -> int:
        """The new count after a grain whose average over the instances was `mean`; NaN: no action."""
        if self._grains and t_s < self._grains[-1][0]:
            self.reset()  # the clock jumped back
        if not math.isfinite(mean):
            return instances
        self._grains.append((t_s, mean))
        longest_s = max(rule.duration_s for rule in self.rules)
        while self._grains[0][0] <= t_s - longest_s and len(self._grains) > 1:
            self._grains.popleft()
        firing = [rule for rule in self.rules if rule.fires(self._average(t_s, rule.duration_s))]
        which = action(
            [rule in firing for rule in self.rules if rule.direction == "out"],
            [rule in firing for rule in self.rules if rule.direction == "in"],
        )
        ready = [rule for rule in firing if rule.direction == which and t_s >= self._acted_s + rule.cooldown_s]
        if not ready:
            return instances
        wanted = self._wanted(t_s, which, max(rule.change for rule in ready), instances, bounds)
        if wanted != instances:
            self._acted_s = t_s
        return wanted

    def _wanted(self, t_s: float, which: str, change: int, instances: int, bounds: tuple[int, int]) -> int:
        low, high = bounds
        if which == "out":
            return max(instances, min(instances + change, high))
        longest_s = max(rule.duration_s for rule in self.rules if rule.direction == "out")
        floor = min(instances, max(instances - change, low))
        return calm_count(instances, self._average(t_s, longest_s), self.rules, floor)

    def _average(self, t_s: float, duration_s: float) -> float:
        means = [mean for at_s, mean in self._grains if at_s > t_s - duration_s]
        return sum(means) / len(means) if means else math.nan


class Azure:
    """One autoscale setting per pool, with a rule out and a rule in on the service's requests per seat."""

    def __init__(
        self,
        limits: ScalingLimits,
        target: float = 0.5,
        in_share: float = 0.5,
        increase: int = 1,
        decrease: int = 1,
        cooldown_s: float = COOLDOWN_S,
        duration_s: float = DURATION_S,
        time_grain_s: float = TIME_GRAIN_S,
    ) -> None:
        self.limits = limits
        self.target = positive("azure: target", target)
        if not 0 < in_share < 1:
            raise ScenarioError(f"azure: in_share = {in_share}; expected a share of the target between 0 and 1")
        rules = (
            Rule("out", target, int(increase), duration_s, cooldown_s),
            Rule("in", target * in_share, int(decrease), duration_s, cooldown_s),
        )
        self._grain = Averages(positive("azure: time_grain_s", time_grain_s))
        self.settings = [Autoscale(rules, time_grain_s) for _ in limits.seats]

    def reset(self) -> None:
        """Forget everything."""
        self._grain.reset()
        for setting in self.settings:
            setting.reset()

    def decide(self, seen: Observation) -> Decision:
        """One evaluation per grain; without data, no action."""
        called = from_zero(seen, self.limits)
        if called:
            return called
        share, why = seat_share(seen, self.limits)
        mean = self._grain.take(seen.t_s, share)
        if mean is None:
            return hold(seen, "between time grains")
        if why:
            return hold(seen, why)
        target = tuple(self._evaluate(pool, mean, seen) for pool in range(len(self.settings)))
        return Decision(target, f"{mean:.2f} requests per seat, out above {self.target:.2f}")

    def state(self) -> dict[str, Any]:
        """Of every setting and the grain under way, as JSON can hold it."""
        return {"grain": self._grain.state(), "settings": [setting.state() for setting in self.settings]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        self._grain.restore(state["grain"])
        for setting, one in zip(self.settings, state["settings"], strict=True):
            setting.restore(one)

    def _evaluate(self, pool: int, mean: float, seen: Observation) -> int:
        bounds = int(self.limits.min_replicas[pool]), int(self.limits.max_replicas[pool])
        return self.settings[pool].tick(seen.t_s, mean, int(seen.target[pool]), bounds)


SCALERS = {
    "azure-autoscale": ScalerKind(
        Azure,
        Knob("target", OCCUPANCIES, 0.5, "running + waiting requests per seat at l_SLO, above which one is added"),
        "Azure autoscale rules on requests per seat (documentation only; exact arithmetic is unpublished)",
        native_s=TIME_GRAIN_S,
        upstream={"cooldown_s": COOLDOWN_S, "duration_s": DURATION_S, "time_grain_s": TIME_GRAIN_S},
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "azure-autoscale": {
        "target": ("log", 0.07, 1.0),
        "in_share": ("float", 0.2, 0.9),
        "increase": ("int", 1, 8),
        "decrease": ("int", 1, 8),
        "cooldown_s": ("float", 60.0, 1200.0),
        "duration_s": ("float", 60.0, 1200.0),
    }
}
