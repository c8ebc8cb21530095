"""The llm-d workload variant autoscaler's queueing model: the largest rate of one replica within TTFT and ITL, and a
greedy choice of accelerators.

After pkg/analyzer, pkg/core and pkg/solver of llm-d/llm-d-workload-variant-autoscaler (Apache-2.0; the forks' copies at
92cb9bba and abe1f689 were read). Times in milliseconds, rates in requests per second; upstream computes in 32 bits.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rlscale.errors import ScenarioError

EPSILON = 0.001  # of the range of rates at both ends
STABILITY_SAFETY_FRACTION = 0.1  # below the largest rate, when throughput is a target
QUEUE_TO_BATCH = 10
ACCELERATOR_PENALTY = 0.1
TOLERANCE = 1e-6
STEPS = 100


@dataclass(frozen=True, slots=True)
class RequestSize:
    """Mean tokens of a request."""

    prompt: float
    answer: float


@dataclass(frozen=True, slots=True)
class ServiceParameters:
    """Time of an iteration with n sequences: alpha + n·(beta·(in+out)/(out+1) + gamma·(in+out/2)), ms."""

    alpha: float
    beta: float
    gamma: float

    def iteration_ms(self, size: RequestSize, batch: float) -> float:
        """One iteration of a batch."""
        compute = (size.prompt + size.answer) / (size.answer + 1)
        memory = size.prompt + size.answer / 2
        return self.alpha + batch * (self.beta * compute + self.gamma * memory)

    def prefill_ms(self, size: RequestSize, batch: float) -> float:
        """Prefill of one prompt beside a batch; 0 without a prompt."""
        return self.iteration_ms(size, batch) + (self.beta + self.gamma) * size.prompt if size.prompt > 0 else 0.0

    def decode_ms(self, size: RequestSize, batch: float) -> float:
        """One output token of a batch."""
        return self.iteration_ms(size, batch) + self.beta + self.gamma * (size.prompt + size.answer / 2)

    def service_ms(self, size: RequestSize, batch: float) -> float:
        """A whole request in a batch of constant size."""
        return self.prefill_ms(size, batch) + size.answer * self.decode_ms(size, batch)


@dataclass(frozen=True, slots=True)
class Targets:
    """Means to be met; 0 is no target."""

    ttft_ms: float = 0.0
    itl_ms: float = 0.0
    throughput_tokens_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Performance:
    """Steady state of one replica."""

    rate_per_s: float  # of requests that are accepted
    wait_ms: float
    sequences: float
    ttft_ms: float
    itl_ms: float
    utilisation: float  # sequences over the largest batch


class QueueModel:
    """M/M/1/K whose service rate depends on the state: n sequences are served at n / service(n) up to `max_batch`, at
    most `max_queue` wait."""

    def __init__(self, parameters: ServiceParameters, size: RequestSize, max_batch: int, max_queue: int) -> None:
        if max_batch <= 0 or max_queue < 0 or size.prompt < 0 or size.answer < 1:
            raise ScenarioError(f"llmd-queueing: {size}, max_batch {max_batch}, max_queue {max_queue} cannot be served")
        self.parameters, self.size, self.max_batch = parameters, size, max_batch
        batches = np.arange(1, max_batch + 1, dtype=np.float64)
        slope = parameters.service_ms(size, 1.0) - parameters.service_ms(size, 0.0)
        rates = 1000.0 * batches / (parameters.service_ms(size, 0.0) + slope * batches)
        self.min_per_s, self.max_per_s = float(rates[0]) * EPSILON, float(rates[-1]) * (1 - EPSILON)
        log_rates = np.concatenate([np.log(rates), np.full(max_queue, math.log(rates[-1]))])
        self._log_product = np.concatenate([[0.0], np.cumsum(log_rates)])
        self._n = np.arange(len(self._log_product), dtype=np.float64)

    def performance(self, rate_per_s: float) -> Performance:
        """Steady state under Poisson arrivals of this rate."""
        log_p = self._n * math.log(rate_per_s) - self._log_product
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        system = float(self._n @ p)
        busy = float(np.minimum(self._n, self.max_batch) @ p)
        accepted = rate_per_s * (1.0 - float(p[-1]))
        service_ms = 1000.0 * busy / accepted
        wait_ms = max(0.0, 1000.0 * system / accepted - service_ms)
        prefill_ms = self.parameters.prefill_ms(self.size, busy)
        itl_ms = (service_ms - prefill_ms) / self.size.answer
        ttft_ms = wait_ms + prefill_ms + itl_ms
        return Performance(accepted, wait_ms, busy, ttft_ms, itl_ms, min(1.0, busy / self.max_batch))

    def best_rate(self, targets: Targets) -> float | None:
        """Largest rate that meets the targets, what is accepted of it; None when even the smallest misses one."""
        largest = self.max_per_s * (1 - STABILITY_SAFETY_FRACTION if targets.throughput_tokens_per_s > 0 else 1.0)
        bounds = self.min_per_s, self.max_per_s
        for target, value in (
            (targets.ttft_ms, lambda rate: self.performance(rate).ttft_ms),
            (targets.itl_ms, lambda rate: self.performance(rate).itl_ms),
        ):
            if target > 0:
                found = bisection(bounds, target, value)
                if found is None:
                    return None
                largest = min(largest, found)
        return self.performance(largest).rate_per_s


def bisection(bounds: tuple[float, float], target: float, value: Callable[[float], float]) -> float | None:
    """Where a monotonous function takes the target; the upper bound beyond its range, None below it."""
    low, high = bounds
    at_low, at_high = value(low), value(high)
    for x, y in ((low, at_low), (high, at_high)):
        if math.isclose(y, target, rel_tol=TOLERANCE):
            return x
    rising = at_low < at_high
    if (target < at_low) if rising else (target > at_low):
        return None
    if (target > at_high) if rising else (target < at_high):
        return high
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        y = value(middle)
        if math.isclose(y, target, rel_tol=TOLERANCE) or middle in (low, high):
            break
        if (target < y) == rising:
            high = middle
        else:
            low = middle
    return middle


@dataclass(frozen=True, slots=True)
class Allocation:
    """So many replicas of a service on one accelerator; `value` is what the solver minimises."""

    accelerator: str
    replicas: int
    cost: float
    value: float
    units: int = 1  # accelerators per replica

    def penalty_to(self, other: Allocation) -> float:
        """Value of going over to `other`: the change of cost, and a tenth of both costs for another accelerator."""
        change = other.cost - self.cost
        if self.accelerator == other.accelerator:
            return 0.0 if self.replicas == other.replicas else change
        return ACCELERATOR_PENALTY * (self.cost + other.cost) + change

    def scaled(self, replicas: int) -> Allocation:
        """The same with another count, cost and value in proportion."""
        part = replicas / self.replicas
        return Allocation(self.accelerator, replicas, self.cost * part, self.value * part, self.units)


def sized(rate_per_s: float, best_per_s: float, min_replicas: int = 0) -> int:
    """Replicas for a rate: ceil(rate / best rate of one), at least the minimum."""
    return max(math.ceil(rate_per_s / best_per_s), min_replicas) if rate_per_s > 0 else min_replicas


@dataclass(slots=True)
class Server:
    """A service in the solver: its candidates in order of value. A lower `priority` number goes first."""

    name: str
    priority: int
    candidates: list[Allocation]
    index: int = 0
    regret: float = field(default=0.0)  # what the next candidate would cost beyond this one

    def __post_init__(self) -> None:
        self.candidates = sorted(self.candidates, key=lambda allocation: allocation.value)
        self.weigh()

    def weigh(self) -> None:
        """The regret of the present candidate; the last one is not to be given up."""
        last = self.index + 1 >= len(self.candidates)
        here = self.candidates[self.index].value
        self.regret = math.inf if last else self.candidates[self.index + 1].value - here

    @property
    def rank(self) -> tuple[float, float, float]:
        """Order of serving: priority, then regret, then value, both largest first."""
        return self.priority, -self.regret, -self.candidates[self.index].value


POLICIES = ("None", "PriorityExhaustive", "PriorityRoundRobin", "RoundRobin")


def solve_greedy(
    servers: Sequence[Server], available: Mapping[str, int], saturation_policy: str = "None", delayed: bool = False
) -> dict[str, Allocation]:
    """Allocations by priority and marginal cost within the accelerators available. What cannot be satisfied gets what
    is left by the saturation policy, after each priority, or with `delayed` after all of them."""
    if saturation_policy not in POLICIES:
        raise ScenarioError(f"llmd-queueing: saturation_policy = {saturation_policy!r}; expected one of {POLICIES}")
    left, chosen = dict(available), dict[str, Allocation]()
    waiting = sorted((server for server in servers if server.candidates), key=lambda server: server.rank)
    for group in [waiting] if delayed else _by_priority(waiting):
        short = _allocate(group, left, chosen)
        if saturation_policy == "PriorityExhaustive":
            _exhaust(short, left, chosen)
        elif saturation_policy == "RoundRobin":
            _take_turns(short, left, chosen)
        elif saturation_policy == "PriorityRoundRobin":
            for members in _by_priority(short):
                _take_turns(members, left, chosen)
    return chosen


def _by_priority(servers: list[Server]) -> list[list[Server]]:
    return [[s for s in servers if s.priority == priority] for priority in sorted({s.priority for s in servers})]


def _allocate(servers: list[Server], left: dict[str, int], chosen: dict[str, Allocation]) -> list[Server]:
    """Serve in order of rank; who does not get its candidate goes back with the next one. Returns who got nothing."""
    queue, short = list(servers), []
    while queue:
        server = queue.pop(0)
        wanted = server.candidates[server.index]
        need = wanted.replicas * wanted.units
        if left.get(wanted.accelerator, 0) >= need:
            left[wanted.accelerator] = left.get(wanted.accelerator, 0) - need
            chosen[server.name] = wanted
            continue
        server.index += 1
        if server.index == len(server.candidates):
            server.index -= 1
            short.append(server)
        else:
            server.weigh()
            queue.insert(bisect.bisect_left([other.rank for other in queue], server.rank), server)
    return short


def _exhaust(servers: list[Server], left: dict[str, int], chosen: dict[str, Allocation]) -> None:
    for server in servers:
        for wanted in server.candidates:
            replicas = min(left.get(wanted.accelerator, 0) // wanted.units, wanted.replicas)
            if replicas > 0:
                left[wanted.accelerator] -= replicas * wanted.units
                chosen[server.name] = wanted.scaled(replicas)
                break


def _take_turns(servers: list[Server], left: dict[str, int], chosen: dict[str, Allocation]) -> None:
    """One replica each in turn, of the first candidate with room."""
    wanted: dict[str, Allocation] = {}
    for server in servers:
        room = [each for each in server.candidates if left.get(each.accelerator, 0) >= each.units and each.replicas > 0]
        if room:
            wanted[server.name] = room[0]
    counts, active = dict.fromkeys(wanted, 0), dict(wanted)
    while active:
        for name, each in list(active.items()):
            if counts[name] < each.replicas and left[each.accelerator] >= each.units:
                left[each.accelerator] -= each.units
                counts[name] += 1
            else:
                del active[name]
    chosen.update({name: each.scaled(counts[name]) for name, each in wanted.items() if counts[name] > 0})
