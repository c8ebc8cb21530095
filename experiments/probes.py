"""Further settings for the test loads, so that a cost at equal attainment is read between near neighbours.

Training and test loads differ, and settings that lie on both sides of a target on the one need not do so on the other.
What is added moves the knob of tuned settings only, follows the same rule for every scaler, and is never chosen for
anything: frozen settings come from the training loads alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments import fronts, sources
from experiments.cases import ScalerCase
from experiments.grid import Grid, Source
from experiments.results import Finished, read_json
from experiments.search import space_of
from experiments.tuning import level_of, sharpened, tuned_path
from rlscale.errors import ScenarioError
from rlscale.registry import scan
from rlscale.types import ScalerKind

ROUNDS = 3  # further settings per target at most
FINE = 1.03  # ratio of the costs of two neighbours between which nothing further is asked for


def with_probes(grid: Grid, stored: Finished, folder: Path) -> Grid:
    """The grid with at most one further setting per scaler, load and target, where one is needed."""
    kinds, scalers = scan("agents", "SCALERS"), []
    for scaler in grid.scalers:
        probed = dict(scaler.probed)
        for source in grid.sources:
            found = _needed(grid, source, scaler, kinds.get(scaler.name), stored, folder)
            probed[source.case.name] = (*probed.get(source.case.name, ()), *found)
        scalers.append(replace(scaler, probed=probed))
    return replace(grid, scalers=tuple(scalers))


def pinned(rows: Sequence[Mapping[str, Any]], target: float) -> bool:
    """Whether a cost at level `target` can be read between two near neighbours of the front."""
    reach = [row["usd_per_h"] for row in rows if level_of(row) >= target]
    below = [row["usd_per_h"] for row in rows if level_of(row) < target and reach and row["usd_per_h"] < min(reach)]
    return bool(reach and below) and min(reach) <= FINE * max(below)


def _needed(
    grid: Grid, source: Source, scaler: ScalerCase, kind: ScalerKind | None, stored: Finished, folder: Path
) -> list[dict[str, Any]]:
    if kind is None or kind.knob is None or source.case.name not in scaler.tuned:
        return []
    space = space_of(scaler.name, kind)
    if kind.knob.name not in space or kind.knob.name in scaler.params:
        return []
    rows = _rows(grid, source, scaler, stored)
    rises = bool(read_json(tuned_path(folder, source, scaler))["rises"])
    found: list[dict[str, Any]] = []
    for target in source.targets:
        level = fronts.level_of(target)
        if rows and not pinned(rows, level):
            settings = sharpened(rows, kind.knob.name, space[kind.knob.name], level, rises)
            if settings is not None and settings not in found and _can_be_built(kind, settings, source):
                found.append(settings)
    return found


def _rows(grid: Grid, source: Source, scaler: ScalerCase, stored: Finished) -> list[dict[str, Any]]:
    """Settings with cost and misses over all test loads; those with a failed cell are left out."""
    name = source.case.name
    settings = (*scaler.tuned[name], *scaler.probed.get(name, ()))
    rows = []
    for chosen, cells in zip(settings, grid.sweep(source, scaler, "test")[0], strict=True):
        kept = [stored.get(cell.key) for cell in cells]
        if any(one is None for one in kept):
            continue
        total = {key: sum(sum(one["blocks"][key]) for one in kept if one is not None)
                 for key in ("cost_usd", "hours", "missed", "requests")}  # fmt: skip
        rows.append({"settings": chosen, "usd_per_h": total["cost_usd"] / total["hours"], **total})
    return rows


def _can_be_built(kind: ScalerKind, settings: Mapping[str, Any], source: Source) -> bool:
    try:
        kind.build(sources.base(source.case.scenario).limits, **settings)
    except (ScenarioError, ValueError, ArithmeticError):
        return False
    return True
