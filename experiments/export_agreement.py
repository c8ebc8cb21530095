"""How far an export decides as the policy it was made of: target by target on recorded intervals, and in simulation."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.export_source import Source
from experiments.stats import student
from rlscale.loop import run
from rlscale.record import Recorded, record
from rlscale.tree import Tree
from rlscale.types import Floats, Scaler

MEASURES = ("usd_per_hour", "attainment")
Make = Callable[[], Scaler]


def recorded(source: Source, intervals: int) -> list[Recorded]:
    """So many intervals of the policy on test loads of its scenario, in order of their seeds."""
    loads = ((source.scenario.sample_load("test", seed), seed) for seed in itertools.count())
    return record(source.scenario, source.policy(), loads, intervals)


def agreement(source: Source, make: Make, intervals: int, seeds: int) -> dict[str, Any]:
    """Share of equal targets over recorded intervals, and what `seeds` test loads cost with each of the two."""
    return {
        "recorded": on_records(source, make(), recorded(source, intervals)),
        "simulated": simulated(source, make, seeds),
    }


def on_records(source: Source, scaler: Scaler, runs: Sequence[Recorded]) -> dict[str, Any]:
    """Both see the same observations, those that the policy met."""
    ours, said, _ = heard(source.policy(), runs)
    theirs, told, spent_s = heard(scaler, runs)
    of_shares = isinstance(getattr(scaler, "network", None), Tree)  # of choices: nothing to compare with outputs
    equal = [a == b for a, b in zip(ours, theirs, strict=True)]
    off = [abs(sum(a) - sum(b)) for a, b in zip(ours, theirs, strict=True)]
    return {
        "intervals": len(equal),
        "equal": sum(equal),
        "share_equal": sum(equal) / len(equal),
        "first_different": equal.index(False) if not all(equal) else None,
        "largest_difference_replicas": max(off),
        "mean_difference_replicas": sum(off) / len(off),
        "largest_difference_outputs": None if of_shares else _apart(said, told),
        "distinct_targets": len(set(ours)),
        "cpu_us_per_decision": 1e6 * spent_s / len(equal),
    }


def heard(scaler: Any, runs: Sequence[Recorded]) -> tuple[list[tuple[int, ...]], Floats, float]:
    """Targets, the outputs behind them (intervals, outputs), and seconds of CPU."""
    targets, outputs, model = [], [], getattr(scaler, "policy", scaler)
    began = time.process_time()
    for one in runs:
        scaler.reset()
        scaler.warm_up(one.history_per_s, one.history_step_s)
        for seen in one.seen:
            targets.append(tuple(int(count) for count in scaler.decide(seen).target))
            outputs.append(model.outputs)
    return targets, np.array(outputs, np.float64), time.process_time() - began


def _apart(ours: Floats, theirs: Floats) -> float:
    """Largest difference of an output, over the largest output."""
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


def simulated(source: Source, make: Make, seeds: int) -> dict[str, Any]:
    """Test loads with the same luck for both. Differences are export minus policy, load by load."""
    rows = []
    for seed in range(seeds):
        load = source.scenario.sample_load("test", seed)
        both = [run(source.scenario, scaler, load, seed).summary() for scaler in (source.policy(), make())]
        rows.append([[one[name] for name in MEASURES] for one in both])
    table = np.array(rows)  # (seeds, policy and export, measures)
    mean = table.mean(axis=0)
    return {
        "test_loads": seeds,
        "policy": dict(zip(MEASURES, mean[0].tolist(), strict=True)),
        "export": dict(zip(MEASURES, mean[1].tolist(), strict=True)),
        "difference": {name: interval(table[:, 1, i] - table[:, 0, i]) for i, name in enumerate(MEASURES)},
    }


def interval(values: Floats) -> dict[str, Any]:
    """Mean of paired differences and, of two or more, its 95 % interval by Student's t."""
    mean, half = student(values)
    if math.isinf(half):
        return {"mean": mean, "low": None, "high": None}
    return {"mean": mean, "low": mean - half, "high": mean + half}


def words(found: dict[str, Any]) -> str:
    """For the terminal."""
    one, both = found["recorded"], found["simulated"]
    apart = one["largest_difference_outputs"]
    outputs = "" if apart is None else f", outputs {apart:.1g} of the largest one"
    lines = [
        f"equal targets on {one['equal']:,} of {one['intervals']:,} recorded intervals ({one['share_equal']:.2%}), "
        f"at most {one['largest_difference_replicas']} replicas apart{outputs}; "
        f"{one['cpu_us_per_decision']:.0f} us of CPU per decision"
    ]
    for name, unit, factor in (("usd_per_hour", "USD/h", 1.0), ("attainment", "% within the SLO", 100.0)):
        ours, theirs = (factor * both[who][name] for who in ("policy", "export"))
        gap = {key: None if value is None else factor * value for key, value in both["difference"][name].items()}
        ends = "" if gap["low"] is None else f", 95 % {gap['low']:+.3f} to {gap['high']:+.3f}"
        lines.append(f"policy {ours:.3f}, export {theirs:.3f} {unit} on {both['test_loads']} test loads "
                     f"(difference {gap['mean']:+.3f}{ends})")  # fmt: skip
    return "\n".join(lines)
