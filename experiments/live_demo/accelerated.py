"""Simulated seconds out of wall seconds: the live loop's clock, and what it reads from a faster world."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

from rlscale.deploy.base import Clock, Reading, Source
from rlscale.deploy.clock import SystemClock
from rlscale.types import ScalingLimits, Slo

MONDAY_S = datetime(2024, 1, 1, tzinfo=UTC).timestamp()  # a Monday: where weeks of loads begin
RATES, LATENCIES = ("arrival_per_s", "dropped_per_s"), ("ttft_s", "tpot_s", "ttft_p90_s", "tpot_p90_s")


class AcceleratedClock(SystemClock):
    """`speed` seconds pass in a second. Stands at 0, a Monday at midnight, until the machine's monotonic clock shows
    `began_s`."""

    def __init__(self, speed: float, began_s: float | None = None) -> None:
        super().__init__()
        self.speed, self.began_s = speed, began_s

    def steady_s(self) -> float:
        """Simulated seconds since the beginning."""
        return 0.0 if self.began_s is None else max(0.0, (time.monotonic() - self.began_s) * self.speed)

    def unix_s(self) -> float:
        """The simulated date."""
        return MONDAY_S + self.steady_s()

    def wait(self, seconds: float) -> bool:
        """Let simulated seconds pass."""
        return super().wait(seconds / self.speed)

    def until(self, steady_s: float) -> bool:
        """Let time pass until then, from before the beginning if need be."""
        assert self.began_s is not None, "the beginning is known"
        return super().wait(self.began_s + steady_s / self.speed - time.monotonic())

    def simulated_unix_s(self, wall_unix_s: float) -> float:
        """The simulated date of a wall time stamp."""
        return self.unix_s() - (time.time() - wall_unix_s) * self.speed


class AcceleratedSource:
    """A source of a world that is `clock.speed` times as fast as it pretends: rates are that much lower and latencies
    that much longer than it says."""

    def __init__(self, source: Source, clock: AcceleratedClock) -> None:
        self._source, self._clock = source, clock

    def read(self) -> Reading:
        """The reading in simulated seconds."""
        told, speed = self._source.read(), self._clock.speed
        rates = {name: getattr(told, name) / speed for name in RATES}
        latencies = {name: getattr(told, name) * speed for name in LATENCIES}
        return replace(told, taken_s=self._clock.simulated_unix_s(told.taken_s), **rates, **latencies)

    def close(self) -> None:
        """See `Source`."""
        self._source.close()


class WallClock:
    """The machine's own, for what measures in wall seconds beside an accelerated clock."""

    def __init__(self, clock: Clock) -> None:
        self.wait = clock.wait

    def unix_s(self) -> float:
        """Wall time."""
        return time.time()

    def steady_s(self) -> float:
        """See `Clock`."""
        return time.monotonic()


def hurried(limits: ScalingLimits, speed: float) -> ScalingLimits:
    """The same SLO in wall seconds of a world that is `speed` times faster."""
    slo = limits.slo
    fast = Slo(slo.ttft_s / speed, slo.tpot_s / speed, slo.ttft_tokens_per_s * speed, slo.attainment)
    return replace(limits, slo=fast)
