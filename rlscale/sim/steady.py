"""What one replica carries: l_SLO, by simulating constant fleets under Poisson load with the fluid engine itself.

l_SLO is the largest arrival rate per replica at which the share of requests that meet the SLO reaches the target
attainment. At the rate whose *mean* TPOT meets the limit only about half of the requests do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from rlscale.errors import ScenarioError
from rlscale.parts import Actuator, Admission, Energy, Failures
from rlscale.sim.compile import WORK_PASS_SHARE
from rlscale.sim.histogram import quantile
from rlscale.sim.laws import demand, demand_of
from rlscale.sim.world import SimWorld
from rlscale.types import ClusterSpec, Floats, Ints, Load, Pool, ScalingLimits, TokenLaw

ABUNDANT = 0.2  # of what its seats carry: the load of the other side while prefill or decode replicas are measured
REPLICAS = 8  # fleet on which the capacity is measured: mean fleets of the scenarios are 8 to 16
WARM_UP_S, MEASURED_S = 600.0, 5400.0
STILL_S = 60.0  # control interval meanwhile
RATES = 48  # per refinement: two of them place l_SLO within 0.1 % of saturation
IDLE_SHARE = 0.02  # of saturation: the load at which a service counts as unloaded


@dataclass(frozen=True, slots=True)
class Capacity:
    """l_SLO of one pool and the state at it."""

    per_s: float  # requests per second and replica
    seats: float  # sequences per replica at that rate


@dataclass(frozen=True, slots=True)
class SteadyState:
    """Constant fleets at a row of rates."""

    attainment: Floats
    sequences: Floats  # per replica
    ttft_p99_s: Floats
    tpot_p99_s: Floats


def steady_state(
    spec: ClusterSpec, pool: int, tokens: tuple[TokenLaw, ...], rates_per_s: Floats, replicas: int = REPLICAS,
    burstiness: float = 1.0, seed: int = 0,
) -> SteadyState:  # fmt: skip
    """Simulate `replicas` replicas of one pool at each arrival rate per replica; the token laws take turns.

    Prefill and decode replicas are measured beside more of the other kind than they need.
    """
    alone = replace(spec.pools[pool], min_replicas=1, max_replicas=replicas, standby_replicas=0)
    others, fleet = _other_side(spec, pool, tokens, replicas * float(np.max(rates_per_s)))
    # An interval is a token block, so that every law gets an equal share of the time.
    still = replace(undisturbed(spec), pools=(alone, *others), interval_s=STILL_S, metric_missing_share=0.0)
    cells = round((WARM_UP_S + MEASURED_S) / spec.substep_s)
    blocks = np.arange(max(1, round((WARM_UP_S + MEASURED_S) / 300.0))) % len(tokens)
    loads = [
        Load("steady", spec.substep_s, np.full(cells, rate * replicas, np.float32), "poisson", tokens, blocks, 300.0,
             burstiness)
        for rate in rates_per_s
    ]  # fmt: skip
    rows = range(len(loads))
    world = SimWorld(still, loads, [seed] * len(loads), np.array([replicas, *fleet]), rows)
    for _ in range(round(WARM_UP_S / 60.0)):
        world.wait()
    before, hist = world.counters(), world.hist.copy()
    sequences = np.zeros(len(loads))
    for _ in range(round(MEASURED_S / 60.0)):
        world.wait()
        sequences += world.pool["running"][:, 0]
    after = world.counters()
    hist = world.hist - hist
    outcomes = sum(after[name] - before[name] for name in ("finished", "dropped", "lost"))
    missed = after["missed"] - before["missed"]
    return SteadyState(
        1.0 - missed / np.maximum(outcomes, 1e-9),
        sequences / round(MEASURED_S / 60.0) / replicas,
        np.array([quantile(hist[r, 0], 0.99) for r in rows]),
        np.array([quantile(hist[r, 1], 0.99) for r in rows]),
    )


def _other_side(
    spec: ClusterSpec, pool: int, tokens: tuple[TokenLaw, ...], rate_per_s: float
) -> tuple[tuple[Pool, ...], tuple[int, ...]]:
    """Of a prefill or decode pool: a pool of the other role, and how many replicas of it never limit this rate."""
    role = spec.pools[pool].role
    if role == "both":
        return (), ()
    other = next(p for p, own in enumerate(spec.pools) if own.role not in ("both", role))
    count = math.ceil(rate_per_s / (ABUNDANT * min(_saturation(spec, other, law) for law in tokens)))
    return (replace(spec.pools[other], min_replicas=1, max_replicas=count, standby_replicas=0, family=""),), (count,)


def undisturbed(spec: ClusterSpec) -> ClusterSpec:
    """The same cluster when nothing happens to it: what its capacity is measured on. No prompt has been seen before."""
    return replace(
        spec, shortage=None, spot=None, failures=Failures(), actuator=Actuator(), energy=Energy(),
        admission=Admission(), prefix_cache_share=0.0,
    )  # fmt: skip


def capacity(spec: ClusterSpec, pool: int, tokens: tuple[TokenLaw, ...], burstiness: float = 1.0) -> Capacity:
    """l_SLO of a pool; refused when even an idle fleet misses the SLO.

    A request meets both a prefill and a decode replica, so that each has to keep the square root of the target.
    """
    if spec.pools[pool].role != "both":
        spec = replace(spec, slo=replace(spec.slo, attainment=math.sqrt(spec.slo.attainment)))
    # Nobody decides while it is measured, so that one answer serves every control interval.
    still = replace(undisturbed(spec), interval_s=STILL_S, scrape_interval_s=5.0, scrape_delay_s=2.0)
    return _capacity(still, pool, tokens, burstiness)


@lru_cache(maxsize=256)
def _capacity(spec: ClusterSpec, pool: int, tokens: tuple[TokenLaw, ...], burstiness: float = 1.0) -> Capacity:
    """l_SLO of a pool; refused when even an idle fleet misses the SLO."""
    profile = spec.pools[pool].profile
    saturation = min(_saturation(spec, pool, law) for law in tokens)
    idle = steady_state(spec, pool, tokens, np.array([IDLE_SHARE * saturation]), burstiness=1.0)
    if idle.attainment[0] < spec.slo.attainment:
        raise ScenarioError(
            f"pool '{spec.pools[pool].name}' ({profile.name}) cannot meet the SLO even unloaded: "
            f"{idle.attainment[0]:.2%} of requests within TTFT {spec.slo.ttft_s:g} s and TPOT {spec.slo.tpot_s:g} s, "
            f"expected {spec.slo.attainment:.2%} (unloaded p99: TTFT {idle.ttft_p99_s[0]:.3g} s, "
            f"TPOT {idle.tpot_p99_s[0]:.3g} s); loosen the SLO or choose a faster profile"
        )
    low, high = IDLE_SHARE * saturation, 1.05 * saturation
    for _ in range(2):
        rates = np.linspace(low, high, RATES)
        state = steady_state(spec, pool, tokens, rates, burstiness=burstiness)
        meets = state.attainment >= spec.slo.attainment
        first_miss = int(np.argmin(meets)) if not meets.all() else len(rates) - 1
        low, high = rates[max(0, first_miss - 1)], rates[first_miss]
    sequences = float(np.interp(low, rates, state.sequences))
    return Capacity(float(low), max(sequences, 1e-3))


def _saturation(spec: ClusterSpec, pool: int, law: TokenLaw) -> float:
    profile = spec.pools[pool].profile
    d = demand_of(spec.pools[pool].role, profile, law)
    if not profile.batching:
        return d.seats / d.w
    if spec.pools[pool].role == "prefill":
        return 1.0 / d.prompt_s
    return 1.0 / (d.no * d.c0 / d.seats + d.no * d.c + d.w)


def limits(spec: ClusterSpec, tokens: tuple[TokenLaw, ...], burstiness: float = 1.0) -> ScalingLimits:
    """What a scaler may know of the cluster."""
    capacities = [capacity(spec, p, tokens, burstiness) for p in range(len(spec.pools))]
    starts = [lead_time(pool) for pool in spec.pools]
    return ScalingLimits(
        np.array([pool.min_replicas for pool in spec.pools]),
        np.array([pool.max_replicas for pool in spec.pools]),
        np.array([c.per_s for c in capacities]),
        np.array([c.seats for c in capacities]),
        np.array([median for median, _ in starts]),
        np.array([p95 for _, p95 in starts]),
        np.array([pool.usd_per_replica_s for pool in spec.pools]),
        spec.slo,
        spec.drain_s,
        np.array([pool.max_standby for pool in spec.pools]),
        np.array([watts_per_replica(pool, spec.energy.pue) for pool in spec.pools]),
        np.array([work_tokens_per_s(pool, spec, tokens[0]) for pool in spec.pools]),
        tuple(pool.spot for pool in spec.pools),
        tuple(pool.zone for pool in spec.pools),
        tuple(pool.role for pool in spec.pools) if spec.has_roles else (),
    )


def lead_time(pool: Pool) -> tuple[float, float]:
    """Median and p95 of node provisioning plus cold start, from 4 096 sets of draws."""
    laws = (pool.node.provisioning, *pool.profile.cold)
    z = np.random.default_rng(0).standard_normal((len(laws), 4096))
    total = np.sum([law.median_s * np.exp(law.sigma * own) for law, own in zip(laws, z, strict=True)], axis=0)
    return float(np.median(total)), float(np.quantile(total, 0.95))


def watts_per_replica(pool: Pool, pue: float) -> float:
    """What a serving replica draws at a middling batch with its share of the host, facility included."""
    power, gpus = pool.node.power, pool.profile.gpus_per_replica * pool.profile.gpu_share
    serving = 0.5 * (power.decode_low_w + power.decode_high_w)
    return pue * (gpus * serving + power.host_w / pool.slots_per_node)


def work_tokens_per_s(pool: Pool, spec: ClusterSpec, tokens: TokenLaw) -> float:
    """Deferrable tokens per second that a replica without other requests makes."""
    if not pool.profile.batching or pool.role == "prefill":
        return 0.0
    d = demand(pool.profile, tokens)
    pass_s = WORK_PASS_SHARE * min(spec.slo.tpot_s, 1.0)
    return max(0.0, min((pass_s - d.c0) / d.c, d.seats)) / pass_s


def need(rate_per_s: Floats, known: ScalingLimits) -> Ints:
    """Replicas of the cheapest pool that each interval's rate asks for: ceil(rate / l_SLO), at least the minimum. Of
    prefill and decode replicas together where they are apart."""
    each_per_s, least = known.reference_per_s, int(known.min_replicas.sum())
    return np.asarray(replicas(np.asarray(rate_per_s), each_per_s, least), dtype=np.int64)


def replicas(rate_per_s: Any, each_per_s: float, least: int) -> Any:
    """The formula of `need` in plain numbers, which kernels compile."""
    return np.maximum(np.ceil(rate_per_s / each_per_s - 1e-9), least)


def cheapest(known: ScalingLimits) -> int:
    """The pool with the lowest price of capacity; of services with prefill and decode pools, that of a prefill pool."""
    return known.cheapest[0]
