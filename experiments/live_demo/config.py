"""live.yaml of the demo, the same for the live run and for the simulated one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlscale.deploy.assemble import Plan
from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.config import LiveConfig
from rlscale.types import ScalingLimits
from rlscale.yaml_file import checked

SERVICE = "toy"


def live_config(scaler: str, folder: Path, backend: dict[str, Any]) -> dict[str, Any]:
    """What it says; all shields are as they are by default. The metrics come from outside: their world is faster."""
    return {"service": SERVICE, "scenario": "live-demo", "scaler": {"name": scaler}, "backend": backend,
            "audit": {"path": str(folder / "audit.jsonl")}}  # fmt: skip


def plan_of(raw: dict[str, Any], limits: ScalingLimits, interval_s: float) -> Plan:
    """Checked."""
    return Plan(checked(LiveConfig, raw, "live-demo", LiveConfigError), limits, interval_s, "live-demo")
