"""The same requests, scaler and shields in the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from experiments.live_demo.config import live_config, plan_of
from experiments.live_demo.recorded import Recorded
from rlscale.deploy.assemble import decider_of
from rlscale.loop import RunResult, run
from rlscale.scenario import Scenario

PERTURBED = 24


def simulate(scenario: Scenario, recorded: Recorded, scaler: str, seed: int, lag_s: float, noise: float = 0.0
             ) -> RunResult:  # fmt: skip
    """Every request and every engine iteration, as the live loop would decide.

    The metrics are `lag_s` old, rounded up to sub-steps; `noise` is their relative standard deviation, `seed` that of
    its luck.
    """
    spec = scenario.cluster
    lag_s = min(lag_s, spec.interval_s - spec.substep_s)
    spec = replace(spec, scrape_interval_s=spec.substep_s, scrape_delay_s=lag_s, metric_noise=noise)
    scenario = replace(scenario, cluster=spec)
    plan = plan_of(live_config(scaler, Path(), {"kind": "dry-run"}), scenario.limits,
                   scenario.cluster.interval_s)  # fmt: skip
    decider = decider_of(plan, [], None, 0.0)
    return run(scenario, decider, recorded.load, seed, scaler, (recorded.initial,), engine="request")


def perturbed(scenario: Scenario, recorded: Recorded, scaler: str, lag_s: float, noise: float) -> Iterator[RunResult]:
    """The same with metrics as far off as they were live: how much of what comes out is chance.

    A rule that follows its metrics decides otherwise when they are a little off, and goes another way from there.
    """
    for seed in range(PERTURBED):
        yield simulate(scenario, recorded, scaler, seed, lag_s, noise)


def scenario_file() -> Path:
    """The demo's own."""
    return Path(__file__).parent / "gentle.yaml"
