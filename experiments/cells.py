"""One cell of a comparison: one scaler at one knob value on one load, and what is kept of its run.

A cell is keyed by a hash of everything that defines it, the code included, so that a stored one is as good as a new
run. Knows nothing of fronts, headlines and reports.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments import sources, stats
from experiments.cases import LoadCase
from experiments.results import ResultFolder, plain, write_json
from rlscale.loop import RunResult, run
from rlscale.registry import get
from rlscale.scalers import POLICY
from rlscale.scalers import build_scaler as build_scaler_of
from rlscale.scenario import Scenario
from rlscale.types import Floats

Split = Literal["train", "test"]
PACKAGES = ("rlscale", "envs", "agents")  # the code a run depends on
EXAMPLE_POINTS = 480
EXAMPLE_S = 86_400.0
HISTOGRAMS = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class Setting:
    """A scaler as one cell runs it."""

    name: str  # registered name, or `policy:`
    params: dict[str, Any] = field(default_factory=dict)
    knob: str | None = None
    value: float | None = None
    policy: str | None = None
    policy_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. Which role it plays in the report (sweep, frozen, defaults) is not part of it."""

    load: LoadCase
    load_digest: str  # scenario hash and trace content
    setting: Setting
    split: Split
    seed: int
    code: str  # digest of the simulator's source
    engine: str = "fluid"
    interval_s: float | None = None  # between decisions, where that is not the cluster's own

    @property
    def key(self) -> str:
        """Hash of everything that defines the run; not of where its files lie."""
        data = plain(asdict(self)) | {"load": plain(sources.identity(self.load))}
        data["setting"].pop("policy")
        return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:24]


def run_cell(cell: Cell, folder: Path) -> None:
    """Simulate a cell and store it in the result folder."""
    scenario, load = sources.sample(cell.load, cell.split, cell.seed)
    if cell.interval_s is not None:
        scenario = deciding_every(scenario, cell.interval_s)
    scaler = build_scaler(cell.setting, scenario, learnt(cell.setting.name, cell.load))
    result = run(scenario, scaler, load, cell.seed, cell.setting.name, engine=cell.engine)
    write_json(ResultFolder(folder).cell_path(cell.key), kept(cell, result))


def deciding_every(scenario: Scenario, interval_s: float) -> Scenario:
    """The same cluster with another control interval, scraped as often as it decides at least."""
    spec = scenario.cluster
    scrape_s = min(spec.scrape_interval_s, interval_s)
    delay_s = min(spec.scrape_delay_s, interval_s - scrape_s)
    return replace(scenario, cluster=replace(spec, interval_s=interval_s, scrape_interval_s=scrape_s,
                                             scrape_delay_s=delay_s))  # fmt: skip


def kept(cell: Cell, result: RunResult) -> dict[str, Any]:
    """What a cell stores: totals, load blocks, and for test loads the histograms; one load keeps its time series."""
    test = cell.split == "test"
    return {
        "cell": asdict(cell),
        "load": about(result),
        "summary": result.summary(),
        "blocks": blocks(result, cell.load),
        "histograms": {n: _sparse(h) for n, h in zip(HISTOGRAMS, result.histograms, strict=True)} if test else None,
        "example": example(result) if test and cell.seed == 0 else None,
    }


def blocks(result: RunResult, case: LoadCase) -> dict[str, Any]:
    """Hours, cost, requests and misses of every load block.

    Misses that were decided after the last interval, while the queue drained, belong to the last block.
    """
    series, step_s = result.series, result.interval_s
    duration_s = len(series["t_s"]) * step_s
    block_s = case.block_s or stats.default_block_s(duration_s, case.trace is not None)
    index = stats.block_of(series["t_s"], duration_s, block_s)
    total = {name: np.bincount(index, series[name]) for name in ("cost_usd", "arrived", "missed")}
    total["missed"][-1] += result.summary()["missed"] - series["missed"].sum()
    return {
        "block_s": block_s,
        "hours": np.bincount(index) * step_s / 3600.0,
        "cost_usd": total["cost_usd"],
        "requests": total["arrived"],
        "missed": np.maximum(total["missed"], 0.0),
    }


def about(result: RunResult) -> dict[str, float]:
    """Mean rate and mean need of the load a run met."""
    s = result.series
    return {"requests_per_s": float(np.mean(s["arrived"]) / result.interval_s), "need": float(np.mean(s["need"]))}


def example(result: RunResult) -> dict[str, Any]:
    """The busiest day of a run, thinned for a figure: levels are averaged, the queue keeps its peaks."""
    s, step_s = result.series, result.interval_s
    first, last = _busiest(s["arrived"], round(EXAMPLE_S / step_s))
    begins = np.arange(0, last - first, math.ceil((last - first) / EXAMPLE_POINTS))
    widths = np.diff(np.append(begins, last - first))

    def mean(values: Floats) -> list[float]:
        return _digits(np.add.reduceat(values[first:last], begins) / widths)

    return {
        "t_s": s["t_s"][first:last][begins].tolist(),
        "requests_per_s": mean(s["arrived"] / step_s),
        "missed_per_s": mean(s["missed"] / step_s),
        "waiting": _digits(np.maximum.reduceat(s["waiting"][first:last], begins)),
        **{name: mean(s[name]) for name in ("need", "ready", "pending", "draining")},
    }


FIT_LOADS = 14  # days of training load a table by hour of the week is made from


@lru_cache(maxsize=8)
def learnt(name: str, case: LoadCase) -> dict[str, Any]:
    """What a scaler with `fit` learns from training loads; nothing for the others."""
    if ":" in name:  # a policy folder, or a class from outside
        return {}
    fit = getattr(get("agents", "SCALERS", name, "scaler").build, "fit", None)
    if fit is None:
        return {}
    seeds = range(1 if case.trace is not None and case.trace.windows_days else FIT_LOADS)
    return dict(fit([sources.sample(case, "train", seed)[1] for seed in seeds]))


def build_scaler(setting: Setting, scenario: Scenario, learnt_params: dict[str, Any] | None = None) -> Any:
    """A fresh scaler for one run."""
    values = {} if setting.knob is None or setting.value is None else {setting.knob: setting.value}
    name = setting.name if setting.policy is None else f"{POLICY}{setting.policy}"
    return build_scaler_of(name, scenario.limits, scenario.name, **(learnt_params or {}), **setting.params, **values)


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Digest of the source and data files a run depends on."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in (".py", ".yaml") and "scenarios" not in path.parts:
                digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def folder_digest(path: Path) -> str:
    """Digest of the files of a policy folder, or of an exported policy of one file."""
    digest = hashlib.sha256()
    for item in [path, *sorted(path.rglob("*"))]:
        if item.is_file():
            digest.update(item.name.encode() + b"\0" + item.read_bytes())
    return digest.hexdigest()[:16]


def _busiest(arrived: Floats, width: int) -> tuple[int, int]:
    """Start and end of the window with the most requests."""
    if len(arrived) <= width:
        return 0, len(arrived)
    total = np.concatenate(([0.0], np.cumsum(arrived)))
    first = int(np.argmax(total[width:] - total[:-width]))
    return first, first + width


def _digits(values: Floats) -> list[float]:
    """To a thousandth: a figure needs no more."""
    return [float(value) for value in np.round(values, 3)]


def _sparse(counts: Floats) -> list[list[float]]:
    """[bins, counts] of the bins that hold something."""
    index = np.flatnonzero(counts)
    return [index.tolist(), np.round(counts[index], 3).tolist()]
