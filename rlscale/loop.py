"""The circle closed: Monitor, Predict, Decide, Execute, one control interval, Feedback. Works on any world."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.beginning import initial_replicas
from rlscale.circle import begin, turns
from rlscale.execute import Bounded
from rlscale.feedback import charged_usd, reward
from rlscale.monitor import Monitor
from rlscale.scenario import Scenario
from rlscale.sim import steady
from rlscale.sim.histogram import quantile
from rlscale.sim.luck import kernel
from rlscale.sim.world import SimWorld
from rlscale.sim.worlds import make_world
from rlscale.types import ClusterSpec, Floats, Ints, Load, Observation, Scaler, ScalingLimits

PERCENTILES = (0.5, 0.95, 0.99)
LATENCIES = ("ttft", "tpot", "e2e")
SUMS = ("started", "preempted", "failed", "work_tokens", "late_tokens")


@dataclass(frozen=True)
class RunResult:
    """One scaler on one load with one luck."""

    scenario: str
    scaler: str
    seed: int
    interval_s: float
    series: dict[str, Floats]  # (T,) per interval
    histograms: Floats  # (3, BINS) requests by TTFT, TPOT, E2E
    gpu_per_replica: float
    totals: dict[str, float]
    reasons: tuple[str, ...] = ()

    def summary(self) -> dict[str, float]:
        """The numbers of contract and report; latencies in seconds, +inf where the percentile was dropped."""
        percentiles = {
            f"{name}_p{round(100 * q)}_s": quantile(self.histograms[i], q)
            for i, name in enumerate(LATENCIES)
            for q in PERCENTILES
        }
        return self.totals | percentiles


def need_series(load: Load, spec: ClusterSpec, known: ScalingLimits) -> Floats:
    """need(i) of every whole interval of a load."""
    cells = round(spec.interval_s / load.step_s)
    whole = len(load.values) // cells * cells
    rate = load.rate_per_s[:whole].reshape(-1, cells).mean(axis=1)
    return steady.need(rate, known).astype(np.float64)


def run(
    scenario: Scenario, scaler: Scaler, load: Load, seed: int, name: str = "", initial: tuple[int, ...] = (),
    engine: str = "fluid",
) -> RunResult:  # fmt: skip
    """Let a scaler run a whole load: the interval passes, then it observes and decides for the next one.

    `initial` ready replicas per pool at t = 0; need(0) by default. `engine`: see `rlscale.sim.worlds`.
    """
    spec, known = scenario.cluster, scenario.limits
    fleet = np.array([initial or initial_replicas(load, known)])
    world = make_world(engine, spec, [load], [seed], fleet, percentiles=True)
    intervals = max(1, int(load.duration_s / spec.interval_s + 1e-9))
    simulated = _Simulated(world, known, intervals)
    begin(scaler, load.history_per_s, load.history_step_s)
    reasons, deciding_s = [], 0.0
    for turn in turns(simulated, scaler, known):
        reasons.append(turn.bounded.reason)
        deciding_s += turn.decision_s
    world.finish()
    series = simulated.table.series(need_series(load, spec, known)[:intervals], known)
    totals = _totals(world, series, scenario, known)
    totals["decision_us"] = 1e6 * deciding_s / max(1, intervals - 1)
    return RunResult(
        scenario.name,
        name or type(scaler).__name__,
        seed,
        spec.interval_s,
        series,
        world.hist[0].copy(),
        _gpus_per_reference_replica(spec, known),
        totals,
        tuple(reasons),
    )


class _Simulated:
    """A simulated cluster as the circle turns it: the intervals of a load, a decision after each but the last."""

    def __init__(self, world: SimWorld, known: ScalingLimits, intervals: int) -> None:
        self._world, self._intervals, self._monitor = world, intervals, Monitor(world, known)
        self.table = _Table(world, intervals)
        self._passed = 0

    def wait(self) -> bool:
        self._world.wait()
        self.table.note(self._passed)
        self._passed += 1
        return self._passed < self._intervals

    def observe(self) -> Observation:
        return self._monitor.one()

    def apply(self, seen: Observation, bounded: Bounded) -> None:
        standby = np.array([bounded.standby]) if bounded.standby else None
        self._world.apply(np.array([bounded.target]), standby)


class _Table:
    """Differences of the world's counters, interval by interval."""

    SERVICE = ("arrived", "missed", "dropped", "lost", "churn", "ttft_sum_s", "admitted", "tpot_sum_s", "tpot_count",
               "work", "work_late")  # fmt: skip
    POOL = ("ready_s", "pending_s", "draining_s", "standby_s", "node_s", "stopped_s", "started", "preempted", "failed",
            "energy_j", "energy_usd", "carbon_g")  # fmt: skip

    def __init__(self, world: SimWorld, intervals: int) -> None:
        self.world = world
        # Records as rows of doubles, and where in them the counters are: reading fields one by one takes longer.
        service, service_at = _columns(world.cluster[:1], (*self.SERVICE, "queued", "left"))
        pools, pools_at = _columns(world.pool[0], (*self.POOL, "running", "target"))
        self.service = np.zeros((intervals + 1, len(self.SERVICE)))
        self.pool = np.zeros((intervals + 1, len(self.POOL), world.pools))
        self.gauges = np.zeros((intervals, 2))
        self.targets = np.zeros((intervals, world.pools))
        self._arrays = (service[0], service_at, pools, pools.view(np.int64), pools_at, self.service, self.pool,
                        self.gauges, self.targets)  # fmt: skip

    def note(self, i: int) -> None:
        _note(i, *self._arrays)

    def series(self, need: Floats, known: ScalingLimits) -> dict[str, Floats]:
        spec = self.world.spec
        service = dict(zip(self.SERVICE, np.diff(self.service, axis=0).T, strict=True))
        pool = dict(zip(self.POOL, np.diff(self.pool, axis=0).transpose(1, 0, 2), strict=True))
        price = np.array([p.node.usd_per_s(p.spot) for p in spec.pools])
        disk = np.array([p.node.disk_usd_per_hour / 3600.0 for p in spec.pools])
        replicas = {name: pool[f"{name}_s"] / spec.interval_s for name in ("ready", "pending", "draining", "standby")}
        empty = np.full(len(need), np.nan)
        latency = {
            f"{name}_mean_s": np.divide(service[f"{name}_sum_s"], service[count], out=empty.copy(),
                                        where=service[count] > 0)
            for name, count in (("ttft", "admitted"), ("tpot", "tpot_count"))
        }  # fmt: skip
        return {
            "t_s": np.arange(len(need)) * spec.interval_s,
            **{name: service[name] for name in ("arrived", "missed", "dropped", "lost", "churn")},
            **latency,
            "waiting": self.gauges[:, 0],
            "running": self.gauges[:, 1],
            "need": need,
            "cost_usd": pool["node_s"] @ price + pool["stopped_s"] @ disk + pool["energy_usd"].sum(axis=1),
            **{name: pool[name].sum(axis=1) for name in ("started", "preempted", "failed", "energy_j", "carbon_g")},
            "work_tokens": service["work"],
            "late_tokens": service["work_late"],
            **{name: values.sum(axis=1) for name, values in replicas.items()},
            "target": self.targets.sum(axis=1),
            "billed_nodes": pool["node_s"].sum(axis=1) / spec.interval_s,
            "capacity": carried(replicas["ready"], known.capacity_per_s / known.reference_per_s, known),
        }


@kernel
def _note(
    i: int, service: Floats, service_at: Ints, pools: Floats, targets: Ints, pools_at: Ints, services: Floats,
    counters: Floats, gauges: Floats, wanted: Floats,
) -> None:  # fmt: skip
    """Row i of the table; the last two columns are what the queue and the pools hold now, and what was asked for."""
    for k in range(services.shape[1]):
        services[i + 1, k] = service[service_at[k]]
    gauges[i, 0] = max(0.0, service[service_at[-2]] - service[service_at[-1]])
    gauges[i, 1] = 0.0
    for p in range(pools.shape[0]):
        for k in range(counters.shape[1]):
            counters[i + 1, k, p] = pools[p, pools_at[k]]
        gauges[i, 1] += pools[p, pools_at[-2]]
        wanted[i, p] = targets[p, pools_at[-1]]


def _columns(records: NDArray[Any], names: tuple[str, ...]) -> tuple[Floats, Ints]:
    """The same memory, a row per record, and the columns of these fields; every field is 8 bytes wide."""
    doubles = np.asarray(records).view(np.float64).reshape(len(records), -1)
    return doubles, np.array([list(records.dtype.names or ()).index(name) for name in names])


def _totals(world: SimWorld, series: dict[str, Floats], scenario: Scenario, known: ScalingLimits) -> dict[str, float]:
    cluster = world.cluster[0]
    arrived, missed = float(cluster["arrived"]), float(cluster["missed"])
    cost = float(world.cost_usd()[0])
    hours = len(series["t_s"]) * scenario.cluster.interval_s / 3600.0
    surplus = (series["capacity"] - series["need"]) * scenario.cluster.interval_s / 3600.0
    gpus = _gpus_per_reference_replica(scenario.cluster, known)
    good = arrived - missed
    value = math.nan
    if scenario.scale is not None:
        weights = scenario.weights
        charged = charged_usd(series["cost_usd"], series["carbon_g"], series["late_tokens"],
                              weights.usd_per_kg_carbon, weights.usd_per_million_late_tokens)  # fmt: skip
        value = float(reward(charged, series["missed"], series["churn"], scenario.scale, weights).total.sum())
    return {
        "cost_usd": cost,
        "usd_per_hour": cost / hours,
        "attainment": good / arrived if arrived > 0 else 1.0,
        "requests": arrived,
        "missed": missed,
        "dropped": float(cluster["dropped"]),
        "lost": float(cluster["lost"]),
        "ttft_mean_s": _mean(cluster, "ttft_sum_s", "admitted"),
        "tpot_mean_s": _mean(cluster, "tpot_sum_s", "tpot_count"),
        "goodput_per_s": good / (hours * 3600.0),
        "usd_per_million_output_tokens": _per_million(cost, float(cluster["output_tokens"])),
        "usd_per_million_tokens": _per_million(cost, float(cluster["total_tokens"])),
        "over_gpu_h": float(np.maximum(surplus, 0.0).sum() * gpus),
        "under_gpu_h": float(np.maximum(-surplus, 0.0).sum() * gpus),
        "churn": float(series["churn"].sum()),
        **{name: float(series[name].sum()) for name in SUMS},
        "energy_kwh": float(series["energy_j"].sum()) / 3.6e6,
        "carbon_kg": float(series["carbon_g"].sum()) / 1e3,
        "reward": value,
    }


def _mean(cluster: Any, total: str, count: str) -> float:
    """Of all that were served; NaN of none."""
    return float(cluster[total] / cluster[count]) if cluster[count] > 0 else math.nan


def _per_million(cost_usd: float, tokens: float) -> float:
    return 1e6 * cost_usd / tokens if tokens > 0 else math.nan


def carried(replicas: Floats, each: Floats, known: ScalingLimits) -> Floats:
    """(T,) what fleets (T, P) carry when replicas carry `each`: of prefill and decode pools the lesser."""
    if not known.roles:
        return np.asarray(replicas @ each)
    sides = [replicas[:, list(side)] @ each[list(side)] for side in known.sides]
    return np.asarray(np.min(sides, axis=0))


def _gpus_per_reference_replica(spec: ClusterSpec, known: ScalingLimits) -> float:
    return float(spec.pools[steady.cheapest(known)].profile.gpus_per_replica)
