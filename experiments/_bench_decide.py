"""Microseconds per decision of every registered scaler, over an hour that was recorded once per scenario.

All scalers see the same observations, those of a fleet under the headroom rule, so what they decide changes nothing.
The clock is the thread's CPU time. Of every decision the fastest of several rounds counts: a busy machine adds time
and never takes any.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.page import page
from rlscale import loop, registry
from rlscale.scenario import Scenario
from rlscale.types import Decision, Load, Observation, Scaler

SCENARIOS = ("chat", "chat-mixed")
HOUR_S = 3600.0
ROUNDS, QUICK_ROUNDS = 15, 2
GOAL_US = 50.0


class _Recorder:
    """A scaler, and all it has seen."""

    def __init__(self, scaler: Scaler) -> None:
        self.scaler = scaler
        self.seen: list[Observation] = []

    def reset(self) -> None:
        self.scaler.reset()
        self.seen.clear()

    def decide(self, seen: Observation) -> Decision:
        self.seen.append(seen)
        return self.scaler.decide(seen)


def measure(quick: bool) -> dict[str, Any]:
    """Everything but the machine."""
    kinds = sorted(registry.scan("agents", "SCALERS"))
    cases, recorded = [], []
    for name in SCENARIOS:
        scenario, load, seen = _record(name)
        pools = len(scenario.cluster.pools)
        recorded.append(
            {"scenario": name, "pools": pools, "decisions": len(seen), "interval_s": scenario.cluster.interval_s}
        )
        for kind in kinds:
            scaler = registry.get("agents", "SCALERS", kind, "scaler").build(scenario.limits)
            spent_us = _decisions_us(scaler, load, seen, QUICK_ROUNDS if quick else ROUNDS)
            found = {"median_us": float(np.median(spent_us)), "p95_us": float(np.quantile(spent_us, 0.95))}
            cases.append({"scaler": kind, "scenario": name, "pools": pools} | found)
    return {
        "format": 1,
        "quick": quick,
        "unit": "microseconds of CPU time per decision, the least of the rounds",
        "rounds": QUICK_ROUNDS if quick else ROUNDS,
        "goal_us": GOAL_US,
        "recorded": recorded,
        "decide": cases,
    }


def tell(found: Mapping[str, Any]) -> None:
    """A table for the terminal, the slowest first."""
    from rich.table import Table

    table = Table(title=f"{found['unit']} (goal for rules: {found['goal_us']:g})")
    table.add_column("scaler")
    pools = [about["pools"] for about in found["recorded"]]
    for count, about in zip(pools, found["recorded"], strict=True):
        table.add_column(f"{about['scenario']}, {count} pools: median", justify="right")
        table.add_column("p95", justify="right")
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for case in found["decide"]:
        rows.setdefault(case["scaler"], {})[case["scenario"]] = case
    for scaler, row in sorted(rows.items(), key=lambda item: -max(case["p95_us"] for case in item[1].values())):
        cells = [row[about["scenario"]] for about in found["recorded"]]
        table.add_row(scaler, *(f"{case[which]:.1f}" for case in cells for which in ("median_us", "p95_us")))
    page().print(table)


def _record(name: str) -> tuple[Scenario, Load, list[Observation]]:
    """An hour of a scenario under the headroom rule."""
    from envs import get_scenario

    scenario = replace(get_scenario(name), horizon_s=HOUR_S)
    load = scenario.sample_load("train", 0)
    recorder = _Recorder(registry.get("agents", "SCALERS", "headroom", "scaler").build(scenario.limits))
    loop.run(scenario, recorder, load, 0)
    return scenario, load, recorder.seen


def _decisions_us(scaler: Any, load: Load, recorded: list[Observation], rounds: int) -> np.ndarray[Any, Any]:
    """The least time of every decision."""
    spent_ns: np.ndarray[Any, Any] = np.empty((rounds, len(recorded)))
    for row in spent_ns:
        scaler.reset()
        moments = _prepared(scaler, load, recorded)
        for i, seen in enumerate(moments):
            began = time.thread_time_ns()
            scaler.decide(seen)
            row[i] = time.thread_time_ns() - began
    return np.asarray(spent_ns.min(axis=0) / 1000.0)


def _prepared(scaler: Any, load: Load, recorded: list[Observation]) -> list[Observation]:
    """History for a scaler that wants it, forecasts for one that decides upon them."""
    forecaster = getattr(scaler, "forecaster", None)
    if forecaster is None:
        if hasattr(scaler, "warm_up"):
            scaler.warm_up(load.history_per_s, load.history_step_s)
        return recorded
    forecaster.reset(load.history_per_s, load.history_step_s)
    return [
        replace(seen, forecast_per_s=forecaster.update(float(seen.arrival_per_s), seen.interval_s)) for seen in recorded
    ]
