"""The clock of this machine. Everything live takes its clock as an argument; simulated soaks bring another."""

from __future__ import annotations

import threading
import time

# Goes on while a machine sleeps, so that metrics are as old after a suspension as they really are.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Wall time and steady time of this machine; `stop()` wakes whoever waits."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def unix_s(self) -> float:
        """Wall time."""
        return time.time()

    def steady_s(self) -> float:
        """Seconds since boot."""
        return time.clock_gettime(_STEADY)

    def wait(self, seconds: float) -> bool:
        """Wait; False as soon as it was stopped."""
        return not self._stopped.wait(max(0.0, seconds))

    def stop(self) -> None:
        """Nobody waits any longer."""
        self._stopped.set()
