"""Capacity in proportion to a forecast: exponential smoothing, or Holt's level and trend one lead time ahead."""

from __future__ import annotations

import math

import numpy as np

from agents.headroom import LEVELS
from rlscale.decide import blind, hold, lead_s, positive
from rlscale.predict import forecaster as build_forecaster
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits


class Smoothing:
    """headroom * (forecast + backlog/drain_s). The forecaster is its own, so that its rates are those it has seen."""

    def __init__(
        self, limits: ScalingLimits, headroom: float = 1.2, forecaster: str = "exponential", **parameters: float
    ) -> None:
        self.limits = limits
        self.headroom = positive("smoothing: headroom", headroom)
        self._forecaster = build_forecaster(forecaster, lead_s(limits), **parameters)

    def reset(self) -> None:
        """Forget the rates."""
        self._forecaster.reset(np.zeros(0), 1.0)

    def decide(self, seen: Observation) -> Decision:
        """Headroom times forecast."""
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        # A forecaster skips what was not measured; an old rate it would take for a new one.
        forecast = self._forecaster.update(math.nan if why else seen.arrival_per_s, seen.interval_s)
        if why:
            return hold(seen, why)
        wanted = self.headroom * (forecast + max(seen.waiting, seen.decode_waiting) / self.limits.drain_s)
        return Decision(reason=f"{forecast:.4g}/s forecast, {wanted:.4g}/s wanted", capacity_per_s=float(wanted))


def holt(limits: ScalingLimits, headroom: float = 1.2, **parameters: float) -> Smoothing:
    """Smoothing with a trend, projected over the lead time of a replica."""
    return Smoothing(limits, headroom, "holt", **parameters)


_KNOB = Knob("headroom", LEVELS, 1.2, "capacity over forecast")

SCALERS = {
    "smoothing": ScalerKind(Smoothing, _KNOB, "capacity in proportion to an exponentially smoothed rate"),
    "holt": ScalerKind(holt, _KNOB, "capacity in proportion to Holt's forecast one lead time ahead"),
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "smoothing": {"headroom": ("log", 0.7, 3.0), "alpha": ("log", 0.005, 1.0)},
    "holt": {"headroom": ("log", 0.7, 3.0), "alpha": ("log", 0.005, 1.0), "beta": ("log", 0.001, 0.5)},
}
