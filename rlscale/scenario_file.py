"""What a scenario YAML may say, field by field, and the cluster it describes. Knows no load."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from rlscale.errors import ScenarioError
from rlscale.parts import Actuator, Admission, Energy, Failures, Grid, Shortage, SpotMarket, Transfer
from rlscale.scenario_pool import PoolEntry
from rlscale.scenario_roles import LINK_BYTES_PER_S, check_roles
from rlscale.spot_series import read_spot_series
from rlscale.strict import Closed
from rlscale.types import Balancer, ClusterSpec, Pool, Slo

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class _Slo(Closed):
    ttft_s: float = Field(gt=0, description="seconds")
    ttft_tokens_per_s: float | None = Field(None, gt=0, description="a prompt of n tokens may take n/this longer")
    tpot_s: float | None = Field(None, gt=0, description="seconds per output token")
    attainment: float = Field(0.99, gt=0, lt=1, description="target share of requests, 0 to 1")

    def build(self) -> Slo:
        return Slo(self.ttft_s, self.tpot_s or math.inf, self.ttft_tokens_per_s or math.inf, self.attainment)


class _Control(Closed):
    interval_s: float = Field(15.0, gt=0, le=3600)
    substep_s: float = Field(1.0, gt=0, le=60)
    scrape_interval_s: float = Field(5.0, gt=0)
    scrape_delay_s: float = Field(2.0, ge=0)
    control_delay_s: float = Field(0.0, ge=0)
    metric_noise: float = Field(0.0, ge=0, le=1)
    metric_missing_share: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> _Control:
        steps = self.interval_s / self.substep_s
        if abs(steps - round(steps)) > 1e-9 or round(steps) < 1:
            raise ValueError(f"interval_s={self.interval_s:g} is no multiple of substep_s={self.substep_s:g}")
        if self.scrape_delay_s + self.scrape_interval_s > self.interval_s:
            raise ValueError(
                f"scrape_delay_s + scrape_interval_s = {self.scrape_delay_s + self.scrape_interval_s:g} is above "
                f"interval_s={self.interval_s:g}: a decision would see no metric of its own interval"
            )
        if self.control_delay_s >= self.interval_s:
            raise ValueError(f"control_delay_s={self.control_delay_s:g}; expected less than interval_s")
        return self


class _Fleet(Closed):
    drain_s: float = Field(60.0, gt=0)
    timeout_s: float = Field(30.0, gt=0)
    node_idle_s: float = Field(600.0, ge=0)
    node_delay_after_add_s: float = Field(0.0, ge=0, description="no node is given back for so long after one came up")
    bill_from: Literal["up", "order"] = "up"
    balancer: Balancer = "least-outstanding"
    prefix_cache_share: float = Field(0.0, ge=0, le=0.9, description="of the KV memory, for prompts seen before")


class _Shortage(Closed):
    share: float = Field(0.147, gt=0, lt=1, description="of the time in which orders wait")
    short_s: float = Field(90.0, gt=0)
    long_s: float = Field(1790.0, gt=0)
    long_weight: float = Field(0.171, ge=0, le=1, description="share of the closed time in long spells")


class _Spot(Closed):
    on_s: float = Field(15_480.0, gt=0, description="mean time with capacity")
    off_s: float = Field(6_120.0, gt=0, description="mean time without")
    notice_s: float = Field(120.0, ge=0)
    correlation: float = Field(0.4, ge=0, lt=1, description="of two zones of a region")
    correlation_far: float = Field(0.12, ge=0, lt=1, description="of two regions")
    series: str | None = Field(None, description="CSV: t_s, then a column per zone, available where above 0")

    @model_validator(mode="after")
    def _nearer(self) -> _Spot:
        if self.correlation_far > self.correlation:
            raise ValueError(f"correlation_far={self.correlation_far:g} is above correlation={self.correlation:g}")
        return self

    def build(self, folder: Path, zones: list[str], horizon_s: float) -> SpotMarket:
        given: dict[str, Any] = self.model_dump(exclude={"series"})
        if self.series is None:
            return SpotMarket(**given)
        step_s, series = read_spot_series(folder / self.series, zones, horizon_s)
        return SpotMarket(**given, series=series, series_step_s=step_s)


class _Failures(Closed):
    replica_per_h: float = Field(0.0, ge=0, le=1, description="of each replica")
    node_per_h: float = Field(0.0, ge=0, le=1, description="of each node")
    zone_per_h: float = Field(0.0, ge=0, le=1, description="of each zone")
    zone_outage_s: float = Field(3600.0, gt=0)
    running: Literal["lost", "requeued"] = "lost"


class _Actuator(Closed):
    tolerance: float = Field(0.0, ge=0, lt=1, description="relative change that does nothing; 0.1 in Kubernetes")
    stabilization_s: float = Field(0.0, ge=0, le=3600, description="300 in Kubernetes")


class _Grid(Closed):
    carbon_g_per_kwh: list[float] = Field([0.0], min_length=1, max_length=168)
    usd_per_kwh: list[float] = Field([0.0], min_length=1, max_length=168)

    @model_validator(mode="after")
    def _positive(self) -> _Grid:
        for name in ("carbon_g_per_kwh", "usd_per_kwh"):
            for hour, value in enumerate(getattr(self, name)):
                if not (math.isfinite(value) and value >= 0.0):
                    raise ValueError(f"{name}, hour {hour}: got {value:g}, expected 0 or more")
        return self

    def build(self) -> Grid:
        return Grid(tuple(self.carbon_g_per_kwh), tuple(self.usd_per_kwh))


class _Energy(Closed):
    pue: float = Field(1.2, ge=1)
    grids: dict[str, _Grid] = Field(default_factory=dict, description="by zone, hour by hour from Monday 00:00")

    def build(self) -> Energy:
        return Energy(True, self.pue, tuple((zone, grid.build()) for zone, grid in self.grids.items()))


class _Admission(Closed):
    policy: Literal["queue", "reject", "degrade"]
    max_waiting: float = Field(8.0, gt=0, description="requests per ready replica")
    degraded_tokens: float = Field(64.0, ge=1)


class _Transfer(Closed):
    fixed_s: float = Field(0.0, ge=0, description="of every KV cache on its way from a prefill to a decode replica")
    s_per_token: float | None = Field(None, ge=0, description="of its prompt; default: KV bytes over 50 GB/s")

    def build(self, pools: tuple[Pool, ...]) -> Transfer:
        if not any(pool.role != "both" for pool in pools):
            return Transfer()
        kv_bytes = max(pool.profile.kv_bytes_per_token for pool in pools if pool.role == "prefill")
        return Transfer(self.fixed_s, kv_bytes / LINK_BYTES_PER_S if self.s_per_token is None else self.s_per_token)


class _Reward(Closed):
    missed: float = Field(20.0, ge=0)
    churn: float = Field(0.001, ge=0)
    usd_per_kg_carbon: float = Field(0.0, ge=0, description="what the reward adds to the cost per kg of CO2")
    usd_per_million_late_tokens: float = Field(10.0, ge=0, description="the same for late deferrable work")


class ScenarioFile(Closed):
    """What a scenario YAML may say."""

    summary: str = Field(min_length=10)
    slo: _Slo
    pools: list[PoolEntry] = Field(min_length=1, max_length=8)
    control: _Control = _Control()
    fleet: _Fleet = _Fleet()
    shortage: _Shortage | None = None
    spot: _Spot | None = None
    failures: _Failures = _Failures()
    actuator: _Actuator = _Actuator()
    energy: _Energy | None = None
    admission: _Admission | None = None
    transfer: _Transfer | None = None
    workload: dict[str, Any]
    splits: dict[Split, dict[str, Any]] = Field(default_factory=dict, description="workload fields that differ")
    horizon_s: float = Field(86_400.0, gt=0)
    reward: _Reward = _Reward()

    def cluster(self, folder: Path) -> ClusterSpec:
        """The cluster it describes; files that it names are looked for in `folder`."""
        pools = tuple(pool.build(folder) for pool in self.pools)
        _check_zones(self, {pool.zone for pool in pools})
        check_roles(pools, self.transfer is not None)
        return ClusterSpec(
            pools,
            self.slo.build(),
            **self.control.model_dump(),
            **self.fleet.model_dump(),
            shortage=Shortage(**self.shortage.model_dump()) if self.shortage else None,
            spot=self.spot.build(folder, [pool.zone for pool in pools if pool.spot], self.horizon_s)
            if self.spot
            else None,
            failures=Failures(**self.failures.model_dump()),
            actuator=Actuator(**self.actuator.model_dump()),
            energy=self.energy.build() if self.energy else Energy(),
            admission=Admission(**self.admission.model_dump()) if self.admission else Admission(),
            transfer=(self.transfer or _Transfer()).build(pools),
        )


def _check_zones(file: ScenarioFile, zones: set[str]) -> None:
    for zone in file.energy.grids if file.energy else ():
        if zone not in zones:
            raise ScenarioError(f"energy.grids: zone '{zone}' has no pool; there are {', '.join(sorted(zones))}")
    if file.spot and not any(pool.spot for pool in file.pools):
        raise ScenarioError("spot: no pool is a spot pool; add `spot: true` to one, or remove the section")
