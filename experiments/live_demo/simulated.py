"""The same requests, scaler and shields in the simulator."""

from __future__ import annotations

from pathlib import Path

from experiments.live_demo.config import live_config, plan_of
from experiments.live_demo.recorded import Recorded
from rlscale.deploy.assemble import decider_of
from rlscale.loop import RunResult, run
from rlscale.scenario import Scenario


def simulate(scenario: Scenario, recorded: Recorded, scaler: str, seed: int) -> RunResult:
    """Every request and every engine iteration, as the live loop would decide."""
    plan = plan_of(live_config(scaler, Path(), {"kind": "dry-run"}), scenario.limits,
                   scenario.cluster.interval_s)  # fmt: skip
    decider = decider_of(plan, [], None, 0.0)
    return run(scenario, decider, recorded.load, seed, scaler, (recorded.initial,), engine="request")


def scenario_file() -> Path:
    """The demo's own."""
    return Path(__file__).parent / "scenario.yaml"
