"""A simulated cluster where a real one would be: metrics, fleet and clock of a live service, with faults on demand.

A live service runs on it as it is; waiting is what lets simulated time pass, so that a day takes seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlscale.beginning import initial_replicas
from rlscale.deploy.base import BackendError, Fleet, MetricsError, Reading
from rlscale.monitor import Monitor
from rlscale.scenario import Scenario
from rlscale.sim.worlds import make_world
from rlscale.types import Load, Observation

MONDAY_S = 4 * 86_400.0  # unix time of a Monday, 00:00 UTC
SAID = ("arrival_per_s", "waiting", "running", "ttft_s", "tpot_s", "attainment", "dropped_per_s", "ttft_p90_s",
        "tpot_p90_s", "prompt_tokens", "answer_tokens")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Faults:
    """How often things fail, shares of the intervals, 0 to 1; an outage lasts `outage` of them."""

    metrics: float = 0.0
    backend: float = 0.0
    outage: int = 8
    jump: float = 0.0  # the wall clock is set, by up to an hour


@dataclass
class SimulatedService:
    """Clock, source and backend in one. Ends when the load does; `faults` draws from `rng`."""

    scenario: Scenario
    load: Load
    seed: int
    faults: Faults = Faults()
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        spec, known = self.scenario.cluster, self.scenario.limits
        fleet = np.array([initial_replicas(self.load, known)])
        self.world = make_world("fluid", spec, [self.load], [self.seed], fleet, percentiles=True)
        self._monitor = Monitor(self.world, known)
        self._left = max(1, int(self.load.duration_s / spec.interval_s + 1e-9))
        self._now_s, self._set_s = 0.0, 0.0
        self._down = {"metrics": 0, "backend": 0}
        self._seen: Observation | None = None

    def unix_s(self) -> float:
        """Wall time: a Monday morning, and what the clock was set by."""
        return MONDAY_S + self.load.week_s + self._now_s + self._set_s

    def steady_s(self) -> float:
        """Simulated seconds."""
        return self._now_s

    def wait(self, seconds: float) -> bool:
        """So many control intervals pass; the first decision of a service is made after one, as the simulator's."""
        interval_s = self.scenario.cluster.interval_s
        intervals = max(1, math.ceil(seconds / interval_s - 1e-9))
        for _ in range(intervals):
            self.world.wait()
            self._left -= 1
            self._now_s += seconds / intervals
            for what, share in (("metrics", self.faults.metrics), ("backend", self.faults.backend)):
                begins = self.rng.random() < share / self.faults.outage
                self._down[what] = self.faults.outage if begins else max(0, self._down[what] - 1)
            if self.rng.random() < self.faults.jump:
                self._set_s = float(self.rng.uniform(-3600.0, 3600.0))
        self._seen = self._monitor.one()
        return self._left > 0

    def read(self) -> Reading:
        """The last scrape."""
        if self._down["metrics"]:
            raise MetricsError("injected: metrics are down")
        seen = self._seen
        assert seen is not None, "wait comes first"
        values: dict[str, Any] = {name: float(getattr(seen, name)) for name in SAID}
        return Reading(self.unix_s() - seen.age_s, **values, memory=tuple(seen.memory_occupancy.tolist()),
                       replicas=tuple(seen.ready_at_scrape.tolist()))  # fmt: skip

    def fleet(self) -> Fleet:
        """By the control plane."""
        if self._down["backend"]:
            raise BackendError("injected: the control plane is down")
        seen = self._seen
        assert seen is not None, "wait comes first"
        counts = (seen.ready, seen.pending, seen.target, seen.draining)
        return Fleet(*(tuple(int(count) for count in some) for some in counts))

    def order(self, target: tuple[int, ...]) -> None:
        """For the next interval."""
        if self._down["backend"]:
            raise BackendError("injected: the control plane is down")
        self.world.apply(np.array([target]), None)

    def close(self) -> None:
        """Nothing is open."""

    @property
    def attainment(self) -> float:
        """Of all requests so far."""
        cluster = self.world.cluster[0]
        return 1.0 - float(cluster["missed"]) / max(1.0, float(cluster["arrived"]))
