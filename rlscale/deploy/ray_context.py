"""From Ray Serve's AutoscalingContext to a reading of metrics and a fleet. Knows no ray, no scaler and no clock.

Serve tells requests present, queued and running, each as an aggregate over the deployment's look-back window, and what
the replicas record themselves: the totals of `rlscale.deploy.ray_stats`, read as differences over the same window, or
rates and means under the names of `NAMES`, as Serve aggregates them. What follows from that:

- arrival rate: what replicas record is what has left Serve's queue, so the growth of the queue is added. Nothing
  recorded: by Little's law running requests leave at running x l_SLO / seats, and the growth of all requests present
  is added; at low load, where requests are faster than at l_SLO, that is too low.
- TTFT: what replicas record plus the mean wait in Serve's queue, queued / arrival rate (Little's law). A mean wait
  beyond the TTFT of the SLO leaves an attainment of 0.
- time of the metrics: the newest record of a replica; who served then: the replicas with records of that time. Without
  records neither is known, and a proxy that has died looks like a service without load; with them, records older than
  the window, and replicas that serve while Serve tells of no request, are missing metrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlscale.deploy.base import BackendError, Fleet, MetricsError, Reading
from rlscale.deploy.ray_stats import TOTALS
from rlscale.types import ScalingLimits

MEANS = ("ttft_s", "tpot_s", "attainment", "prompt_tokens", "answer_tokens")  # weighted with answered_per_s, if told
WEIGHT, MEMORY = "answered_per_s", "memory_occupancy"
NAMES = ("arrival_per_s", "dropped_per_s", *MEANS, WEIGHT, MEMORY)  # that a replica may record by itself
RECORDED = frozenset((*NAMES, *(f"{name}_total" for name in TOTALS)))
LATE_RECORDS = 2.0  # intervals of metrics by which the records of a replica that serves may differ in age
SETTINGS = {
    "upscale_delay_s": (0.0, "delays every order"),
    "downscale_delay_s": (0.0, "delays every release"),
    "downscale_to_zero_delay_s": (0.0, "delays the release of the last replica"),
    "upscaling_factor": (1.0, "multiplies every increase"),
    "downscaling_factor": (1.0, "multiplies every decrease"),
    "smoothing_factor": (1.0, "multiplies every change"),
    "upscale_smoothing_factor": (1.0, "multiplies every increase"),
    "downscale_smoothing_factor": (1.0, "multiplies every decrease"),
    "aggregation_function": ("mean", "makes another load of what there was"),
}  # what Serve does to a decision after it was taken: (harmless value, otherwise)


class ContextReader:
    """Readings from one context after another; remembers what requests were present at the last one."""

    def __init__(self, limits: ScalingLimits, began_s: float) -> None:
        self._capacity_per_s, self._seats = float(limits.capacity_per_s[0]), float(limits.seats[0])
        self._slo_ttft_s = limits.slo.ttft_s
        self._began_s = began_s
        self._before: tuple[float, float, float] | None = None  # steady time, queued, present
        self._heard = self._recorded = False
        self.how = ""  # where the arrival rate came from: recorded or estimated

    def read(self, ctx: Any, steady_s: float, unix_s: float) -> Reading:
        """Raises MetricsError while there is nothing that could be believed."""
        present, queued = number(ctx.total_num_requests), number(ctx.total_queued_requests)
        if math.isnan(present):
            raise MetricsError(f"total_num_requests is {ctx.total_num_requests!r}; expected a number, 0 or more")
        queued = 0.0 if math.isnan(queued) else min(queued, present)
        told = {**_told(ctx.aggregated_metrics), **_between(ctx.raw_metrics)}
        newest_s = _newest_s(ctx)
        self._check(ctx, steady_s, present, told)
        # Totals come the same way as records: when those are older than the window, nothing in it is known.
        window_s = number(getattr(ctx.config, "look_back_period_s", None))
        late_s = unix_s - newest_s - number(getattr(ctx.config, "metrics_interval_s", 0.0))
        if told and late_s > window_s:
            raise MetricsError(f"the newest record of a replica is {unix_s - newest_s:.1f} s old")
        grown, grown_queue = self._growth(steady_s, present, queued)
        running = present - queued
        recorded = told.get("arrival_per_s")
        self.how = "recorded" if recorded else "estimated"
        if recorded:
            started_per_s = sum(recorded.values())
            arrival_per_s = max(0.0, started_per_s + grown_queue)
        else:
            busy = min(running, number(ctx.current_num_replicas) * self._seats)
            started_per_s = busy * self._capacity_per_s / self._seats
            arrival_per_s = max(0.0, started_per_s + grown)
        means = {name: _mean(told.get(name), told.get(WEIGHT)) for name in MEANS}
        wait_s = queued / started_per_s if started_per_s > 0 else math.inf if queued > 0 else 0.0
        means["ttft_s"] += wait_s if math.isfinite(wait_s) else math.nan
        if wait_s > self._slo_ttft_s and not math.isnan(means["attainment"]):
            means["attainment"] = 0.0
        memory = _mean(told.get(MEMORY), None)
        return Reading(
            newest_s if recorded and math.isfinite(newest_s) else unix_s,
            arrival_per_s, queued, running,
            ttft_s=means["ttft_s"], tpot_s=means["tpot_s"], attainment=means["attainment"],
            dropped_per_s=sum(told["dropped_per_s"].values()) if "dropped_per_s" in told else math.nan,
            prompt_tokens=means["prompt_tokens"], answer_tokens=means["answer_tokens"],
            memory=() if math.isnan(memory) else (memory,), replicas=_recording(ctx, newest_s),
        )  # fmt: skip

    def _check(self, ctx: Any, steady_s: float, present: float, told: Mapping[str, Any]) -> None:
        """No metrics look like no load. Before the first report, and when records cease, nothing is believed."""
        self._heard = self._heard or present > 0 or bool(told)
        window_s = number(getattr(ctx.config, "look_back_period_s", 0.0))
        if not self._heard and steady_s - self._began_s <= window_s:
            raise MetricsError(f"no report yet; believed to be idle after {window_s:g} s")
        if self._recorded and not told and number(ctx.current_num_replicas) > 0:
            raise MetricsError("replicas run and record nothing any more")
        if present == 0 and (inside := _inside(ctx.raw_metrics)) > 0:
            raise MetricsError(f"Serve tells of no request, its replicas of {inside:g} that they serve")
        self._recorded = self._recorded or bool(told)

    def _growth(self, steady_s: float, present: float, queued: float) -> tuple[float, float]:
        """Requests per second by which all and the queued ones have become more since the last reading."""
        before, self._before = self._before, (steady_s, queued, present)
        if before is None or steady_s <= before[0]:
            return 0.0, 0.0
        past_s = steady_s - before[0]
        return (present - before[2]) / past_s, (queued - before[1]) / past_s


def fleet(ctx: Any) -> Fleet:
    """Replicas that run, those that are ordered and do not run yet, and the target. Serve does not tell which drain."""
    ready, target = number(ctx.current_num_replicas), number(ctx.target_num_replicas)
    if not (math.isfinite(ready) and math.isfinite(target)):
        raise BackendError(f"replicas {ctx.current_num_replicas!r}, target {ctx.target_num_replicas!r}; "
                           "expected numbers, 0 or more")  # fmt: skip
    return Fleet((int(ready),), (max(0, int(target) - int(ready)),), (int(target),))


def bounds(ctx: Any, to_zero: bool) -> tuple[int, int]:
    """Least and most replicas that may be asked for; at least one, unless zero is allowed by both sides."""
    low, high = number(ctx.capacity_adjusted_min_replicas), number(ctx.capacity_adjusted_max_replicas)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BackendError(f"bounds {ctx.capacity_adjusted_min_replicas!r} to {ctx.capacity_adjusted_max_replicas!r}; "
                           "expected numbers, 0 or more")  # fmt: skip
    least = max(int(low), 0 if to_zero else 1)
    return least, max(least, int(high))


def altered(config: Any, interval_s: float) -> list[str]:
    """Settings by which Serve changes decisions that are not its own, or what they are made of; empty when there are
    none."""
    found = []
    pushed_s = number(getattr(config, "metrics_interval_s", None))
    if pushed_s > interval_s:
        found.append(f"metrics_interval_s = {pushed_s:g} brings metrics less often than decisions; set it to "
                     f"{interval_s / 2:g}")  # fmt: skip
    window_s = number(getattr(config, "look_back_period_s", None))
    if window_s > 2 * interval_s:
        found.append(f"look_back_period_s = {window_s:g} shows means of more than two control intervals; set it to "
                     f"{interval_s:g}")  # fmt: skip
    for name, (harmless, does) in SETTINGS.items():
        value = getattr(config, name, None)
        if value is not None and getattr(value, "value", value) != harmless:
            found.append(f"{name} = {getattr(value, 'value', value)} {does}; set it to {harmless}")
    return found


def number(value: Any) -> float:
    """As a float; NaN for everything that is no count, rate or time."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return math.nan
    return found if 0.0 <= found < math.inf else math.nan


def _told(metrics: Any) -> dict[str, dict[Any, float]]:
    """Known names with the replicas that gave a number."""
    known: dict[str, dict[Any, float]] = {}
    for name in NAMES:
        values = (metrics or {}).get(name) or {}
        read = {replica: found for replica, value in values.items() if math.isfinite(found := number(value))}
        if read:
            known[name] = read
    return known


def _between(raw: Any) -> dict[str, dict[Any, float]]:
    """Rates and means of every replica between the first and the last of its totals in the window."""
    found: dict[str, dict[Any, float]] = {}
    series = {name: (raw or {}).get(f"{name}_total") or {} for name in TOTALS}
    for replica, points in series["arrived"].items():
        span_s = points[-1].timestamp - points[0].timestamp if points else 0.0
        if not span_s > 0:
            continue
        more = {name: _rise(by_replica.get(replica)) for name, by_replica in series.items()}
        told = {"arrival_per_s": more["arrived"] / span_s, WEIGHT: more["answered"] / span_s,
                "dropped_per_s": more["dropped"] / span_s}  # fmt: skip
        if more["answered"] > 0:
            told |= {name: more[name] / more["answered"] for name in ("ttft_s", "prompt_tokens", "answer_tokens")}
        if more["several"] > 0:
            told["tpot_s"] = more["tpot_s"] / more["several"]
        outcomes = more["answered"] + more["dropped"]
        if outcomes > 0:
            told["attainment"] = more["met"] / outcomes
        for name, value in told.items():
            if math.isfinite(number(value)):
                found.setdefault(name, {})[replica] = value
    return found


def _inside(raw: Any) -> float:
    """Requests that have come to the replicas and neither been answered nor dropped, by their totals."""
    series = {name: (raw or {}).get(f"{name}_total") or {} for name in ("arrived", "answered", "dropped")}
    last = {name: sum(points[-1].value for points in replicas.values() if points) for name, replicas in series.items()}
    return float(last["arrived"] - last["answered"] - last["dropped"])


def _rise(points: Any) -> float:
    return max(0.0, float(points[-1].value - points[0].value)) if points else 0.0


def _mean(values: Mapping[Any, float] | None, weights: Mapping[Any, float] | None) -> float:
    """Weighted, of the replicas that answered anything; NaN where nobody did."""
    if not values:
        return math.nan
    if not weights:
        return sum(values.values()) / len(values)
    total = sum(weights.get(replica, 0.0) for replica in values)
    if total <= 0.0:
        return math.nan
    return sum(value * weights.get(replica, 0.0) for replica, value in values.items()) / total


def _newest_s(ctx: Any) -> float:
    """Unix time of the newest record of a replica; NaN where Serve does not tell."""
    return max(_last_s(ctx).values(), default=math.nan)


def _recording(ctx: Any, newest_s: float) -> tuple[int, ...]:
    """How many replicas the newest records are of; nothing where they record nothing.

    Serve keeps the series of a replica that is gone until the window has passed, so old ends do not count.
    """
    late_s = LATE_RECORDS * max(1.0, number(getattr(ctx.config, "metrics_interval_s", 0.0)))
    count = sum(last_s >= newest_s - late_s for last_s in _last_s(ctx).values())
    return (count,) if count else ()


def _last_s(ctx: Any) -> dict[Any, float]:
    """Unix time of the newest record of every replica that records."""
    found: dict[Any, float] = {}
    for name, by_replica in (ctx.raw_metrics or {}).items():
        for replica, points in by_replica.items() if name in RECORDED else ():
            if points and math.isfinite(last_s := number(points[-1].timestamp)):
                found[replica] = max(last_s, found.get(replica, 0.0))
    return found
