"""Tunes one scaler on the training loads of one source, within a budget of simulated control intervals.

Every trial is a row of cells, stored like any other: taken up after a kill, a search reads what is there and runs what
is missing. What is kept is the front: settings that no cheaper one matches on the training loads.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import fronts, sources
from experiments.cells import Cell, Setting, run_cell
from experiments.grid import Grid, Source
from experiments.results import Finished, ResultFolder, write_json
from experiments.search import Search, space_of
from experiments.study import ScalerCase
from rlscale.errors import ScenarioError
from rlscale.registry import get
from rlscale.types import ScalerKind

POINTS = 8  # of a front that go on to the test loads
CALIBRATED, SHARPENED = 0.2, 0.3  # shares of the trials along the knob: of the defaults, of the best settings
STRIDE = 0.06  # of the knob, from one of the latter to the next
FROM, UPTO = 0.9, 0.9999  # attainments between which they lie


@dataclass(frozen=True, slots=True)
class Job:
    """One scaler on one source of load."""

    scaler: str
    params: tuple[tuple[str, Any], ...]  # given, not searched
    cells: tuple[Cell, ...]  # of one trial, the settings still to be filled in
    trials: int
    seed: int
    target: float  # attainment
    path: Path  # where the front goes


def trials_within(budget: int, cells: Sequence[Cell]) -> int:
    """How many trials a budget of control intervals pays for; refused when it pays for none."""
    each = 0
    for cell in cells:
        scenario, load = sources.sample(cell.load, cell.split, cell.seed)
        each += int(load.duration_s / scenario.cluster.interval_s)
    if budget < each:
        raise ScenarioError(f"a budget of {budget} intervals is below one trial on {cells[0].load.name}: {each}")
    return budget // each


def job_of(grid: Grid, source: Source, scaler: ScalerCase, trials: int, seed: int, path: Path) -> Job:
    """The search of one scaler of a grid on the training loads of one source."""
    cells = tuple(grid.trial(source, scaler))
    return Job(scaler.name, tuple(scaler.params.items()), cells, trials, seed, source.targets[0], path)


def tune(job: Job, folder: Path) -> None:
    """Search, and store the front under the job's name; nothing is done twice."""
    kind = get("agents", "SCALERS", job.scaler, "scaler")
    given = dict(job.params)
    space = {name: spec for name, spec in space_of(job.scaler, kind).items() if name not in given}
    search = Search(space, job.trials, job.seed)
    stored, rows = Finished(ResultFolder(folder)), list[dict[str, Any]]()
    for number in range(job.trials if space else 1):
        trial, chosen = search.ask(_given(number, job.trials, kind, rows, job.target))
        cost, missed, requests = _outcome(job, given | chosen, stored, folder)
        search.tell(trial, cost, -float(fronts.level(missed, requests)))
        rows.append({"trial": number, "settings": given | chosen, "usd_per_h": cost, "missed": missed,
                     "requests": requests})  # fmt: skip
    write_json(job.path, {"scaler": job.scaler, "load": job.cells[0].load.name, "trials": rows, "front": front(rows)})


def _given(
    number: int, trials: int, kind: ScalerKind, rows: Sequence[dict[str, Any]], target: float
) -> dict[str, Any] | None:
    """Settings that are not left to the search: first the defaults along the knob, last the best ones along it.

    So every rule is at least calibrated, and its front has points on both sides of the target.
    """
    if kind.knob is None:
        return None
    calibrated, sharpened = max(1, round(CALIBRATED * trials)), round(SHARPENED * trials)
    if number < calibrated:
        at = (number + 0.5) / calibrated * len(kind.knob.values)
        return defaults(kind) | {kind.knob.name: kind.knob.values[int(at)]}
    if number < trials - sharpened or not rows:
        return None
    searched = rows[: trials - sharpened]
    reach = [row for row in searched if _level(row) >= fronts.level_of(target)]
    best: dict[str, Any] = min(reach or searched, key=lambda row: float(row["usd_per_h"]) if reach else -_level(row))[
        "settings"
    ]
    step = number - (trials - sharpened)
    factor = 1.0 + STRIDE * (1 + step // 2) * (1 if step % 2 else -1)
    value = best[kind.knob.name] * max(0.05, factor)
    return best | {kind.knob.name: value}


def defaults(kind: ScalerKind) -> dict[str, Any]:
    """What a scaler is built with when nothing is said."""
    parameters = inspect.signature(kind.build).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _level(row: dict[str, Any]) -> float:
    return float(fronts.level(row["missed"], row["requests"]))


def _outcome(job: Job, settings: dict[str, Any], stored: Finished, folder: Path) -> tuple[float, float, float]:
    """USD per hour, missed and all requests of one trial; what cannot be built or run misses everything."""
    spent = np.zeros(4)
    for cell in job.cells:
        filled = Cell(cell.load, cell.load_digest, Setting(job.scaler, settings), cell.split, cell.seed, cell.code)
        if not stored.folder.has(filled.key):
            try:
                run_cell(filled, folder)
            except (ScenarioError, ValueError, ArithmeticError):
                return 1e9, 1.0, 1.0
        found = stored.get(filled.key)
        assert found is not None
        b = found["blocks"]
        spent += [sum(b[name]) for name in ("cost_usd", "hours", "missed", "requests")]
    return float(spent[0] / spent[1]), float(spent[2]), float(spent[3])


def front(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `POINTS` settings of the front, cheapest first: its ends and steps of equal level between 90 % and
    99.99 %."""
    cost = np.array([row["usd_per_h"] for row in rows])
    level = fronts.level(np.array([row["missed"] for row in rows]), np.array([row["requests"] for row in rows]))
    there = [int(i) for i in np.argsort(cost, kind="stable") if fronts.on_front(cost, level)[i] and cost[i] < 1e9]
    low, high = fronts.level_of(FROM), fronts.level_of(UPTO)
    wanted = np.linspace(low, high, POINTS)
    inside = [i for i in there if low <= level[i] <= high] or there
    picked = {min(inside, key=lambda i: abs(level[i] - at)) for at in wanted} if inside else set()
    # The cheapest above each target, so that a frozen setting is never missing for want of a point.
    for target in (0.95, 0.99, 0.999):
        above = [i for i in there if level[i] >= fronts.level_of(target)]
        picked |= {above[0]} if above else set()
    kept = sorted(picked, key=lambda i: cost[i])
    return [{"settings": rows[i]["settings"], "usd_per_h": float(cost[i]), "level": float(level[i])} for i in kept]


def read_front(path: Path) -> list[dict[str, Any]]:
    """The settings that a search has kept, cheapest first."""
    return [point["settings"] for point in json.loads(path.read_text())["front"]]
