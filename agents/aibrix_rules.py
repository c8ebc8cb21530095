"""What AIBrix's pod autoscaler makes of its metrics: APA, its variant of KPA, the pending guard, the controller.

After pkg/controller/podautoscaler of vllm-project/aibrix, commit e3e10f9e4aeb (Apache-2.0), the guard as of commit
015a2e5f3572. Two things that look like mistakes are upstream's and are kept: stabilisation picks the more extreme
recommendation instead of the calmer one, so its cooldown holds nothing back; and the count that a panic should not
fall below is never stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

RESYNC_S = 10.0

Algorithm = Literal["apa", "kpa"]


@dataclass(frozen=True, slots=True)
class Context:
    """Settings of one PodAutoscaler; every default is upstream's."""

    max_scale_up_rate: float = 2.0
    max_scale_down_rate: float = 2.0
    up_fluctuation_tolerance: float = 0.1
    down_fluctuation_tolerance: float = 0.1
    scale_up_cooldown_window_s: float = 0.0
    scale_down_cooldown_window_s: float = 300.0
    panic_threshold: float = 2.0
    min_replicas: int = 0
    max_replicas: int = 2**31 - 1


class Panic(NamedTuple):
    """What a decision of the KPA variant takes from its context. In service the last two are always 0 and 1."""

    active: bool
    max_panic_pods: int = 0
    activation_scale: int = 1


class Sample(NamedTuple):
    """One metric: its target per pod and its averages over pods and time."""

    target: float
    stable: float
    panic: float
    per_pod: bool = True  # of pods, not of an external source


class Recommendation(NamedTuple):
    """A count within the bounds, and the value it was decided upon."""

    replicas: int
    value: float
    target: float
    per_pod: bool
    mode: str


def apa(current: int, target: float, value: float, context: Context) -> int:
    """Replicas in proportion to value/target within the rates. Both ends of the tolerance are no change."""
    if target <= 0:
        return current
    ratio = value / target
    if ratio > 1.0 + context.up_fluctuation_tolerance:
        return min(math.ceil(current * ratio), math.ceil(context.max_scale_up_rate * current))
    if ratio < 1.0 - context.down_fluctuation_tolerance:
        return max(math.ceil(current * ratio), math.floor(current / context.max_scale_down_rate))
    return current


def panics(stable: float, panic: float, threshold: float) -> bool:
    """Decided anew every time; also without any stable load, idle or not."""
    return stable <= 0 or panic / stable > threshold


def kpa(ready: int, sample: Sample, context: Context, panic: Panic) -> int:
    """Replicas by value/target, without a factor of the replicas that the value is the mean of.

    That is upstream's: a mean per pod gives the number of pods a single pod's load asks for. Zero pods are allowed
    and may grow to one.
    """
    if sample.target <= 0:
        return ready
    ready = max(0, ready)
    desired = _limited(ready, sample.stable, sample.target, context, panic.activation_scale)
    if not panic.active:
        return desired
    short = _limited(ready, sample.panic, sample.target, context, panic.activation_scale)
    return max(desired, short, panic.max_panic_pods)


def recommend(algorithm: Algorithm, current: int, sample: Sample, context: Context) -> Recommendation:
    """One metric to one count within the bounds."""
    value, mode = sample.stable, "stable"
    if algorithm == "apa":
        replicas = apa(current, sample.target, value, context)
    else:
        panic = panics(sample.stable, sample.panic, context.panic_threshold)
        if panic:
            value, mode = sample.panic, "panic"
        replicas = kpa(current, sample, context, Panic(panic))
    bounded = min(max(replicas, context.min_replicas), context.max_replicas)
    return Recommendation(bounded, value, sample.target, sample.per_pod, mode)


def compute(
    algorithm: Algorithm, current: int, samples: Sequence[Sample], context: Context, ready: int | None = None
) -> Recommendation | None:
    """The largest recommendation of the metrics that have a value, guarded; None without any.

    `ready` None: no replica is pending.
    """
    valid = [
        recommend(algorithm, current, sample, context)
        for sample in samples
        if math.isfinite(sample.stable) and math.isfinite(sample.panic)
    ]
    if not valid:
        return None
    best = max(valid, key=lambda found: found.replicas)  # the first of equals
    return best if ready is None else pending_guard(algorithm, current, ready, best)


def pending_guard(algorithm: Algorithm, current: int, ready: int, found: Recommendation) -> Recommendation:
    """Replicas that start count as idle when growing and as on target when shrinking; never beyond what was found."""
    ready = min(max(0, ready), current)
    pending = current - ready
    if not found.per_pod or found.target <= 0 or found.replicas == current or pending <= 0:
        return found
    if found.replicas > current:
        load = found.value * ready / current
        per_target = load / found.target if algorithm == "kpa" else current * load / found.target
        guarded = min(max(math.ceil(per_target), current), found.replicas)
    else:
        load = found.value * ready + found.target * pending
        per_target = load / found.target if algorithm == "kpa" else current * (load / current) / found.target
        guarded = max(min(math.ceil(per_target), current), found.replicas)
    return found._replace(replicas=guarded, mode=f"{found.mode}, pending replicas counted")


class Controller:
    """One PodAutoscaler: what it recommended, and what it writes."""

    def __init__(self, algorithm: Algorithm, context: Context) -> None:
        self.algorithm: Algorithm = algorithm
        self.context = context
        self._log: list[tuple[float, int]] = []  # (time, recommendation), oldest first

    def reset(self) -> None:
        """A restart."""
        self._log.clear()

    def reconcile(self, t_s: float, current: int, ready: int, samples: Sequence[Sample]) -> tuple[int, str]:
        """The count to write and why."""
        context = self.context
        if current == 0 and context.min_replicas != 0:
            return 0, "disabled: current replicas are 0"
        bounded = min(max(current, context.min_replicas), context.max_replicas)
        if bounded != current:
            return bounded, "current replicas outside the bounds"
        found = compute(self.algorithm, current, samples, context, ready)
        if found is None:
            return current, "no metric"
        wanted = self.stabilise(t_s, found.replicas, current)
        return min(max(wanted, context.min_replicas), context.max_replicas), found.mode

    def stabilise(self, t_s: float, recommendation: int, current: int) -> int:
        """The maximum of the upward window when growing, the minimum of the downward one when shrinking.

        The present recommendation belongs to both, so it is never calmed, only exceeded.
        """
        up_s, down_s = self.context.scale_up_cooldown_window_s, self.context.scale_down_cooldown_window_s
        longest_s = max(up_s, down_s)
        self._log.append((t_s, recommendation))
        self._log = [entry for entry in self._log if entry[0] > t_s - longest_s]
        if recommendation == current:
            return current
        window_s, pick = (up_s, max) if recommendation > current else (down_s, min)
        return pick((wanted for at_s, wanted in self._log if at_s > t_s - window_s), default=recommendation)

    def state(self) -> list[list[float]]:
        """All there is to remember, as plain JSON."""
        return [[at_s, wanted] for at_s, wanted in self._log]

    def restore(self, state: list[list[float]]) -> None:
        """Go on from a state."""
        self._log = [(float(at_s), int(wanted)) for at_s, wanted in state]


def _limited(ready: int, value: float, target: float, context: Context, activation_scale: int) -> int:
    """Pods for a value within the rates; the present count within the tolerance."""
    up, down = context.up_fluctuation_tolerance, context.down_fluctuation_tolerance
    changes = value > target * (1.0 + up) or value < target * (1.0 - down)
    wanted = math.ceil(value / target) if changes else ready
    most = max(1, math.ceil(context.max_scale_up_rate * ready))
    limited = min(max(wanted, math.floor(ready / context.max_scale_down_rate)), most)
    return max(limited, activation_scale) if limited > 0 else limited
