"""Contexts as Ray Serve hands them to a policy, a clock that stands still, and scalers for them to meet. No ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from rlscale.types import Decision, Observation, ScalingLimits

LIMITS: dict[str, Any] = {
    "rlscale_limits": 1,
    "slo": {"ttft_s": 1.0, "tpot_s": 0.05},
    "drain_s": 10.0,
    "pools": [{"min_replicas": 1, "max_replicas": 10, "capacity_per_s": 10.0, "seats": 2.0, "start_median_s": 5.0,
               "start_p95_s": 8.0, "usd_per_replica_s": 0.001}],
}  # fmt: skip


class StillClock:
    """Time passes when a test says so."""

    def __init__(self) -> None:
        self.now_s, self.wall_s = 1000.0, 1_800_000_000.0

    def unix_s(self) -> float:
        return self.wall_s

    def steady_s(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        return True

    def passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall_s += seconds


def config(**changed: Any) -> SimpleNamespace:
    """A configuration that passes decisions on as they are."""
    harmless = {
        "min_replicas": 1, "max_replicas": 10, "target_ongoing_requests": 2.0, "look_back_period_s": 2.0,
        "metrics_interval_s": 0.5,
        "upscale_delay_s": 0.0, "downscale_delay_s": 0.0, "downscale_to_zero_delay_s": None, "upscaling_factor": None,
        "downscaling_factor": None, "smoothing_factor": 1.0, "upscale_smoothing_factor": None,
        "downscale_smoothing_factor": None, "aggregation_function": "mean",
    }  # fmt: skip
    return SimpleNamespace(**(harmless | changed))


@dataclass
class FakeContext:
    """The fields of an AutoscalingContext that a policy reads."""

    total_num_requests: Any = 0.0
    total_queued_requests: Any = 0.0
    current_num_replicas: Any = 2
    target_num_replicas: Any = 2
    aggregated_metrics: Any = None
    raw_metrics: Any = None
    capacity_adjusted_min_replicas: Any = 1
    capacity_adjusted_max_replicas: Any = 10
    policy_state: dict[str, Any] = field(default_factory=dict)
    config: Any = field(default_factory=config)
    app_name: str = "app"
    deployment_name: str = "model"


def told(unix_s: float, **by_replica: Mapping[str, float]) -> dict[str, Any]:
    """Custom metrics of replicas, aggregated and raw, the newest point of that time."""
    raw = {
        name: {replica: [SimpleNamespace(timestamp=unix_s, value=value)] for replica, value in values.items()}
        for name, values in by_replica.items()
    }
    return {"aggregated_metrics": dict(by_replica), "raw_metrics": raw}


class Scripted:
    """Does what the test says: `act` is a decision, an exception to raise, or a function of the observation."""

    act: Any = Decision((3,), "scripted")
    asked: int = 0

    def __init__(self, limits: ScalingLimits) -> None:
        self.limits = limits

    def reset(self) -> None:
        """Nothing to forget."""

    def decide(self, seen: Observation) -> Decision:
        Scripted.asked += 1
        act = Scripted.act
        if isinstance(act, BaseException):
            raise act
        return act(seen) if callable(act) else act


class Stuck:
    """Blocks until the test lets it go."""

    go = threading.Event()

    def __init__(self, limits: ScalingLimits) -> None:
        pass

    def reset(self) -> None:
        """Nothing to forget."""

    def decide(self, seen: Observation) -> Decision:
        Stuck.go.wait(30.0)
        return Decision((9,), "late")


class Counting:
    """Asks for as many replicas as it has seen observations: a restart that forgets shows."""

    def __init__(self, limits: ScalingLimits) -> None:
        self.reset()

    def reset(self) -> None:
        self.seen = 0

    def decide(self, seen: Observation) -> Decision:
        self.seen += 1
        return Decision((min(9, self.seen),), "counted")


class Raising:
    """Decides once, so that it is known to have been asked, and never again."""

    def __init__(self, limits: ScalingLimits) -> None:
        self.asked = 0

    def reset(self) -> None:
        """Nothing to forget."""

    def decide(self, seen: Observation) -> Decision:
        self.asked += 1
        if self.asked == 1:
            return Decision((1,), "the first and last decision")
        raise ZeroDivisionError("a decision divided by zero")


class Unbuildable:
    """Its constructor raises."""

    def __init__(self, limits: ScalingLimits) -> None:
        raise OSError("the share is not mounted")


def until(condition: Any, deadline_s: float = 10.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "not within the deadline"
        time.sleep(0.005)
