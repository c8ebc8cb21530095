"""What was possible: the cheapest fleet of someone who knows load and luck, as a bound and as a plan to execute.

Bound: the least cost of `rlscale.optimal` with start-ups at their medians and, per interval, the losses that a constant
fleet has at that interval's rate, made convex; a Lagrange multiplier turns the target attainment into a price per
missed request, and the best multiplier gives the bound. Convex and priced losses only make it lower. It is a bound of
that discretised problem, not of the simulator: what a queue carries over to the next interval is not in it.

Plan: the same fleet as targets, ordered as early as the luck of every start-up demands; run it to see how far the bound
is from what can be done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlscale.beginning import initial_replicas
from rlscale.errors import ScenarioError
from rlscale.optimal import Plan, Spells, best_plan, convex
from rlscale.scenario import Scenario
from rlscale.sim import luck, steady
from rlscale.sim.nodes import STAGE
from rlscale.sim.world import SimWorld
from rlscale.types import ClusterSpec, Decision, Floats, Ints, Load, Observation, Pool

RATES = 97  # per-replica rates at which the loss of a constant fleet is measured
STEPS = 40  # of the search for the multiplier


@dataclass(frozen=True, slots=True)
class Bound:
    """The least cost, USD, at an attainment; the plan behind it, and the attainment it expects."""

    cost_usd: float
    attainment: float
    plan: Plan
    expected: float


@dataclass(frozen=True)
class Future:
    """A load with its luck as a planning problem: one pool, whole nodes."""

    scenario: Scenario
    seed: int
    arrived: Floats  # (T,) requests
    loss: Floats  # (T, nodes + 1) missed requests, convex in the nodes
    spells: Spells
    begun: int  # nodes at t = 0
    least: int
    price_usd: float  # of a node and interval

    @property
    def pool(self) -> Pool:
        """The only one."""
        return self.scenario.cluster.pools[0]

    def bound(self, attainment: float) -> Bound:
        """The least cost at which the share `attainment` of the requests can be within the SLO; infinite where not even
        every node from the start could."""
        allowed = (1.0 - attainment) * float(self.arrived.sum())
        low, high = 1e-9 * self.price_usd, 1e3 * self.price_usd
        best, kept = -math.inf, self.plan(high)
        if kept.loss > allowed:
            return Bound(math.inf, attainment, kept, 1.0 - kept.loss / max(1.0, float(self.arrived.sum())))
        for _ in range(STEPS):
            middle = math.sqrt(low * high)
            plan = self.plan(middle)
            best = max(best, plan.value - middle * allowed)
            if plan.loss > allowed:
                low = middle
            else:
                high, kept = middle, plan
            if high < 1.002 * low:
                break
        return Bound(best, attainment, kept, 1.0 - kept.loss / max(1.0, float(self.arrived.sum())))

    def plan(self, usd_per_miss: float) -> Plan:
        """The best plan when a missed request costs so much; `loss` in requests, `value` in USD."""
        found = best_plan(usd_per_miss * self.loss, self.price_usd, self.spells, self.begun, self.least)
        return Plan(found.ready, found.billed, found.loss / usd_per_miss, found.value)


def future(scenario: Scenario, load: Load, seed: int) -> Future:
    """What will come, for a cluster of one pool; refused for several, and where nodes can vanish."""
    spec, known = scenario.cluster, scenario.limits
    if len(spec.pools) > 1:
        raise ScenarioError(f"{scenario.name} has {len(spec.pools)} pools; the exact plan is for one, see lp_bound")
    pool = spec.pools[0]
    arrived = _arrivals(spec, load, seed)
    nodes = -(-pool.max_replicas // pool.slots_per_node)
    replicas = np.minimum(np.arange(nodes + 1) * pool.slots_per_node, pool.max_replicas)
    loss = convex(_losses(spec, load, arrived, replicas))
    begun = -(-int(initial_replicas(load, known)[0]) // pool.slots_per_node)
    least = -(-pool.min_replicas // pool.slots_per_node)
    return Future(scenario, seed, arrived, loss, _spells(spec, pool), begun, least,
                  pool.node.usd_per_s(pool.spot) * spec.interval_s)  # fmt: skip


def _arrivals(spec: ClusterSpec, load: Load, seed: int) -> Floats:
    """(T,) requests of every interval under this luck; no scaler can change them."""
    full = np.array([pool.max_replicas for pool in spec.pools])
    world = SimWorld(steady.undisturbed(spec), [load], [seed], full)
    world.apply(full[None])
    intervals = max(1, int(load.duration_s / spec.interval_s + 1e-9))
    seen = np.zeros(intervals + 1)
    for i in range(intervals):
        world.wait()
        seen[i + 1] = world.cluster["arrived"][0]
    return np.diff(seen)


def _losses(spec: ClusterSpec, load: Load, arrived: Floats, replicas: Ints) -> Floats:
    """(T, K) requests that a constant fleet misses at each interval's rate."""
    each = steady.capacity(spec, 0, load.tokens, load.burstiness).per_s
    rates = each * np.concatenate([np.linspace(0.0, 1.4, RATES - 1), [4.0]])
    missed = np.zeros(RATES)
    missed[1:] = 1.0 - steady.steady_state(steady.undisturbed(spec), 0, load.tokens, rates[1:],
                                           burstiness=load.burstiness).attainment  # fmt: skip
    missed = np.maximum.accumulate(np.clip(missed, 0.0, 1.0))
    loss = np.repeat(arrived[:, None], len(replicas), axis=1)
    per_replica = arrived[:, None] / spec.interval_s / replicas[1:]
    loss[:, 1:] *= np.interp(per_replica, rates, missed, right=1.0)
    return loss


def _spells(spec: ClusterSpec, pool: Pool) -> Spells:
    """Medians, in whole intervals."""
    load_s = sum(stage.median_s for stage in pool.profile.cold)
    return Spells(*(round(s / spec.interval_s) for s in (pool.node.provisioning.median_s, load_s, spec.node_idle_s)))


class Foreseen:
    """A plan as a scaler: targets by interval, nodes ordered so early that their luck has them ready in time."""

    def __init__(self, known: Future, plan: Plan) -> None:
        self.future = known
        self.targets = _targets(known, plan)

    def reset(self) -> None:
        """Nothing is remembered."""

    def decide(self, seen: Observation) -> Decision:
        """The target of the interval that begins."""
        at = min(round(float(seen.t_s) / seen.interval_s), len(self.targets) - 1)
        return Decision((int(self.targets[at]),), "foreseen")


def _targets(known: Future, plan: Plan) -> Ints:
    """(T,) replicas ready or on their way."""
    pool, spec = known.pool, known.scenario.cluster
    ready = plan.ready
    targets = ready.copy()
    orders = np.zeros(len(ready), np.int64)
    for level in range(1, int(ready.max(initial=0)) + 1):
        serving = ready >= level
        starts = np.flatnonzero(serving[1:] & ~serving[:-1]) + 1
        for start in starts:
            before = np.flatnonzero(serving[:start])
            first = max(1, int(before[-1]) + 2) if len(before) else 1
            at = _order_for(int(start), first, orders, pool, spec, known.seed)
            orders[at] += pool.slots_per_node
            targets[at:start] += 1
    return np.minimum(targets * pool.slots_per_node, pool.max_replicas)


def _order_for(start: int, first: int, orders: Ints, pool: Pool, spec: ClusterSpec, seed: int) -> int:
    """The last interval in which a node can be ordered to serve at `start`; the first one when none is early enough."""
    for at in range(start - 1, first, -1):
        late = max(_lead_s(at, int(orders[at]) + slot, pool, spec, seed) for slot in range(pool.slots_per_node))
        if at * spec.interval_s + spec.control_delay_s + late <= start * spec.interval_s:
            return at
    return min(first, start - 1)


def _lead_s(interval: int, k: int, pool: Pool, spec: ClusterSpec, seed: int) -> float:
    """Order to ready of the k-th order of an interval on a new node, as `sim.nodes` draws it."""
    z: Any = luck.normal_quantile(luck.uniform(np.uint64(seed), luck.NODE_START, 0, k, interval))
    law = pool.node.provisioning
    node_s = float(luck.delay(law.median_s, law.sigma, z))
    load_s = 0.0
    for stage, start in enumerate(pool.profile.cold):
        z = luck.normal_quantile(luck.uniform(np.uint64(seed), luck.REPLICA_START, 0, k + stage * STAGE, interval))
        load_s += float(luck.delay(start.median_s, start.sigma, z))
    h = spec.substep_s
    return math.ceil(node_s / h) * h + math.ceil(load_s / h) * h
