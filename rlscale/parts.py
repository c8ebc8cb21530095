"""The parts of a cluster that can be switched on: supply, failures, actuator, energy, admission; off by default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Shortage:
    """Orders for nodes wait while a zone is short of them: closed spells of two exponential lengths.

    Defaults: fitted to the waits of 16 591 inference instances, Alibaba cluster-trace-gpu-v2025 (8.7 % over a minute,
    5 % over 137 s, 1.8 % over ten minutes, 1 % over 1 650 s).
    """

    share: float = 0.147  # of the time closed
    short_s: float = 90.0
    long_s: float = 1790.0
    long_weight: float = 0.171  # share of the closed time that lies in long spells

    @property
    def long_spells(self) -> float:
        """Share of the spells that are long."""
        long, short = self.long_weight / self.long_s, (1.0 - self.long_weight) / self.short_s
        return long / (long + short)

    @property
    def mean_closed_s(self) -> float:
        """Mean length of a spell."""
        return 1.0 / (self.long_weight / self.long_s + (1.0 - self.long_weight) / self.short_s)


@dataclass(frozen=True, slots=True)
class SpotMarket:
    """When spot capacity is there: on/off by zone. Defaults: V100, nine zones, 45 days (SkyPilot spot-traces); the
    median zone, the middle of the correlations seen within a region and across regions, and AWS's notice."""

    on_s: float = 4.3 * 3600.0
    off_s: float = 1.7 * 3600.0
    notice_s: float = 120.0
    correlation: float = 0.4  # of two zones of a region
    correlation_far: float = 0.12  # of two regions
    series: tuple[tuple[str, tuple[float, ...]], ...] = ()  # (zone, values), available where above 0
    series_step_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failures:
    """Rates per hour of life; what dies takes its running requests with it, lost or put back into the queue."""

    replica_per_h: float = 0.0
    node_per_h: float = 0.0
    zone_per_h: float = 0.0
    zone_outage_s: float = 3600.0
    running: Literal["lost", "requeued"] = "lost"


@dataclass(frozen=True, slots=True)
class Actuator:
    """Kubernetes' HPA between the decision and the cluster: a relative change up to `tolerance` does nothing, and a
    decrease waits until no larger number was asked for within `stabilization_s`."""

    tolerance: float = 0.0
    stabilization_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Grid:
    """Electricity of one zone, hour by hour of the week from Monday 00:00, repeating."""

    carbon_g_per_kwh: tuple[float, ...] = (0.0,)
    usd_per_kwh: tuple[float, ...] = (0.0,)  # 0 where the rent of a node includes it


@dataclass(frozen=True, slots=True)
class Energy:
    """Whether power is accounted for, and the electricity behind it. `pue`: facility power over that of the nodes."""

    measured: bool = False
    pue: float = 1.2
    grids: tuple[tuple[str, Grid], ...] = ()  # (zone, its electricity)


@dataclass(frozen=True, slots=True)
class Admission:
    """What the service does with requests once `max_waiting` per ready replica wait: keep them waiting ("queue"), turn
    newcomers away ("reject"), or cut every answer at `degraded_tokens` until the queue is short again ("degrade")."""

    policy: Literal["queue", "reject", "degrade"] = "queue"
    max_waiting: float = math.inf
    degraded_tokens: float = 64.0


@dataclass(frozen=True, slots=True)
class Transfer:
    """What the KV cache of a prompt takes on its way from a prefill to a decode replica."""

    fixed_s: float = 0.0
    s_per_token: float = 0.0  # of the prompt

    def delay_s(self, prompt_tokens: float) -> float:
        """Seconds from the first token to the arrival at a decode replica."""
        return self.fixed_s + prompt_tokens * self.s_per_token
