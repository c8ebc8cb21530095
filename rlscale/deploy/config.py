"""live.yaml: what a live service is, what its shields are, where its metrics come from and its orders go."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.shield_config import ShieldsConfig
from rlscale.errors import nearest
from rlscale.yaml_place import line_of

Model = TypeVar("Model", bound=BaseModel)
MAX_BYTES = 1_000_000  # of a configuration file


class Strict(BaseModel):
    """Unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ScalerConfig(Strict):
    """A scaler by name, with its parameters."""

    name: str = Field(min_length=1, description="a registered scaler, policy:FOLDER, or module:Class")
    parameters: dict[str, bool | int | float | str] = Field(default_factory=dict)


class AuditConfig(Strict):
    """The log of everything, which is also the memory over a restart."""

    path: Path = Field(Path("audit.jsonl"), strict=False)
    max_mb: float = Field(64.0, gt=0, description="megabytes of one file")
    keep: int = Field(8, ge=1, description="files, the one being written included")
    replay_s: float = Field(7200.0, ge=0, description="decisions that a scaler is shown again after a restart")


class PagesConfig(Strict):
    """Where health, readiness and metrics are served."""

    address: str = "127.0.0.1"
    port: int = Field(9108, ge=0, le=65535, description="0: any that is free")


class LiveConfig(Strict):
    """A live service, whole."""

    service: str = Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    scenario: str | None = Field(None, description="name or file: capacity, limits and SLO of the service")
    limits: Path | None = Field(None, strict=False, description="the same, computed before: see `scenarios limits`")
    scaler: ScalerConfig | None = Field(None, description="what --scaler says instead")
    fallback: ScalerConfig = ScalerConfig(name="headroom-held")
    shadow: ScalerConfig | None = Field(None, description="decides beside the scaler and is only logged")
    interval_s: float | None = Field(None, gt=0, le=3600, description="between decisions; default: the scenario's")
    timezone: str = Field("UTC", description="of days and weeks, such as Europe/Berlin")
    metrics: dict[str, Any] = Field(default_factory=lambda: {"kind": "none"})
    backend: dict[str, Any] = Field(default_factory=lambda: {"kind": "dry-run"})
    leader: dict[str, Any] = Field(default_factory=lambda: {"kind": "none"})
    shields: ShieldsConfig = ShieldsConfig()
    audit: AuditConfig = AuditConfig()
    pages: PagesConfig = PagesConfig()
    tensorboard: Path | None = Field(None, strict=False, description="folder for scalars; default: none are written")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, KeyError):
            raise ValueError(f"unknown time zone {value!r}; expected a name such as UTC or Europe/Berlin") from None
        return value

    @field_validator("metrics", "backend", "leader")
    @classmethod
    def _names_its_kind(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(value.get("kind"), str):
            raise ValueError("no 'kind'; expected the name of one, such as kind: dry-run")
        return value


def load_config(path: Path) -> LiveConfig:
    """Read and check live.yaml; LiveConfigError names file, line and field of every fault."""
    text = _text(path)
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise LiveConfigError(f"{path}{line}: not YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(raw, dict):
        raise LiveConfigError(f"{path}: got {type(raw).__name__}, expected a mapping with service, metrics and backend")
    return checked(LiveConfig, raw, str(path), text)


def checked(kind: type[Model], raw: Any, where: str, text: str = "", under: str = "") -> Model:
    """A model from plain values; every fault with its line (where there is text), field, what was got and expected."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        faults = [_fault(item, kind, text, under) for item in error.errors(include_url=False)]
        raise LiveConfigError(f"{where}, {'; '.join(faults)}") from None


def _fault(item: Any, kind: type[BaseModel], text: str, under: str) -> str:
    place = ((under, *item["loc"]) if under else item["loc"]) if text else ()
    line = f"line {line_of(text, place)}: " if text else ""
    field = ".".join(str(part) for part in ((under,) if under else ()) + tuple(item["loc"])) or "file"
    if item["type"] == "extra_forbidden":
        return f"{line}unknown key '{field}'; {nearest(str(item['loc'][-1]), _known(kind, item['loc'][:-1]))}"
    if item["type"] == "missing":
        return f"{line}'{field}' is missing"
    message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    got = "" if item["type"] == "value_error" else f"got {item['input']!r:.80}, expected "
    return f"{line}{field}: {got}{message}"


def _known(kind: type[BaseModel], place: tuple[Any, ...]) -> list[str]:
    """Keys that are known at a place of a model."""
    for part in place:
        found = kind.model_fields.get(str(part))
        inner = getattr(found, "annotation", None)
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LiveConfigError(f"{path}: {path.stat().st_size} bytes; expected a configuration below {MAX_BYTES}")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LiveConfigError(f"{path}: cannot be read ({reason}); expected a live configuration in YAML") from None
