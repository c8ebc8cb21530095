"""What a shadow scaler would have done: an audit log, replayed through the simulator.

The load is rebuilt from the arrivals that were observed; cluster, prices and lengths of requests are the scenario's.
Both scalers decide by themselves there, and their recorded targets are repeated beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments import shadow_replay as replaying
from experiments.cells import Setting, build_scaler
from experiments.results import clear_disk_errors, provenance, write_csv, write_json, write_text
from experiments.shadow_report import agreement, compared, report
from rlscale.deploy.audit import files
from rlscale.deploy.audit_read import Audit, read_audit
from rlscale.errors import PolicyError, ResultError, ScenarioError
from rlscale.loop import RunResult
from rlscale.scenario import Scenario
from rlscale.types import Scaler

POLICY = "policy:"
SERIES_ROWS = 1000  # of the table of targets
Builder = Callable[[str, Scenario], Scaler]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments shadow`."""
    parser.add_argument("audit", nargs="+", type=Path, help="audit logs, JSON lines, .gz or not; with "
                        "the files that were closed before them")  # fmt: skip
    parser.add_argument("--scenario", required=True, help="name or file: cluster, prices, lengths of requests")
    parser.add_argument("--service", default="", help="the one to look at, where a log holds several")
    parser.add_argument("--acting", help="the scaler that acted, hpa or policy:FOLDER (default: as logged)")
    parser.add_argument("--shadow", help="the one that did not (default: as logged)")
    parser.add_argument("--law", choices=replaying.LAWS, default="poisson", help="poisson (default): counts are drawn "
                        "by the observed rates; counts: whole requests, evenly over an interval")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the luck")
    parser.add_argument("--block-s", type=float, help="seconds of a load block (default: the longest usual one)")
    parser.add_argument("--out", type=Path, required=True, help="new folder")


def run(args: argparse.Namespace) -> int:
    """Agreement, replay, report."""
    from envs import get_scenario

    started = datetime.now(UTC)
    if args.out.exists():
        raise ResultError(f"{args.out} exists; give another --out, nothing is overwritten")
    if args.block_s is not None and not args.block_s > 0:
        raise ScenarioError(f"--block-s {args.block_s}; expected seconds above 0")
    paths = list(dict.fromkeys(file for path in args.audit for file in (files(path) or [path])))
    audit = read_audit(paths, args.service)
    recorded = replaying.recording(audit)
    scenario = replaying.serving(get_scenario(args.scenario), recorded)
    names = {"acting": args.acting or _logged(audit, "scaler"), "shadow": args.shadow or _logged(audit, "shadow")}
    asked = {"acting": args.acting is not None, "shadow": args.shadow is not None}
    found, runs = judge(scenario, recorded, names, asked, args.law, args.seed, args.block_s)
    found |= {
        "log": {"decisions": len(audit.decisions), "hours": len(recorded.rate_per_s) * recorded.interval_s / 3600.0,
                "interval_s": recorded.interval_s, "filled": recorded.filled, "skipped": audit.skipped,
                "skipped_lines": list(audit.named), "files": [str(path) for path in paths]},
        "provenance": provenance(started, {"luck": args.seed}),
    }  # fmt: skip
    with clear_disk_errors(args.out):
        args.out.mkdir(parents=True)
        write_json(args.out / "results.json", found)
        rows = series_rows(recorded, runs)
        write_csv(args.out / "targets.csv", rows, list(rows[0]))
        write_text(args.out / "report.md", report(found))
    print(report(found))
    return 0


def judge(
    scenario: Scenario, recorded: replaying.Recording, names: Mapping[str, str], asked: Mapping[str, bool], law: str,
    seed: int, block_s: float | None = None, build: Builder | None = None,
) -> tuple[dict[str, Any], dict[str, RunResult]]:  # fmt: skip
    """Everything but the log's own numbers, and the runs. What was `asked` for by name must be there to be built."""
    load = replaying.observed_load(scenario, recorded, law)
    builds: dict[str, Callable[[], Scaler]] = {}
    lost: dict[str, str] = {}
    for role, logged in (("acting", recorded.acting), ("shadow", recorded.shadow)):
        try:
            (build or built)(names[role], scenario)
            builds[role] = partial(build or built, names[role], scenario)
        except (ScenarioError, PolicyError) as error:
            if asked[role]:
                raise
            lost[role] = str(error)
        if any(target is not None for target in logged):
            builds[f"{role}, as logged"] = partial(replaying.Recorded, logged, recorded.interval_s)
    runs = replaying.replay(scenario, load, recorded, builds, seed)
    size_s = block_s or replaying.block_s(load.duration_s)
    both = "acting" in runs and "shadow" in runs
    found = {
        "scenario": scenario.name, "scenario_hash": scenario.hash, **names, "law": law,
        "agreement": agreement(recorded), "not_rebuilt": lost,
        "runs": {name: result.summary() for name, result in runs.items()},
        "difference": compared(runs["acting"], runs["shadow"], size_s, seed) if both else None,
    }  # fmt: skip
    return found, runs


def built(name: str, scenario: Scenario) -> Scaler:
    """A scaler by its name in a log."""
    if not name:
        raise ScenarioError("the log does not name it; give --acting or --shadow")
    policy = name.removeprefix(POLICY) if name.startswith(POLICY) else None
    scaler: Scaler = build_scaler(Setting(POLICY if policy else name, policy=policy), scenario)
    return scaler


def series_rows(recorded: replaying.Recording, runs: Mapping[str, RunResult]) -> list[dict[str, Any]]:
    """Replicas in force by time, at most a thousand rows: every so many intervals, as they were then."""
    count = len(recorded.rate_per_s)
    rows = []
    for i in range(0, count, -(-count // SERIES_ROWS)):
        row: dict[str, Any] = {"t_s": i * recorded.interval_s, "arrival_per_s": float(recorded.rate_per_s[i])}
        for name, logged in (("acting", recorded.acting[i]), ("shadow", recorded.shadow[i])):
            row[f"{name}_logged"] = None if logged is None else sum(logged)
        for name, result in runs.items():
            if i < len(result.series["target"]):
                row[name] = float(np.asarray(result.series["target"])[i])
        rows.append(row)
    return rows


def _logged(audit: Audit, role: str) -> str:
    """The name most decisions carry."""
    names = [name for decision in audit.decisions if (name := getattr(decision, role))]
    return max(dict.fromkeys(names), key=names.count) if names else ""
