"""Scenario files: YAML to a checked `Scenario` and its loads. Takes paths; names are resolved in `envs`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlscale.errors import RlscaleError, ScenarioError, nearest
from rlscale.feedback import Scale
from rlscale.sim import steady
from rlscale.sim.profiles import node_type, service_profile
from rlscale.types import ClusterSpec, DelayLaw, Load, Pool, RewardWeights, ScalingLimits, Slo, TokenLaw
from rlscale.workloads.build import build
from rlscale.yaml_place import line_of

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
REFERENCE_FILE = "reference.json"  # beside the scenario files


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Slo(_Strict):
    ttft_s: float = Field(gt=0, description="seconds")
    ttft_tokens_per_s: float | None = Field(None, gt=0, description="a prompt of n tokens may take n/this longer")
    tpot_s: float | None = Field(None, gt=0, description="seconds per output token")
    attainment: float = Field(0.99, gt=0, lt=1, description="target share of requests, 0 to 1")

    def build(self) -> Slo:
        return Slo(self.ttft_s, self.tpot_s or math.inf, self.ttft_tokens_per_s or math.inf, self.attainment)


class _Delay(_Strict):
    median_s: float = Field(gt=0)
    p95_s: float = Field(gt=0, description="equal to the median: always the same")

    @model_validator(mode="after")
    def _ordered(self) -> _Delay:
        if self.p95_s < self.median_s:
            raise ValueError(f"p95_s={self.p95_s:g} is below median_s={self.median_s:g}; swap them")
        return self

    def build(self) -> DelayLaw:
        return DelayLaw(self.median_s, self.p95_s)


class _Pool(_Strict):
    name: str = Field(min_length=1)
    node: str
    profile: str
    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(ge=1, le=4096)
    spot: bool = False
    zone: str = "a"
    usd_per_gpu_hour: float | None = Field(None, ge=0, description="instead of the profile's price, USD")
    provisioning: _Delay | None = Field(None, description="order to node up, instead of the profile's")
    cold_start: _Delay | None = Field(None, description="node up to replica ready, instead of the profile's")
    warm_start: _Delay | None = Field(None, description="the same on a node that has run the service before")

    @model_validator(mode="after")
    def _ordered(self) -> _Pool:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas={self.min_replicas} is above max_replicas={self.max_replicas}; swap them")
        return self

    def build(self) -> Pool:
        node, profile = node_type(self.node), service_profile(self.profile)
        if profile.gpu not in ("any", node.gpu):
            raise ScenarioError(f"profile '{profile.name}' runs on {profile.gpu}; node '{node.name}' has {node.gpu}")
        if profile.gpus_per_replica > node.gpus:
            raise ScenarioError(
                f"profile '{profile.name}' needs {profile.gpus_per_replica} GPUs per replica; "
                f"node '{node.name}' has {node.gpus}"
            )
        if self.usd_per_gpu_hour is not None:
            price = self.usd_per_gpu_hour
            node = replace(node, spot_usd_per_gpu_hour=price) if self.spot else replace(node, usd_per_gpu_hour=price)
        if self.provisioning is not None:
            node = replace(node, provisioning=self.provisioning.build())
        starts = {
            name: law.build() for name in ("cold_start", "warm_start") if (law := getattr(self, name)) is not None
        }
        profile = replace(profile, **starts)
        return Pool(self.name, node, profile, self.min_replicas, self.max_replicas, self.spot, self.zone)


class _Control(_Strict):
    interval_s: float = Field(15.0, gt=0, le=3600)
    substep_s: float = Field(1.0, gt=0, le=60)
    scrape_interval_s: float = Field(5.0, gt=0)
    scrape_delay_s: float = Field(2.0, ge=0)
    control_delay_s: float = Field(0.0, ge=0)
    metric_noise: float = Field(0.0, ge=0, le=1)
    metric_missing_share: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> _Control:
        steps = self.interval_s / self.substep_s
        if abs(steps - round(steps)) > 1e-9 or round(steps) < 1:
            raise ValueError(f"interval_s={self.interval_s:g} is no multiple of substep_s={self.substep_s:g}")
        if self.scrape_delay_s + self.scrape_interval_s > self.interval_s:
            raise ValueError(
                f"scrape_delay_s + scrape_interval_s = {self.scrape_delay_s + self.scrape_interval_s:g} is above "
                f"interval_s={self.interval_s:g}: a decision would see no metric of its own interval"
            )
        if self.control_delay_s >= self.interval_s:
            raise ValueError(f"control_delay_s={self.control_delay_s:g}; expected less than interval_s")
        return self


class _Fleet(_Strict):
    drain_s: float = Field(60.0, gt=0)
    timeout_s: float = Field(30.0, gt=0)
    node_idle_s: float = Field(600.0, ge=0)
    bill_from: Literal["up", "order"] = "up"


class _Reward(_Strict):
    missed: float = Field(20.0, ge=0)
    churn: float = Field(0.001, ge=0)


class ScenarioFile(_Strict):
    """What a scenario YAML may say."""

    summary: str = Field(min_length=10)
    slo: _Slo
    pools: list[_Pool] = Field(min_length=1, max_length=8)
    control: _Control = _Control()
    fleet: _Fleet = _Fleet()
    workload: dict[str, Any]
    splits: dict[Split, dict[str, Any]] = Field(default_factory=dict, description="workload fields that differ")
    horizon_s: float = Field(86_400.0, gt=0)
    reward: _Reward = _Reward()

    def cluster(self) -> ClusterSpec:
        """The cluster it describes."""
        return ClusterSpec(
            tuple(pool.build() for pool in self.pools),
            self.slo.build(),
            **self.control.model_dump(),
            **self.fleet.model_dump(),
        )


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
    text, raw = _read_yaml(path)
    try:
        checked = ScenarioFile.model_validate(raw)
    except ValidationError as error:
        raise ScenarioError(f"{path}, {_explain(error, text)}") from None
    try:
        cluster = checked.cluster()
        for split in ("train", *checked.splits):
            place = ("splits", split) if split in checked.splits else ("workload",)
            where = f"{path}, line {line_of(text, place)}"
            build({**checked.workload, **checked.splits.get(split, {})}, where)
    except RlscaleError as error:
        raise ScenarioError(_with_file(path, str(error))) from None
    scenario = Scenario(
        path.stem, checked.summary, cluster, checked.workload, dict(checked.splits), checked.horizon_s,
        RewardWeights(checked.reward.missed, checked.reward.churn), path,
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


def _read_yaml(path: Path) -> tuple[str, Any]:
    try:
        text = path.read_text()
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read ({error.strerror}); expected a scenario in YAML") from None
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: cannot be read ({error}); expected a scenario in YAML") from None
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ScenarioError(f"{path}{line}: not YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(raw, dict):
        raise ScenarioError(f"{path}: got {type(raw).__name__}, expected a mapping with slo, pools and workload")
    return text, raw


def _explain(error: ValidationError, text: str) -> str:
    """Every fault with its line, field, what was got and what was expected."""
    parts = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "file"
        if item["type"] == "extra_forbidden":
            known = _known_keys(item["loc"][:-1])
            fault = f"unknown key '{where}'; {nearest(str(item['loc'][-1]), known)}"
        elif item["type"] == "missing":
            fault = f"'{where}' is missing"
        else:
            message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
            got = "" if item["type"] == "value_error" else f"got {item['input']!r}, expected "
            fault = f"{where}: {got}{message}"
        parts.append(f"line {line_of(text, item['loc'])}: {fault}")
    return "; ".join(parts)


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "slo": _Slo, "pools": _Pool, "control": _Control, "fleet": _Fleet, "reward": _Reward,
    }  # fmt: skip
    return list(models.get(str(place[0]) if place else "", ScenarioFile).model_fields)


def _with_file(path: Path, text: str) -> str:
    return text if text.startswith(str(path)) else f"{path}: {text}"
