"""The scale of a scenario's reward when training begins before its reference cost was computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlscale.feedback import Scale
from rlscale.loop import need_series
from rlscale.scenario import Scenario
from rlscale.types import Load


def scale_of(scenario: Scenario, loads: Sequence[Load]) -> Scale:
    """The stored scale, else a provisional one: the price of the mean need, and the mean requests."""
    if scenario.scale is not None:
        return scenario.scale
    spec, known = scenario.cluster, scenario.limits
    need = np.mean([need_series(load, spec, known).mean() for load in loads])
    rate = np.mean([load.rate_per_s.mean() for load in loads])
    # Of prefill and decode replicas the mean of a fleet of both in which neither has more than the other needs.
    weights = [known.reference_per_s / float(known.capacity_per_s[pool]) for pool in known.cheapest]
    usd_per_s = sum(weight * float(known.usd_per_replica_s[pool])
                    for weight, pool in zip(weights, known.cheapest, strict=True))  # fmt: skip
    return Scale(float(need * usd_per_s * spec.interval_s), float(rate * spec.interval_s))
