"""Monitor: from what happened to what can be seen, late, noisy and sometimes not at all.

The only seam between a world and a scaler. Metrics are those of the last scrape that had arrived at the decision;
rates are differences of counters over the scraped window. Counts of replicas come from the control plane and are
current. A failed scrape leaves NaN, never a guess; an empty window has latency 0 and attainment 1.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Protocol

import numpy as np

from rlscale.sim import luck
from rlscale.types import PENDING_AGES_S, ClusterSpec, Floats, Observation, ScalingLimits

METRICS = ("arrival_per_s", "waiting", "running", "ttft_s", "tpot_s", "attainment", "dropped_per_s")
POOL_METRICS = ("compute_occupancy", "memory_occupancy")
SHARES = ("attainment",)  # noise must not push these above 1


class Watched(Protocol):
    """What the monitor reads of a world: scrapes, the fleet, the clock."""

    spec: ClusterSpec
    n: int
    pools: int
    cluster: Any
    pool: Any
    scrape: Any
    scrape_before: Any
    pool_scrape: Any

    @property
    def t_s(self) -> Floats: ...

    def pending_by_age(self, edges_s: Floats) -> Floats: ...

    def week_s(self) -> Floats: ...


class Monitor:
    """Observations of a world, all rows at once; `one()` of a single cluster as plain numbers."""

    def __init__(self, world: Watched, known: ScalingLimits) -> None:
        self.world, self.known = world, known
        self._edges = np.array(PENDING_AGES_S)
        self._good_s = np.zeros(world.n)  # time of the last scrape that did not fail

    def reset(self, rows: Any = slice(None)) -> None:
        """The given rows have begun anew."""
        self._good_s[rows] = 0.0

    def observe(self) -> Observation:
        """What can be seen now; every field has a leading axis of rows."""
        world, spec = self.world, self.world.spec
        now, then = world.scrape, world.scrape_before
        window_s = np.maximum(now["t_s"] - then["t_s"], 1e-9)

        def gained(name: str) -> Floats:
            return np.asarray(now[name] - then[name], dtype=np.float64)

        outcomes = gained("finished") + gained("dropped") + gained("lost")
        ready = world.pool_scrape["ready"]
        metrics: dict[str, Any] = {
            "arrival_per_s": gained("arrived") / window_s,
            "waiting": np.array(now["waiting"]),
            "running": np.array(now["running"]),
            "ttft_s": _ratio(gained("ttft_sum_s"), gained("admitted"), 0.0),
            "tpot_s": _ratio(gained("tpot_sum_s"), gained("tpot_count"), 0.0),
            "attainment": np.clip(1.0 - _ratio(gained("missed"), outcomes, 0.0), 0.0, 1.0),
            "dropped_per_s": (gained("dropped") + gained("lost")) / window_s,
            "compute_occupancy": _ratio(world.pool_scrape["running"], ready * self.known.seats, 0.0),
            "memory_occupancy": np.array(world.pool_scrape["memory"]),
        }
        scraped_s = np.array(now["t_s"])
        if spec.metric_noise > 0 or spec.metric_missing_share > 0:
            scraped_s = self._spoil(metrics, scraped_s)
        return Observation(
            t_s=world.t_s,
            week_s=world.week_s(),
            interval_s=spec.interval_s,
            age_s=world.t_s - scraped_s,
            ready=np.array(world.pool["ready"]),
            pending=np.array(world.pool["pending"]),
            pending_by_age=world.pending_by_age(self._edges),
            draining=np.array(world.pool["draining"]),
            target=np.array(world.pool["target"]),
            ready_at_scrape=np.array(ready),
            limits=self.known,
            **metrics,
        )

    def one(self) -> Observation:
        """The observation of the only cluster: floats, and arrays over pools."""
        return row(self.observe(), 0)

    def _spoil(self, metrics: dict[str, Any], scraped_s: Floats) -> Floats:
        """Noise on every metric, and NaN where the scrape failed; returns the time of the last good scrape."""
        spec, cluster = self.world.spec, self.world.cluster
        failed, noise = luck.scrape_luck(np.asarray(cluster["seed"]), np.asarray(cluster["interval"]), len(metrics))
        failed = failed < spec.metric_missing_share
        for k, (name, value) in enumerate(metrics.items()):
            wide = (slice(None),) + (None,) * (value.ndim - 1)
            noisy = value * np.maximum(0.0, 1.0 + spec.metric_noise * noise[:, k][wide])
            noisy = np.minimum(noisy, 1.0) if name in SHARES else noisy
            metrics[name] = np.where(failed[wide], np.nan, noisy)
        self._good_s = np.where(failed, self._good_s, scraped_s)
        return self._good_s.copy()


def row(seen: Observation, r: int) -> Observation:
    """One cluster out of a batch of observations."""
    picked: dict[str, Any] = {}
    for item in fields(seen):
        value = getattr(seen, item.name)
        if isinstance(value, np.ndarray):
            value = float(value[r]) if value.ndim == 1 else value[r]
        picked[item.name] = value
    return Observation(**picked)


def with_forecast(seen: Observation, forecast_per_s: Any) -> Observation:
    """The same observation, carrying a forecast."""
    return replace(seen, forecast_per_s=forecast_per_s)


def _ratio(top: Any, low: Any, empty: float) -> Floats:
    """top / low, `empty` where there is nothing to divide by."""
    low = np.asarray(low, dtype=np.float64)
    return np.where(low > 1e-12, np.asarray(top) / np.maximum(low, 1e-12), empty)
