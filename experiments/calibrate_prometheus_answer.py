"""What if: the recorded load under a short list of scalers, each tuned on the first half and tested on the second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.calibrate_prometheus_scenario import HEAD_S, Windows
from experiments.compare import compare
from experiments.study import MULTIPLIERS, Study, parse_study
from rlscale.errors import ScenarioError, nearest
from rlscale.loop import need_series
from rlscale.registry import scan
from rlscale.scalers import POLICY, scaler_kind
from rlscale.scenario import Scenario
from rlscale.types import ScalerKind

SCALERS = ("headroom", "headroom-held", "hpa", "smoothing", "fixed")
LEAST_VALUES, MOST_VALUES = 6, 12  # of a knob
BLOCKS = 8  # of a test half shorter than LONG_S: enough for an interval over loads
LONG_S = 5 * 86_400.0
SHORTEST_BLOCK_S = 600.0


@dataclass(frozen=True, slots=True)
class Option:
    """One scaler with the setting chosen on the training half, as it did on the test half."""

    scaler: str
    knob: str
    value: float
    usd_per_h: float
    usd_interval: tuple[float, float]  # 95 % over load blocks; NaN with fewer than five of them
    attainment: float
    attainment_interval: tuple[float, float]
    chosen: str  # "reached" when the training half reached the target with it

    def reaches(self, target: float) -> bool:
        """Whether it met the target where it was tested."""
        return self.attainment >= target


def study_of(scenario: Scenario, out: Path, at: Windows, names: Sequence[str], budget: int) -> Study:
    """The comparison: `budget` simulated control intervals per scaler, training and test together."""
    seconds = sum(end - begin for begin, end in (at.train_s, at.test_s))
    count = int(budget * scenario.cluster.interval_s / seconds)
    count = min(max(count, LEAST_VALUES), MOST_VALUES)
    target = scenario.cluster.slo.attainment
    test_s = at.test_s[1] - at.test_s[0] - (0.0 if at.days else HEAD_S)
    block_s = None if test_s >= LONG_S else max(SHORTEST_BLOCK_S, math.floor(test_s / BLOCKS / 60.0) * 60.0)
    kinds = scan("agents", "SCALERS")
    data: dict[str, Any] = {
        "name": "what-if", "targets": [target, 0.95 if target > 0.95 else 0.99], "seeds": {"train": 1, "test": 1},
        "scalers": [_entry(name, kinds, scenario, count) for name in names],
    }  # fmt: skip
    if at.days is not None:
        data["traces"] = [{"path": str(out / "trace.csv"), "scenario": str(scenario.path), "tokens": "scenario",
                           "scaling": "recorded", "windows_days": at.days, "block_s": block_s}]  # fmt: skip
    else:
        data["scenarios"] = [{"name": str(scenario.path), "block_s": block_s}]
    return parse_study(data, "calibrate")


def answer(study: Study, target: float, out: Path, workers: int) -> tuple[dict[str, Any], list[Option]]:
    """Run it: the comparison's results, and the options, those that reach the target first, then by cost."""
    results = compare(study, out / "comparison", workers)
    knobs = {entry["label"]: entry["knob"] or "" for entry in results["scalers"]}
    options = [_option(row, knobs[row["scaler"]]) for row in results["headline"]
               if row["target"] == target and row.get("frozen")]  # fmt: skip
    return results, sorted(options, key=lambda one: (not one.reaches(target), one.usd_per_h if one.reaches(target)
                                                     else -one.attainment))  # fmt: skip


def words(options: Sequence[Option], target: float) -> str:
    """The answer in a sentence or two."""
    if not options:
        return "No scaler could be compared; the comparison's failures.csv says why."
    best = options[0]
    setting = f" with {best.knob} {best.value:.4g}" if best.knob else ""
    numbers = (f"{best.usd_per_h:.2f} USD/h{_between(best.usd_interval, '.2f')}, {best.attainment:.2%} within the SLO"
               f"{_between(best.attainment_interval, '.2%')}")  # fmt: skip
    if best.reaches(target):
        return f"Cheapest of those that kept {target:.1%} on the test half: {best.scaler}{setting}, {numbers}."
    return (
        f"No scaler kept {target:.1%} on the test half with the setting chosen on the training half; nearest: "
        f"{best.scaler}{setting}, {numbers}."
    )


def table(options: Sequence[Option]) -> list[str]:
    """The options as rows of Markdown."""
    lines = [
        "| scaler | setting | chosen on training | USD/h (95 %) | within the SLO (95 %) |",
        "|---|---|---|---|---|",
    ]
    for one in options:
        setting = f"{one.knob} {one.value:.4g}" if one.knob else "none"
        lines.append(f"| {one.scaler} | {setting} | {one.chosen} | {one.usd_per_h:.2f}"
                     f"{_between(one.usd_interval, '.2f')} | {one.attainment:.3%}"
                     f"{_between(one.attainment_interval, '.3%')} |")  # fmt: skip
    return lines


def _option(row: dict[str, Any], knob: str) -> Option:
    frozen = row["frozen"]
    chosen = row["knob"][0] if row.get("knob") else {"value": None, "status": "no knob"}
    value = math.nan if chosen["value"] is None else float(chosen["value"])
    return Option(
        row["scaler"], knob, value, float(frozen["usd_per_h"]), _ends(frozen.get("interval")),
        float(frozen["attainment"]), _ends(frozen.get("attainment_interval")), str(chosen["status"]),
    )  # fmt: skip


def _ends(interval: dict[str, float] | None) -> tuple[float, float]:
    return (math.nan, math.nan) if interval is None else (float(interval["low"]), float(interval["high"]))


def _between(ends: tuple[float, float], form: str) -> str:
    return "" if math.isnan(ends[0]) else f" ({ends[0]:{form}} to {ends[1]:{form}})"


def _entry(name: str, kinds: dict[str, ScalerKind], scenario: Scenario, count: int) -> dict[str, Any]:
    if name.startswith(POLICY):
        return {"name": name, "knob": _thinned(MULTIPLIERS, count)}
    kind = scaler_kind(name) if ":" in name else kinds.get(name)
    if kind is None:
        raise ScenarioError(f"--scalers: unknown scaler '{name}'; {nearest(name, kinds)}")
    entry: dict[str, Any] = {"name": name, "upstream": False}
    if kind.knob is None:
        return entry
    values = _fleets(scenario, count) if kind.knob.name == "replicas" else _thinned(kind.knob.values, count)
    return entry | {"knob": values}


def _thinned(values: Sequence[float], count: int) -> list[float]:
    """So many of them, ends included, evenly by rank."""
    at = np.unique(np.round(np.linspace(0, len(values) - 1, min(count, len(values)))).astype(int))
    return [float(values[i]) for i in at]


def _fleets(scenario: Scenario, count: int) -> list[float]:
    """Constant fleets from the mean need of the training half to the most that the scenario allows."""
    mean = float(need_series(scenario.sample_load("train", 0), scenario.cluster, scenario.limits).mean())
    most = float(scenario.limits.max_replicas.sum())
    return sorted({float(round(n)) for n in np.geomspace(max(1.0, mean), max(2.0, most), max(count, 6))})
