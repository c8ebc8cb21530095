"""From a load case to the scenario and the load of one seed. Recorded loads are scaled here to a fleet worth scaling.

A recorded load takes cluster and SLO from a scenario and brings its own lengths, so that the capacity of a replica is
that of its requests. Where it is too short to be split by time, the scenario's generator gives the training loads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import numpy as np

from envs import get_scenario
from experiments.cases import LoadCase, Scaling, TraceCase
from rlscale.errors import ScenarioError
from rlscale.loop import need_series
from rlscale.scenario import Scenario
from rlscale.scenario_file import SPLITS, Split
from rlscale.types import Load
from rlscale.workloads.readers import detect
from rlscale.workloads.trace_workload import TraceWorkload

DAY_S, SIX_HOURS_S = 86_400.0, 21_600.0
FLATTENED = 0.5  # a trace whose relative swings shrink below this share is labelled
SCALING_ROUNDS = 4  # capacity depends a little on burstiness, and that on the factor


@lru_cache(maxsize=16)
def base(name: str) -> Scenario:
    """A scenario by name or path, once per process: its capacities take a second to find."""
    return get_scenario(name)


@lru_cache(maxsize=4)
def sample(case: LoadCase, split: Split, seed: int) -> tuple[Scenario, Load]:
    """The cluster as it serves this load, and the load."""
    if case.trace is None or (split != "test" and not case.trace.windows_days):
        scenario = base(case.scenario)
        return scenario, scenario.sample_load(split, seed)
    return _serving(case, split), _recorded(workload(case, split), base(case.scenario), split, seed)


@lru_cache(maxsize=16)
def workload(case: LoadCase, split: Split) -> TraceWorkload:
    """The recorded load of a split: as it is, or so that the test split needs `mean_need` replicas on average."""
    assert case.trace is not None
    if case.trace.mode == "recorded":
        return _window(case, case.trace, split)
    return _window(case, case.trace, split).model_copy(update={"factor": _factor(case)})


def about(case: LoadCase) -> dict[str, Any] | None:
    """How a trace was scaled: mode, factor, index of dispersion before and after; None for a generated load."""
    if case.trace is None:
        return None
    found = workload(case, "test").dispersion(np.random.default_rng(0))
    widest = max(found.after.keys() & found.before.keys(), default=None)
    # Relative swings: standard deviation over mean of the counts goes with sqrt(index / mean).
    swings = math.nan if widest is None else math.sqrt(found.after[widest] / found.before[widest] / found.factor)
    windows = sorted(found.after)
    return {
        "mode": found.way,
        "factor": found.factor,
        "windows_s": windows,
        "before": [found.before.get(window) for window in windows],
        "after": [found.after[window] for window in windows],
        "swings": swings,
        "flattened": swings < FLATTENED,
    }


def resolved(cases: Sequence[LoadCase]) -> list[LoadCase]:
    """The cases with what the trace files say: rates per client are multiplied either way, in blocks of six hours."""
    found: dict[str, LoadCase] = {}
    for case in cases:
        known = _of_clients(case, case.trace) if case.trace is not None and _rates_of_clients(case.trace) else case
        found.setdefault(known.name, known)
    return list(found.values())


def _of_clients(case: LoadCase, trace: TraceCase) -> LoadCase:
    name = case.name.removesuffix(f" ({trace.mode})")
    mode: Scaling = "recorded" if trace.mode == "recorded" else "amplify"
    return LoadCase(f"{name} (rates)", case.scenario, replace(trace, mode=mode), case.block_s or SIX_HOURS_S)


def _rates_of_clients(trace: TraceCase) -> bool:
    return (trace.format if trace.format != "auto" else detect(trace.path)) == "servegen"


@lru_cache(maxsize=16)
def _factor(case: LoadCase) -> float:
    """Times the recorded load, to four digits."""
    assert case.trace is not None
    factor = 1.0
    for _ in range(SCALING_ROUNDS):
        scaled = _window(case, case.trace, "test").model_copy(update={"factor": factor})
        load = _recorded(scaled, base(case.scenario), "test", 0)
        factor *= case.trace.mean_need / _mean_need(base(case.scenario), load)
        factor = float(f"{factor:.4g}")
    return factor


def _mean_need(scenario: Scenario, load: Load) -> float:
    """Replicas a load needs on average; below one the ceiling says nothing, so the rate does."""
    serving = scenario.serving(load)
    need = float(need_series(load, serving.cluster, serving.limits).mean())
    exact = float(load.rate_per_s.mean() / serving.limits.reference_per_s)
    return exact if exact < 2.0 else need


@lru_cache(maxsize=16)
def _serving(case: LoadCase, split: Split) -> Scenario:
    """One capacity for all seeds of a split: that of its first load."""
    scenario = base(case.scenario)
    return replace(scenario.serving(_recorded(workload(case, split), scenario, split, 0)), name=case.name)


def _recorded(scaled: TraceWorkload, scenario: Scenario, split: Split, seed: int) -> Load:
    return scaled.sample(np.random.default_rng([SPLITS.index(split), seed]), math.inf, scenario.cluster.substep_s)


def _window(case: LoadCase, trace: TraceCase, split: Split) -> TraceWorkload:
    fields: dict[str, Any] = {"path": trace.path}
    if trace.mode != "recorded":
        fields["scaling"] = trace.mode
    if trace.tokens == "scenario":
        if "tokens" not in base(case.scenario).workload:
            raise ScenarioError(
                f"{trace.path}: tokens: scenario: the load of {case.scenario} has no one table of lengths"
            )
        fields["tokens"] = base(case.scenario).workload["tokens"]
    if trace.format != "auto":
        fields["format"] = trace.format
    for name, first, last in trace.windows_days:
        if name == split:
            fields |= {"start_s": first * DAY_S, "end_s": last * DAY_S}
    return TraceWorkload(**fields)


def identity(case: LoadCase) -> dict[str, Any]:
    """What a cell's key says about its load, beyond scenario hash and file content."""
    trace = None if case.trace is None else asdict(case.trace) | {"path": None}
    return {"trace": trace, "block_s": case.block_s}
