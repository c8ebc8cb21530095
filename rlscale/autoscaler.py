"""The friendly face: keep compute and KV memory near a target utilisation. One method per stage of the circle.

    scaler = AutoScaler(min_instances=1, max_instances=10)
    scaler.monitor({"instances": 4, "cpu_utilization": 0.9, "memory_utilization": 0.4})
    scaler.predict()   # (3.6, 1.6): instances that compute and memory keep busy
    scaler.decide()    # Decision(target=(5,), reason="compute needs 4.5, memory 2")
    scaler.scale()     # (5,)

"CPU" is compute occupancy: busy sequences over those that a replica carries within the SLO, not a GPU's own counter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rlscale.decide import Cooldown, Window, blind, busy_per_s, called_from_zero, carried_per_s, hold, within
from rlscale.errors import ScenarioError, nearest
from rlscale.execute import allocate, bound
from rlscale.predict import Holt
from rlscale.types import PENDING_AGES_S, Decision, Observation, ScalingLimits, Slo

Metrics = Mapping[str, Any] | Observation

TOLERANCE = 0.1  # of the wanted fleet, as the Kubernetes HPA
CALM_S = 300.0  # before instances are given back
SHARE_IN = 0.2  # given back at a time: occupancy falls faster than load, so a jump down would go too far


class AutoScaler:
    """Wanted instances = busy instances / target utilisation, of compute and of memory; the larger need wins.

    It takes metrics from a dictionary, from a `world` with `apply(target)`, `wait()` and `measure()`, or as a scaler
    in the loop, `decide(seen)`. The `limits` of a cluster replace min and max; needs are then in requests/s.
    """

    def __init__(
        self,
        min_instances: int = 1,
        max_instances: int = 10,
        target_cpu_utilization: float = 0.8,
        target_memory_utilization: float = 0.8,
        *,
        world: Any = None,
        limits: ScalingLimits | None = None,
    ) -> None:
        self.limits = limits or _one_pool(min_instances, max_instances)
        self.target_cpu_utilization = _share("target_cpu_utilization", target_cpu_utilization)
        self.target_memory_utilization = _share("target_memory_utilization", target_memory_utilization)
        self.world = world
        self._peak_need = Window(CALM_S)
        self._calm = Cooldown(CALM_S)
        self._rates = Holt(lead_s=60.0)
        self.reset()

    def reset(self) -> None:
        """Forget the previous run."""
        self.seen: Observation | None = None
        self.decision: Decision | None = None
        self.target: tuple[int, ...] = ()
        self._peak_need.reset()
        self._calm.reset()
        self._rates.reset(np.zeros(0), 1.0)

    def monitor(self, metrics: Metrics | None = None) -> Observation:
        """Take in a dictionary of metrics, an Observation, or else what the world measures."""
        if metrics is None:
            metrics = self._measured()
        self.seen = metrics if isinstance(metrics, Observation) else self._observation(metrics)
        self.decision = None
        return self.seen

    def predict(self) -> tuple[float, float]:
        """What compute and memory will keep busy: what they do now, times the growth that the forecast expects."""
        seen = self._last_seen("predict")
        rate, forecast = seen.arrival_per_s, seen.forecast_per_s
        known = rate > 0 and math.isfinite(forecast)
        # A forecast alone never shrinks the fleet and never more than doubles it.
        growth = min(max(1.0, forecast / rate), 2.0) if known else 1.0
        compute, memory = self._busy(seen)
        return growth * compute, growth * memory

    def decide(self, seen: Observation | None = None) -> Decision:
        """More at once when the larger need grows, a little less every five minutes while it stays low."""
        if seen is not None:
            self.monitor(seen)
        seen = self._last_seen("decide")
        compute, memory = self.predict()
        why = blind(seen, cpu_utilization=compute, memory_utilization=memory)
        self.decision = hold(seen, why) if why else self._by_need(seen, compute, memory)
        return self.decision

    def scale(self) -> tuple[int, ...]:
        """Whole instances per pool within the limits; the world, if there is one, is told."""
        decision = self.decision or self.decide()
        self.target = bound(decision, self.limits, self._last_seen("scale").target).target
        if self.world is not None:
            self.world.apply(self.target)
        return self.target

    def feedback(self, metrics: Metrics | None = None) -> dict[str, float]:
        """What came of it, after one control interval of the world or by the metrics taken since."""
        if metrics is None and self.world is not None:
            self.world.wait()
        if metrics is not None or self.world is not None:
            self.monitor(metrics)
        seen = self._last_seen("feedback")
        compute, memory = self._busy(seen)
        ready = carried_per_s(seen.ready_at_scrape, self.limits)
        return {
            "target": float(sum(self.target or seen.target)),
            "ready": float(np.sum(seen.ready)),
            "cpu_utilization": compute / ready if ready else math.nan,
            "memory_utilization": memory / ready if ready else math.nan,
        }

    def _by_need(self, seen: Observation, compute: float, memory: float) -> Decision:
        needs = compute / self.target_cpu_utilization, memory / self.target_memory_utilization
        reason = f"compute needs {needs[0]:.4g}, memory {needs[1]:.4g}"
        if called_from_zero(seen):
            return Decision(reason="the first request", capacity_per_s=float(self.limits.capacity_per_s.min()))
        wanted = self._peak_need.extreme(seen.t_s, max(needs))
        ordered = carried_per_s(seen.target, self.limits)
        if ordered > 0 and within(wanted / ordered, TOLERANCE):
            return hold(seen, f"{reason}: near enough")
        if wanted < ordered:
            if not self._calm.over(seen.t_s):
                return hold(seen, f"{reason}: fewer after {CALM_S:.0f} s without a change")
            wanted = max(wanted, ordered - max(SHARE_IN * ordered, float(self.limits.capacity_per_s.max())))
        self._calm.start(seen.t_s)
        allocated = allocate(wanted, self.limits)
        short = f"; {allocated.reason}" if allocated.reason else ""
        return Decision(allocated.target, reason + short, wanted)

    def _busy(self, seen: Observation) -> tuple[float, float]:
        return (
            busy_per_s(seen.compute_occupancy, seen, self.limits),
            busy_per_s(seen.memory_occupancy, seen, self.limits),
        )

    def _last_seen(self, stage: str) -> Observation:
        if self.seen is None:
            raise ScenarioError(f"{stage}() before monitor(): nothing was measured yet; call monitor(metrics) first")
        return self.seen

    def _measured(self) -> Metrics:
        if self.world is None:
            raise ScenarioError("monitor() got no metrics and there is no world; pass a dictionary or give a world")
        measured = self.world.measure()
        if not isinstance(measured, Mapping | Observation):
            raise ScenarioError(
                f"world.measure() gave a {type(measured).__name__}; expected Observation or a dictionary"
            )
        return measured

    def _observation(self, metrics: Mapping[str, Any]) -> Observation:
        """An Observation of one pool; a time of its own every 15 s and the last target, unless they are given."""
        before = self.seen
        value = _numbers(metrics)
        ready = value["instances"]
        target = ready + value["pending"] if "pending" in value else float(sum(self.target) or ready)
        t_s = value.get("time_s", 0.0 if before is None else before.t_s + 15.0)
        step_s = t_s - before.t_s if before is not None and t_s > before.t_s else 15.0
        rate = value.get("requests_per_s", math.nan)
        seen = _unmeasured(t_s, step_s, np.array([ready]), np.array([target]))
        return replace(
            seen,
            arrival_per_s=rate,
            forecast_per_s=self._rates.update(rate, step_s),
            compute_occupancy=np.array([value.get("cpu_utilization", math.nan)]),
            memory_occupancy=np.array([value.get("memory_utilization", math.nan)]),
            limits=self.limits,
        )


METRICS = ("instances", "pending", "cpu_utilization", "memory_utilization", "requests_per_s", "time_s")


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics as numbers; one that is None was not measured."""
    numbers = {}
    for name, given in metrics.items():
        if name not in METRICS:
            raise ScenarioError(f"unknown metric '{name}'; {nearest(name, METRICS)}")
        try:
            numbers[name] = math.nan if given is None else float(given)
        except (TypeError, ValueError):
            raise ScenarioError(f"metric {name} = {given!r}; expected a number, or None if not measured") from None
        if numbers[name] < 0 or (name.endswith("utilization") and numbers[name] > 5):
            raise ScenarioError(f"metric {name} = {given}; expected {_meant(name)}")
    for name in ("instances", "pending"):
        if not math.isfinite(numbers.get(name, 0.0 if name == "pending" else math.nan)):
            raise ScenarioError(f"metric {name} = {metrics.get(name)}; expected how many there are")
    return numbers


def _meant(name: str) -> str:
    if name.endswith("utilization"):
        return "a share, such as 0.85 for 85 %"
    return "a number, 0 or more"


def _unmeasured(t_s: float, interval_s: float, ready: Any, target: Any) -> Observation:
    """A fleet of one pool that can be counted, and no metric."""
    nan = math.nan
    pending = np.maximum(0.0, target - ready)
    by_age = np.zeros((1, len(PENDING_AGES_S) + 1))
    return Observation(
        *(t_s, t_s, interval_s, 0.0),
        *(nan, nan, nan, nan, nan, nan, nan),
        *(ready, pending, by_age, np.zeros(1), target, ready),
        *(np.full(1, nan), np.full(1, nan)),
    )


def _one_pool(low: int, high: int) -> ScalingLimits:
    """Limits of a cluster of which only the size is known: an instance carries 1, and capacity counts instances."""
    for name, count in (("min_instances", low), ("max_instances", high)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
            raise ScenarioError(f"{name} = {count!r}; expected a whole number, 0 or more")
    if low > high or high == 0:
        raise ScenarioError(f"min_instances = {low}, max_instances = {high}; expected min <= max and max at least 1")
    one = np.ones(1)
    return ScalingLimits(np.array([low]), np.array([high]), one, one, 60 * one, 60 * one, one, Slo(math.inf), 60.0)


def _share(name: str, value: float) -> float:
    if not 0 < value <= 1:
        raise ScenarioError(f"{name} = {value}; expected a share above 0 and up to 1, such as 0.8")
    return float(value)
