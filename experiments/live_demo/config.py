"""live.yaml of the demo, the same for the live run and for the simulated one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlscale.deploy.assemble import Plan
from rlscale.deploy.config import LiveConfig, checked
from rlscale.scenario import Scenario

SERVICE = "toy"


def live_config(scaler: str, folder: Path, backend: dict[str, Any]) -> dict[str, Any]:
    """What it says; all shields are as they are by default. The metrics come from outside: their world is faster."""
    return {"service": SERVICE, "scenario": "live-demo", "scaler": {"name": scaler}, "backend": backend,
            "audit": {"path": str(folder / "audit.jsonl")}}  # fmt: skip


def plan_of(raw: dict[str, Any], scenario: Scenario) -> Plan:
    """Checked, with the limits of the scenario."""
    return Plan(checked(LiveConfig, raw, "live-demo"), scenario.limits, scenario.cluster.interval_s, "live-demo")
