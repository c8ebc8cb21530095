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
    """A scaler on the same requests: simulated, and live once or several times."""

    simulated: RunResult
    perturbed: Sequence[RunResult]  # simulated again, with metrics `told_error` off
    live: Sequence[RunResult]
    played: Sequence[Played]  # what the live results were made of
    told_error: float


def numbers(result: RunResult) -> dict[str, float]:
    """What is compared of a run."""
    found = result.summary() | {"ttft_p90_s": quantile(result.histograms[0], 0.9)}
    return {key: float(found[key]) for key, *_ in MEASURES}


def rows(pair: Pair) -> list[dict[str, Any]]:
    """A row per measure: the simulation and the mean of the live runs, and the least and the greatest of either.

    `error` is live over simulated less 1, None where that says nothing. Perturbed simulations are in the span alone.
    """
    scaler = pair.simulated.scaler
    simulated = [numbers(result) for result in (pair.simulated, *pair.perturbed)]
    live = [numbers(result) for result in pair.live]
    found = []
    for key, name, unit, has_goal in MEASURES:
        spans: dict[str, float] = {}
        for world, runs in (("simulated", simulated), ("live", live)):
            values = [run[key] for run in runs]
            spans |= {f"{world}_least": min(values), f"{world}_most": max(values)}
        a, b = simulated[0][key], float(np.mean([run[key] for run in live]))
        error = b / a - 1.0 if a > 0.0 and math.isfinite(a) and math.isfinite(b) else 0.0 if a == b else None
        within = None if not has_goal else error is not None and abs(error) <= GOAL
        found.append({"scaler": scaler, "measure": key, "name": name, "unit": unit, "simulated": a, "live": b,
                      "error": error, "goal": GOAL if has_goal else None, "within": within, **spans})  # fmt: skip
    return found


def series(result: RunResult) -> dict[str, Any]:
    """What is drawn of a run."""
    rate = result.series["arrived"] / result.interval_s
    return {name: np.round(result.series[name], 4) for name in SERIES} | {"requests_per_s": np.round(rate, 4)}


def told_error(played: Sequence[Played], lag_s: float, window_s: float) -> float:
    """How far off the arrival rates were that the live loop was told: root mean square of told over true, less 1.

    True is what the clients asked for in the `window_s` before the last `lag_s`, simulated seconds. 0 where no decision
    had such a window behind it.
    """
    off = [_told_errors(one, lag_s, window_s) for one in played]
    every = np.concatenate(off)
    return float(np.sqrt(np.mean(every**2))) if len(every) else 0.0


def _told_errors(played: Played, lag_s: float, window_s: float) -> Floats:
    arrival_s = np.sort(np.asarray(played.requests["arrival_s"], dtype=np.float64))
    seen = [(record["t_s"], record["observation"]["arrival_per_s"]) for record in played.decisions]
    t_s, told = np.array(seen, dtype=np.float64).reshape(-1, 2).T
    until, since = (np.searchsorted(arrival_s, t_s - ago) for ago in (lag_s, lag_s + window_s))
    known = (t_s >= lag_s + window_s) & (until > since) & np.isfinite(told)
    errors: Floats = told[known] / (until - since)[known] * window_s - 1.0
    return errors


def plumbing(pair: Pair, run: int, speed: float) -> dict[str, float]:
    """How well the machinery of a live run kept time, and how often both worlds decided alike.

    Simulated seconds but for `_ms`.
    """
    played, result = pair.played[run], pair.live[run]
    late_s = np.asarray(played.requests["sent_s"]) - np.asarray(played.requests["arrival_s"])
    ages = [float(record["observation"]["age_s"]) for record in played.decisions]
    at_s = np.array([record["at_s"] for record in played.decisions])
    interval_s = result.interval_s
    live, simulated = result.series["target"][1:], pair.simulated.series["target"][1:]
    return {
        "decisions": len(played.decisions), "decisions_expected": len(result.series["t_s"]) - 1,
        "decision_late_p99_ms": _ms(np.mod(at_s, interval_s), 0.99, speed),
        "metrics_age_mean_s": float(np.mean(ages)) if ages else math.nan,
        "sent_late_p50_ms": _ms(late_s, 0.5, speed), "sent_late_p99_ms": _ms(late_s, 0.99, speed),
        "http_per_s": len(late_s) / (len(result.series["t_s"]) * interval_s) * speed,
        "same_target_share": float(np.mean(live == simulated)),
        "target_difference": float(np.nanmean(np.abs(live - simulated))),
        "late_starts": played.late, "replicas_died": played.failed, "loop_restarts": played.restarts,
    }  # fmt: skip


def verdict(found: Sequence[Mapping[str, Any]], runs: int = 1) -> str:
    """The result in a sentence."""
    live = "the live run" if runs == 1 else f"{runs} live runs (their mean)"
    goals = [row for row in found if row["within"] is not None]
    outside = [row for row in goals if not row["within"]]
    worst = max((abs(row["error"]) for row in goals if row["error"] is not None), default=0.0)
    single = f" ({100 * _worst_single(goals):.1f} % in a single run)" if runs > 1 else ""
    if not outside:
        return (f"All {len(goals)} compared numbers of {live} are within {100 * GOAL:.0f} % of the simulation of the "
                f"same requests; the largest difference is {100 * worst:.1f} %{single}.")  # fmt: skip
    names = ", ".join(f"{row['name']} of {row['scaler']}" for row in outside)
    inside = f"{len(goals) - len(outside)} of {len(goals)} compared numbers of {live}"
    return f"{inside} are within {100 * GOAL:.0f} % of the simulation of the same requests; outside: {names}."


def _worst_single(goals: Sequence[Mapping[str, Any]]) -> float:
    """The largest difference of a live run by itself."""
    ends = [(row[end], row["simulated"]) for row in goals if row["error"] is not None
            for end in ("live_least", "live_most")]  # fmt: skip
    return max((abs(live - simulated) / simulated for live, simulated in ends if simulated > 0.0), default=0.0)


def _ms(simulated_s: Floats, q: float, speed: float) -> float:
    """A quantile as milliseconds of wall time; NaN of nothing."""
    return 1e3 * float(np.quantile(simulated_s, q)) / speed if len(simulated_s) else math.nan
