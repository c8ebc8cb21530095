"""A clock, a source and a backend that tests turn by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rlscale.deploy.base import BackendError, Fleet, MetricsError, Reading
from rlscale.types import Decision, Observation


@dataclass
class FakeClock:
    """Time passes when somebody waits. `before(steady_s)` is called at every wait, to make things happen."""

    now_s: float = 0.0
    epoch_s: float = 1_700_000_000.0
    end_s: float = math.inf
    before: Callable[[float], None] = lambda _: None

    def unix_s(self) -> float:
        return self.epoch_s + self.now_s

    def steady_s(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.now_s += max(0.0, seconds)
        self.before(self.now_s)
        return self.now_s < self.end_s


@dataclass
class FakeSource:
    """Says what it is told to say; an exception is raised."""

    clock: FakeClock
    values: dict[str, Any] = field(default_factory=lambda: {"arrival_per_s": 10.0, "waiting": 0.0, "running": 5.0})
    error: Exception | None = None
    stuck_at_s: float | None = None  # unix time of the newest sample, when it is always the same

    def read(self) -> Reading:
        if self.error is not None:
            raise self.error
        return Reading(self.clock.unix_s() if self.stuck_at_s is None else self.stuck_at_s, **self.values)

    def close(self) -> None:
        pass


@dataclass
class FakeBackend:
    """A fleet that is what was ordered, at once; remembers every order."""

    replicas: tuple[int, ...] = (4,)
    orders: list[tuple[int, ...]] = field(default_factory=list)
    pending: tuple[int, ...] = (0,)
    error: Exception | None = None
    tolerance: float = 0.0

    def fleet(self) -> Fleet:
        if self.error is not None:
            raise self.error
        return Fleet(self.replicas, self.pending, self.replicas)

    def order(self, target: tuple[int, ...]) -> None:
        if self.error is not None:
            raise self.error
        self.orders.append(target)
        self.replicas = target

    def close(self) -> None:
        pass


class Plain:
    """A decider without shields: a scaler, and what a live service asks of one."""

    def __init__(self, scaler: Any) -> None:
        self.scaler = scaler
        self.counts: Mapping[str, int] = {}
        self.gauges: Mapping[str, float] = {}

    def reset(self) -> None:
        self.scaler.reset()

    def decide(self, seen: Observation) -> Decision:
        found: Decision = self.scaler.decide(seen)
        return found

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        pass


UNREACHABLE = MetricsError("http://127.0.0.1:9: connection refused")
REFUSED = BackendError("deployment chat: 403, the role lacks the verb patch on deployments/scale")
