"""From exported metrics to a study: the load, a service profile, a scenario, and which scaler would have done what.

`calibrate --prometheus URL --range 14d` writes trace.csv, profile.yaml, scenario.yaml, ranges.json (what was read;
`--offline` takes it instead of a server), comparison/, results.json and report.md into --out.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from experiments.calibrate_prometheus_load import gaps, tokens, trace_text
from experiments.calibrate_prometheus_profile import Fitted, fitted, profile_text
from experiments.calibrate_prometheus_ranges import Ranges, fetch, read_ranges, save
from experiments.calibrate_prometheus_report import Found, report
from experiments.results import clear_disk_errors, provenance, write_json, write_text
from rlscale.deploy.prometheus_http import Api
from rlscale.deploy.templates import load_template
from rlscale.errors import ResultError, ScenarioError

UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
RANGE_BYTES = 64_000_000  # one column of a range has at most 10 000 points
BUDGET = 400_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments calibrate` that concern Prometheus."""
    group = parser.add_argument_group("from Prometheus", "a load, a profile, a scenario and a what-if comparison")
    group.add_argument("--prometheus", metavar="URL", help="server whose recorded metrics to calibrate with")
    group.add_argument(
        "--offline", type=Path, metavar="FILE", help="instead of a server: ranges.json of an earlier run"
    )
    group.add_argument("--range", default="14d", help="how far back: 90m, 36h, 14d, 2w (default 14d)")
    group.add_argument("--end", help="where the range ends: a date such as 2026-11-20T00:00Z (default now)")
    group.add_argument("--step", type=float, metavar="SECONDS", help="grid of the trace (default: by the scrapes, 60+)")
    group.add_argument("--template", default="vllm", help="vllm, sglang, triton, ray-serve, http, or a file")
    group.add_argument("--labels", help="that choose the service: model_name=m,namespace=prod")
    group.add_argument("--scenario", help="whose cluster, prices and control to take (default chat); one pool")
    group.add_argument("--slo-ttft", type=float, metavar="SECONDS", help="instead of the base scenario's")
    group.add_argument("--slo-tpot", type=float, metavar="SECONDS", help="instead of the base scenario's")
    group.add_argument("--slo-attainment", type=float, metavar="SHARE", help="instead of the base scenario's")
    group.add_argument("--prompt-tokens", type=float, help="of every request, where metrics do not tell")
    group.add_argument("--answer-tokens", type=float, help="the same of answers")
    group.add_argument("--scalers", help="names, separated by commas, or policy:FOLDER; none: no comparison")
    group.add_argument("--budget", type=int, default=BUDGET, help="simulated control intervals per scaler")
    group.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of the comparison")
    group.add_argument("--timeout", type=float, default=30.0, help="of one query, seconds")
    group.add_argument("--token-file", help="bearer token")
    group.add_argument("--ca-file", help="certificates to trust, PEM")


def run(args: argparse.Namespace) -> int:
    """Read, write, compare, report."""
    out: Path = args.out or Path("runs") / "calibrate-prometheus"
    if out.exists():
        raise ResultError(f"{out} exists; give another --out, nothing is overwritten")
    if args.measurements is not None or (args.prometheus is None) == (args.offline is None):
        raise ResultError("give one of: a file of measurements, --prometheus URL, --offline FILE")
    started = datetime.now(UTC)
    ranges = read_ranges(args.offline) if args.offline is not None else _fetched(args)
    with clear_disk_errors(out):
        out.mkdir(parents=True)
        save(out / "ranges.json", ranges)
        found = _found(args, out, ranges)
        made_by = provenance(started, {"bootstrap": args.seed})
        write_json(out / "results.json", {**made_by, **found.told()})
        write_text(out / "report.md", report(found, str(made_by["command"])))
    print((out / "report.md").read_text(), end="")
    return 0


def _fetched(args: argparse.Namespace) -> Ranges:
    api = Api(args.prometheus, args.timeout, args.token_file, args.ca_file, RANGE_BYTES)
    try:
        return fetch(api, load_template(args.template), labels_of(args.labels or ""), _end_s(args.end),
                     seconds_of(args.range), args.step)  # fmt: skip
    finally:
        api.close()


def _found(args: argparse.Namespace, out: Path, ranges: Ranges) -> Found:
    """Everything between what was read and what is reported."""
    from experiments.calibrate_prometheus_answer import SCALERS, answer, study_of
    from experiments.calibrate_prometheus_scenario import base_file, windows, write_scenario
    from rlscale.scenario import check_unloaded
    from rlscale.workloads.readers import read

    name = args.scenario or "chat"
    _, base = base_file(name)
    missing, at = gaps(ranges), windows(ranges)
    write_text(out / "trace.csv", trace_text(ranges))
    read(out / "trace.csv")  # the file is what the project's own readers take
    given = {"prompt": args.prompt_tokens, "output": args.answer_tokens}
    told = {side: length for side, length in given.items() if length is not None}
    lengths, notes = tokens(ranges, told, base["workload"].get("tokens", "chat"))
    own = str(base["pools"][0]["profile"])
    done = _profile(ranges, own, args) if not own.endswith(".yaml") else None
    if done is not None and done.found is not None:
        write_text(out / "profile.yaml", profile_text("calibrated", own, done, f"Prometheus, {ranges.cells} cells"))
    slo = {key: value for key, value in (("ttft_s", args.slo_ttft), ("tpot_s", args.slo_tpot),
           ("attainment", args.slo_attainment)) if value is not None}  # fmt: skip
    fitted_one = "profile.yaml" if done is not None and done.found is not None else None
    scenario = write_scenario(out, name, ranges, lengths, slo, fitted_one, at)
    known = check_unloaded(scenario)
    found = Found(ranges, missing, notes, own, done, name, scenario.cluster.slo, known.reference_per_s,
                  int(known.max_replicas.sum()), at)  # fmt: skip
    names = [one.strip() for one in (args.scalers or ",".join(SCALERS)).split(",") if one.strip()]
    if names == ["none"]:
        return found
    study = study_of(scenario, out, at, names, args.budget)
    results, options = answer(study, scenario.cluster.slo.attainment, out, args.workers)
    verdicts = tuple(str(one["text"]) for one in results["verdicts"])
    return found.with_answer(options, verdicts, len(results["failures"]))


def _profile(ranges: Ranges, base: str, args: argparse.Namespace) -> Fitted:
    if args.draws < 2:
        raise ResultError(f"--draws: got {args.draws}, expected at least 2; 100 are enough for a standard error")
    return fitted(ranges, base, args.seed, args.draws)


def labels_of(text: str) -> dict[str, str]:
    """`a=b,c=d` as a mapping; raises ScenarioError for anything else."""
    labels: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ScenarioError(f"--labels: got '{part}', expected name=value, separated by commas")
        labels[name.strip()] = value.strip().strip('"')
    return labels


def seconds_of(text: str) -> float:
    """`14d` as seconds; raises ScenarioError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if match is None or not 0.0 < float(match[1]) * UNITS_S[match[2]] <= 400 * UNITS_S["d"]:
        raise ScenarioError(f"--range: got '{text}', expected a number and m, h, d or w, such as 14d; at most 400d")
    return float(match[1]) * UNITS_S[match[2]]


def _end_s(text: str | None) -> float:
    if text is None:
        return time.time()
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ScenarioError(f"--end: got '{text}', expected a date such as 2026-11-20T00:00Z") from None
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
