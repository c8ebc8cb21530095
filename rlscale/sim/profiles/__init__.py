"""Node types and service profiles from YAML, each number with its source. Knows no scenario."""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from rlscale.errors import ScenarioError, nearest
from rlscale.types import DelayLaw, IterationLaw, NodeType, PowerCurve, ServiceProfile
from rlscale.yaml_file import checked, read_mapping


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Sourced(_Strict):
    """A number, where it comes from, and whether it is an estimate."""

    value: float = Field(ge=0)
    source: str = Field(min_length=3)
    estimate: bool = False
    std_error: float | None = Field(None, ge=0, description="of a fitted value, in its unit")
    interval90: tuple[float, float] | None = Field(None, description="5 and 95 % quantile of a fitted value")


class _Delay(_Strict):
    median_s: Sourced
    p95_s: Sourced

    def law(self) -> DelayLaw:
        return DelayLaw(self.median_s.value, self.p95_s.value)


class _Power(_Strict):
    idle_w: Sourced
    loaded_idle_w: Sourced
    decode_low_w: Sourced
    decode_high_w: Sourced
    prefill_w: Sourced
    host_w: Sourced


class _Standby(_Strict):
    stopped: _Delay | None = None
    sleeping: _Delay | None = None
    disk_usd_per_hour: Sourced | None = None


class _Node(_Strict):
    name: str
    gpu: str
    gpus: int = Field(ge=1)
    gpu_memory_gib: Sourced
    cpus: Sourced | None = None
    memory_gib: Sourced | None = None
    standby: _Standby = _Standby()
    usd_per_gpu_hour: Sourced
    spot_usd_per_gpu_hour: Sourced
    provisioning: _Delay
    power: _Power


class _Calibration(_Strict):
    decode_base: Sourced
    decode_slope: Sourced
    prefill: Sourced


class _Kernel(_Strict):
    c0_ms: Sourced
    c1_ms: Sourced
    c2_ms: Sourced
    c3_ms: Sourced
    c4_ms: Sourced


class _Valid(_Strict):
    """What was measured, least and most: outside of it the law is an extrapolation."""

    batch: tuple[float, float]
    prompt_tokens: tuple[float, float] | None = None
    output_tokens: tuple[float, float] | None = None


class _Service(_Strict):
    name: str
    model: str
    gpu: str
    gpus_per_replica: int = Field(ge=1)
    batching: bool
    calibration: _Calibration
    kernel: _Kernel
    kv_capacity_tokens: Sourced
    context_tokens: Sourced | None = None
    weights_gb: Sourced | None = None
    kv_bytes_per_token: Sourced | None = None
    cpus_per_replica: Sourced | None = None
    memory_gib_per_replica: Sourced | None = None
    max_seats: Sourced
    chunk_tokens: Sourced
    service_cv2: Sourced | None = None
    cold_start: _Delay
    warm_start: _Delay
    valid: _Valid | None = None


def names(kind: str) -> list[str]:
    """Names of the built-in profiles; `kind` is "nodes" or "services"."""
    folder = resources.files(__package__) / kind
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def _read(kind: str, name: str) -> dict[str, Any]:
    if name not in names(kind):
        raise ScenarioError(f"unknown {kind.removesuffix('s')} profile '{name}'; {nearest(name, names(kind))}")
    return dict(yaml.safe_load((resources.files(__package__) / kind / f"{name}.yaml").read_text()))


@cache
def node_type(name: str) -> NodeType:
    """A machine by its name, such as "h100-x1"."""
    raw = checked(_Node, _read("nodes", name), f"node profile {name}.yaml", ScenarioError)
    power = PowerCurve(**{field: getattr(raw.power, field).value for field in _Power.model_fields})
    return NodeType(
        raw.name,
        raw.gpu,
        raw.gpus,
        raw.gpu_memory_gib.value,
        raw.usd_per_gpu_hour.value,
        raw.spot_usd_per_gpu_hour.value,
        raw.provisioning.law(),
        power,
        _value(raw.cpus, math.inf),
        _value(raw.memory_gib, math.inf),
        raw.standby.stopped.law() if raw.standby.stopped else None,
        raw.standby.sleeping.law() if raw.standby.sleeping else None,
        _value(raw.standby.disk_usd_per_hour),
    )


def service_profile(name: str, folder: Path = Path()) -> ServiceProfile:
    """A model on a GPU by its name, such as "h100-8b", or by a file: "mine.yaml", looked for in `folder`.

    Kernel times are multiplied by their calibration.
    """
    return _from_file(folder / name) if name.endswith(".yaml") else _built_in(name)


@cache
def _built_in(name: str) -> ServiceProfile:
    return _profile(checked(_Service, _read("services", name), f"service profile {name}.yaml", ScenarioError))


def _from_file(path: Path) -> ServiceProfile:
    where = f"service profile {path}"
    text, raw = read_mapping(path, "a service profile in YAML, such as `calibrate` writes", ScenarioError)
    return _profile(checked(_Service, raw, where, ScenarioError, text))


def _profile(raw: _Service) -> ServiceProfile:
    base, slope, prefill = (
        raw.calibration.decode_base.value / 1e3,
        raw.calibration.decode_slope.value / 1e3,
        raw.calibration.prefill.value / 1e3,
    )
    law = IterationLaw(
        base * raw.kernel.c0_ms.value,
        slope * raw.kernel.c1_ms.value,
        prefill * raw.kernel.c2_ms.value,
        slope * raw.kernel.c3_ms.value,
        prefill * raw.kernel.c4_ms.value,
    )
    return ServiceProfile(
        raw.name,
        raw.model,
        raw.gpu,
        raw.gpus_per_replica,
        law,
        raw.kv_capacity_tokens.value,
        int(raw.max_seats.value),
        raw.chunk_tokens.value,
        raw.cold_start.law(),
        raw.warm_start.law(),
        raw.batching,
        _value(raw.service_cv2),
        weights_gb=_value(raw.weights_gb),
        kv_bytes_per_token=_value(raw.kv_bytes_per_token),
        cpus_per_replica=_value(raw.cpus_per_replica),
        memory_gib_per_replica=_value(raw.memory_gib_per_replica),
        context_tokens=_value(raw.context_tokens, math.inf),
    )


def _value(number: Sourced | None, otherwise: float = 0.0) -> float:
    return otherwise if number is None else number.value
