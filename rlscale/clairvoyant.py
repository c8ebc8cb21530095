"""What was possible: the cheapest fleet of someone who knows load and luck, as a bound and as a plan to execute.

Bound: the least cost of `rlscale.optimal` with start-ups at their medians and the losses that constant fleets have of
the very requests that come (`rlscale.constant_fleets`), made convex; a Lagrange multiplier turns the target attainment
into a price per missed request, and the best multiplier gives the bound. Several pools become one in which every node
comes at its own price, the cheapest capacity first, at the shortest start-up of any pool; spot nodes stay, nothing
fails, nothing runs short. All of that only makes it lower. It is a bound of that discretised problem, not of the
simulator: what a change of fleet does to the requests in it is not in it.

Plan: the same fleet as targets, ordered as early as the luck of every start-up demands; run it to see how far the bound
is from what can be done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlscale import constant_fleets
from rlscale.beginning import initial_replicas
from rlscale.errors import ScenarioError
from rlscale.optimal import Plan, Spells, best_plan, convex
from rlscale.scenario import Scenario
from rlscale.sim import luck, steady
from rlscale.sim.nodes import STAGE
from rlscale.types import ClusterSpec, Decision, Floats, Ints, Load, Observation, Pool, ScalingLimits

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
    """A load with its luck as a planning problem over whole nodes, the cheapest capacity first."""

    scenario: Scenario
    seed: int
    arrived: Floats  # (T,) requests
    loss: Floats  # (T, nodes + 1) missed requests, convex in the nodes
    spells: Spells
    begun: int  # nodes at t = 0
    least: int
    prices_usd: Floats  # (nodes,) of the k-th node for one interval

    @property
    def price_usd(self) -> float:
        """Of the cheapest node for one interval."""
        return float(self.prices_usd.min())

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
        found = best_plan(usd_per_miss * self.loss, self.prices_usd, self.spells, self.begun, self.least)
        return replace(found, loss=found.loss / usd_per_miss)


def future(scenario: Scenario, load: Load, seed: int) -> Future:
    """What will come to a cluster."""
    if scenario.cluster.has_roles:
        raise ScenarioError(
            f"'{scenario.name}' has prefill and decode pools: what was possible is planned for nodes that replace each "
            "other"
        )
    spec, known = scenario.cluster, scenario.limits
    nodes = _by_merit(spec, known)
    size = np.array([0.0, *(capacity for capacity, _ in nodes)]).cumsum()  # in replicas of the cheapest pool
    cheapest = steady.cheapest(known)
    # Convex in capacity, so on equal steps: whole nodes of one pool, single replicas where nodes differ.
    replicas = size.astype(np.int64) if len(spec.pools) == 1 else np.arange(math.ceil(size[-1]) + 1)
    came = constant_fleets.requests(spec, load, seed)
    alone = replace(spec.pools[cheapest], min_replicas=0, max_replicas=int(replicas[-1]), standby_replicas=0, family="")
    lost = constant_fleets.losses(replace(spec, pools=(alone,)), load, came, replicas,
                                  float(known.capacity_per_s[cheapest]))  # fmt: skip
    begun = sum(-(-int(ready) // pool.slots_per_node)
                for ready, pool in zip(initial_replicas(load, known), spec.pools, strict=True))  # fmt: skip
    least = sum(-(-pool.min_replicas // pool.slots_per_node) for pool in spec.pools)
    prices = np.array([price for _, price in nodes]) * spec.interval_s
    return Future(scenario, seed, constant_fleets.by_interval(came, spec), _between(convex(lost), replicas, size),
                  _spells(spec), begun, least, prices)  # fmt: skip


def _by_merit(spec: ClusterSpec, known: ScalingLimits) -> list[tuple[float, float]]:
    """Capacity of every node, in replicas of the cheapest pool, and USD per second; cheapest capacity first."""
    each = known.capacity_per_s / known.capacity_per_s[steady.cheapest(known)]
    nodes = []
    for pool, capacity in zip(spec.pools, each, strict=True):
        left = pool.max_replicas
        while left > 0:
            held = min(left, pool.slots_per_node)
            nodes.append((held * float(capacity), pool.node.usd_per_s(pool.spot)))
            left -= held
    return sorted(nodes, key=lambda node: node[1] / node[0])


def _between(lost: Floats, replicas: Ints, size: Floats) -> Floats:
    """(T, nodes + 1) losses at sizes that are no whole number of replicas."""
    above = np.searchsorted(replicas, size)
    below = np.maximum(above - 1, 0)
    share = (replicas[above] - size) / np.maximum(1, replicas[above] - replicas[below])
    return np.asarray(lost[:, above] * (1.0 - share) + lost[:, below] * share, dtype=np.float64)


def _spells(spec: ClusterSpec) -> Spells:
    """The shortest medians of any pool, in whole intervals; from standby or from another pool where that is a way."""
    node_s = [0.0 if pool.family else pool.node.provisioning.median_s for pool in spec.pools]
    load_s = [sum(stage.median_s for stage in pool.profile.cold) for pool in spec.pools]
    for i, pool in enumerate(spec.pools):
        wake = {"stopped": pool.node.wake_stopped, "sleeping": pool.node.wake_sleeping}.get(pool.standby)
        if wake is not None and pool.max_standby > 0:
            node_s[i], load_s[i] = 0.0, min(load_s[i], wake.median_s)
    return Spells(*(round(s / spec.interval_s) for s in (min(node_s), min(load_s), spec.node_idle_s)))


class Foreseen:
    """A plan as a scaler: targets by interval, nodes ordered so early that their luck has them ready in time."""

    def __init__(self, known: Future, plan: Plan) -> None:
        if len(known.scenario.cluster.pools) > 1:
            raise ScenarioError(f"{known.scenario.name} has {len(known.scenario.cluster.pools)} pools; a plan that can "
                                "be executed is there for one, for several only a bound")  # fmt: skip
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
    pool, spec = known.scenario.cluster.pools[0], known.scenario.cluster
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
