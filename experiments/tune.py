"""Find a scaler's settings on training loads, within a budget of simulated control intervals.

Prints the front that was found, and keeps every trial. Taken up with --resume after a kill, it ends as if it had never
been interrupted. `compare --tuned` does the same for all rules of a comparison.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiments.compare import open_grid
from experiments.fronts import attainment_of
from experiments.page import page
from experiments.results import ResultFolder, read_json
from experiments.study import parse_study
from experiments.tuning import job_of, trials_within, tune

BUDGET = 300_000  # control intervals: 52 days at 15 s, about half a minute to a minute


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments tune`."""
    parser.add_argument("scaler", help="registered name; `list scalers` shows them")
    parser.add_argument("--scenario", default="chat", help="cluster and training loads (default chat)")
    parser.add_argument("--budget", type=int, default=BUDGET, metavar="INTERVALS",
                        help=f"simulated control intervals in all (default {BUDGET})")  # fmt: skip
    parser.add_argument("--train-seeds", type=int, default=1, help="training loads per trial (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the trials and the front")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted search in --out")


def run(args: argparse.Namespace) -> int:
    """Search, print the front."""
    seeds = {"train": args.train_seeds, "test": 1}
    plain = {"name": "tune", "scenarios": [args.scenario], "scalers": [args.scaler], "seeds": seeds}
    study = parse_study(plain, "command line")
    grid = open_grid(study)
    source, scaler = grid.sources[0], grid.scalers[0]
    trials = trials_within(args.budget, grid.trial(source, scaler))
    folder = ResultFolder(args.out)
    folder.open({"tune": plain, "budget": args.budget, "seed": args.seed, "load": source.digest, "code": grid.code},
                args.resume)  # fmt: skip
    path = args.out / "front.json"
    if not path.exists():
        tune(job_of(grid, source, scaler, trials, args.seed, path), args.out)
    _print(read_json(path), args.scaler, args.scenario)
    return 0


def _print(found: dict[str, Any], scaler: str, scenario: str) -> None:
    from rich.table import Table

    table = Table("USD/h", "attainment", "settings", title=f"{scaler} on {scenario}, {len(found['trials'])} trials")
    for point in found["front"]:
        words = ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                          for name, value in point["settings"].items())  # fmt: skip
        table.add_row(f"{point['usd_per_h']:.2f}", f"{float(attainment_of(point['level'])):.4%}", words)
    page().print(table)
