"""What came of a live run, as the same `RunResult` that the simulator gives: one report for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.live_demo.fleet import averages
from experiments.live_demo.recorded import Recorded
from rlscale.loop import RunResult, need_series
from rlscale.scenario import Scenario
from rlscale.sim.histogram import BINS, INF_BIN, edges_s
from rlscale.types import Floats


@dataclass(frozen=True)
class Played:
    """A live run: a row per request, the log of the fleet, the decisions."""

    scaler: str
    folder: str
    requests: Mapping[str, Any]  # columns of the clients' file
    fleet_log: Sequence[tuple[float, int, int, int, int]]
    cost_usd: float
    churn: int
    started: int
    late: int  # replicas whose process was up later than the start-up time says
    failed: int  # replicas that died
    decisions: Sequence[Mapping[str, Any]]  # of the audit log
    restarts: int = 0  # of the loop
    billed_usd_per_s: float = 0.0


def read_requests(path: Path) -> dict[str, Any]:
    """The clients' file as columns."""
    names = path.open().readline().strip().split(",")
    table = np.genfromtxt(path, delimiter=",", skip_header=1, dtype=None, encoding="utf-8", names=names)
    return {name: np.atleast_1d(table[name]) for name in names}


def live_result(played: Played, recorded: Recorded, scenario: Scenario, seed: int) -> RunResult:
    """Attainment over arrivals, latencies as the clients saw them, cost by the books of the fleet."""
    spec, known, columns = scenario.cluster, scenario.limits, played.requests
    intervals = int(recorded.load.duration_s / spec.interval_s + 1e-9)
    edges: Floats = np.arange(intervals + 1, dtype=np.float64) * spec.interval_s
    ttft, tpot, e2e = latencies(columns)
    slo = spec.slo
    met = (ttft <= slo.ttft_s + columns["prompt_tokens"] / slo.ttft_tokens_per_s) & (tpot <= slo.tpot_s)
    served = np.isfinite(e2e)
    arrived_in = np.minimum((columns["arrival_s"] / spec.interval_s).astype(np.int64), intervals - 1)
    fleet = averages(played.fleet_log, edges)
    count = np.bincount(arrived_in, minlength=intervals).astype(np.float64)
    hours = intervals * spec.interval_s / 3600.0
    series: dict[str, Floats] = {
        "t_s": edges[:-1], "arrived": count, "missed": np.bincount(arrived_in, ~met, intervals).astype(np.float64),
        "ttft_mean_s": _means(columns["first_s"], ttft, edges, served),
        "tpot_mean_s": _means(columns["end_s"], tpot, edges, served & (columns["output_tokens"] > 1)),
        "need": need_series(recorded.load, spec, known)[:intervals],
        "cost_usd": fleet["billed"] * spec.interval_s * played.billed_usd_per_s,
        "billed_nodes": fleet["billed"], **{name: fleet[name] for name in ("ready", "pending", "draining")},
        "waiting": seen_series(played.decisions, "waiting", edges), "target": target_series(played.decisions, edges),
    }  # fmt: skip
    totals = {
        "cost_usd": played.cost_usd, "usd_per_hour": played.cost_usd / hours, "attainment": float(met.mean()),
        "requests": float(len(met)), "missed": float((~met).sum()),
        "dropped": float((columns["outcome"] == "gave-up").sum()), "lost": float((columns["outcome"] == "lost").sum()),
        "ttft_mean_s": float(ttft[served].mean()), "tpot_mean_s": float(tpot[served & (tpot > 0)].mean()),
        "churn": float(played.churn), "started": float(played.started),
    }  # fmt: skip
    histograms = np.array([counted(values) for values in (ttft, tpot[tpot > 0], e2e)])
    gpus = float(spec.pools[0].profile.gpus_per_replica)
    return RunResult(scenario.name, played.scaler, seed, spec.interval_s, series, histograms, gpus, totals)


def latencies(columns: Mapping[str, Any]) -> tuple[Floats, Floats, Floats]:
    """TTFT, TPOT and E2E of every request; infinite where it was not served, TPOT 0 of a single token."""
    served = columns["outcome"] == "served"
    ttft = np.where(served, columns["first_s"] - columns["arrival_s"], np.inf)
    more = columns["output_tokens"] - 1.0
    tpot = np.full(len(ttft), np.inf)
    decoded_s = columns["end_s"][served] - columns["first_s"][served]
    tpot[served] = np.where(more[served] > 0, decoded_s / np.maximum(more[served], 1.0), 0.0)
    return ttft, tpot, np.where(served, columns["end_s"] - columns["arrival_s"], np.inf)


def counted(values: Floats) -> Floats:
    """The histogram of latencies that every run has."""
    found = np.searchsorted(edges_s(), values, side="right") - 1
    bins = np.where(np.isfinite(values), np.clip(found, 0, INF_BIN - 1), INF_BIN)
    return np.bincount(bins, minlength=BINS).astype(np.float64)


def seen_series(decisions: Sequence[Mapping[str, Any]], name: str, edges: Floats) -> Floats:
    """A metric as the scaler saw it, by interval: that of the decision which ends it; 0 where nothing was seen."""
    found = np.zeros(len(edges) - 1)
    for record in decisions:
        i = round(record["at_s"] / (edges[1] - edges[0])) - 1
        if 0 <= i < len(found) and record["observation"][name] is not None:
            found[i] = float(record["observation"][name])
    return found


def target_series(decisions: Sequence[Mapping[str, Any]], edges: Floats) -> Floats:
    """The target in force in every interval; NaN before the first decision."""
    found = np.full(len(edges) - 1, np.nan)
    for record in decisions:
        i = round(record["at_s"] / (edges[1] - edges[0]))
        found[max(0, i) :] = float(sum(record["target"]))
    return found


def _means(at_s: Floats, values: Floats, edges: Floats, chosen: Any) -> Floats:
    total, _ = np.histogram(at_s[chosen], edges, weights=values[chosen])
    count, _ = np.histogram(at_s[chosen], edges)
    found: Floats = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return found
