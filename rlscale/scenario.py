"""Scenario files: YAML to a checked `Scenario` and its loads. Takes paths; names are resolved in `envs`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlscale.errors import RlscaleError, ScenarioError, nearest
from rlscale.feedback import Scale
from rlscale.scenario_file import SPLITS, ScenarioFile, Split
from rlscale.sim import steady
from rlscale.types import ClusterSpec, Load, RewardWeights, ScalingLimits, TokenLaw
from rlscale.workloads.build import build
from rlscale.yaml_file import checked, line_of, read_mapping

REFERENCE_FILE = "reference.json"  # beside the scenario files


@dataclass(frozen=True)
class Scenario:
    """A cluster, its loads by split, and the weights of the reward."""

    name: str
    summary: str
    cluster: ClusterSpec
    workload: Mapping[str, Any]
    splits: Mapping[Any, Mapping[str, Any]]  # by Split
    horizon_s: float
    weights: RewardWeights
    path: Path | None = None
    scale: Scale | None = None  # None: the reward is not defined, see `python -m experiments scenarios reference`
    tokens: tuple[TokenLaw, ...] = field(default=())  # () : those of the training load
    burstiness: float = 0.0  # 0: that of the training load

    @cached_property
    def hash(self) -> str:
        """Digest of everything that defines the numbers: cluster with profiles, loads, horizon, reward weights."""
        text = json.dumps(
            [told(self.cluster), self.workload, self.splits, self.horizon_s, told(self.weights),
             told(self.tokens), self.burstiness],
            sort_keys=True, default=str,
        )  # fmt: skip
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def sample_load(self, split: Split, seed: int) -> Load:
        """The load of one seed; the splits never share a stream of luck, nor, with traces, time."""
        if split not in SPLITS:
            raise ScenarioError(f"unknown split '{split}'; {nearest(split, SPLITS)}")
        spec = {**self.workload, **self.splits.get(split, {})}
        workload = build(spec, str(self.path or self.name))
        rng = np.random.default_rng([SPLITS.index(split), seed])
        return workload.sample(rng, self.horizon_s, self.cluster.substep_s)

    @cached_property
    def limits(self) -> ScalingLimits:
        """What scalers may know, l_SLO of every pool included."""
        if self.tokens:
            return steady.limits(self.cluster, self.tokens, max(1.0, self.burstiness))
        load = self.sample_load("train", 0)
        return steady.limits(self.cluster, tuple(dict.fromkeys(load.tokens)), load.burstiness)

    def serving(self, load: Load) -> Scenario:
        """The same cluster for a load of its own, such as a recorded one: capacity is that of its requests."""
        return replace(
            self, tokens=tuple(dict.fromkeys(load.tokens)), burstiness=load.burstiness, horizon_s=load.duration_s
        )


def told(value: Any) -> Any:
    """For a digest: records as their fields that differ from the defaults, so that a new field changes nothing."""
    if is_dataclass(value):
        given = {item.name: getattr(value, item.name) for item in fields(value)}
        blank = {item.name: item.default for item in fields(value)}
        return [type(value).__name__, {name: told(own) for name, own in given.items() if own != blank[name]}]
    return [told(item) for item in value] if isinstance(value, tuple | list) else value


def load_scenario(path: str | Path, check_reference: bool = True) -> Scenario:
    """Read, check and build a scenario; every error names the file and the field.

    `check_reference` False leaves the stored reference cost alone, to compute it anew.
    """
    path = Path(path)
    text, raw = read_mapping(path, "a scenario in YAML: a mapping with slo, pools and workload", ScenarioError)
    file = checked(ScenarioFile, raw, str(path), ScenarioError, text)
    try:
        cluster = file.cluster(path.parent)
        for split in ("train", *file.splits):
            place = ("splits", split) if split in file.splits else ("workload",)
            where = f"{path}, line {line_of(text, place)}"
            build({**file.workload, **file.splits.get(split, {})}, where)
    except RlscaleError as error:
        raise ScenarioError(_with_file(path, str(error))) from None
    scenario = Scenario(
        path.stem, file.summary, cluster, file.workload, dict(file.splits), file.horizon_s,
        RewardWeights(**file.reward.model_dump()), path,
    )  # fmt: skip
    return replace(scenario, scale=read_scale(scenario)) if check_reference else scenario


def read_scale(scenario: Scenario) -> Scale | None:
    """The stored reference cost of a scenario; None when there is none yet, refused when it is for another content."""
    path = (scenario.path or Path()).parent / REFERENCE_FILE
    if scenario.path is None or not path.exists():
        return None
    entry = json.loads(path.read_text()).get(scenario.name)
    if entry is None:
        return None
    if entry["hash"] != scenario.hash:
        raise ScenarioError(
            f"{path}: the reference cost of '{scenario.name}' was computed for content {entry['hash']}, the file now "
            f"has {scenario.hash}; run `python -m experiments scenarios reference {scenario.path}`"
        )
    return Scale(entry["usd_per_interval"], entry["requests_per_interval"])


def check_unloaded(scenario: Scenario) -> ScalingLimits:
    """Refuse a scenario that misses its SLO without load; returns its limits."""
    try:
        return scenario.limits
    except RlscaleError as error:
        raise ScenarioError(_with_file(scenario.path or Path(scenario.name), str(error))) from None


def _with_file(path: Path, text: str) -> str:
    return text if text.startswith(str(path)) else f"{path}: {text}"
