"""The seams of the live world: who tells the metrics, who holds the fleet, what a clock is. Values only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from rlscale.errors import RlscaleError


class MetricsError(RlscaleError):
    """Metrics could not be read: unreachable, slow, or an answer that is none."""


class BackendError(RlscaleError):
    """A fleet could not be read or an order not be placed."""


class LiveConfigError(RlscaleError):
    """A live configuration says something impossible; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the service's metrics said, over the window before `taken_s`. NaN is what is not known, never 0.

    Shares are 0 to 1, latencies seconds, rates per second. `memory` and `running_by_pool` have one entry per pool, or
    none where the metrics do not tell pools apart.
    """

    taken_s: float  # unix time of the newest sample
    arrival_per_s: float = math.nan
    waiting: float = math.nan
    running: float = math.nan
    ttft_s: float = math.nan  # mean of the window
    tpot_s: float = math.nan
    attainment: float = math.nan  # share of the window's outcomes within the SLO, by latency histograms
    dropped_per_s: float = math.nan
    ttft_p90_s: float = math.nan
    tpot_p90_s: float = math.nan
    prompt_tokens: float = math.nan  # mean per request
    answer_tokens: float = math.nan
    memory: tuple[float, ...] = ()  # share of KV memory in use
    running_by_pool: tuple[float, ...] = ()
    replicas: tuple[float, ...] = ()  # per pool: those whose metrics these are; (): it is not told


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas per pool as the control plane sees them now. `target` is what is ordered there."""

    ready: tuple[int, ...]
    pending: tuple[int, ...]
    target: tuple[int, ...]
    draining: tuple[int, ...] = field(default=())  # (): the control plane does not tell; 0 each


@runtime_checkable
class Source(Protocol):
    """Where metrics come from. One read per control interval, from one thread."""

    def read(self) -> Reading:
        """The newest metrics. Raises MetricsError; must return or raise within its own timeout."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class Backend(Protocol):
    """Where orders go. Called from one thread; every call returns or raises within its own timeout."""

    def fleet(self) -> Fleet:
        """The fleet now. Raises BackendError."""
        ...

    def order(self, target: tuple[int, ...]) -> None:
        """Have so many replicas per pool. Raises BackendError; doing it twice is doing it once."""
        ...

    def close(self) -> None:
        """Let go of connections; the fleet stays as it is."""
        ...


class Clock(Protocol):
    """Time. Tests and simulated soaks bring their own."""

    def unix_s(self) -> float:
        """Wall time: calendar, time stamps of samples. May jump."""
        ...

    def steady_s(self) -> float:
        """Time that never jumps nor goes back; differences only."""
        ...

    def wait(self, seconds: float) -> bool:
        """Let so much steady time pass; False when woken because everything is to stop."""
        ...
