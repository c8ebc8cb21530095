"""What was possible on every test load: the clairvoyant bound at each target, beside the scalers' costs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import sources
from experiments.cases import LoadCase
from experiments.grid import Grid, Source
from experiments.pool import run_all
from experiments.results import CELLS, ResultFolder, read_json, write_json
from rlscale.clairvoyant import future

Bounds = Mapping[str, Mapping[float, float]]  # load -> target -> USD per hour


@dataclass(frozen=True, slots=True)
class Ask:
    """The bound of one test load at some targets."""

    load: LoadCase
    digest: str
    code: str
    seed: int
    targets: tuple[float, ...]
    folder: Path

    @property
    def path(self) -> Path:
        """Where it is kept."""
        text = f"{sources.identity(self.load)} {self.digest} {self.code} {self.seed} {self.targets}"
        return self.folder / CELLS / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.bound.json"


def bounds(grid: Grid, folder: ResultFolder, workers: int) -> Bounds:
    """Least USD per hour over all test loads of each source."""
    asks = {source.case.name: _asks(grid, source, folder.path) for source in grid.sources}
    missing = [ask for some in asks.values() for ask in some if not ask.path.exists()]
    run_all(_answer, missing, min(workers, len(missing)), "bounds")
    found = {name: _mean([ask.path for ask in some]) for name, some in asks.items()}
    return {name: values for name, values in found.items() if values}


def _asks(grid: Grid, source: Source, folder: Path) -> list[Ask]:
    if sources.base(source.case.scenario).cluster.has_roles:
        return []  # no bound: see rlscale.clairvoyant
    return [Ask(source.case, source.digest, grid.code, seed, source.targets, folder)
            for seed in range(grid.seeds["test"])]  # fmt: skip


def _answer(ask: Ask) -> None:
    scenario, load = sources.sample(ask.load, "test", ask.seed)
    known = future(scenario, load, ask.seed)
    hours = len(known.arrived) * scenario.cluster.interval_s / 3600.0
    usd = {str(target): known.bound(target).cost_usd for target in ask.targets}
    write_json(ask.path, {"hours": hours, "usd": usd})


def _mean(paths: Sequence[Path]) -> dict[float, float]:
    """USD per hour over all loads; nothing where one of them has no bound."""
    kept = [read_json(path) for path in paths if path.exists()]
    if not kept or len(kept) < len(paths):
        return {}
    hours = sum(one["hours"] for one in kept)
    return {
        float(target): sum(one["usd"][target] for one in kept) / hours
        for target in kept[0]["usd"]
        if all(one["usd"][target] is not None for one in kept)  # null: not even with every node
    }


def with_regret(results: dict[str, Any], found: Bounds) -> None:
    """Add to every headline entry what was possible, and the regret: how much dearer it is, as a share."""
    for entry in results["headline"]:
        least = found.get(entry["load"], {}).get(entry["target"])
        entry["bound_usd_per_h"] = least
        reached = entry["status"] == "reached" and least
        entry["regret"] = entry["usd_per_h"] / least - 1.0 if reached else None
