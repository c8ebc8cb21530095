"""What is compared: a study file, or the flags that stand for one. Knows no simulator and runs nothing.

A study names loads (scenarios, recorded traces), scalers with the values of their knob, and how many seeds of the
training and test loads each of them meets.
"""

from __future__ import annotations

import glob
import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from experiments.cases import ANY, LoadCase, ScalerCase, Scaling, TraceCase
from rlscale.errors import ScenarioError, nearest
from rlscale.registry import scan
from rlscale.scalers import POLICY, scaler_kind
from rlscale.strict import Strict
from rlscale.types import Engine, ScalerKind
from rlscale.yaml_file import checked, read_mapping

SCENARIO = "{scenario}"  # in a policy's path: the name of the scenario that the load belongs to
TARGETS = (0.95, 0.99, 0.999)
MULTIPLIERS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.35, 1.5)  # knob of a learned policy

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1, le=1000)]
Days = Annotated[list[int], Field(min_length=2, max_length=2)]


class ScenarioEntry(Strict):
    """A scenario by name or path; its test loads are generated, so every seed is a load of its own."""

    name: str
    block_s: Annotated[float, Field(ge=60.0)] | None = None  # length of a load block; days by default


class TraceEntry(Strict):
    """A recorded load on the cluster and SLO of a scenario, scaled up to a fleet worth scaling or as it is."""

    path: str
    scenario: str  # cluster, SLO, and training loads where the trace is too short to be split by time
    name: str = ""
    format: str = "auto"
    tokens: Literal["own", "scenario"] = "own"  # whose lengths of prompts and answers
    scaling: Literal["superpose", "amplify", "both", "recorded"] = "both"
    mean_need: Annotated[float, Field(ge=1.0, le=1000.0)] = 12.0  # replicas; of no account as recorded
    block_s: Annotated[float, Field(ge=60.0)] | None = None
    windows_days: dict[Literal["train", "validation", "test"], Days] | None = None  # [first day, day after the last]

    @model_validator(mode="after")
    def _days_in_order(self) -> TraceEntry:
        windows = self.windows_days or {"train": [0, 1], "test": [1, 2]}
        if not {"train", "test"} <= set(windows):
            raise ValueError(f"windows_days has {', '.join(windows)}; expected at least train and test, or nothing")
        for split, (first, last) in windows.items():
            if not 0 <= first < last:
                raise ValueError(f"windows_days.{split}: got [{first}, {last}], expected [first, day after the last]")
        in_order = [windows[split] for split in ("train", "validation", "test") if split in windows]
        for (_, last), (first, _) in itertools.pairwise(in_order):
            if last > first:
                raise ValueError("windows_days: training, validation and test days must follow one another")
        return self


class ScalerEntry(Strict):
    """A scaler by its registered name, or `policy:FOLDER`; a pattern of folders is one row with training seeds.

    `{scenario}` in the pattern stands for the scenario of each load.
    """

    name: str
    label: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    knob: list[float] | None = None  # values to sweep instead of the scaler's own
    upstream: bool = True  # show the modelled product's default settings as a row of their own


class Seeds(Strict):
    """How many loads of each split are drawn: seeds 0, 1, 2 ..."""

    train: Count = 3
    test: Count = 10


def _named(key: str) -> BeforeValidator:
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


_ALL = BeforeValidator(lambda given: sorted(scan("agents", "SCALERS")) if given == "all" else given)


class Study(Strict):
    """Scenarios and traces x scalers x knob values x seeds."""

    name: str = "study"
    scenarios: list[Annotated[ScenarioEntry, _named("name")]] = Field(default_factory=list)
    traces: list[TraceEntry] = Field(default_factory=list)
    scalers: Annotated[list[Annotated[ScalerEntry, _named("name")]], _ALL] = Field(min_length=1)
    seeds: Seeds = Seeds()
    targets: list[Share] = Field(default_factory=lambda: list(TARGETS), min_length=1)
    engine: Engine = "fluid"
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000

    @model_validator(mode="after")
    def _something_to_run(self) -> Study:
        if not self.scenarios and not self.traces:
            raise ValueError("nothing to run: give at least one entry under scenarios or traces")
        return self

    @field_validator("scalers")
    @classmethod
    def _labels_differ(cls, scalers: list[ScalerEntry]) -> list[ScalerEntry]:
        labels = [entry.label or entry.name for entry in scalers]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} named twice; give each entry its own label")
        return scalers


def read_study(path: Path) -> Study:
    """The study in a YAML file; every fault is one ScenarioError that names file and field."""
    expected = f"a study in YAML: a mapping with the keys {', '.join(Study.model_fields)}"
    text, data = read_mapping(path, expected, ScenarioError)
    return parse_study({"name": path.stem, **data}, str(path), text)


def parse_study(data: dict[str, Any], where: str, text: str = "") -> Study:
    """A study from plain data; `where` is the file, of that `text`, or the command line the data came from."""
    return checked(Study, data, where, ScenarioError, text)


def load_cases(study: Study) -> list[LoadCase]:
    """Scenarios first, then traces, one case per scaling; names are unique."""
    cases = [LoadCase(Path(entry.name).stem, entry.name, None, entry.block_s) for entry in study.scenarios]
    for entry in study.traces:
        modes: tuple[Scaling, ...] = ("superpose", "amplify") if entry.scaling == "both" else (entry.scaling,)
        stem = entry.name or Path(entry.path).name.split(".")[0]
        windows = tuple((split, lo, hi) for split, (lo, hi) in (entry.windows_days or {}).items())
        for mode in modes:
            trace = TraceCase(entry.path, entry.format, mode, entry.mean_need, windows, entry.tokens)
            cases.append(LoadCase(f"{stem} ({mode})", entry.scenario, trace, entry.block_s))
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ScenarioError(f"study '{study.name}': the loads {', '.join(twice)} are listed twice; name them apart")
    return cases


def scaler_cases(study: Study, kinds: dict[str, ScalerKind]) -> list[ScalerCase]:
    """The scalers of a study, looked up among the registered `kinds`."""
    return [_scaler_case(study, entry, kinds) for entry in study.scalers]


def policy_folders(pattern: str) -> list[str]:
    """Policy folders behind a path: the folder itself, the seed folders inside it, or all that match a pattern."""
    found = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
    folders: list[str] = []
    for item in found:
        inside = sorted(Path(item).glob("*/manifest.json"))
        own = (Path(item) / "manifest.json").is_file()
        folders += [item] if own or not inside else [str(path.parent) for path in inside]
    if not folders:
        raise ScenarioError(f"study: no policy folder matches '{pattern}'; expected what the train command wrote")
    return folders


def _scaler_case(study: Study, entry: ScalerEntry, kinds: dict[str, ScalerKind]) -> ScalerCase:
    if entry.name.startswith(POLICY):
        folders = _policies(study, entry.name.removeprefix(POLICY))
        values = tuple(entry.knob or MULTIPLIERS)
        path = Path(entry.name.removeprefix(POLICY).rstrip("/*-_"))
        stem = path.parent.name if path.name.startswith("seed") else path.name
        label = entry.label or stem.removesuffix(f"-{SCENARIO}") or "policy"
        return ScalerCase(label, POLICY, "multiplier", values, entry.params, folders, None, "learned policy")
    kind = scaler_kind(entry.name) if ":" in entry.name else kinds.get(entry.name)
    if kind is None:
        raise ScenarioError(
            f"study '{study.name}': scalers: unknown scaler '{entry.name}'; {nearest(entry.name, kinds)}; "
            f"a trained one is {POLICY}FOLDER, one from elsewhere module:Class"
        )
    if kind.knob is None and entry.knob:
        raise ScenarioError(f"study '{study.name}': scalers: '{entry.name}' declares no knob; remove `knob`")
    if kind.knob is not None and kind.knob.name in entry.params:
        raise ScenarioError(
            f"study '{study.name}': scalers: {entry.name}.params.{kind.knob.name} is the knob of this scaler; "
            "give the values to sweep under `knob`"
        )
    knob = kind.knob.name if kind.knob else None
    values = tuple(entry.knob or (kind.knob.values if kind.knob else ()))
    upstream = kind.upstream if entry.upstream else None
    return ScalerCase(entry.label or entry.name, entry.name, knob, values, entry.params, {}, upstream, kind.summary)


def _policies(study: Study, pattern: str) -> dict[str, tuple[str, ...]]:
    """Folders by scenario where the pattern asks for it, with as many training seeds for each."""
    if SCENARIO not in pattern:
        return {ANY: tuple(policy_folders(pattern))}
    scenarios = {case.scenario for case in load_cases(study)}
    found = {name: tuple(policy_folders(pattern.replace(SCENARIO, Path(name).stem))) for name in sorted(scenarios)}
    counts = {name: len(folders) for name, folders in found.items()}
    if len(set(counts.values())) > 1:
        raise ScenarioError(f"study '{study.name}': scalers: {POLICY}{pattern} has training seeds {counts}; "
                            "expected as many for every scenario")  # fmt: skip
    return found
