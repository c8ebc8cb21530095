"""The limits of a cluster, what comes in as an observation, and an hour of it as features; plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from experiments.exported.arrays import Array
from experiments.exported.data import SPEC
from rlscale.features import HISTORY_S, METRICS, WINDOWS_S, _begin, _push

NEEDED = ("week_s", "age_s", "arrival_per_s", "waiting", "ttft_s", "tpot_s", "attainment", "ready", "pending_by_age",
          "draining", "target", "compute_occupancy", "memory_occupancy")  # fmt: skip
OPTIONAL = {"standby": 0.0, "carbon_g_per_kwh": 0.0, "work_waiting": 0.0, "work_urgent": 0.0, "decode_waiting": 0.0}
PER_POOL = ("ready", "draining", "target", "compute_occupancy", "memory_occupancy", "standby", "carbon_g_per_kwh")
DEMAND = ("arrival_per_s", "waiting", "compute_occupancy", "memory_occupancy")  # what a multiplier multiplies
Seen = dict[str, Any]


class Known:
    """Limits as plain numbers: minima, maxima, capacities, and pools in the order in which they are filled."""

    def __init__(self, limits: Mapping[str, Any]) -> None:
        pools, slo = limits["pools"], limits["slo"]
        self.least = [int(pool["min_replicas"]) for pool in pools]
        self.most = [int(pool["max_replicas"]) for pool in pools]
        self.each_per_s = [float(pool["capacity_per_s"]) for pool in pools]
        price = [float(pool["usd_per_replica_s"]) for pool in pools]
        self.median_s = max(float(pool["start_median_s"]) for pool in pools)
        self.p95_s = max(float(pool["start_p95_s"]) for pool in pools)
        self.ttft_s, self.tpot_s = float(slo["ttft_s"]), float(slo.get("tpot_s") or math.inf)
        self.drain_s = float(limits["drain_s"])
        self.roles = [pool["role"] for pool in pools if pool.get("role")]
        work = sum(most * float(pool.get("work_tokens_per_s", 0.0)) for most, pool in zip(self.most, pools))
        self.work_per_h = max(1.0, 3600.0 * work)
        every = range(len(pools))
        names = ("prefill", "decode") if "decode" in self.roles else ()
        self.sides = [[p for p in every if self.roles[p] == name] for name in names] or [list(every)]
        usable = sorted((p for p in every if self.each_per_s[p] > 0), key=lambda p: price[p] / self.each_per_s[p])
        self.filling = [[p for p in usable if p in side] for side in self.sides]
        self.by_price = [p for side in self.filling for p in side]
        self.largest_per_s = min(sum(self.most[p] * self.each_per_s[p] for p in side) for side in self.sides)


class Features:
    """An hour of rates, and observations as features."""

    def __init__(self, known: Known, interval_s: float) -> None:
        length = max(4, round(HISTORY_S / interval_s))
        windows = [min(length, max(1, round(window / interval_s))) for window in WINDOWS_S]
        pools = len(known.each_per_s)
        self.known, self.interval_s, self._row = known, interval_s, Array([0], (1,), "q")
        self._windows = Array(windows, (len(windows),), "q")
        self._capacity = Array(known.each_per_s, (pools,))
        back = [int(p in known.sides[1]) for p in range(pools)] if known.roles else []
        self._back = Array(back, (len(back),), "q")
        self._constants = (min(known.each_per_s), known.largest_per_s, known.drain_s, known.ttft_s, known.tpot_s,
                           interval_s, known.median_s, known.p95_s, known.work_per_h)  # fmt: skip
        self._low, self._high = (Array(SPEC[name], (len(SPEC[name]),)) for name in ("lowest", "highest"))
        shapes = ((1, length, 2), (1, windows[1]), (1, len(windows) + 1), (1, METRICS))
        self._state: Any = (Array([0], (1,), "q"), *(Array(None, shape) for shape in shapes))

    def begin(self, history: list[float], step_s: float) -> None:
        """Fill the hour with what was before."""
        rows: Any = (self._row, Array(history, (1, len(history))))
        windows: Any = self._windows
        _begin(*rows, step_s, self.interval_s, windows, *self._state)

    def push(self, seen: Seen) -> list[float]:
        """The features after this observation."""
        out, pools = Array(None, (1, len(SPEC["lowest"])), "f"), len(self.known.least)

        def one(name: str) -> Any:
            return Array([seen[name]], (1,))

        def each(name: str) -> Any:
            return Array(seen[name], (1, pools))

        ages: Any = Array([age for pool in seen["pending_by_age"] for age in pool], (1, pools, SPEC["ages"]))
        fixed: Any = (self._capacity, self._back, self._constants, self._windows, self._low, self._high)
        rows: Any = self._row
        _push(
            rows, one("arrival_per_s"), one("waiting"), one("ttft_s"), one("tpot_s"), one("attainment"),
            one("week_s"), one("age_s"), each("compute_occupancy"), each("memory_occupancy"), each("ready"),
            each("target"), each("draining"), ages, each("standby"), each("carbon_g_per_kwh"), one("work_waiting"),
            one("work_urgent"), one("decode_waiting"), *fixed, *self._state, out,
        )  # fmt: skip
        features: list[float] = out.data.tolist()
        return features


def read(observation: Mapping[str, Any], pools: int, multiplier: float) -> Seen:
    """The fields that are needed, as floats and lists of floats."""
    lacking = [name for name in NEEDED if name not in observation]
    if lacking:
        raise ValueError(f"the observation has no {', '.join(lacking)}; what is not known is NaN")
    seen: Seen = {}
    for name in (*NEEDED, *OPTIONAL):
        value = observation.get(name, OPTIONAL.get(name))
        if name == "pending_by_age":
            seen[name] = [[number(count) for count in row] for row in (() if value is None else value)]
        elif name in PER_POOL:
            seen[name] = [number(item) for item in value] if hasattr(value, "__len__") else [number(value)] * pools
        else:
            seen[name] = number(value)
        if name in PER_POOL and len(seen[name]) != pools:
            raise ValueError(f"{name} has {len(seen[name])} entries; expected one for each of {pools} pools")
    if [len(row) for row in seen["pending_by_age"]] != [SPEC["ages"]] * pools:
        raise ValueError(f"pending_by_age: expected {SPEC['ages']} ages for each of {pools} pools")
    seen["interval_s"] = number(observation.get("interval_s") or SPEC["interval_s"])
    if multiplier != 1.0:
        for name in DEMAND:
            value = seen[name]
            seen[name] = [multiplier * item for item in value] if name in PER_POOL else multiplier * value
    return seen


def number(value: Any) -> float:
    """A float; None is NaN."""
    return math.nan if value is None else float(value)


def of_rlscale(limits: Any) -> dict[str, Any]:
    """rlscale's ScalingLimits in the form of limits.json."""
    fields = ("min_replicas", "max_replicas", "capacity_per_s", "start_median_s", "start_p95_s", "usd_per_replica_s",
              "work_tokens_per_s")  # fmt: skip
    pools = [{name: getattr(limits, name)[p] for name in fields} for p in range(len(limits.min_replicas))]
    for pool, role in zip(pools, limits.roles):
        pool["role"] = role
    slo = {"ttft_s": limits.slo.ttft_s, "tpot_s": limits.slo.tpot_s}
    return {"pools": pools, "drain_s": limits.drain_s, "slo": slo}
