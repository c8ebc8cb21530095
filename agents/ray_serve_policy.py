"""Ray Serve's replica autoscaling of one deployment: cold start, policy, factor, delay, gang, bounds, in this order.

After python/ray/serve/autoscaling_policy.py, config.py and _private/autoscaling_state.py of ray-project/ray, near
master in 2026 (`DeploymentAutoscaler`), and the older release that counts loop turns (`LegacyAutoscaler`), Apache-2.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rlscale.decide import positive

LOOP_S = 0.1
EPSILON_S = 1e-6  # differences of large clock readings fall short of the true ones


@dataclass(frozen=True, slots=True)
class AutoscalingConfig:
    """`autoscaling_config` of a deployment, under upstream's names; factors that are None fall back to older names."""

    min_replicas: int = 1
    max_replicas: float = 1  # inf: unbounded
    initial_replicas: int | None = None
    target_ongoing_requests: float = 2.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    downscale_to_zero_delay_s: float | None = None
    upscaling_factor: float | None = None
    downscaling_factor: float | None = None
    smoothing_factor: float = 1.0
    upscale_smoothing_factor: float | None = None
    downscale_smoothing_factor: float | None = None
    look_back_period_s: float = 30.0
    metrics_interval_s: float = 10.0
    aggregation_function: str = "mean"
    gang_size: int = 1
    target_capacity: float | None = None  # percent
    capacity_rises: bool = False  # target_capacity is on its way up: initial_replicas is the lower bound

    def __post_init__(self) -> None:
        positive("ray-serve: target_ongoing_requests", self.target_ongoing_requests)
        positive("ray-serve: gang_size", self.gang_size)

    @classmethod
    def auto(cls, **changes: Any) -> AutoscalingConfig:
        """`num_replicas="auto"`."""
        return cls(**({"max_replicas": 100, "target_ongoing_requests": 2.0} | changes))

    @property
    def up_factor(self) -> float:
        """Gain on the way up."""
        return self.upscaling_factor or self.upscale_smoothing_factor or self.smoothing_factor

    @property
    def down_factor(self) -> float:
        """Gain on the way down."""
        return self.downscaling_factor or self.downscale_smoothing_factor or self.smoothing_factor

    @property
    def lower(self) -> int:
        """Least replicas at the present target capacity."""
        rising = self.capacity_rises and self.initial_replicas is not None
        return int(capacity_adjusted(self.initial_replicas or 0 if rising else self.min_replicas, self.target_capacity))

    @property
    def upper(self) -> float:
        """Most replicas at the present target capacity."""
        return capacity_adjusted(self.max_replicas, self.target_capacity)


def capacity_adjusted(replicas: float, target_capacity: float | None) -> float:
    """Replicas at `target_capacity` percent, halves rounded up and at least 1; 0 of none, and of anything at 0 %."""
    if target_capacity is None or target_capacity == 100 or math.isinf(replicas):
        return replicas
    if target_capacity == 0 or replicas == 0:
        return 0
    return max(1, math.floor(replicas * target_capacity / 100 + 0.5))


@dataclass(frozen=True, slots=True)
class Context:
    """What a policy is shown. `total_num_requests` is running at replicas + queued at handles."""

    config: AutoscalingConfig
    current_num_replicas: int  # running
    target_num_replicas: int
    total_num_requests: float = 0.0
    current_time: float = 0.0
    total_running_requests: float = 0.0
    total_queued_requests: float = 0.0
    total_pending_async_requests: float = 0.0
    capacity_adjusted_min_replicas: int = 0
    capacity_adjusted_max_replicas: float = math.inf
    policy_state: Mapping[str, Any] = field(default_factory=dict)
    last_scale_up_time: float | None = None
    last_scale_down_time: float | None = None
    aggregated_metrics: Mapping[str, Any] = field(default_factory=dict)
    raw_metrics: Mapping[str, Any] = field(default_factory=dict)
    running_replicas: tuple[str, ...] = ()
    deployment_id: str = ""
    deployment_name: str = ""
    app_name: str = ""


Policy = Callable[[Context], tuple[float, dict[str, Any]]]
ApplicationPolicy = Callable[[dict[str, Context]], tuple[dict[str, float], dict[str, dict[str, Any]] | None]]


def queue_length_policy(context: Context) -> tuple[float, dict[str, Any]]:
    """The built-in policy: requests over target_ongoing_requests, a fraction; the target while nothing runs."""
    running = context.current_num_replicas
    if running == 0:
        return context.target_num_replicas, {}
    error_ratio = context.total_num_requests / (context.config.target_ongoing_requests * running)
    return running * error_ratio, {}


def cold_start(config: AutoscalingConfig, running: int, target: int, requests: float) -> int | None:
    """Replicas at once, past every delay, when requests meet no running replica; None otherwise."""
    return max(math.ceil(config.up_factor), target) if running == 0 and requests > 0 else None


def apply_factor(config: AutoscalingConfig, desired: float, running: int) -> int:
    """The distance from the running replicas times the factor. A way down that rounding would stall goes down by 1."""
    if running == 0:
        return math.ceil(desired)
    factor = config.up_factor if desired > running else config.down_factor
    scaled = math.ceil(running + factor * (desired - running))
    return scaled - 1 if math.ceil(desired) < running and scaled == running else scaled


def round_up_to_gang(replicas: int, gang_size: int) -> int:
    """The next multiple of the gang size."""
    return -(-replicas // gang_size) * gang_size


def bounded(config: AutoscalingConfig, replicas: float) -> int:
    """Whole gangs, then the bounds; they are outside of the policy, so custom policies are bounded too."""
    return int(max(config.lower, min(config.upper, round_up_to_gang(math.ceil(replicas), config.gang_size))))


def down_to(config: AutoscalingConfig, desired: int, target: int) -> tuple[int, float]:
    """Where a way down ends, and its delay: to 0 only from 1, from more only to 1."""
    if target != 1:
        return max(1, desired), config.downscale_delay_s
    to_zero_s = config.downscale_to_zero_delay_s
    return desired, config.downscale_delay_s if to_zero_s is None else to_zero_s


class DeploymentAutoscaler:
    """One deployment. Its state: the direction of the present streak of wishes, since when, and the policy's own."""

    def __init__(self, config: AutoscalingConfig, policy: Policy = queue_length_policy) -> None:
        self.config = config
        self.policy = policy
        self.reset()

    def reset(self) -> None:
        """A controller restart: streaks begin anew."""
        self._direction = 0
        self._since_s: float | None = None
        self._policy_state: dict[str, Any] = {}
        self._last: dict[str, float | None] = {"up": None, "down": None}

    def state(self) -> dict[str, Any]:
        """All that is remembered, as plain values."""
        streak = {"direction": self._direction, "since_s": self._since_s}
        return streak | {"policy_state": dict(self._policy_state), "last": dict(self._last)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self._direction, self._since_s = int(state["direction"]), state["since_s"]
        self._policy_state, self._last = dict(state["policy_state"]), dict(state["last"])

    def decide(self, running: int, target: int, requests: float, now_s: float) -> int:
        """The new target count."""
        return self._ruled(self.context(running, target, requests, now_s), None)

    def decide_desired(self, running: int, target: int, desired: float, now_s: float, requests: float = 0.0) -> int:
        """The new target count when a policy elsewhere returned `desired`."""
        return self._ruled(self.context(running, target, requests, now_s), desired)

    def context(self, running: int, target: int, requests: float, now_s: float, **more: Any) -> Context:
        """What the policy is shown now."""
        return Context(
            config=self.config,
            current_num_replicas=running,
            target_num_replicas=target,
            total_num_requests=requests,
            current_time=now_s,
            capacity_adjusted_min_replicas=self.config.lower,
            capacity_adjusted_max_replicas=self.config.upper,
            policy_state=self._policy_state,
            last_scale_up_time=self._last["up"],
            last_scale_down_time=self._last["down"],
            **more,
        )

    def _ruled(self, seen: Context, desired: float | None) -> int:
        running, target = seen.current_num_replicas, seen.target_num_replicas
        wanted = cold_start(self.config, running, target, seen.total_num_requests)
        if wanted is None:
            if desired is None:
                desired, self._policy_state = self.policy(seen)
            wanted = apply_factor(self.config, desired, running)
            if not (running == 0 and wanted > target):
                wanted = self._delayed(max(0, wanted), target, seen.current_time)
        count = bounded(self.config, wanted)
        if count != target:
            self._last["up" if count > target else "down"] = seen.current_time
        return count

    def _delayed(self, desired: int, target: int, now_s: float) -> int:
        """`desired` once it has been wished in one direction, seen from the target, for as long as the delay."""
        direction = (desired > target) - (desired < target)
        if direction == 0:
            self._direction, self._since_s = 0, None
            return target
        if direction != self._direction or self._since_s is None:
            self._direction, self._since_s = direction, now_s
        delay_s = self.config.upscale_delay_s
        if direction < 0:
            desired, delay_s = down_to(self.config, desired, target)
        if now_s - self._since_s + EPSILON_S < delay_s:
            return target
        self._direction, self._since_s = 0, None
        return desired


def decide_application(
    deployments: Mapping[str, DeploymentAutoscaler], contexts: dict[str, Context], policy: ApplicationPolicy
) -> dict[str, int]:
    """One policy for all deployments of an application; those it says nothing of keep their targets."""
    counts, states = policy(contexts)
    decided = {}
    for name, seen in contexts.items():
        decided[name] = seen.target_num_replicas
        deployments[name]._policy_state = dict((states or {}).get(name) or {})
        if name in counts:
            decided[name] = deployments[name]._ruled(seen, counts[name])
    return decided


class LegacyAutoscaler:
    """The older release: whole replicas, delays counted as int(delay / 0.1 s) turns, so that a slow loop stretches
    them, bounds inside of the policy and before the factor. Its state is the signed number of turns in a row."""

    def __init__(self, config: AutoscalingConfig) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """A controller restart."""
        self._turns = 0

    def state(self) -> dict[str, Any]:
        """The signed number of turns."""
        return {"turns": self._turns}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self._turns = int(state["turns"])

    def decide(self, running: int, target: int, requests: float, now_s: float = 0.0) -> int:
        """The new target count; the clock is not looked at."""
        config = self.config
        if running == 0:
            wanted = cold_start(config, running, target, requests)
            return bounded(config, target if wanted is None else wanted)
        error_ratio = requests / (config.target_ongoing_requests * running)
        desired = int(max(config.lower, min(config.upper, math.ceil(running * error_ratio))))
        return bounded(config, self._counted(apply_factor(config, desired, running), target))

    def _counted(self, desired: int, target: int) -> int:
        direction = (desired > target) - (desired < target)
        self._turns = direction * (abs(self._turns) + 1) if direction * self._turns >= 0 else direction
        delay_s = self.config.upscale_delay_s
        if direction < 0:
            desired, delay_s = down_to(self.config, desired, target)
        if direction == 0 or abs(self._turns) <= int(delay_s / LOOP_S):
            return target
        self._turns = 0
        return desired
