"""A cluster with every part switched on, for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rlscale.parts import Actuator, Admission, Energy, Failures, Grid, Shortage, SpotMarket, Transfer
from rlscale.sim.profiles import node_type, service_profile
from rlscale.types import ClusterSpec, DelayLaw, Load, Pool, Slo
from rlscale.workloads.tokens import CHAT

STAGED = replace(
    service_profile("h100-8b"),
    cold_stages=(DelayLaw(40.0, 90.0), DelayLaw(30.0, 60.0), DelayLaw(50.0, 80.0)),
    warm_stages=(DelayLaw(10.0, 20.0), DelayLaw(20.0, 40.0)),
)
POOLS = (
    Pool("asleep", node_type("h100-x1"), STAGED, 0, 6, zone="east/a", standby="stopped", standby_replicas=2,
         max_standby=4, family="h"),
    Pool("spot", node_type("h100-x1"), service_profile("h100-8b"), 0, 6, spot=True, zone="east/b", family="h"),
    Pool("small", node_type("h100-x8"), service_profile("h100-70b-tp4"), 0, 6, zone="west", standby="sleeping",
         standby_replicas=1, max_standby=3, family="big"),
    Pool("large", node_type("h100-x8"), service_profile("h100-70b-tp8"), 0, 4, zone="west", family="big"),
)  # fmt: skip
GRID = Grid((400.0, 300.0, 200.0), (0.1, 0.2))


def everything(**changes: Any) -> ClusterSpec:
    """Four pools in three zones, two families, and rates at which something happens in every minute."""
    spec = ClusterSpec(
        POOLS,
        Slo(1.0, 0.05, 5000.0),
        substep_s=5.0,
        node_idle_s=60.0,
        drain_s=20.0,
        node_delay_after_add_s=45.0,
        shortage=Shortage(0.2, 60.0, 600.0, 0.3),
        spot=SpotMarket(600.0, 300.0, 30.0, 0.4, 0.1),
        failures=Failures(1.0, 0.5, 0.5, 120.0, "lost"),
        actuator=Actuator(0.1, 60.0),
        energy=Energy(True, 1.2, (("east/a", GRID), ("west", Grid((100.0,), (0.05,))))),
        admission=Admission("reject", 20.0),
    )
    return replace(spec, **changes)


SIDES = (
    Pool("prompts", node_type("h100-x1"), STAGED, 0, 5, zone="east/a", standby="stopped", standby_replicas=1,
         max_standby=3, family="h", role="prefill"),
    Pool("prompts-spot", node_type("h100-x1"), service_profile("h100-8b"), 0, 4, spot=True, zone="east/b", family="h",
         role="prefill"),
    Pool("answers", node_type("h100-x1"), service_profile("h100-8b"), 0, 5, zone="east/a", role="decode"),
    Pool("answers-spot", node_type("a100-x1"), replace(service_profile("a100-8b"), max_seats=24), 0, 5, spot=True,
         zone="east/b", role="decode"),
)  # fmt: skip


def split(**changes: Any) -> ClusterSpec:
    """The same with prefill and decode pools."""
    return everything(pools=SIDES, transfer=Transfer(0.05, 2.6e-6), **changes)


def busy_load(intervals: int, rate_per_s: float = 90.0, substeps: int = 3) -> Load:
    """Sessions that swing, and deferrable jobs."""
    cells = substeps * intervals
    values = (0.4 * rate_per_s * (1.0 + 0.6 * np.sin(np.arange(cells) / 40.0))).astype(np.float32)
    minutes = max(1, cells * 5 // 60)
    work = np.where(np.arange(minutes) % 7 == 0, 20_000.0, 0.0)
    return Load("busy", 5.0, values, "poisson", (CHAT,), burstiness=3.0, continues=0.6, think_s=30.0, work_per_s=work,
                deadline_s=1800.0)  # fmt: skip
