"""The friendly AutoScaler as one of the scalers to compare."""

from __future__ import annotations

from agents.threshold import OCCUPANCIES
from rlscale.autoscaler import AutoScaler
from rlscale.types import Knob, ScalerKind, ScalingLimits


def build(limits: ScalingLimits, target_utilization: float = 0.8) -> AutoScaler:
    """One target for compute and memory, on the pools of a cluster."""
    return AutoScaler(
        target_cpu_utilization=target_utilization, target_memory_utilization=target_utilization, limits=limits
    )


SCALERS = {
    "autoscaler": ScalerKind(
        build,
        Knob(
            "target_utilization",
            OCCUPANCIES,
            0.8,
            "wanted occupancy of compute and KV memory, as a share of what a replica carries within the SLO",
        ),
        "keeps compute and KV-memory occupancy near a target, the larger need wins",
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {"autoscaler": {"target_utilization": ("log", 0.05, 1.0)}}
