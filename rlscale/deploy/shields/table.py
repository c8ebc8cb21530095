"""Which shields there are, in the order in which they act. A new one is a file, a setting and a line here."""

from __future__ import annotations

from typing import Any

from rlscale.deploy.shield_config import ShieldsConfig
from rlscale.deploy.shields.base import Gate, Shield
from rlscale.deploy.shields.distribution import Distribution
from rlscale.deploy.shields.flap import Flap
from rlscale.deploy.shields.limits import Limits
from rlscale.deploy.shields.metrics import Metrics
from rlscale.deploy.shields.queueing import Queueing
from rlscale.deploy.shields.silence import Silence
from rlscale.deploy.shields.tolerance import Tolerance
from rlscale.types import ScalingLimits


def gates(config: ShieldsConfig, policy: Any, limits: ScalingLimits) -> dict[str, Gate]:
    """Those that say who decides; the first that does not leave it to the scaler wins."""
    every: dict[str, Gate] = {
        "metrics": Metrics(config.metrics),
        "silence": Silence(config.silence),
        "distribution": Distribution(config.distribution, policy, limits),
    }
    if config.limits.scale_to_zero:  # silence is what is waited for
        del every["silence"]
    return {name: gate for name, gate in every.items() if getattr(config, name).on}


def shields(config: ShieldsConfig) -> dict[str, Shield]:
    """Those that change targets, one after the other; limits come last, so that nothing gets past them."""
    every: dict[str, Shield] = {
        "queueing": Queueing(config.queueing),
        "flap": Flap(config.flap),
        "tolerance": Tolerance(config.tolerance),
        "limits": Limits(config.limits),
    }
    return {name: shield for name, shield in every.items() if getattr(config, name).on}
