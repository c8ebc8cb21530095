"""Tunes one scaler on the training loads of one source, within a budget of simulated control intervals.

Every trial is a row of cells, stored like any other: taken up after a kill, a search reads what is there and runs what
is missing. What is kept of the front, the settings that no cheaper one matches on the training
loads, is what lies next to the targets.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments import fronts, sources
from experiments.cases import ScalerCase
from experiments.cells import Cell, Setting, run_cell
from experiments.grid import Grid, Source
from experiments.results import Finished, ResultFolder, write_json
from experiments.search import Search, space_of
from experiments.sharpen import FURTHER, next_value
from rlscale.errors import ScenarioError
from rlscale.registry import get
from rlscale.types import ScalerKind

# Shares of the trials: the defaults along the knob, the best of them near the targets, other settings; the rest goes
# to the best settings near the targets.
CALIBRATED, SHARPENED, EXPLORED = 0.25, 0.15, 0.35
STRIDE = 1.0 / 15.0  # of a knob's range, by which sharpening goes beyond what was tried where that is a wide one
UNUSABLE = 1e9  # USD/h of settings that cannot be built or run
NEXT = 1  # points of a front on either side of a target that go on to the test loads
WHOLE = 12  # points of a front where the test loads come from elsewhere and may lie anywhere on it


@dataclass(frozen=True, slots=True)
class Job:
    """One scaler on one source of load."""

    scaler: str
    params: tuple[tuple[str, Any], ...]  # given, not searched
    cells: tuple[Cell, ...]  # of one trial, the settings still to be filled in
    trials: int
    seed: int
    targets: tuple[float, ...]  # attainments at which it is to be cheap
    whole: bool  # whether all of the front is wanted
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


def tuned_path(folder: Path, source: Source, scaler: ScalerCase) -> Path:
    """Where a comparison keeps the search of one scaler on one load."""
    name = hashlib.sha256(f"{source.case.name} {scaler.label}".encode()).hexdigest()[:16]
    return folder / "tuned" / f"{name}.json"


def job_of(grid: Grid, source: Source, scaler: ScalerCase, trials: int, seed: int, path: Path) -> Job:
    """The search of one scaler of a grid on the training loads of one source."""
    cells = tuple(grid.trial(source, scaler))
    return Job(
        scaler.name,
        tuple(scaler.params.items()),
        cells,
        trials,
        seed,
        source.targets,
        source.recorded and source.training is not None,
        path,
    )


def tune(job: Job, folder: Path) -> None:
    """Search, and store the front under the job's name; nothing is done twice."""
    kind = get("agents", "SCALERS", job.scaler, "scaler")
    given = dict(job.params)
    space = {name: spec for name, spec in space_of(job.scaler, kind).items() if name not in given}
    search = Search(space, job.trials, job.seed)
    stored, rows = Finished(ResultFolder(folder)), list[dict[str, Any]]()
    for number in range(job.trials if space else 1):
        fixed = _fixed(number, job.trials, kind, space, rows, job.targets)
        trial, asked = (None, fixed) if fixed is not None else search.ask(_held(number, kind, space, rows, job.targets))
        settings = given | search.inside(asked)
        cost, missed, requests = _outcome(job, settings, stored, folder)
        level = float(fronts.level(missed, requests))
        if trial is None:
            search.add(settings, cost, -level)
        else:
            search.tell(trial, cost, -level)
        rows.append({"trial": number, "settings": settings, "usd_per_h": cost, "missed": missed, "requests": requests})
    knob = kind.knob.name if kind.knob is not None and kind.knob.name in space else None
    write_json(
        job.path,
        {
            "scaler": job.scaler,
            "rises": knob is None or _rises(rows[: _calibrated(job.trials)], knob),
            "load": job.cells[0].load.name,
            "trials": rows,
            "front": front(rows, job.targets, job.whole),
        },
    )


def _fixed(
    number: int, trials: int, kind: ScalerKind, space: Mapping[str, tuple[Any, ...]], rows: Sequence[dict[str, Any]],
    targets: Sequence[float],
) -> dict[str, Any] | None:  # fmt: skip
    """Settings that are not left to the search; see the shares above.

    So every rule is at least calibrated, and its front has points on both sides of every target.
    """
    if kind.knob is None or kind.knob.name not in space:
        return None
    knob, calibrated = kind.knob, _calibrated(trials)
    if number < calibrated:
        at = (number + 0.5) / calibrated * len(knob.values)
        return defaults(kind) | {knob.name: knob.values[int(at)]}
    first = calibrated + round(SHARPENED * trials)
    last = first + round(EXPLORED * trials)
    if first <= number < last:
        return None
    rises = _rises(rows[:calibrated], knob.name)
    step = number - (calibrated if number < first else last)
    for turn in range(len(targets)):
        target = fronts.level_of(targets[(step + turn) % len(targets)])
        found = sharpened(rows, knob.name, space[knob.name], target, rises)
        if found is not None:
            return found
    return None


def _held(
    number: int, kind: ScalerKind, space: Mapping[str, Any], rows: Sequence[dict[str, Any]], targets: Sequence[float]
) -> dict[str, Any] | None:
    """In every second trial of a search, the knob where it was best so far: at another one nothing is comparable."""
    if kind.knob is None or kind.knob.name not in space or len(space) < 2 or number % 2 or not rows:
        return None
    name = kind.knob.name
    return {name: _best(rows, fronts.level_of(targets[0]))["settings"][name]}


def _best(rows: Sequence[dict[str, Any]], target: float) -> dict[str, Any]:
    """The cheapest trial that reaches a level, or else the one with the highest."""
    reach = [row for row in rows if level_of(row) >= target]
    return min(reach, key=lambda row: float(row["usd_per_h"])) if reach else max(rows, key=level_of)


def sharpened(
    rows: Sequence[dict[str, Any]], knob: str, spec: tuple[Any, ...], target: float, rises: bool
) -> dict[str, Any] | None:
    """The cheapest settings that reach a level, or the best ones, with the knob where they should just reach it."""
    best = _best(rows, target)
    rest = _without(best["settings"], knob)
    tried = [(float(row["settings"][knob]), level_of(row)) for row in rows if _without(row["settings"], knob) == rest]
    further = max(FURTHER, (spec[2] / spec[1]) ** STRIDE) if spec[1] > 0 else FURTHER
    value = next_value(tried, target, rises, further)
    if value is None:
        return None
    value = min(max(value, spec[1]), spec[2])
    value = round(value) if spec[0] == "int" else float(value)
    return None if any(value == before for before, _ in tried) else best["settings"] | {knob: value}


def _calibrated(trials: int) -> int:
    return max(1, round(CALIBRATED * trials))


def _rises(rows: Sequence[dict[str, Any]], knob: str) -> bool:
    """Whether the level rises with the knob, by the defaults along it."""
    if len(rows) < 2:
        return True
    first, last = min(rows, key=lambda row: row["settings"][knob]), max(rows, key=lambda row: row["settings"][knob])
    return level_of(last) >= level_of(first)


def _without(settings: Mapping[str, Any], knob: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != knob}


def defaults(kind: ScalerKind) -> dict[str, Any]:
    """What a scaler is built with when nothing is said."""
    parameters = inspect.signature(kind.build).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _outcome(job: Job, settings: dict[str, Any], stored: Finished, folder: Path) -> tuple[float, float, float]:
    """USD per hour, missed and all requests of one trial; what cannot be built or run misses everything."""
    spent = np.zeros(4)
    for cell in job.cells:
        filled = replace(cell, setting=Setting(job.scaler, settings))
        if not stored.folder.has(filled.key):
            try:
                run_cell(filled, folder)
            except (ScenarioError, ValueError, ArithmeticError):
                return UNUSABLE, 1.0, 1.0
        found = stored.get(filled.key)
        assert found is not None
        b = found["blocks"]
        spent += [sum(b[name]) for name in ("cost_usd", "hours", "missed", "requests")]
    return float(spent[0] / spent[1]), float(spent[2]), float(spent[3])


def front(rows: Sequence[dict[str, Any]], targets: Sequence[float], whole: bool = False) -> list[dict[str, Any]]:
    """Settings of the front, cheapest first: those next to the targets and the best of all, or `WHOLE` of them."""
    cost = np.array([row["usd_per_h"] for row in rows])
    level = fronts.level(np.array([row["missed"] for row in rows]), np.array([row["requests"] for row in rows]))
    on = fronts.on_front(cost, level)
    there = [int(i) for i in np.argsort(cost, kind="stable") if on[i] and cost[i] < UNUSABLE]
    picked = set(there[-1:])
    for target in targets:
        x = fronts.level_of(target)
        picked |= set([i for i in there if level[i] < x][-NEXT:]) | set([i for i in there if level[i] >= x][:NEXT])
    if whole and there:
        picked |= {there[round(at)] for at in np.linspace(0, len(there) - 1, WHOLE)}
    kept = sorted(picked, key=lambda i: cost[i])
    return [{"settings": rows[i]["settings"], "usd_per_h": float(cost[i]), "level": float(level[i])} for i in kept]


def level_of(row: Mapping[str, Any]) -> float:
    """Attainment level of a trial."""
    return float(fronts.level(row["missed"], row["requests"]))


def read_front(path: Path) -> list[dict[str, Any]]:
    """The settings that a search has kept, cheapest first."""
    return [point["settings"] for point in json.loads(path.read_text())["front"]]
