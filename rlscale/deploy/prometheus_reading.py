"""From the answers to a template's questions to a Reading. Pure; knows neither HTTP nor PromQL.

An empty window, where the histogram is there and nothing came, is known to be empty: as in the simulator, latency is 0
and attainment 1. What is not there at all is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rlscale.deploy.base import MetricsError, Reading
from rlscale.deploy.buckets import Buckets, mean, quantile, share_below
from rlscale.types import Slo

SLACK = 1e-6  # by which a share may be above 1: rounding of averages
Latency = Literal["ttft", "tpot"]
NAMED: tuple[Latency, ...] = ("ttft", "tpot")


@dataclass(frozen=True, slots=True)
class Told:
    """What Prometheus said: numbers by field, histograms of the window with the sum of what they hold."""

    values: Mapping[str, float]
    histograms: Mapping[str, tuple[Buckets, float]] = field(default_factory=dict)
    memory: tuple[float, ...] = ()
    running_by_pool: tuple[float, ...] = ()


def reading_of(told: Told, taken_s: float, slo: Slo, window_s: float) -> Reading:
    """The reading; a number given outright comes before one that follows from a histogram."""
    found: dict[str, float] = {}
    for name in NAMED:
        if name in told.histograms:
            held, total = told.histograms[name]
            idle = held.total <= 0.0
            found[f"{name}_s"] = 0.0 if idle else mean(total, held)
            found[f"{name}_p90_s"] = 0.0 if idle else quantile(held, 0.9)
    found["attainment"] = _attainment(told, slo, window_s)
    found |= {name: value for name, value in told.values.items() if name not in ("memory", "replicas")}
    numbers: dict[str, Any] = {name: _checked(name, value) for name, value in found.items()}
    memory = tuple(_checked("memory", share) for share in told.memory)
    return Reading(taken_s, **numbers, memory=memory,
                   running_by_pool=tuple(_checked("running", count) for count in told.running_by_pool))  # fmt: skip


def _attainment(told: Told, slo: Slo, window_s: float) -> float:
    """A lower bound: who misses TTFT and who misses TPOT are taken to be different requests; what was dropped missed.

    The two histograms do not say which request is in which bucket. The limit of TTFT is that of the mean prompt.
    """
    shares = []
    limits = {"ttft": _ttft_limit_s(told, slo), "tpot": slo.tpot_s}
    for name in NAMED:
        held = told.histograms.get(name)
        if math.isinf(limits[name]):
            shares.append(1.0)
        elif held is None:
            return math.nan
        else:
            shares.append(1.0 if held[0].total <= 0.0 else share_below(held[0], limits[name]))
    answered = max((held.total for held, _ in told.histograms.values()), default=0.0)
    if "ttft" in told.histograms:
        answered = told.histograms["ttft"][0].total
    dropped = told.values.get("dropped_per_s", 0.0) * window_s
    dropped = dropped if dropped > 0.0 and math.isfinite(dropped) else 0.0
    outcomes = answered + dropped
    return max(0.0, sum(shares) - 1.0) * (answered / outcomes if outcomes > 0.0 else 1.0)


def _ttft_limit_s(told: Told, slo: Slo) -> float:
    prompt = told.values.get("prompt_tokens", math.nan)
    return slo.ttft_s + (prompt / slo.ttft_tokens_per_s if math.isfinite(prompt) and prompt > 0.0 else 0.0)


def _checked(name: str, value: float) -> float:
    """The value, NaN where it says nothing; a share above 1 is a percentage in the wrong place, and an error."""
    if math.isnan(value) or (math.isinf(value) and not (name.endswith("_p90_s") and value > 0.0)):
        return math.nan
    if name in ("memory", "attainment"):
        if not -SLACK <= value <= 1.0 + SLACK:
            raise MetricsError(f"metrics.queries.{name}: got {value:g}, expected a share from 0 to 1")
        return min(max(value, 0.0), 1.0)
    if value < 0.0:
        raise MetricsError(f"metrics.queries.{name}: got {value:g}, expected 0 or more")
    return value
