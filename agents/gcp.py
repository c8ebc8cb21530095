"""The autoscaler of Compute Engine managed instance groups, on requests per seat.

Documentation only; exact arithmetic is unpublished. After the vendor's guide as of 2026; facts only, closed product.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from agents.averages import from_zero, instances, seat_share
from agents.aws_predictive import HourlyForecast
from agents.threshold import OCCUPANCIES
from rlscale.decide import hold, lead_s, positive
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

STABILIZATION_S = 600.0
INITIALIZATION_S = 60.0
CPU_TARGET = 0.6
MIN_HISTORY_HOURS = 72
MODES = ("on", "only-scale-out", "off")

UPSTREAM_DEFAULTS: dict[str, dict[str, Any]] = {
    "gcp": {"stabilization_s": STABILIZATION_S, "initialization_s": INITIALIZATION_S, "cpu_target": CPU_TARGET}
}


def whole_instances(fractional: float, direction: str) -> int:
    """Instances of a fractional change: rounded up when adding, down when removing, so the group errs on the large
    side both times."""
    if direction not in ("add", "remove"):
        raise ScenarioError(f"direction = {direction!r}; expected 'add' or 'remove'")
    return math.ceil(fractional - 1e-9) if direction == "add" else math.floor(fractional + 1e-9)


def needed_size(size: int, ideal: float) -> int:
    """The whole size nearest to a fractional one, on the large side."""
    if ideal >= size:
        return size + whole_instances(ideal - size, "add")
    return size - whole_instances(size - ideal, "remove")


def recommended(by_signal: Sequence[int]) -> int:
    """Several signals: the largest size any of them asks for. ScenarioError without signals."""
    if not by_signal:
        raise ScenarioError("an autoscaler needs at least one signal")
    return max(by_signal)


class Mig:
    """What one group's autoscaler remembers: the sizes needed lately.

    The recommendation is the largest size needed in the stabilisation period. With scale-in control, it is not
    below the peak of `control_s` less `max_in` instances, or less `max_in_share` of the peak, the larger of the two.
    """

    def __init__(
        self,
        stabilization_s: float = STABILIZATION_S,
        mode: str = "on",
        max_in: int | None = None,
        max_in_share: float | None = None,
        control_s: float = STABILIZATION_S,
    ) -> None:
        if mode not in MODES:
            raise ScenarioError(f"gcp: mode = {mode!r}; expected one of {', '.join(MODES)}")
        self.stabilization_s, self.mode = stabilization_s, mode
        self.max_in, self.max_in_share, self.control_s = max_in, max_in_share, control_s
        self._needed: deque[tuple[float, int]] = deque()

    def reset(self) -> None:
        """Forget the sizes needed."""
        self._needed.clear()

    def state(self) -> dict[str, Any]:
        """The sizes needed lately, as JSON can hold them."""
        return {"needed": [list(entry) for entry in self._needed]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        self._needed = deque((float(at_s), int(size)) for at_s, size in state["needed"])

    def recommend(self, t_s: float, size: int, by_signal: Sequence[int]) -> int:
        """The new size of a group of `size` when its signals ask for these sizes now."""
        if self._needed and t_s < self._needed[-1][0]:
            self._needed.clear()  # the clock jumped back
        self._needed.append((t_s, recommended(by_signal)))
        longest_s = max(self.stabilization_s, self.control_s)
        while self._needed[0][0] <= t_s - longest_s and len(self._needed) > 1:
            self._needed.popleft()
        wanted = max(self._peak(t_s, self.stabilization_s), self._floor(t_s, size))
        if self.mode == "off" or (self.mode == "only-scale-out" and wanted < size):
            return size
        return wanted

    def _floor(self, t_s: float, size: int) -> int:
        if self.max_in is None and self.max_in_share is None:
            return 0
        peak = max(self._peak(t_s, self.control_s), 0)
        allowed = max(self.max_in or 0, math.floor((self.max_in_share or 0.0) * peak + 1e-9))
        return min(size, peak - allowed)  # a limit on removal never adds

    def _peak(self, t_s: float, window_s: float) -> int:
        return max(size for at_s, size in self._needed if at_s > t_s - window_s or at_s == t_s)


class GCP:
    """One managed instance group per pool, all on the service's requests per seat.

    Replicas in their initialisation period are left out of what the group needs to grow; those that start are.
    """

    def __init__(
        self,
        limits: ScalingLimits,
        target: float = 0.5,
        stabilization_s: float = STABILIZATION_S,
        initialization_s: float = INITIALIZATION_S,
        max_in_share: float | None = None,
        control_s: float = STABILIZATION_S,
        mode: str = "on",
        predictive: bool = False,
    ) -> None:
        self.limits = limits
        self.target = positive("gcp-mig: target", target)
        self.initialization_s = initialization_s
        self.groups = [Mig(stabilization_s, mode, None, max_in_share, control_s) for _ in limits.seats]
        self.forecast = HourlyForecast(MIN_HISTORY_HOURS, lead_s(limits)) if predictive else None
        self.reset()

    def reset(self) -> None:
        """Forget sizes, replicas and history."""
        for group in self.groups:
            group.reset()
        self._warm: list[deque[tuple[float, int]]] = [deque() for _ in self.groups]
        if self.forecast:
            self.forecast.reset()

    def decide(self, seen: Observation) -> Decision:
        """A recommendation per group."""
        called = from_zero(seen, self.limits)
        if called:
            return called
        share, why = seat_share(seen, self.limits)
        if why:
            return hold(seen, why)
        serving = float(seen.ready_at_scrape @ self.limits.seats)
        if self.forecast:
            self.forecast.learn(seen.t_s, share * serving)
        target = tuple(self._size(pool, share, seen) for pool in range(len(self.groups)))
        return Decision(target, f"{share:.2f} requests per seat, target {self.target:.2f}")

    def state(self) -> dict[str, Any]:
        """Sizes needed, replicas that are warm and the history, as JSON can hold them."""
        return {
            "groups": [group.state() for group in self.groups],
            "warm": [[list(entry) for entry in kept] for kept in self._warm],
            "forecast": self.forecast.state() if self.forecast else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        for group, one in zip(self.groups, state["groups"], strict=True):
            group.restore(one)
        self._warm = [deque((float(at_s), int(count)) for at_s, count in kept) for kept in state["warm"]]
        if self.forecast:
            self.forecast.restore(state["forecast"])

    def _size(self, pool: int, share: float, seen: Observation) -> int:
        warm, size = instances(seen, pool)
        initialised = self._initialised(pool, seen.t_s, warm)
        needed = needed_size(size, share * initialised / self.target)
        if needed <= size:
            needed = min(size, needed_size(size, share * warm / self.target))
        signals = [needed]
        if self.forecast:
            load, seats = self.forecast.ahead(seen.t_s), float(seen.target @ self.limits.seats)
            if math.isfinite(load) and seats > 0:
                signals.append(needed_size(size, size * load / (self.target * seats)))
        return self.groups[pool].recommend(seen.t_s, size, signals)

    def _initialised(self, pool: int, t_s: float, warm: int) -> int:
        """Fewest warm replicas of the last initialisation period: the others have not been so for as long."""
        kept = self._warm[pool]
        if kept and t_s < kept[-1][0]:
            kept.clear()
        kept.append((t_s, warm))
        while len(kept) > 1 and kept[0][0] < t_s - self.initialization_s:
            kept.popleft()
        return min(count for _, count in kept)


SCALERS = {
    "gcp-mig": ScalerKind(
        GCP,
        Knob("target", OCCUPANCIES, 0.5, "running + waiting requests per seat at l_SLO"),
        "GCP managed instance group on requests per seat (documentation only; exact arithmetic is unpublished)",
        stabilisation="stabilization_s",
        upstream={
            "target": CPU_TARGET,
            "stabilization_s": STABILIZATION_S,
            "initialization_s": INITIALIZATION_S,
        },
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "gcp-mig": {
        "target": ("log", 0.07, 1.0),
        "stabilization_s": ("float", 60.0, 1800.0),
        "initialization_s": ("float", 0.0, 600.0),
        "max_in_share": ("float", 0.05, 1.0),
        "control_s": ("float", 60.0, 3600.0),
        "predictive": ("choice", False, True),
    }
}
