"""The demonstration: train a small PPO and a small DQN on the chat scenario, compare them with the rules."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import yaml

from experiments import compare as comparison
from experiments import train
from experiments.page import page
from experiments.study import parse_study
from rlscale.errors import ResultError

SCENARIO = "chat"
STUDY = Path(__file__).parent / "studies" / "demo.yaml"
STEPS = {"ppo": 1_000_000, "dqn": 600_000}
FAST_STEPS = 20_000
FAST_SCALERS = [{"name": "headroom", "knob": [1.0, 1.2, 1.45]}, {"name": "fixed", "knob": [12, 20]}]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments demo`."""
    parser.add_argument("--out", type=Path, default=None, help="new folder (default runs/demo-<time>)")
    parser.add_argument("--fast", action="store_true", help="a minute instead of several: little training, two rules")
    parser.add_argument("--workers", type=int, default=2)


def run(args: argparse.Namespace) -> int:
    """Train, compare, report."""
    began = time.perf_counter()
    out = args.out or Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S")
    if out.exists():
        raise ResultError(f"{out} exists; give another --out, nothing is overwritten")
    for i, (algo, steps) in enumerate(STEPS.items(), 1):
        print(f"{i}/3 training a small {algo.upper()} on the chat scenario", flush=True)
        _train(algo, FAST_STEPS if args.fast else steps, out / algo)
    print("3/3 comparing them with the rules", flush=True)
    study = parse_study(_study(out, args.fast), str(STUDY))
    results = comparison.compare(study, out / "comparison", args.workers)
    _headline(results)
    comparison.tell(results, out / "comparison")
    print(f"\ndone in {time.perf_counter() - began:.0f} s\nreport: {(out / 'comparison' / 'report.html').resolve()}")
    return 0


def _train(algo: str, steps: int, out: Path) -> None:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    train.run(parser.parse_args(["--algo", algo, "--env", SCENARIO, "--out", str(out), "-n", str(steps)]))


def _headline(results: dict[str, Any]) -> None:
    """Cost at equal attainment on the test loads, at the scenario's own target."""
    from rich.table import Table

    target = results["loads"][0]["targets"][0]
    table = Table(title=f"USD per hour at {target:.4g} of the requests within the SLO")
    for column in ("scaler", "kind", "USD/h", "status", "with its frozen knob"):
        table.add_column(column)
    for entry in results["headline"]:
        if entry["target"] == target:
            cost, frozen = entry["usd_per_h"], entry["frozen"]
            shown = "-" if cost is None or entry["status"] == "never" else f"{cost:.2f}"
            beside = "-" if not frozen else f"{frozen['usd_per_h']:.2f} at {frozen['attainment']:.4f}"
            table.add_row(entry["scaler"], entry["kind"], shown, entry["status"], beside)
    page().print(table)


def _study(out: Path, fast: bool) -> dict[str, Any]:
    """The demo study with the trained policies beside the rules."""
    study: dict[str, Any] = yaml.safe_load(STUDY.read_text())
    if fast:
        study["scalers"] = FAST_SCALERS
        study["seeds"] = {"train": 1, "test": 1}
    study["scalers"] += [{"name": f"policy:{out / algo / 'seed-0'}", "label": algo} for algo in STEPS]
    return study
