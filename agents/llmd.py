"""The llm-d workload variant autoscaler on the pools of a service: V1 (saturation) and V2 (capacity in tokens).

Upstream's rules are in agents/llmd_saturation.py and agents/llmd_capacity.py; this feeds them from observations. A
pool is a variant, its price per replica the variant's cost.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agents.dynamo import Lengths
from agents.llmd_capacity import (
    UPSTREAM,
    CapacityAnalyser,
    CapacityConfig,
    EngineLimits,
    ReplicaMetrics,
    StoredCapacity,
    VariantCapacity,
    cost_aware,
    signals,
)
from agents.llmd_saturation import UPSTREAM_DEFAULTS as UPSTREAM_DEFAULTS
from agents.llmd_saturation import Replica, SaturationConfig, Variant, analyse, targets_v1
from rlscale.decide import Cadence, blind, called_from_zero, hold, positive
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

INTERVAL_S = 60.0  # between optimisations
RETENTION_S = 600.0  # without requests, after which a model is scaled to zero
ISL_TOKENS, OSL_TOKENS = 3000.0, 150.0


class Variants:
    """What both versions share: the beat, metrics per pool, and scaling to and from zero.

    The service's queue is spread evenly over ready replicas, so that all replicas of a pool say the same. After
    `scale_to_zero_retention_s` without requests all targets are 0, which the pools' minima raise; requests that meet
    no replica at all call one of the cheapest pool.
    """

    def __init__(self, limits: ScalingLimits, interval_s: float, scale_to_zero_retention_s: float) -> None:
        self.limits = limits
        self.retention_s = positive("llmd: scale_to_zero_retention_s", scale_to_zero_retention_s)
        self.cost = [float(usd) for usd in limits.usd_per_replica_s]
        self.seats = [float(seats) for seats in limits.seats]
        self.most = [int(count) for count in limits.max_replicas]
        self.names = [f"pool {pool:04d}" for pool in range(len(self.cost))]
        self._beat = Cadence(positive("llmd: interval_s", interval_s))
        self.reset()

    def reset(self) -> None:
        """A controller restart."""
        self._beat.reset()
        self._asked_s = -math.inf

    def state(self) -> dict[str, Any]:
        """When there were requests last."""
        return {"asked_s": self._asked_s if math.isfinite(self._asked_s) else None}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self._asked_s = -math.inf if state["asked_s"] is None else float(state["asked_s"])

    def before(self, seen: Observation) -> Decision | None:
        """What is decided without looking at saturation: waiting, holding, zero."""
        t_s = float(seen.t_s)
        if not self._beat.due(t_s):
            return hold(seen, "between optimisations")
        scraped = np.asarray(seen.ready_at_scrape).tolist()
        memory = np.asarray(seen.memory_occupancy).tolist()
        kv = {f"memory_occupancy {pool}": memory[pool] for pool, count in enumerate(scraped) if count > 0}
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting, running=seen.running, **kv)
        if why:
            return hold(seen, why)
        if seen.arrival_per_s > 0 or seen.waiting > 0 or seen.running > 0 or not math.isfinite(self._asked_s):
            self._asked_s = t_s
        if called_from_zero(seen):
            allowed = [pool for pool, most in enumerate(self.most) if most > 0]
            cheapest = min(allowed, key=lambda pool: self.cost[pool], default=-1)
            return Decision(tuple(int(pool == cheapest) for pool in range(len(self.cost))), "requests and no replica")
        if t_s - self._asked_s >= self.retention_s:
            return Decision((0,) * len(self.cost), f"no request for {self.retention_s:.0f} s")
        return None if kv else hold(seen, "no replica with metrics")


class LlmdV1:
    """V1: one replica more of the cheapest pool or one fewer of the dearest, by spare KV memory and spare queue.

    KV usage is the pool's. Nothing moves while any pool's replicas are not all ready and scraped. Empty pools can be
    chosen, full ones are passed over (upstream sees neither).
    """

    def __init__(
        self,
        limits: ScalingLimits,
        kv_threshold: float = 0.5,
        queue_threshold: float = SaturationConfig().queue_threshold,
        kv_spare_trigger: float = SaturationConfig().kv_spare_trigger,
        queue_spare_trigger: float = SaturationConfig().queue_spare_trigger,
        interval_s: float = INTERVAL_S,
        scale_to_zero_retention_s: float = RETENTION_S,
    ) -> None:
        self.config = SaturationConfig(
            positive("llmd-v1: kv_threshold", kv_threshold),
            positive("llmd-v1: queue_threshold", queue_threshold),
            kv_spare_trigger,
            queue_spare_trigger,
        )
        self._common = Variants(limits, interval_s, scale_to_zero_retention_s)

    def reset(self) -> None:
        """A controller restart."""
        self._common.reset()

    def state(self) -> dict[str, Any]:
        """What is remembered, as plain values."""
        return self._common.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self._common.restore(state)

    def decide(self, seen: Observation) -> Decision:
        """One optimisation."""
        common = self._common
        early = common.before(seen)
        if early is not None:
            return early
        scraped, current = np.asarray(seen.ready_at_scrape).tolist(), np.asarray(seen.target).tolist()
        pending, memory = np.asarray(seen.pending).tolist(), np.asarray(seen.memory_occupancy).tolist()
        queue = float(seen.waiting) / sum(scraped)
        found = analyse(
            [
                Replica(float(memory[pool]), queue, name, int(scraped[pool]))
                for pool, name in enumerate(common.names)
                if scraped[pool] > 0
            ],
            self.config,
        )
        variants = [
            Variant(name, common.cost[pool], int(current[pool]), int(current[pool]), int(scraped[pool]),
                    int(pending[pool]), current[pool] >= common.most[pool])
            for pool, name in enumerate(common.names)
        ]  # fmt: skip
        target = targets_v1(variants, found.scale_up, found.scale_down_safe)
        said = "in transition" if any(variant.in_transition for variant in variants) else "saturation"
        why = f"{said}: spare KV {found.spare_kv:.2f}, spare queue {found.spare_queue:.1f}"
        return Decision(tuple(target[name] for name in common.names), why)


class LlmdV2:
    """V2: replicas by capacity and demand in tokens, several at once, at the least cost.

    What stands for what. A running sequence takes ISL + OSL/2 tokens; a pool's sequences are its occupancy times its
    sequences at l_SLO, and these over its KV share are a replica's KV memory (before any ran: its sequences at
    l_SLO fill it). max_num_seqs is the sequences at l_SLO, so the derived capacity is that of the SLO. What is known
    of an empty pool is what was learnt, before that what its limits derive to.
    """

    def __init__(
        self,
        limits: ScalingLimits,
        scale_up_threshold: float = CapacityConfig().scale_up_threshold,
        scale_down_boundary: float | None = None,
        kv_threshold: float = CapacityConfig().kv_threshold,
        queue_threshold: float = CapacityConfig().queue_threshold,
        max_batched_tokens: float = 8192.0,
        isl_tokens: float = ISL_TOKENS,
        osl_tokens: float = OSL_TOKENS,
        interval_s: float = INTERVAL_S,
        scale_to_zero_retention_s: float = RETENTION_S,
    ) -> None:
        up = positive("llmd-v2: scale_up_threshold", scale_up_threshold)
        proportion = CapacityConfig().scale_down_boundary / CapacityConfig().scale_up_threshold
        down = up * proportion if scale_down_boundary is None else scale_down_boundary
        if not 0 < down < up:
            raise ScenarioError(f"llmd-v2: scale_down_boundary = {down}; expected above 0 and below {up}")
        self.config = CapacityConfig(positive("llmd-v2: kv_threshold", kv_threshold), queue_threshold, up, down)
        self._common = Variants(limits, interval_s, scale_to_zero_retention_s)
        self._analyser = CapacityAnalyser(self.config)
        self._lengths = Lengths(isl_tokens, osl_tokens)
        batched = positive("llmd-v2: max_batched_tokens", max_batched_tokens)
        self._engines = [EngineLimits(batched, seats) for seats in self._common.seats]
        self.reset()

    def reset(self) -> None:
        """A controller restart."""
        self._common.reset()
        self._analyser.reset()
        self._lengths.reset()
        self._kv_sequences = list(self._common.seats)  # that fill a replica's KV memory
        self._live: list[float | None] = [None] * len(self._engines)

    def state(self) -> dict[str, Any]:
        """What is remembered, as plain values."""
        learnt = {"history": self._analyser.state(), "lengths": self._lengths.state()}
        return {**self._common.state(), **learnt, "kv": list(self._kv_sequences), "live": list(self._live)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self._common.restore(state)
        self._analyser.restore(state["history"])
        self._lengths.restore(state["lengths"])
        self._kv_sequences, self._live = list(state["kv"]), list(state["live"])

    def decide(self, seen: Observation) -> Decision:
        """One optimisation."""
        early = self._common.before(seen)
        if early is not None:
            return early
        self._lengths.see(seen)
        variants = self._variants(seen)
        required, spare = signals(variants, 0.0, self.config)
        target = cost_aware(required, spare, variants)
        why = f"{required:.4g} tokens required, {spare:.4g} spare"
        return Decision(tuple(target[name] for name in self._common.names), why)

    def _variants(self, seen: Observation) -> list[VariantCapacity]:
        common, isl, osl = self._common, self._lengths.isl, self._lengths.osl
        scraped, current = np.asarray(seen.ready_at_scrape).tolist(), np.asarray(seen.target).tolist()
        pending, memory = np.asarray(seen.pending).tolist(), np.asarray(seen.memory_occupancy).tolist()
        compute = np.asarray(seen.compute_occupancy).tolist()
        queue, variants = float(seen.waiting) / sum(scraped), []
        for pool, name in enumerate(common.names):
            demand = 0
            if scraped[pool] > 0:
                sequences = compute[pool] * common.seats[pool]
                if math.isfinite(sequences) and sequences > 0 and memory[pool] > 0:
                    self._kv_sequences[pool] = sequences / memory[pool]
                total = self._kv_sequences[pool] * (isl + osl / 2)
                metrics = ReplicaMetrics(memory[pool] * total, total, queue, isl, osl)
                found = self._analyser.replica(metrics, self._engines[pool], name)
                if found is not None:
                    self._live[pool], demand = float(found.capacity), found.demand * int(scraped[pool])
            variants.append(
                VariantCapacity(name, common.cost[pool], self._capacity(pool), int(current[pool]), int(pending[pool]),
                                demand)
            )  # fmt: skip
        return variants

    def _capacity(self, pool: int) -> float:
        live, isl, osl = self._live[pool], self._lengths.isl, self._lengths.osl
        total = self._kv_sequences[pool] * (isl + osl / 2)
        record = StoredCapacity(live, "live") if live is not None else StoredCapacity(0.0, "deployment", total)
        return self._analyser.stored(record, self._engines[pool], isl, osl)


_KV_KNOB = Knob(
    "kv_threshold",
    (0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15),
    0.5,
    "share of KV memory from which a replica is saturated",
)
_UP_KNOB = Knob(
    "scale_up_threshold",
    (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2),
    0.85,
    "demand over capacity above which replicas are added",
)

SCALERS = {
    "llmd-v1": ScalerKind(
        LlmdV1,
        _KV_KNOB,
        "llm-d's variant autoscaler V1: one replica more or less by spare KV memory and queue",
        native_s=INTERVAL_S,
        upstream=dict(UPSTREAM_DEFAULTS["llm-d-wva V1"]),
        roles=False,
    ),
    "llmd-v2": ScalerKind(
        LlmdV2,
        _UP_KNOB,
        "llm-d's variant autoscaler V2: replicas by capacity and demand in tokens, at the least cost",
        native_s=INTERVAL_S,
        upstream=UPSTREAM,
        roles=False,
    ),
}

SEARCH: dict[str, dict[str, tuple[Any, ...]]] = {
    "llmd-v1": {
        "kv_threshold": ("float", 0.1, 0.95),
        "queue_threshold": ("log", 0.5, 50.0),
        "kv_spare_trigger": ("float", 0.01, 0.3),
        "queue_spare_trigger": ("log", 0.2, 20.0),
        "interval_s": ("log", 15.0, 300.0),
    },
    "llmd-v2": {
        "scale_up_threshold": ("float", 0.2, 1.2),
        "kv_threshold": ("float", 0.2, 0.95),
        "queue_threshold": ("log", 0.5, 50.0),
        "interval_s": ("log", 15.0, 300.0),
    },
}
