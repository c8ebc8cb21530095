"""One decision of Knative's pod autoscaler: stable and panic mode, rate limits, scale-down delay, burst capacity.

After pkg/autoscaler/scaling/autoscaler.go of knative/serving, commit 98e5ef90aa70 (Apache-2.0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from agents.knative_config import DEFAULTS
from agents.knative_windows import DelayWindow

MOST_PODS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class DeciderSpec:
    """What a revision's settings come to. Targets are requests (or requests/s) per pod."""

    target_value: float
    total_value: float  # what a pod can hold
    target_burst_capacity: float = DEFAULTS.target_burst_capacity
    panic_threshold: float = DEFAULTS.panic_threshold
    max_scale_up_rate: float = DEFAULTS.max_scale_up_rate
    max_scale_down_rate: float = DEFAULTS.max_scale_down_rate
    stable_window_s: float = DEFAULTS.stable_window_s
    scale_down_delay_s: float = DEFAULTS.scale_down_delay_s
    activation_scale: int = DEFAULTS.activation_scale
    reachable: bool = True  # by a route


class ScaleResult(NamedTuple):
    """`valid` False: nothing may be applied, and the other fields say nothing."""

    valid: bool
    desired: int = 0
    excess_burst_capacity: int = 0  # requests above the burst that the ready pods could take; below 0: too few


INVALID = ScaleResult(False)


class Autoscaler:
    """Decides every tick from cluster-wide stable and panic averages.

    One that is created over more than one ready pod starts in panic and keeps their number until it has seen a
    stable window: it has lost its metrics, not its traffic. With at most one it starts calm, the count remembered.
    """

    def __init__(self, spec: DeciderSpec, ready: int | None, t_s: float) -> None:
        """`ready` None: the pods could not be counted, which is taken for none."""
        self.spec = spec
        self.max_panic_pods = ready or 0
        self.panic_time_s: float | None = t_s if self.max_panic_pods > 1 else None
        # No window at all without a delay: one of a single bucket would keep the larger of two counts of one tick.
        self._delay = DelayWindow(spec.scale_down_delay_s) if spec.scale_down_delay_s > 0 else None

    @property
    def in_panic(self) -> bool:
        """Growing only."""
        return self.panic_time_s is not None

    def update(self, spec: DeciderSpec) -> None:
        """Go on under other settings. The window of the scale-down delay stays what it was at construction."""
        self.spec = spec

    def scale(self, t_s: float, ready: int | None, stable: float, panic: float) -> ScaleResult:
        """Wanted pods; invalid without a count of ready pods (None) or a metric (NaN). No such pods is 0."""
        wanted_stable, wanted_panic = self._pods(stable), self._pods(panic)
        if ready is None or math.isnan(wanted_stable + wanted_panic):
            return INVALID
        pods = max(1, ready)
        self._panic_or_calm(t_s, wanted_panic / pods >= self.spec.panic_threshold)
        desired = self._limited(wanted_stable, pods)
        if self.in_panic:
            desired = max(desired, self._limited(wanted_panic, pods), self.max_panic_pods)
            self.max_panic_pods = desired
        if self._delay is not None and self.spec.reachable:
            desired = self._delay.longest(t_s, desired)
        return ScaleResult(True, desired, self._excess(ready, panic))

    def state(self) -> dict[str, Any]:
        """All there is to remember, as plain JSON."""
        delay = None if self._delay is None else self._delay.maximum.state()
        return {"panic_time_s": self.panic_time_s, "max_panic_pods": self.max_panic_pods, "delay": delay}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state; what it does not name stays."""
        self.panic_time_s = state.get("panic_time_s", self.panic_time_s)
        self.max_panic_pods = int(state.get("max_panic_pods", self.max_panic_pods))
        if self._delay is not None and state.get("delay") is not None:
            self._delay.maximum.restore(state["delay"])

    def _pods(self, value: float) -> float:
        """Pods for a metric, unlimited; NaN where there is no answer."""
        if self.spec.target_value <= 0:
            return math.inf if value > 0 else math.nan
        pods = value / self.spec.target_value
        return float(math.ceil(pods)) if math.isfinite(pods) else pods

    def _limited(self, wanted: float, pods: int) -> int:
        """Within the rates, which the activation scale may break. Growth by a tiny rate is still one pod."""
        spec = self.spec
        most = math.ceil(spec.max_scale_up_rate * pods)
        least = math.floor(pods / spec.max_scale_down_rate) if spec.reachable else 0
        limited = int(min(max(wanted, least), most, MOST_PODS))
        return max(limited, spec.activation_scale) if spec.activation_scale > 1 and wanted > 0 else limited

    def _panic_or_calm(self, t_s: float, over_threshold: bool) -> None:
        if over_threshold:
            self.panic_time_s = t_s
        elif self.panic_time_s is not None and self.panic_time_s + self.spec.stable_window_s < t_s:
            self.panic_time_s = None
            self.max_panic_pods = 0

    def _excess(self, ready: int, panic: float) -> int:
        """By the pods that are there, none included, and the panic value."""
        burst = self.spec.target_burst_capacity
        if burst == 0:
            return 0
        if burst < 0 or math.isinf(panic):
            return -1
        return math.floor(ready * self.spec.total_value - burst - panic)
