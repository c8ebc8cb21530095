"""NVIDIA Dynamo's easy load mode on pools of aggregated engines: one engine more or less by static thresholds.

The rule is `EasyMode` in agents/dynamo_planner.py; this feeds it from observations.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agents.dynamo import Lengths, floors
from agents.dynamo_planner import EASY, ISL_TOKENS, LOAD_INTERVAL_S, OSL_TOKENS, EasyMode
from rlscale.decide import Cadence, blind, called_from_zero, hold, positive
from rlscale.execute import by_price
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits


class DynamoLoad:
    """Aggregated engines: (scheduled + queued KV + queued prompt tokens) / KV capacity of every engine of a pool.

    The scheduled part is the pool's KV share. The service's queue is spread evenly over ready replicas, so that all
    engines of a pool say the same; a queued request takes the prompt's part of what a running one holds, and before
    any has run, of a replica's KV over its sequences at l_SLO. `scale_up` and `scale_down` are upstream's of
    `optimization_target` unless given; with `scale_up` alone the other keeps its proportion.
    """

    def __init__(
        self,
        limits: ScalingLimits,
        scale_up: float | None = 0.4,
        scale_down: float | None = None,
        optimization_target: str = "latency",
        load_interval_s: float = LOAD_INTERVAL_S,
        isl_tokens: float = ISL_TOKENS,
        osl_tokens: float = OSL_TOKENS,
        min_endpoint: int = 1,
    ) -> None:
        EasyMode("agg", optimization_target)
        up, down, _, _ = EASY["decode", optimization_target]
        up_to = up if scale_up is None else positive("dynamo-load: scale_up", scale_up)
        down_to = down * up_to / up if scale_down is None else scale_down
        self.limits = limits
        self._floor = floors(limits, min_endpoint)
        self._rules = [EasyMode("agg", optimization_target, up_to, down_to, max(1, low)) for low in self._floor]
        self._lengths = Lengths(isl_tokens, osl_tokens)
        self._beat = Cadence(positive("dynamo-load: load_interval_s", load_interval_s))
        self.reset()

    def reset(self) -> None:
        """A planner restart."""
        self._beat.reset()
        self._lengths.reset()
        self._each = [1.0 / float(seats) if seats > 0 else 1.0 for seats in self.limits.seats]

    def state(self) -> dict[str, Any]:
        """The lengths last seen, and the KV share of one sequence per pool."""
        return {"lengths": self._lengths.state(), "each": list(self._each)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self._lengths.restore(state["lengths"])
        self._each = list(state["each"])

    def decide(self, seen: Observation) -> Decision:
        """One load tick."""
        if not self._beat.due(float(seen.t_s)):
            return hold(seen, "between ticks")
        target = [int(count) for count in np.asarray(seen.target).tolist()]
        scraped = np.asarray(seen.ready_at_scrape).tolist()
        memory, compute = np.asarray(seen.memory_occupancy).tolist(), np.asarray(seen.compute_occupancy).tolist()
        serving = [pool for pool, count in enumerate(scraped) if count > 0]
        kv = {f"memory_occupancy {pool}": memory[pool] for pool in serving}
        why = blind(seen, waiting=seen.waiting, **kv)
        if why:
            return hold(seen, why)
        self._lengths.see(seen)
        if called_from_zero(seen):
            for pool in by_price(self.limits)[:1]:
                target[pool] = 1
            return Decision(tuple(target), "requests and no engine")
        queued = float(seen.waiting) / sum(scraped) if serving else 0.0
        prompt_part = self._lengths.isl / (self._lengths.isl + self._lengths.osl / 2)
        ready, said = np.asarray(seen.ready).tolist(), []
        for pool in serving:
            sequences = compute[pool] * float(self.limits.seats[pool])
            if math.isfinite(sequences) and sequences > 0 and memory[pool] > 0:
                self._each[pool] = memory[pool] / sequences
            ratio = memory[pool] + queued * prompt_part * self._each[pool]
            said.append(f"{ratio:.2f}")
            if target[pool] == ready[pool] == scraped[pool]:
                step = self._rules[pool].step([ratio], target[pool])
                target[pool] = target[pool] if step is None else step
        return Decision(tuple(target), f"KV taken and queued {', '.join(said) or 'nowhere'}")


_KNOB = Knob(
    "scale_up",
    (0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1),
    0.4,
    "share of KV memory, taken and queued, above which an engine is added",
)

SCALERS = {
    "dynamo-load": ScalerKind(
        DynamoLoad,
        _KNOB,
        "NVIDIA Dynamo's easy load mode: one engine more or less by the KV memory taken and queued",
        native_s=LOAD_INTERVAL_S,
        upstream=dict(
            zip(("scale_up", "scale_down"), EASY["decode", "latency"][:2], strict=True),
            optimization_target="latency",
            load_interval_s=LOAD_INTERVAL_S,
        ),
        roles=False,
    )
}

SEARCH: dict[str, dict[str, tuple[Any, ...]]] = {
    "dynamo-load": {
        "scale_up": ("log", 0.05, 1.2),
        "optimization_target": ("choice", "latency", "throughput"),
        "load_interval_s": ("log", 5.0, 300.0),
    }
}
