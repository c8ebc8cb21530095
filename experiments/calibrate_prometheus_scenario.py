"""A scenario around a recorded load: cluster and control of a base scenario, the user's own load, SLO and profile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from envs import scenario_path
from experiments.calibrate_prometheus_ranges import DAY_S, Ranges
from experiments.results import write_text
from rlscale.errors import ScenarioError
from rlscale.scenario import Scenario, check_unloaded, load_scenario

HEAD_S = 600.0  # of a load with nothing before it is history, not scored
LEAST_S = 3600.0  # of a split, beyond that
KEPT = ("control", "fleet", "failures", "shortage", "actuator", "admission")  # of the base scenario
SPARE = 1.5  # most replicas over what the peak needs


@dataclass(frozen=True, slots=True)
class Windows:
    """Training before testing, in seconds of the trace. Whole days where there are two or more."""

    train_s: tuple[float, float]
    test_s: tuple[float, float]

    @property
    def days(self) -> dict[str, list[int]] | None:
        """The same in days; None when they are none."""
        edges = [edge / DAY_S for edge in (*self.train_s, *self.test_s)]
        if any(edge != round(edge) for edge in edges):
            return None
        first, middle, again, last = (round(edge) for edge in edges)
        return {"train": [first, middle], "test": [again, last]}


def windows(ranges: Ranges) -> Windows:
    """The first half to tune on and the second half to test on; of days left over the test has more."""
    whole_s = ranges.cells * ranges.step_s
    days = int(whole_s / DAY_S + 1e-9)
    middle_s = days // 2 * DAY_S if days >= 2 else ranges.cells // 2 * ranges.step_s
    end_s = days * DAY_S if days >= 2 else whole_s
    if middle_s < HEAD_S + LEAST_S:
        raise ScenarioError(
            f"--range: {whole_s / 3600.0:.3g} h are too short for a training and a test half of at least "
            f"{(HEAD_S + LEAST_S) / 60.0:.0f} min each; give a longer one"
        )
    return Windows((0.0, middle_s), (middle_s, end_s))


def base_file(name: str) -> tuple[Path, dict[str, Any]]:
    """Path and content of the base scenario; it must have one pool."""
    path = scenario_path(name)
    load_scenario(path, check_reference=False)  # its own faults are told as its own
    raw: dict[str, Any] = yaml.safe_load(path.read_text())
    if len(raw["pools"]) != 1:
        raise ScenarioError(
            f"--scenario {name}: has {len(raw['pools'])} pools; expected one: recorded sums do not tell pools apart"
        )
    return path, raw


def write_scenario(out: Path, name: str, ranges: Ranges, tokens: Any, slo: dict[str, float], profile: str | None,
                   at: Windows) -> Scenario:  # fmt: skip
    """`scenario.yaml` beside the trace, with room for one and a half times the recorded peak."""
    _, raw = base_file(name)
    pool = {**raw["pools"][0], "min_replicas": 1, "max_replicas": 4096}
    if profile is not None:
        pool["profile"] = profile
    control = raw.get("control", {})
    horizon_s = min(end - begin for begin, end in (at.train_s, at.test_s)) - HEAD_S
    interval_s = float(control.get("interval_s", 15.0))
    told: dict[str, Any] = {
        **{key: raw[key] for key in KEPT if key in raw},
        "summary": f"{ranges.cells * ranges.step_s / DAY_S:.3g} days recorded by Prometheus, on the cluster of {name}",
        "slo": {**raw["slo"], **slo}, "pools": [pool],
        "workload": {"kind": "trace", "path": str(out / "trace.csv"), "tokens": tokens},
        "splits": {"train": _span(at.train_s), "validation": _span(at.train_s), "test": _span(at.test_s)},
        "horizon_s": float(int(horizon_s / interval_s) * interval_s),
    }  # fmt: skip
    path = out / "scenario.yaml"
    _dump(path, told)
    known = check_unloaded(load_scenario(path, check_reference=False))
    rates = ranges.values["arrival_per_s"]
    pool["max_replicas"] = max(2, math.ceil(SPARE * float(np.nanmax(rates)) / known.reference_per_s) + 1)
    _dump(path, told)
    return load_scenario(path, check_reference=False)


def _span(edges_s: tuple[float, float]) -> dict[str, float]:
    return {"start_s": edges_s[0], "end_s": edges_s[1]}


def _dump(path: Path, told: dict[str, Any]) -> None:
    path.unlink(missing_ok=True)
    head = "# Written by `calibrate --prometheus`; the path of the trace is from the folder the command ran in.\n"
    write_text(path, head + yaml.dump(told, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True))
