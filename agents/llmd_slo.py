"""The llm-d workload variant autoscaler's queueing model on the pools of a service: replicas that meet TTFT and ITL.

The model and the solver are in agents/llmd_queueing.py; this feeds them from observations.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agents.dynamo import Lengths
from agents.llmd import INTERVAL_S, ISL_TOKENS, OSL_TOKENS, RETENTION_S, Variants
from agents.llmd_queueing import (
    POLICIES,
    QUEUE_TO_BATCH,
    STABILITY_SAFETY_FRACTION,
    Allocation,
    QueueModel,
    RequestSize,
    Server,
    ServiceParameters,
    Targets,
    sized,
    solve_greedy,
)
from rlscale.decide import hold
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

SERVICE = "service"
DIGITS = 2  # of the lengths that a rate is kept for


def calibrated(
    seats: float, capacity_per_s: float, size: RequestSize, base_share: float, memory_share: float
) -> ServiceParameters:
    """Parameters with which a batch of `seats` completes `capacity_per_s` requests of this size. `base_share` of such
    an iteration does not depend on the batch, of the rest `memory_share` goes with its tokens in memory."""
    shape = ServiceParameters(
        base_share,
        (1 - base_share) * (1 - memory_share) / seats * (size.answer + 1) / (size.prompt + size.answer),
        (1 - base_share) * memory_share / seats / (size.prompt + size.answer / 2),
    )
    iteration_ms = 1000.0 * seats / capacity_per_s / shape.service_ms(size, seats)
    return ServiceParameters(*(iteration_ms * part for part in (shape.alpha, shape.beta, shape.gamma)))


class LlmdQueueing:
    """One accelerator type, a pool, for the service at a time; the others keep their minima. Demand: the arrival rate.

    What stands for what. alpha, beta and gamma, which upstream benchmarks or fits, are those with which a full batch,
    the sequences at l_SLO, completes l_SLO at the lengths first seen; how an iteration's time divides is given by
    `base_share` and `memory_share`. The targets are the SLO's, as targets of means. A replica is sized for
    `stability_safety_fraction` less than the rate that meets them (upstream: less than the largest one, and only for
    a throughput target). A pool's maximum is the number of accelerators there are, `saturation_policy` says what
    happens beyond all of them (upstream's default does nothing).
    """

    def __init__(
        self,
        limits: ScalingLimits,
        stability_safety_fraction: float = STABILITY_SAFETY_FRACTION,
        base_share: float = 0.5,
        memory_share: float = 0.5,
        saturation_policy: str = "PriorityExhaustive",
        isl_tokens: float = ISL_TOKENS,
        osl_tokens: float = OSL_TOKENS,
        interval_s: float = INTERVAL_S,
        scale_to_zero_retention_s: float = RETENTION_S,
    ) -> None:
        for name, share in (
            ("stability_safety_fraction", stability_safety_fraction),
            ("base_share", base_share),
            ("memory_share", memory_share),
        ):
            if not 0 <= share <= 1 or (share == 1 and name != "memory_share"):
                raise ScenarioError(f"llmd-queueing: {name} = {share}; expected a share from 0 to below 1")
        if saturation_policy not in POLICIES:
            raise ScenarioError(f"llmd-queueing: saturation_policy = {saturation_policy!r}; expected one of {POLICIES}")
        self.safety, self.policy = stability_safety_fraction, saturation_policy
        self.shares = base_share, memory_share
        self.limits = limits
        self._capacity = [float(rate) for rate in limits.capacity_per_s]
        self._least = [int(count) for count in limits.min_replicas]
        self._common = Variants(limits, interval_s, scale_to_zero_retention_s)
        self._lengths = Lengths(isl_tokens, osl_tokens)
        self.reset()

    def reset(self) -> None:
        """A controller restart."""
        self._common.reset()
        self._lengths.reset()
        self._profiled: list[float] | None = None  # lengths that l_SLO is taken to hold at
        self._rates: dict[tuple[float, float], list[float]] = {}

    def state(self) -> dict[str, Any]:
        """What is remembered, as plain values."""
        lengths = {"lengths": self._lengths.state(), "profiled": self._profiled}
        return {**self._common.state(), **lengths}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self._common.restore(state)
        self._lengths.restore(state["lengths"])
        self._profiled = state["profiled"]
        self._rates = {}

    def decide(self, seen: Observation) -> Decision:
        """One optimisation."""
        early = self._common.before(seen)
        if early is not None:
            return early
        self._lengths.see(seen)
        if self._profiled is None and math.isfinite(float(seen.prompt_tokens)):
            self._profiled = self._lengths.state()
            self._rates = {}
        rates, demand = self.best_rates(), float(seen.arrival_per_s)
        current = [int(count) for count in np.asarray(seen.target).tolist()]
        if not any(rates):
            return hold(seen, "no pool meets the targets at any rate")
        if demand == 0:
            return Decision(tuple(self._least), "no request")
        chosen = self._solve(demand, rates, current)
        if chosen is None:
            return hold(seen, f"{demand:.4g}/s exceed every pool")
        pool = self._common.names.index(chosen.accelerator)
        target = [max(low, chosen.replicas if k == pool else 0) for k, low in enumerate(self._least)]
        return Decision(
            tuple(target), f"{demand:.4g}/s, {rates[pool]:.4g}/s per replica of pool {pool} meet the targets"
        )

    def best_rates(self) -> list[float]:
        """Requests per second that one replica of each pool is sized for at the present lengths, 0 where none does."""
        isl, osl = (float(f"{value:.{DIGITS}g}") for value in self._lengths.state())
        if (isl, osl) not in self._rates:
            self._rates = {
                (isl, osl): [self._best(pool, RequestSize(isl, max(1.0, osl))) for pool in range(len(self._least))]
            }
        return self._rates[isl, osl]

    def _best(self, pool: int, size: RequestSize) -> float:
        seats, capacity, slo = self._common.seats[pool], self._capacity[pool], self.limits.slo
        if seats <= 0 or capacity <= 0:
            return 0.0
        isl, osl = (float(f"{value:.{DIGITS}g}") for value in self._profiled or self._lengths.state())
        parameters = calibrated(seats, capacity, RequestSize(isl, max(1.0, osl)), *self.shares)
        batch = max(1, round(seats))
        model = QueueModel(parameters, size, batch, QUEUE_TO_BATCH * batch)
        ttft_ms = 1000 * (slo.ttft_s + size.prompt / slo.ttft_tokens_per_s)
        found = model.best_rate(Targets(ttft_ms, 1000 * slo.tpot_s if math.isfinite(slo.tpot_s) else 0.0))
        return (found or 0.0) * (1 - self.safety)

    def _solve(self, demand: float, rates: list[float], current: list[int]) -> Allocation | None:
        names, cost = self._common.names, self._common.cost
        carried = [count * rate for count, rate in zip(current, rates, strict=True)]
        held = max(range(len(carried)), key=lambda pool: carried[pool])
        now = Allocation(names[held], current[held], current[held] * cost[held], 0.0)
        candidates = []
        for pool, rate in enumerate(rates):
            if rate > 0:
                replicas = sized(demand, rate, max(1, self._least[pool]))
                plain = Allocation(names[pool], replicas, replicas * cost[pool], 0.0)
                candidates.append(Allocation(plain.accelerator, replicas, plain.cost, now.penalty_to(plain)))
        available = dict(zip(names, self._common.most, strict=True))
        return solve_greedy([Server(SERVICE, 1, candidates)], available, self.policy).get(SERVICE)


_KNOB = Knob(
    "stability_safety_fraction",
    (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    0.1,
    "part of the largest rate within the targets that is kept free",
)

SCALERS = {
    "llmd-queueing": ScalerKind(
        LlmdQueueing,
        _KNOB,
        "llm-d's variant autoscaler with a queueing model: replicas that meet TTFT and ITL",
        native_s=INTERVAL_S,
        upstream={"stability_safety_fraction": STABILITY_SAFETY_FRACTION, "interval_s": INTERVAL_S},
        roles=False,
    )
}

SEARCH: dict[str, dict[str, tuple[Any, ...]]] = {
    "llmd-queueing": {
        "stability_safety_fraction": ("float", 0.0, 0.9),
        "base_share": ("float", 0.05, 0.95),
        "memory_share": ("float", 0.0, 1.0),
        "interval_s": ("log", 15.0, 300.0),
    }
}
