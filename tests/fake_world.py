"""A made-up simulator with known trade-offs, for tests of what happens to results after they were simulated."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments import collect
from experiments.cases import ANY, LoadCase, ScalerCase, TraceCase
from experiments.cells import Cell, kept
from experiments.grid import Grid, Source
from experiments.results import Finished, ResultFolder, plain, write_json
from rlscale.sim.histogram import BINS, edges_s
from rlscale.types import Floats

USD_PER_REPLICA_H = 4.09
L_SLO = 18.0
# (lag in intervals, how much of a rise is foreseen, 0 to 1, decision time in microseconds)
HABITS = {
    "fixed": (0, 0.0, 2.0),
    "threshold": (52, 0.0, 9.0),
    "hpa": (40, 0.1, 24.0),
    "headroom": (32, 0.2, 12.0),
    "scheduled": (2, 0.3, 15.0),
    "policy:": (32, 0.5, 61.0),
}


@dataclass
class FakeRun:
    """Looks like rlscale.loop.RunResult."""

    series: dict[str, Floats]
    histograms: Floats
    totals: dict[str, float]
    interval_s: float = 30.0
    gpu_per_replica: float = 1.0
    fields: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, float]:
        return self.totals


def rate_per_s(cell: Cell, steps: int) -> Floats:
    """A day with a peak; days differ more than scalers do. A recorded load is the same for every seed."""
    rng = np.random.default_rng([17, 0 if cell.load.trace else cell.seed, cell.split == "train"])
    phase = np.linspace(0, 2 * np.pi, steps)
    walk = np.cumsum(rng.normal(0, 0.09, steps // 40 + 2))
    slow = np.interp(np.arange(steps), 40 * np.arange(len(walk)), walk)
    return 150.0 * rng.lognormal(0, 0.25) * (1.1 - 0.6 * np.cos(phase)) * np.exp(slow - slow.mean())


def fake_run(cell: Cell, steps: int = 480) -> FakeRun:
    """Replicas follow the demand with a lag, times the knob; what is missing is missed."""
    steps = 100 if cell.load.trace else steps
    lag, foresight, decision_us = HABITS[cell.setting.name]
    value = cell.setting.value if cell.setting.value is not None else 1.0
    rate = rate_per_s(cell, steps)
    need = np.maximum(2.0, rate / L_SLO)
    seen = np.concatenate([np.full(lag, need[0]), need])[:steps]
    ahead = np.concatenate([seen[lag:], np.full(lag, seen[-1])]) if lag else seen
    member = int(cell.setting.policy[-1]) if cell.setting.policy else 0
    ready = value * (foresight * ahead + (1 - foresight) * seen) * (1.0 + 0.004 * member)
    if cell.setting.name == "fixed":
        ready = np.full(steps, value)
    ready = np.ceil(ready)
    pending = np.maximum(0.0, np.concatenate([ready[16:], ready[-16:]])[:steps] - ready)
    arrived = rate * 30.0
    missed = arrived / (1.0 + np.exp(18.0 * (ready / need - 0.85)))
    change = np.abs(np.diff(ready, prepend=ready[0]))
    return _result(rate, arrived, missed, need, ready, pending, change, decision_us)


def _result(rate, arrived, missed, need, ready, pending, change, decision_us) -> FakeRun:  # type: ignore[no-untyped-def]
    hours = 30.0 / 3600.0
    zero = np.zeros(len(rate))
    series = {
        "t_s": 30.0 * np.arange(len(rate)), "arrived": arrived, "missed": missed, "dropped": 0.3 * missed,
        "lost": zero, "waiting": 20.0 * missed / np.maximum(1, arrived) * rate, "running": 4.0 * rate,
        "need": np.ceil(need), "cost_usd": (ready + pending) * USD_PER_REPLICA_H * hours, "churn": change,
        "started": change / 2, "ready": ready, "pending": pending, "draining": zero, "target": ready + pending,
        "billed_nodes": ready + pending, "ttft_mean_s": 0.1 + zero, "tpot_mean_s": 0.03 + zero,
    }  # fmt: skip
    total, bad = arrived.sum(), missed.sum()
    histograms = np.stack([_lognormal(total, bad, m, s) for m, s in ((0.12, 0.6), (0.03, 0.2), (7.0, 0.8))])
    cost = series["cost_usd"].sum()
    totals = {
        "cost_usd": cost, "attainment": 1 - bad / total, "requests": total, "missed": bad, "dropped": 0.3 * bad,
        "lost": 0.0, "goodput_per_s": (total - bad) / (30.0 * len(rate)),
        "usd_per_million_output_tokens": cost / (211e-6 * total), "usd_per_million_tokens": cost / (1366e-6 * total),
        "over_gpu_h": hours * np.maximum(0, ready - need).sum(),
        "under_gpu_h": hours * np.maximum(0, need - ready).sum(), "churn": change.sum(), "started": change.sum() / 2,
        "reward": -cost, "decision_us": decision_us,
        **{f"{n}_{p}_s": 0.5 for n in ("ttft", "tpot", "e2e") for p in ("p50", "p95", "p99")},
    }  # fmt: skip
    return FakeRun(series, histograms, totals)


def alternating_trace(path: Path) -> Path:
    """Thirty minutes of requests, 1 or 7 per second in turns of three minutes."""
    rng = np.random.default_rng(11)
    counts = rng.poisson(np.where(np.arange(1800) // 180 % 2 == 0, 1.0, 7.0))
    at_s = np.sort(np.repeat(np.arange(1800.0), counts) + rng.random(counts.sum()))
    rows = "".join(f"{t:.3f},900,150\n" for t in at_s)
    path.write_text("timestamp,prompt_tokens,output_tokens\n" + rows)
    return path


def _lognormal(total: float, bad: float, median_s: float, sigma: float) -> Floats:
    from scipy.stats import norm

    edges = edges_s()[:-1]
    share = np.diff(norm.cdf(np.log(edges / median_s) / sigma))
    counts = np.zeros(BINS)
    counts[: len(share)] = (total - 0.3 * bad) * share / share.sum()
    counts[-1] = 0.3 * bad
    return counts


def fake_scalers(members: int = 5) -> tuple[ScalerCase, ...]:
    """Five rules and a learned policy."""
    levels = (0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.8)
    policies = tuple(f"runs/ppo-{s}" for s in range(members))
    return (
        ScalerCase("fixed", "fixed", "replicas", (4.0, 8.0, 12.0, 16.0, 20.0, 24.0), summary="a constant fleet"),
        ScalerCase("threshold", "threshold", "headroom", levels, summary="steps in and out of a band"),
        ScalerCase("hpa", "hpa", "headroom", levels, upstream={"tolerance": 0.1}, summary="Kubernetes HPA"),
        ScalerCase("headroom", "headroom", "headroom", levels, summary="in proportion to demand"),
        ScalerCase("scheduled", "scheduled", "headroom", levels[:3], summary="by hour of week"),
        ScalerCase("ppo", "policy:", "multiplier", levels, policies={ANY: policies}, summary="learned policy"),
    )


def few_scalers() -> tuple[ScalerCase, ...]:
    """A rule that wins, one with product defaults, one that never gets there, and a policy with three seeds."""
    cases = {scaler.label: scaler for scaler in fake_scalers(3)}
    return tuple(cases[label] for label in ("headroom", "hpa", "scheduled", "ppo"))


def fake_results(grid: Grid, stored: Finished) -> dict[str, Any]:
    """results.json of a fake comparison, as it is read back from disk."""
    found = collect.results(grid, stored, grid.freeze(stored), [], 300)
    found["study"] = {"name": "fake <study>", "resamples": 300}
    found["provenance"] = {
        "command": "python -m experiments compare fake.yaml --out results/fake", "commit": "0123456789abcdef",
        "dirty": True, "versions": {"python": "3.11", "numpy": "2.4", "torch": None}, "seeds": {"train": 2, "test": 6},
        "started": "2026-01-02T03:04:05+00:00", "duration_s": 12.3, "cores": 2, "code": grid.code, "workers": 2,
        "loads": {source.case.name: source.digest for source in grid.sources}, "policies": dict(grid.digests),
    }  # fmt: skip
    return json.loads(json.dumps(plain(found)))


def fake_grid(scalers: tuple[ScalerCase, ...] | None = None, test: int = 10, trace: bool = True) -> Grid:
    """Ten generated days, and an hour of a trace."""
    cases = [LoadCase("chat", "chat")]
    if trace:
        cases.append(LoadCase("azure-chat-hour (amplify)", "chat", TraceCase("hour.csv", "azure", "amplify", 12.0)))
    scaling = {
        "mode": "amplify", "factor": 35.2, "windows_s": [1.0, 10.0, 60.0], "before": [1.39, 3.86, 16.1],
        "after": [14.7, 101.0, 532.0], "swings": 0.97, "flattened": False,
    }  # fmt: skip
    sources = tuple(
        Source(case, f"digest of {case.name}", (0.99, 0.95, 0.999), scaling if case.trace else None) for case in cases
    )
    scalers = scalers or fake_scalers()
    digests = {f: f"digest of {f}" for scaler in scalers for found in scaler.policies.values() for f in found}
    return Grid(sources, scalers, {"train": 2, "test": test}, "code", digests)


def simulate(grid: Grid, path: Path, failing: str = "") -> Finished:
    """Run every cell of both phases with the fake world into a result folder; the scaler `failing` fails."""
    folder = ResultFolder(path)
    folder.open({"study": "fake"}, resume=False)
    stored = Finished(folder)
    for cells in (grid.first_phase, lambda: grid.second_phase(grid.freeze(stored))):
        for cell in cells():
            if cell.setting.name != failing and not folder.has(cell.key):
                write_json(folder.cell_path(cell.key), kept(cell, fake_run(cell)))
    return stored
