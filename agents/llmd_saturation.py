"""The llm-d workload variant autoscaler, V1: saturation of a model's replicas, and one replica more or less.

After internal/saturation/analyzer.go of llm-d/llm-d-workload-variant-autoscaler at b08b1c77 (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SaturationConfig:
    """Thresholds of one replica, and the mean spare below which more are wanted."""

    kv_threshold: float = 0.80  # share of KV memory
    queue_threshold: float = 5  # requests waiting at the replica
    kv_spare_trigger: float = 0.10
    queue_spare_trigger: float = 3


UPSTREAM_DEFAULTS: dict[str, dict[str, Any]] = {"llm-d-wva V1": asdict(SaturationConfig())}


@dataclass(frozen=True, slots=True)
class Replica:
    """Metrics of a replica; `count` replicas that say the same."""

    kv_usage: float
    queue: float
    variant: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Saturation:
    """What is said of a model; the spares are means over its replicas that are not saturated, 0 without any."""

    scale_up: bool
    scale_down_safe: bool
    non_saturated: int
    saturated_indices: tuple[int, ...] = ()
    spare_kv: float = 0.0
    spare_queue: float = 0.0


def analyse(replicas: Sequence[Replica], config: SaturationConfig) -> Saturation:
    """Saturation of all variants' replicas together; without metrics nothing is wanted and nothing is safe."""
    if not replicas:
        return Saturation(False, False, 0)
    saturated = tuple(index for index, replica in enumerate(replicas) if _saturated(replica, config))
    # Means per variant first, weighted afterwards: the order of upstream's roundings.
    spare: dict[str, tuple[int, float, float]] = {}
    for index, replica in enumerate(replicas):
        if index not in saturated:
            n, kv, queue = spare.get(replica.variant, (0, 0.0, 0.0))
            kv += replica.count * (config.kv_threshold - replica.kv_usage)
            queue += replica.count * (config.queue_threshold - replica.queue)
            spare[replica.variant] = (n + replica.count, kv, queue)
    free = sum(n for n, _, _ in spare.values())
    spare_kv = sum(kv / n * n for n, kv, _ in spare.values()) / free if free else 0.0
    spare_queue = sum(queue / n * n for n, _, queue in spare.values()) / free if free else 0.0
    scale_up = spare_kv < config.kv_spare_trigger or spare_queue < config.queue_spare_trigger
    safe = free >= 2 and _safe_without_one(free, spare_kv, spare_queue, config)
    return Saturation(scale_up, safe, free, saturated, spare_kv, spare_queue)


def _saturated(replica: Replica, config: SaturationConfig) -> bool:
    return replica.kv_usage >= config.kv_threshold or replica.queue >= config.queue_threshold


def _safe_without_one(free: int, spare_kv: float, spare_queue: float, config: SaturationConfig) -> bool:
    """Both spares still meet the triggers when the load of all is on one fewer."""
    growth = free / (free - 1)
    kv = config.kv_threshold - (config.kv_threshold - spare_kv) * growth
    queue = config.queue_threshold - (config.queue_threshold - spare_queue) * growth
    return kv >= config.kv_spare_trigger and queue >= config.queue_spare_trigger


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of serving the model. `desired` 0: never set. `metrics_count` replicas report."""

    name: str
    cost: float
    current: int
    desired: int
    metrics_count: int
    pending: int = 0
    full: bool = False  # at its maximum: not a candidate for more (not upstream's)

    @property
    def in_transition(self) -> bool:
        """Scaling is under way or replicas do not report yet."""
        return (self.desired != 0 and self.desired != self.current) or self.metrics_count != self.current


def targets_v1(variants: Iterable[Variant], scale_up: bool, scale_down_safe: bool) -> dict[str, int]:
    """Replicas per variant: nothing moves while any is in transition; else the cheapest without pending replicas gets
    one more, or the dearest with more than one gives one back. Ties: by name, the first up, the last down."""
    variants = list(variants)
    if any(variant.in_transition for variant in variants):
        return {variant.name: variant.desired or variant.current for variant in variants}
    targets = {variant.name: variant.metrics_count for variant in variants}
    if scale_up:
        idle = [variant for variant in variants if variant.pending <= 0 and not variant.full]
        if idle:
            targets[min(idle, key=lambda variant: (variant.cost, variant.name)).name] += 1
    elif scale_down_safe:
        several = [variant for variant in variants if targets[variant.name] > 1]
        if several:
            targets[max(several, key=lambda variant: (variant.cost, variant.name)).name] -= 1
    return targets
