"""Which cells a study needs, and which role each of them plays. Runs nothing.

Knobs are swept on training loads and on test loads; the value that the training loads choose for each target is
then run on the test loads as it is. Default settings of a modelled product meet the test loads only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import analysis
from experiments.cases import LoadCase, ScalerCase
from experiments.cells import Cell, Setting, Split, folder_digest
from experiments.fronts import Frozen
from experiments.results import Finished
from rlscale.scalers import POLICY

FrozenKnobs = dict[tuple[str, str, float], list[Frozen]]  # (load, scaler, target) -> one per member


@dataclass(frozen=True, slots=True)
class Source:
    """A load case with what was learned of it when the study was opened."""

    case: LoadCase
    digest: str  # scenario hash and trace content
    targets: tuple[float, ...]  # the scenario's own first
    scaling: Mapping[str, Any] | None = None  # of a trace: mode, factor, index of dispersion before and after
    training: tuple[LoadCase, str] | None = None  # where the training loads come from, if not from the case itself

    @property
    def recorded(self) -> bool:
        """Whether other seeds are other luck on one load, and not other loads."""
        return self.case.trace is not None


@dataclass(frozen=True, slots=True)
class Grid:
    """A study, resolved."""

    sources: tuple[Source, ...]
    scalers: tuple[ScalerCase, ...]
    seeds: Mapping[str, int]  # split -> how many
    code: str
    digests: Mapping[str, str]  # policy folder -> digest
    engine: str = "fluid"

    def values(self, source: Source, scaler: ScalerCase, split: Split) -> tuple[float, ...]:
        """What is swept: values of the knob, or numbers of tuned settings, cheapest first, those probed last."""
        name = source.case.name
        if name in scaler.tuned:
            probed = len(scaler.probed.get(name, ())) if split == "test" else 0
            return tuple(float(number) for number in range(len(scaler.tuned[name]) + probed))
        return scaler.values

    def trial(self, source: Source, scaler: ScalerCase) -> list[Cell]:
        """The training cells of one trial of a search, its settings still to be filled in."""
        return self._seeds(source, scaler, 0, None, "train")

    def sweep(self, source: Source, scaler: ScalerCase, split: Split) -> list[list[list[Cell]]]:
        """Cells by [member][knob value][seed]."""
        values = self.values(source, scaler, split) or (None,)
        return [[self._seeds(source, scaler, s, v, split) for v in values] for s in range(scaler.members)]

    def frozen(self, source: Source, scaler: ScalerCase, knobs: Sequence[Frozen]) -> list[list[list[Cell]]]:
        """Cells by [member][0][seed] at the knob each member takes to the test loads; empty where it has none."""
        return [
            [[] if knob.status == "never" else self._seeds(source, scaler, s, knob.knob, "test")]
            for s, knob in enumerate(knobs)
        ]

    def upstream(self, source: Source, scaler: ScalerCase) -> list[Cell]:
        """Cells with the default settings of the product a scaler models."""
        assert scaler.upstream is not None
        setting = Setting(scaler.name, dict(scaler.upstream))
        return [self._cell(source, setting, "test", seed) for seed in range(self.seeds["test"])]

    def first_phase(self) -> list[Cell]:
        """Everything that can run before the knobs are frozen, cells of one load side by side."""
        cells = [cell for source in self.sources for cell in self._first_of(source)]
        return unique(sorted(cells, key=lambda cell: (cell.load.name, cell.split, cell.seed)))

    def second_phase(self, frozen: FrozenKnobs) -> list[Cell]:
        """The frozen knobs on the test loads."""
        cells = [
            cell
            for source, scaler, target in self.frozen_rows()
            for cell in flat(self.frozen(source, scaler, frozen[source.case.name, scaler.label, target]))
        ]
        return unique(cells)

    def frozen_rows(self) -> Iterator[tuple[Source, ScalerCase, float]]:
        """Every (load, scaler, target)."""
        for source in self.sources:
            for scaler in self.scalers:
                for target in source.targets:
                    yield source, scaler, target

    def freeze(self, stored: Finished) -> FrozenKnobs:
        """Read every knob off its front over the training loads."""
        frozen: FrozenKnobs = {}
        for source, scaler, target in self.frozen_rows():
            train = self.measured(source, scaler, self.sweep(source, scaler, "train"), stored, recorded=False)
            knobs = analysis.frozen_knobs(train, target) if train else [Frozen(None, "never")] * scaler.members
            frozen[source.case.name, scaler.label, target] = knobs
        return frozen

    def measured(
        self, source: Source, scaler: ScalerCase, cells: list[list[list[Cell]]], stored: Finished, recorded: bool
    ) -> analysis.Sweep | None:
        """The arrays behind a grid of cells."""
        none = [None] * self.seeds["test"]  # a member that never reaches the target has no frozen cells
        blocks = [[[_blocks(stored, cell) for cell in seeds] or none for seeds in row] for row in cells]
        swept = self.values(source, scaler, next((cell.split for cell in flat(cells)), "test"))
        values = swept if len(cells[0]) == len(swept) else (None,) * len(cells[0])
        return analysis.gather(scaler.label, scaler.learned, blocks, values, recorded)

    def _first_of(self, source: Source) -> Iterator[Cell]:
        for scaler in self.scalers:
            yield from flat(self.sweep(source, scaler, "train"))
            yield from flat(self.sweep(source, scaler, "test"))
            if scaler.upstream is not None:
                yield from self.upstream(source, scaler)

    def _seeds(self, source: Source, scaler: ScalerCase, member: int, value: float | None, split: Split) -> list[Cell]:
        policy = scaler.policy(source.case.scenario, member) if scaler.learned else None
        digest = self.digests[policy] if policy is not None else None
        knob = scaler.knob if value is not None else None
        if value is not None and source.case.name in scaler.tuned:
            # The very setting that the search ran: its training cells are there already.
            swept = (*scaler.tuned[source.case.name], *scaler.probed.get(source.case.name, ()))
            setting = Setting(scaler.name, dict(swept[int(value)]))
            return [self._cell(source, setting, split, seed) for seed in range(self.seeds[split])]
        setting = Setting(scaler.name, dict(scaler.params), knob, value, policy, digest)
        return [self._cell(source, setting, split, seed) for seed in range(self.seeds[split])]

    def _cell(self, source: Source, setting: Setting, split: Split, seed: int) -> Cell:
        case, digest = source.case, source.digest
        if split == "train" and source.training is not None:
            case, digest = source.training  # the same cells for every trace that trains on one generator
        return Cell(case, digest, setting, split, seed, self.code, self.engine)


def policy_digests(scalers: Sequence[ScalerCase]) -> dict[str, str]:
    """Digest of every policy folder of a study."""
    folders = {folder for scaler in scalers for found in scaler.policies.values() for folder in found}
    return {folder: folder_digest(Path(folder)) for folder in sorted(folders)}


def flat(cells: list[list[list[Cell]]]) -> list[Cell]:
    """All cells of a grid."""
    return [cell for row in cells for seeds in row for cell in seeds]


def unique(cells: Sequence[Cell]) -> list[Cell]:
    """Each cell once: a frozen knob that equals a swept value is the same run."""
    return list({cell.key: cell for cell in cells}.values())


def setting_words(setting: Setting) -> str:
    """A setting in a few words, for tables and failures."""
    name = f"{POLICY}{Path(setting.policy).name}" if setting.policy else setting.name
    knob = f" {setting.knob}={setting.value:g}" if setting.knob and setting.value is not None else ""
    return name + knob


def _blocks(stored: Finished, cell: Cell) -> Mapping[str, Any] | None:
    kept = stored.get(cell.key)
    return None if kept is None else kept["blocks"]
