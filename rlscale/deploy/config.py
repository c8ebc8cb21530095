"""live.yaml: what a live service is, what its shields are, where its metrics come from and its orders go."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.shield_config import ShieldsConfig
from rlscale.strict import Strict
from rlscale.yaml_file import checked, read_mapping


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
    expected = "a live configuration in YAML: a mapping with service, metrics and backend"
    text, raw = read_mapping(path, expected, LiveConfigError)
    return checked(LiveConfig, raw, str(path), LiveConfigError, text)
