"""The built-in scenarios: list them, check that they can meet their SLO, store their reference cost, write their cards.

`limits` prints what a live service needs to know of one, as limits.json: capacity, seats, prices, start-up times, SLO.
The reference cost is that of the cheapest constant fleet which reaches the target attainment on the training loads.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

import envs
from experiments.cards import mean_need, write_cards
from experiments.page import page
from experiments.results import write_text
from rlscale.errors import ScenarioError
from rlscale.execute import by_price
from rlscale.limits_file import limits_text
from rlscale.loop import need_series
from rlscale.loop import run as run_loop
from rlscale.scenario import REFERENCE_FILE, Scenario, check_unloaded
from rlscale.types import Decision, Load, Observation

TRAINING_LOADS = 3


class Constant:
    """The same fleet for ever."""

    def __init__(self, target: tuple[int, ...]) -> None:
        self.target = target

    def reset(self) -> None:
        """Nothing to forget."""

    def decide(self, seen: Observation) -> Decision:
        """The fleet."""
        return Decision(self.target, "constant")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments scenarios`."""
    parser.add_argument("what", choices=["list", "check", "limits", "reference", "cards"])
    parser.add_argument("names", nargs="*", help="names or files; default all built-in ones")


def run(args: argparse.Namespace) -> int:
    """List, check, compute, or write the cards."""
    from envs import scenario_names

    if args.what == "cards":
        folder = Path(envs.__file__).parent / "scenarios"
        write_text(folder / "README.md", write_cards(folder))
        print(f"wrote {folder / 'README.md'}")
        return 0
    if args.what == "limits":
        return _limits(args.names)
    names = args.names or scenario_names()
    scenarios = [_load(name, stale_allowed=args.what == "reference") for name in names]
    if args.what == "reference":
        for scenario in scenarios:
            entry = reference(scenario)
            _store(scenario, entry)
            print(f"{scenario.name}: {entry['usd_per_interval']:.4f} USD per interval, {entry['replicas']} replicas, "
                  f"attainment {entry['attainment']:.4f} (one less {entry['attainment_one_less']:.4f})")  # fmt: skip
        return 0
    _table(scenarios)
    return 0


def _limits(names: list[str]) -> int:
    if len(names) != 1:
        raise ScenarioError(f"limits: got {len(names)} names, expected one scenario")
    scenario = _load(names[0], stale_allowed=True)
    check_unloaded(scenario)
    print(limits_text(scenario.limits, scenario.name, scenario.hash, scenario.cluster.interval_s), end="")
    return 0


def reference(scenario: Scenario) -> dict[str, Any]:
    """Cheapest constant fleet on the training loads, found by bisection over its size."""
    known = check_unloaded(scenario)
    loads = [scenario.sample_load("train", seed) for seed in range(TRAINING_LOADS)]
    low, high = int(known.min_replicas.sum()), int(known.max_replicas.sum())
    found: dict[int, tuple[float, float]] = {}

    def measure(replicas: int) -> tuple[float, float]:
        if replicas not in found:
            found[replicas] = _constant(scenario, loads, replicas)
        return found[replicas]

    target = scenario.cluster.slo.attainment
    if measure(high)[1] < target:
        raise ScenarioError(
            f"{scenario.path}: the largest fleet ({high} replicas) reaches {measure(high)[1]:.2%} on training loads, "
            f"expected {target:.2%}; raise max_replicas, lower rate_per_s or slo.attainment"
        )
    while low < high:
        middle = (low + high) // 2
        if measure(middle)[1] >= target:
            high = middle
        else:
            low = middle + 1
    intervals = sum(len(need_series(load, scenario.cluster, known)) for load in loads)
    requests = sum(float(load.rate_per_s.sum()) * load.step_s for load in loads)
    least, most = int(known.min_replicas.sum()), int(known.max_replicas.sum())
    return {
        "hash": scenario.hash,
        "usd_per_interval": measure(high)[0] / intervals,
        "requests_per_interval": requests / intervals,
        "replicas": high,
        "mean_need": mean_need(loads, scenario),
        "capacity_per_s": [round(float(each), 3) for each in known.capacity_per_s],
        "attainment": measure(high)[1],
        "attainment_one_less": measure(max(least, high - 1))[1],
        "attainment_one_more": measure(min(most, high + 1))[1],
        "command": f"python -m experiments scenarios reference {scenario.name}",
    }


def _constant(scenario: Scenario, loads: list[Load], replicas: int) -> tuple[float, float]:
    """USD and attainment of a constant fleet over the loads, the cheapest pools filled first."""
    known = scenario.limits
    fleet = known.min_replicas.copy()
    for pool in by_price(known) if not known.roles else ():
        fleet[pool] += min(int(known.max_replicas[pool] - fleet[pool]), max(0, replicas - int(fleet.sum())))
    while known.roles and fleet.sum() < replicas:  # of prefill and decode one more where less is carried
        open_ = [[p for p in by_price(known) if p in side and fleet[p] < known.max_replicas[p]] for side in known.sides]
        carried = [float(fleet[list(side)] @ known.capacity_per_s[list(side)]) for side in known.sides]
        fleet[min((c, s[0]) for c, s in zip(carried, open_, strict=True) if s)[1]] += 1
    target = tuple(int(count) for count in fleet)
    totals = [run_loop(scenario, Constant(target), load, seed, initial=target).totals
              for seed, load in enumerate(loads)]  # fmt: skip
    missed = sum(total["missed"] for total in totals)
    requests = sum(total["requests"] for total in totals)
    return sum(total["cost_usd"] for total in totals), 1.0 - missed / requests


def _load(name: str, stale_allowed: bool) -> Scenario:
    from envs import scenario_path
    from rlscale.scenario import load_scenario

    return load_scenario(scenario_path(name), check_reference=not stale_allowed)


def _store(scenario: Scenario, entry: dict[str, Any]) -> None:
    """Write the entry beside the scenario; the file appears under its name only when complete."""
    assert scenario.path is not None
    path = scenario.path.parent / REFERENCE_FILE
    entries = json.loads(path.read_text()) if path.exists() else {}
    entries[scenario.name] = entry
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(dict(sorted(entries.items())), indent=2) + "\n")
    partial.replace(path)


def _table(scenarios: list[Scenario]) -> None:
    from rich.table import Table

    table = Table(title="scenarios")
    for column in ("name", "pools", "SLO", "l_SLO /s", "mean need", "mean /s", "hours", "reference USD/h", "summary"):
        table.add_column(column)
    for scenario in scenarios:
        known = check_unloaded(scenario)
        loads = [scenario.sample_load("train", seed) for seed in range(TRAINING_LOADS)]
        need = np.mean([need_series(load, scenario.cluster, known).mean() for load in loads])
        slo = scenario.cluster.slo
        hourly = "-" if scenario.scale is None else (
            f"{scenario.scale.usd_per_interval * 3600.0 / scenario.cluster.interval_s:.2f}"
        )  # fmt: skip
        table.add_row(
            scenario.name,
            ", ".join(f"{p.name} {p.min_replicas}-{p.max_replicas}" for p in scenario.cluster.pools),
            f"TTFT {slo.ttft_s:g} s, TPOT {slo.tpot_s:g} s, {slo.attainment:.1%}",
            ", ".join(f"{each:.3g}" for each in known.capacity_per_s),
            f"{need:.1f}",
            f"{np.mean([load.rate_per_s.mean() for load in loads]):.4g}",
            f"{scenario.horizon_s / 3600.0:g}",
            hourly,
            scenario.summary,
        )
    page().print(table)
