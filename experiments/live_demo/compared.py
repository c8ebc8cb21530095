"""Live against simulated, number by number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.live_demo.outcome import Played
from rlscale.loop import RunResult
from rlscale.sim.histogram import quantile
from rlscale.types import Floats

GOAL = 0.15  # relative error of each measure that has a goal
MEASURES = (  # key, name, unit, whether the goal is for it
    ("attainment", "requests within the SLO", "share", True), ("cost_usd", "cost", "USD", True),
    ("ttft_mean_s", "TTFT mean", "s", True), ("ttft_p50_s", "TTFT p50", "s", True),
    ("ttft_p90_s", "TTFT p90", "s", True), ("ttft_p99_s", "TTFT p99", "s", True),
    ("tpot_mean_s", "TPOT mean", "s", True), ("e2e_p50_s", "whole request p50", "s", True),
    ("churn", "churn", "replicas", False), ("started", "replicas started", "replicas", False),
    ("dropped", "dropped", "requests", False), ("lost", "lost", "requests", False),
)  # fmt: skip
SERIES = ("t_s", "ready", "pending", "draining", "need", "waiting", "target", "ttft_mean_s", "tpot_mean_s", "missed")


@dataclass(frozen=True)
class Pair:
    """A scaler, simulated and live on the same requests."""

    simulated: RunResult
    live: RunResult
    played: Played


def numbers(result: RunResult) -> dict[str, float]:
    """What is compared of a run."""
    found = result.summary() | {"ttft_p90_s": quantile(result.histograms[0], 0.9)}
    return {key: float(found[key]) for key, *_ in MEASURES}


def rows(pair: Pair) -> list[dict[str, Any]]:
    """A row per measure; `error` is live over simulated less 1, None where that says nothing."""
    simulated, live = numbers(pair.simulated), numbers(pair.live)
    found = []
    for key, name, unit, has_goal in MEASURES:
        a, b = simulated[key], live[key]
        error = b / a - 1.0 if a > 0.0 and math.isfinite(a) and math.isfinite(b) else 0.0 if a == b else None
        within = None if not has_goal else error is not None and abs(error) <= GOAL
        found.append({"scaler": pair.live.scaler, "measure": key, "name": name, "unit": unit, "simulated": a, "live": b,
                      "error": error, "goal": GOAL if has_goal else None, "within": within})  # fmt: skip
    return found


def series(result: RunResult) -> dict[str, Any]:
    """What is drawn of a run."""
    rate = result.series["arrived"] / result.interval_s
    return {name: np.round(result.series[name], 4) for name in SERIES} | {"requests_per_s": np.round(rate, 4)}


def plumbing(pair: Pair, speed: float) -> dict[str, float]:
    """How well the machinery kept time, and how often both worlds decided alike. Simulated seconds but for `_ms`."""
    played = pair.played
    late_s = np.asarray(played.requests["sent_s"]) - np.asarray(played.requests["arrival_s"])
    ages = [float(record["observation"]["age_s"]) for record in played.decisions]
    at_s = np.array([record["at_s"] for record in played.decisions])
    interval_s = pair.live.interval_s
    live, simulated = pair.live.series["target"][1:], pair.simulated.series["target"][1:]
    return {
        "decisions": len(played.decisions), "decisions_expected": len(pair.live.series["t_s"]) - 1,
        "decision_late_p99_ms": _ms(np.mod(at_s, interval_s), 0.99, speed),
        "metrics_age_mean_s": float(np.mean(ages)) if ages else math.nan,
        "sent_late_p50_ms": _ms(late_s, 0.5, speed), "sent_late_p99_ms": _ms(late_s, 0.99, speed),
        "http_per_s": len(late_s) / pair_duration_s(pair) * speed,
        "same_target_share": float(np.mean(live == simulated)),
        "target_difference": float(np.nanmean(np.abs(live - simulated))),
        "late_starts": played.late, "replicas_died": played.failed, "loop_restarts": played.restarts,
    }  # fmt: skip


def pair_duration_s(pair: Pair) -> float:
    """Simulated seconds of load."""
    return len(pair.live.series["t_s"]) * pair.live.interval_s


def verdict(found: Sequence[Mapping[str, Any]]) -> str:
    """The result in a sentence."""
    goals = [row for row in found if row["within"] is not None]
    outside = [row for row in goals if not row["within"]]
    worst = max((abs(row["error"]) for row in goals if row["error"] is not None), default=0.0)
    if not outside:
        return (f"All {len(goals)} compared numbers of the live run are within {100 * GOAL:.0f} % of the simulation of "
                f"the same requests; the largest difference is {100 * worst:.1f} %.")  # fmt: skip
    names = ", ".join(f"{row['name']} of {row['scaler']}" for row in outside)
    inside = f"{len(goals) - len(outside)} of {len(goals)} compared numbers of the live run"
    return f"{inside} are within {100 * GOAL:.0f} % of the simulation of the same requests; outside: {names}."


def _ms(simulated_s: Floats, q: float, speed: float) -> float:
    """A quantile as milliseconds of wall time; NaN of nothing."""
    return 1e3 * float(np.quantile(simulated_s, q)) / speed if len(simulated_s) else math.nan
