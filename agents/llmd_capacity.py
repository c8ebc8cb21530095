"""The llm-d workload variant autoscaler, V2: capacity of replicas in tokens, and targets at the least cost.

After internal/engines/analyzers/saturation_v2 and internal/engines/pipeline/cost_aware_optimizer.go of
llm-d/llm-d-workload-variant-autoscaler at b08b1c77 and 74afe4ce (Apache-2.0). Tokens are whole numbers, truncated
where upstream truncates.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

HISTORY = 10
SHORT_TOKENS, MEDIUM_TOKENS = 100, 500


@dataclass(frozen=True, slots=True)
class CapacityConfig:
    """Shares of KV memory and of capacity; `queue_threshold` requests waiting saturate a replica."""

    kv_threshold: float = 0.80
    queue_threshold: float = 5
    scale_up_threshold: float = 0.85
    scale_down_boundary: float = 0.70


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What the engine was started with: tokens per batch and sequences; 0 is not known."""

    max_batched_tokens: float = 0
    max_num_seqs: float = 0


@dataclass(frozen=True, slots=True)
class ReplicaMetrics:
    """One replica now."""

    kv_tokens_in_use: float
    kv_total_tokens: float
    queue: float
    avg_input: float
    avg_output: float


@dataclass(frozen=True, slots=True)
class ReplicaCapacity:
    """Tokens: bounds by memory (k1) and by compute (k2), the smaller one, and what is asked of the replica."""

    k1: int
    k2: int
    capacity: int
    demand: int


@dataclass(frozen=True, slots=True)
class StoredCapacity:
    """What is remembered of a variant: learnt "live", or read off its "deployment"."""

    capacity: float
    learned_from: str = "live"
    kv_total_tokens: float = 0


def output_class(avg_output: float) -> str:
    """Answers below 100 tokens, below 500, and longer ones."""
    return "short" if avg_output < SHORT_TOKENS else "medium" if avg_output < MEDIUM_TOKENS else "long"


def derived_capacity(engine: EngineLimits, avg_input: float, avg_output: float) -> int:
    """Tokens of the steady state that the engine's limits allow, min(B·O/(I+O), S)·(I+O/2); 0 when not known."""
    if engine.max_batched_tokens <= 0 or avg_output <= 0:
        return 0
    sequences = min(engine.max_batched_tokens * avg_output / (avg_input + avg_output), engine.max_num_seqs)
    return max(0, int(sequences * (avg_input + avg_output / 2)))


class CapacityAnalyser:
    """Remembers the compute capacity seen under saturated queues, per accelerator and output class."""

    def __init__(self, config: CapacityConfig) -> None:
        self.config = config
        self._history: dict[str, deque[float]] = {}

    def reset(self) -> None:
        """A controller restart."""
        self._history.clear()

    def state(self) -> dict[str, list[float]]:
        """Observed capacities per "accelerator|class"."""
        return {key: list(values) for key, values in self._history.items()}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Continue from a `state()`."""
        self._history = {key: deque(values, HISTORY) for key, values in state.items()}

    def remember(self, accelerator: str, avg_output: float, tokens: float) -> None:
        """One observed compute capacity."""
        key = f"{accelerator}|{output_class(avg_output)}"
        self._history.setdefault(key, deque(maxlen=HISTORY)).append(tokens)

    def replica(
        self, metrics: ReplicaMetrics, engine: EngineLimits | None = None, accelerator: str = ""
    ) -> ReplicaCapacity | None:
        """Capacity of a ready replica; None when its KV memory is not known."""
        if metrics.kv_total_tokens <= 0:
            return None
        k1 = int(metrics.kv_total_tokens * self.config.kv_threshold)
        k2 = self._k2(metrics, engine or EngineLimits(), accelerator, k1)
        waiting = int(metrics.queue * int(metrics.avg_input)) if metrics.avg_input > 0 else 0
        return ReplicaCapacity(k1, k2, min(k1, k2), int(metrics.kv_tokens_in_use) + waiting)

    def _k2(self, metrics: ReplicaMetrics, engine: EngineLimits, accelerator: str, k1: int) -> int:
        """Observed, else remembered, else derived, else memory's."""
        if metrics.queue >= int(self.config.queue_threshold) and metrics.kv_tokens_in_use > 0:
            self.remember(accelerator, metrics.avg_output, int(metrics.kv_tokens_in_use))
            return int(metrics.kv_tokens_in_use)
        past = self._history.get(f"{accelerator}|{output_class(metrics.avg_output)}")
        if past and sum(past) > 0:
            return int(sum(past) / len(past))
        return derived_capacity(engine, metrics.avg_input, metrics.avg_output) or k1

    def stored(
        self,
        record: StoredCapacity,
        engine: EngineLimits,
        avg_input: float,
        avg_output: float,
        compatible_live: float = 0,
    ) -> float:
        """Capacity of a variant without ready replicas. A live record is believed; one of a deployment is derived anew
        from the model's lengths, within its own memory and the live capacity of a compatible variant (0: none)."""
        if record.learned_from == "live":
            return record.capacity
        derived = derived_capacity(engine, avg_input, avg_output)
        if derived <= 0:
            return record.capacity
        bounds = [int(record.kv_total_tokens * self.config.kv_threshold), int(compatible_live)]
        return min([derived, *(bound for bound in bounds if bound > 0)])


def median(capacities: Sequence[int]) -> int:
    """Median of whole numbers, the middle two averaged and truncated; 0 of none."""
    ordered, half = sorted(capacities), len(capacities) // 2
    if not ordered:
        return 0
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) // 2


@dataclass(frozen=True, slots=True)
class VariantCapacity:
    """A variant as the optimiser sees it; `replicas` ready and pending."""

    name: str
    cost: float
    capacity: float  # of one replica, tokens
    replicas: int
    pending: int = 0
    demand: float = 0.0

    @property
    def ready(self) -> int:
        """Replicas that serve."""
        return max(0, self.replicas - self.pending)


def signals(variants: Iterable[VariantCapacity], queued_tokens: float, config: CapacityConfig) -> tuple[float, float]:
    """(required, spare) tokens: demand at the upper threshold beyond what is there or pending, and what is ready
    beyond demand at the lower one. `queued_tokens` wait outside of all replicas."""
    variants = list(variants)
    demand = sum(variant.demand for variant in variants) + queued_tokens
    supply = sum(variant.ready * variant.capacity for variant in variants)
    anticipated = sum((variant.ready + variant.pending) * variant.capacity for variant in variants)
    required = demand / config.scale_up_threshold - anticipated if config.scale_up_threshold > 0 else 0.0
    spare = supply - demand / config.scale_down_boundary if config.scale_down_boundary > 0 else 0.0
    return max(0.0, required), max(0.0, spare)


def cost_aware(required: float, spare: float, variants: Sequence[VariantCapacity]) -> dict[str, int]:
    """Replicas per variant. Pending replicas do not bar a variant: their capacity is in the supply already."""
    targets = {variant.name: variant.replicas for variant in variants}
    usable = [variant for variant in variants if variant.capacity > 0]
    if required > 0:
        if usable:
            best = min(usable, key=lambda variant: variant.cost / variant.capacity)
            targets[best.name] += math.ceil(required / best.capacity)
    elif spare > 0 and variants:
        _shrink(spare, variants, usable, targets)
    return targets


def _shrink(
    spare: float, variants: Sequence[VariantCapacity], usable: list[VariantCapacity], targets: dict[str, int]
) -> None:
    """From the dearest on, whole replicas within what is spare; the cheapest keeps one only if nothing else is left."""
    cheapest = min(variants, key=lambda variant: variant.cost).name
    for variant in sorted(usable, key=lambda variant: -variant.cost):
        alone = not any(count > 0 for name, count in targets.items() if name != cheapest)
        least = 1 if variant.name == cheapest and alone else 0
        removed = min(math.floor(spare / variant.capacity), targets[variant.name] - least)
        if removed > 0:
            targets[variant.name] -= removed
            spare -= removed * variant.capacity


UPSTREAM: dict[str, Any] = {
    "kv_threshold": CapacityConfig().kv_threshold,
    "queue_threshold": CapacityConfig().queue_threshold,
    "scale_up_threshold": CapacityConfig().scale_up_threshold,
    "scale_down_boundary": CapacityConfig().scale_down_boundary,
}
