"""Knative Serving's autoscaler settings, and what follows from them for one revision.

After config-autoscaler, pkg/reconciler/autoscaling/resources/target.go, pkg/autoscaler/metrics and
pkg/reconciler/autoscaling/kpa of knative/serving, commit 98e5ef90aa70 (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Metric = Literal["concurrency", "rps"]

TICK_S = 2.0  # of the autoscaler, and one bucket of the scale-down delay
SCRAPE_S = 1.0  # and one bucket of a metric window
WINDOW_RANGE_S = (6.0, 3600.0)
LEAST_TARGET = 0.01
LEAST_ACTIVATORS = 2
FULL_SAMPLE = 3  # up to so many pods all are scraped
# Sample of a finite population: 95 % confidence, (z * sigma / error)^2 with sigma/error = 10/5.
_SAMPLE = 1.96**2 * 100.0 / 25.0


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's ConfigMap; every default is upstream's. Shares are 0 to 1, except the percentages named so."""

    container_concurrency_target_fraction: float = 0.7
    container_concurrency_target_default: float = 100.0
    rps_target_default: float = 200.0
    target_utilization: float = 0.7
    target_burst_capacity: float = 211.0  # requests; 0: activator never in the path, below 0: always
    stable_window_s: float = 60.0
    panic_window_percentage: float = 10.0
    panic_threshold_percentage: float = 200.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    scale_down_delay_s: float = 0.0
    activation_scale: int = 1
    enable_scale_to_zero: bool = True
    scale_to_zero_grace_period_s: float = 30.0
    scale_to_zero_pod_retention_period_s: float = 0.0
    progress_deadline_s: float = 600.0  # of config-deployment
    initial_scale: int = 1
    allow_zero_initial_scale: bool = False
    min_scale: int = 0
    max_scale: int = 0  # 0: unlimited
    activator_capacity: float = 100.0
    tick_s: float = TICK_S
    scrape_s: float = SCRAPE_S

    @property
    def panic_threshold(self) -> float:
        """Panic demand per ready pod at which panic begins: 200 % is 2.0."""
        return self.panic_threshold_percentage / 100.0

    @property
    def panic_window_s(self) -> float:
        """Length of the panic window."""
        return panic_window_s(self.stable_window_s, self.panic_window_percentage)


DEFAULTS = Config()


def panic_window_s(stable_window_s: float, percentage: float) -> float:
    """That share of the stable window in whole seconds, halves up, at least one bucket."""
    return max(SCRAPE_S, math.floor(stable_window_s * percentage / 100.0 + 0.5))


def resolve_target(
    config: Config,
    metric: Metric = "concurrency",
    container_concurrency: float = 0.0,
    target_annotation: float | None = None,
    utilization_annotation: float | None = None,
) -> tuple[float, float]:
    """(target, total) per pod: what the autoscaler aims at and what a pod can hold.

    `container_concurrency` 0 is no hard limit; a limit caps an annotated concurrency and means nothing for RPS.
    `utilization_annotation`, a share, goes before the cluster's.
    """
    if metric == "rps":
        total, utilization = config.rps_target_default, config.target_utilization
    else:
        total = container_concurrency or config.container_concurrency_target_default
        utilization = config.container_concurrency_target_fraction
    if target_annotation is not None:
        limited = metric == "concurrency" and container_concurrency
        total = min(target_annotation, container_concurrency) if limited else target_annotation
    if utilization_annotation is not None:
        utilization = utilization_annotation
    return max(LEAST_TARGET, total * utilization), total


def sample_size(pods: int) -> int:
    """How many of `pods` ready pods are scraped."""
    if pods <= FULL_SAMPLE:
        return pods
    return math.ceil(pods * _SAMPLE / (pods + _SAMPLE - 1.0))


def scraped_concurrency(sample: Sequence[tuple[float, float]], pods: int) -> float:
    """Concurrency of a revision with `pods` ready pods from (all, proxied) concurrency of the scraped ones.

    What came through the activator is subtracted, because the activator reports it itself.
    """
    if not sample:
        return 0.0
    mean = sum(max(0.0, every - proxied) for every, proxied in sample) / len(sample)
    return mean * pods


def activator_count(
    ready_pods: int, total_value: float, target_burst_capacity: float, activator_capacity: float
) -> int:
    """Activators in a revision's subset: enough for all its pods and the burst, never fewer than two."""
    if target_burst_capacity == 0:
        return LEAST_ACTIVATORS
    wanted = ready_pods * total_value + max(0.0, target_burst_capacity)
    return max(LEAST_ACTIVATORS, math.ceil(wanted / activator_capacity))


def exposed_defaults() -> dict[str, Any]:
    """All default settings, under the names of the ConfigMap and under the shorter ones of a decider's spec."""
    shorter = {
        "target_utilisation": DEFAULTS.target_utilization,
        "concurrency_target": DEFAULTS.container_concurrency_target_default,
        "rps_target": DEFAULTS.rps_target_default,
        "panic_window_s": DEFAULTS.panic_window_s,
        "panic_window_pct": DEFAULTS.panic_window_percentage,
        "panic_threshold": DEFAULTS.panic_threshold,
        "panic_threshold_pct": DEFAULTS.panic_threshold_percentage,
        "grace_period_s": DEFAULTS.scale_to_zero_grace_period_s,
        "scale_to_zero_grace_s": DEFAULTS.scale_to_zero_grace_period_s,
        "pod_retention_s": DEFAULTS.scale_to_zero_pod_retention_period_s,
        "stable_window_min_s": WINDOW_RANGE_S[0],
        "stable_window_max_s": WINDOW_RANGE_S[1],
        "tick_interval_s": DEFAULTS.tick_s,
    }
    return asdict(DEFAULTS) | shorter
