"""A recorded range as a load: the trace file with its gaps, and the lengths of prompts and answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from experiments.calibrate_prometheus_ranges import Ranges
from rlscale.deploy.base import MetricsError
from rlscale.deploy.buckets import Buckets, quantile
from rlscale.workloads.tokens import KNOTS

MOST_MISSING = 0.5  # share of cells; with more the trace would be mostly interpolation
LENGTHS = {"prompt": "prompt_tokens", "output": "answer_tokens"}


@dataclass(frozen=True, slots=True)
class Gap:
    """Cells without a rate."""

    start_s: float  # unix time
    cells: int


def gaps(ranges: Ranges) -> list[Gap]:
    """Where the arrival rate is not known; refused when that is most of the range."""
    missing = ~np.isfinite(ranges.values["arrival_per_s"])
    share = float(missing.mean())
    if share > MOST_MISSING:
        raise MetricsError(
            f"{ranges.source}: {share:.0%} of the range has no arrival rate; expected at most {MOST_MISSING:.0%}: "
            "give a shorter --range, or a template whose arrival_per_s fits the exported metrics"
        )
    edges = np.flatnonzero(np.diff(np.concatenate([[0], missing.astype(np.int8), [0]])))
    return [Gap(ranges.start_s + float(a) * ranges.step_s, int(b - a)) for a, b in edges.reshape(-1, 2)]


def trace_text(ranges: Ranges) -> str:
    """The trace as CSV: time of the cell's beginning, requests per second, and whether it is missing."""
    lines = ["timestamp,rate_per_s,missing"]
    for i, rate in enumerate(ranges.values["arrival_per_s"]):
        lines.append(f"{utc(ranges.start_s + i * ranges.step_s)},{rate if math.isfinite(rate) else 0.0:.6g},"
                     f"{0 if math.isfinite(rate) else 1}")  # fmt: skip
    return "\n".join(lines) + "\n"


def utc(unix_s: float) -> str:
    """A time as the readers of traces take it."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def tokens(ranges: Ranges, own: Mapping[str, float], base: Any) -> tuple[dict[str, Any] | str, list[str]]:
    """Lengths as a scenario takes them, and how they were found: by histogram, by mean, given, or of the base scenario.

    `own` has lengths that the user gave, by "prompt" and "output"; `base` is the choice of the base scenario.
    """
    found: dict[str, Any] = {}
    notes = []
    for side, name in LENGTHS.items():
        held, mean = ranges.histograms.get(name), _mean_length(ranges, name)
        if side in own:
            found[side] = own[side]
            notes.append(f"{side}: {own[side]:g} tokens each, as given")
        elif held is not None:
            found[side], factor = _knots(held, mean)
            notes.append(f"{side}: quantiles of the histogram of {held.total:.0f} requests ({len(held.edge)} buckets), "
                         f"times {factor:.3g} for the recorded mean")  # fmt: skip
        elif math.isfinite(mean):
            found[side] = round(mean, 1)
            notes.append(f"{side}: every request {mean:.1f} tokens, the recorded mean: there is no histogram, so the "
                         "tail of long ones is missing and need is underestimated")  # fmt: skip
    if len(found) < len(LENGTHS):
        missing = " and ".join(side for side in LENGTHS if side not in found)
        return base, [f"{missing}: not recorded; the lengths of both are those of the base scenario"]
    return found, notes


def _mean_length(ranges: Ranges, name: str) -> float:
    """Mean per request: each cell by its requests."""
    values, rate = ranges.values[name], ranges.values["arrival_per_s"]
    there = np.isfinite(values) & np.isfinite(rate) & (values > 0.0) & (rate > 0.0)
    return float(np.average(values[there], weights=rate[there])) if there.any() else math.nan


def _knots(held: Buckets, mean: float) -> tuple[dict[float, float], float]:
    """Quantiles brought to the recorded mean, which wide buckets miss by up to a fifth, and the factor that does it.

    What lies above the last edge is put on it, so that the tail is cut there.
    """
    last = float(held.edge[-2])
    plain = np.array([min(last, quantile(held, p) if p > 0.0 else _first(held)) for p in KNOTS])
    factor = mean / float(np.trapezoid(plain, KNOTS)) if math.isfinite(mean) else 1.0
    return {p: round(max(1.0, factor * float(tokens)), 1) for p, tokens in zip(KNOTS, plain, strict=True)}, factor


def _first(held: Buckets) -> float:
    """Lower edge of the first bucket with anything in it."""
    i = int(np.argmax(held.count > 0.0))
    return float(held.edge[i - 1]) if i > 0 else 0.0


def spread2(held: Buckets) -> float:
    """Mean of the squares over the square of the mean, observations evenly within their buckets, 1 or more."""
    low, high = np.append(0.0, held.edge[:-1]), np.append(held.edge[:-1], held.edge[-2])
    share = np.diff(np.append(0.0, held.count)) / held.total
    mean = float(share @ (0.5 * (low + high)))
    return float(share @ ((low * low + low * high + high * high) / 3.0)) / mean**2
