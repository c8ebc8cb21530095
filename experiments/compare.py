"""Run scenarios x scalers x knob values x seeds and write one report.

Every knob is swept on training loads; what they choose for a target attainment is frozen and meets the test loads
beside the whole sweep. The folder gets results.json, CSV tables and report.html.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

from experiments import collect, sources
from experiments.bounds import bounds, with_regret
from experiments.cases import LoadCase, ScalerCase
from experiments.cells import Cell, build_scaler, code_digest, run_cell
from experiments.grid import FrozenKnobs, Grid, Source, policy_digests, setting_words
from experiments.pool import Failure, run_all
from experiments.results import Finished, ResultFolder, clear_disk_errors, provenance, write_csv, write_json, write_text
from experiments.study import Study, load_cases, parse_study, read_study, scaler_cases
from experiments.tuning import job_of, read_front, trials_within, tune, tuned_path
from rlscale.errors import ResultError, ScenarioError, TraceError
from rlscale.registry import scan
from rlscale.scenario import check_unloaded
from rlscale.types import Engine

DEFAULT_SCENARIO = "chat"
TRAIN_SEEDS = 3
TUNING_SEED = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `compare`."""
    parser.add_argument("study", nargs="?", type=Path, help="study file (YAML)")
    parser.add_argument("--trace", help="instead of a study: a recorded load")
    parser.add_argument("--format", default="auto", help="format of the trace; found out by default")
    ways = ("superpose", "amplify", "both", "recorded")
    parser.add_argument("--scaling", choices=ways, default="both", help="how the trace is enlarged, if at all")
    parser.add_argument("--mean-need", type=float, default=12.0, help="replicas the trace should need on average")
    parser.add_argument("--scenario", help=f"cluster, SLO and training loads (default {DEFAULT_SCENARIO})")
    parser.add_argument("--scalers", help="names, separated by commas, or policy:FOLDER (default: all rules)")
    parser.add_argument("--seeds", type=int, help="test loads per scenario, or luck seeds per trace")
    parser.add_argument("--train-seeds", type=int, help=f"training loads (default {TRAIN_SEEDS})")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the results")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--tuned", type=int, metavar="INTERVALS", help="tune every rule on the training loads within a "
                        "budget of simulated control intervals per load, instead of sweeping its knob")  # fmt: skip
    parser.add_argument("--engine", choices=get_args(Engine), help="fluid (default) or request: every single request")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted comparison in --out")


def run(args: argparse.Namespace) -> int:
    """0 when there is something to compare; an error when no cell could be run."""
    study = _study(args)
    study = study if args.engine is None else study.model_copy(update={"engine": args.engine})
    results = compare(study, args.out, args.workers, args.resume, args.tuned)
    tell(results, args.out)
    return 0


def compare(study: Study, out: Path, workers: int, resume: bool = False, budget: int | None = None) -> dict[str, Any]:
    """Run a study into a new folder and return what results.json says.

    `budget`: control intervals that every rule may simulate on the training loads of each load to find its settings.
    """
    started = datetime.now(UTC)
    grid = open_grid(study)
    folder = ResultFolder(out)
    folder.open(identity(study, grid) | ({"budget": budget} if budget is not None else {}), resume)
    if budget is not None:
        grid = tuned_grid(grid, folder, workers, budget)
    results, rows, blocks = execute(grid, folder, workers, study.resamples)
    with_regret(results, bounds(grid, folder, workers))
    if budget is not None:
        results["tuning"] = {"intervals_per_load": budget, "seed": TUNING_SEED,
                             "settings": {scaler.label: scaler.tuned for scaler in grid.scalers}}  # fmt: skip
    results["study"] = study.model_dump(mode="json")
    results["provenance"] = {
        **provenance(started, study.seeds.model_dump()),
        "code": grid.code,
        "loads": {source.case.name: source.digest for source in grid.sources},
        "policies": dict(grid.digests),
        "workers": workers,
    }
    write(folder, results, rows, blocks)
    return results


def open_grid(study: Study) -> Grid:
    """Look everything up before anything runs, so that a wrong name costs no time."""
    scalers = scaler_cases(study, scan("agents", "SCALERS"))
    found = tuple(_source(case, study) for case in sources.resolved(load_cases(study)))
    grid = Grid(found, tuple(scalers), study.seeds.model_dump(), code_digest(), policy_digests(scalers),
                study.engine)  # fmt: skip
    for scaler in scalers:
        _check_buildable(grid, scaler)
    return grid


def tuned_grid(grid: Grid, folder: ResultFolder, workers: int, budget: int) -> Grid:
    """The same grid with tuned settings of every rule on every load; searches that are done are read."""
    jobs = {}
    rules = [scaler for scaler in grid.scalers if not scaler.learned]
    for source in grid.sources:
        # Every trial runs the same loads, whoever is tuned.
        trials = trials_within(budget, grid.trial(source, rules[0])) if rules else 0
        for scaler in rules:
            path = tuned_path(folder.path, source, scaler)
            jobs[source.case.name, scaler.label] = job_of(grid, source, scaler, trials, TUNING_SEED, path)
    (folder.path / "tuned").mkdir(exist_ok=True)
    missing = [job for job in jobs.values() if not job.path.exists()]
    failures = run_all(partial(tune, folder=folder.path), missing, min(workers, len(missing)), "searches")
    if failures:
        raise ResultError(f"tuning {failures[0].cell.scaler}: {failures[0].error}; mend it, then run with --resume")
    scalers = tuple(
        scaler if scaler.learned else replace(scaler, tuned={
            source.case.name: tuple(read_front(jobs[source.case.name, scaler.label].path)) for source in grid.sources
        })
        for scaler in grid.scalers
    )  # fmt: skip
    return replace(grid, scalers=scalers)


def execute(
    grid: Grid, folder: ResultFolder, workers: int, resamples: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Sweep, freeze, test; then the results and the rows of the two long tables."""
    stored, frozen, failures = simulate(grid, folder, workers)
    rows, blocks = collect.tables(grid, stored, frozen)
    return collect.results(grid, stored, frozen, failures, resamples), rows, blocks


def simulate(grid: Grid, folder: ResultFolder, workers: int) -> tuple[Finished, FrozenKnobs, list[Failure[Cell]]]:
    """Sweep, freeze, test: every cell of a grid that is not there yet."""
    stored = Finished(folder)
    failures = run_cells(grid.first_phase(), folder, workers, "sweeps")
    frozen = grid.freeze(stored)
    again = {failure.cell.key for failure in failures}
    second = [cell for cell in grid.second_phase(frozen) if cell.key not in again]
    return stored, frozen, failures + run_cells(second, folder, workers, "frozen knobs")


def write(
    folder: ResultFolder, results: dict[str, Any], rows: Sequence[dict[str, Any]], blocks: Sequence[dict[str, Any]]
) -> None:
    """All files of a finished comparison; results.json comes last and marks it as finished."""
    from experiments.report import render

    fronts = [
        {"load": front["load"], "scaler": front["scaler"], "split": front["split"], **point}
        for front in results["fronts"]
        for point in front["points"]
    ]
    with clear_disk_errors(folder.path):
        write_csv(folder.path / "rows.csv", rows, collect.ROW_COLUMNS)
        write_csv(folder.path / "blocks.csv", blocks, collect.BLOCK_COLUMNS)
        write_csv(folder.path / "fronts.csv", fronts, collect.FRONT_COLUMNS)
        write_csv(folder.path / "failures.csv", results["failures"], collect.FAILURE_COLUMNS)
        write_text(folder.path / "report.html", render(results))
        write_json(folder.path / "results.json", results)


def run_cells(cells: Sequence[Cell], folder: ResultFolder, workers: int, title: str) -> list[Failure[Cell]]:
    """Run the cells that are not there yet; those that fail."""
    missing = [cell for cell in cells if not folder.has(cell.key)]
    return run_all(partial(run_cell, folder=folder.path), missing, min(workers, len(missing)), title)


def _study(args: argparse.Namespace) -> Study:
    flags = [f"--{name}" for name in ("trace", "scenario", "scalers", "seeds") if getattr(args, name)]
    if args.study is not None:
        if flags:
            raise ScenarioError(f"got {args.study} and {', '.join(flags)}; give a study file or flags, not both")
        return read_study(args.study)
    if not args.trace and not args.scenario:
        raise ScenarioError("nothing to compare; give a study file, --trace PATH or --scenario NAME")
    return _study_of_flags(args)


def _study_of_flags(args: argparse.Namespace) -> Study:
    names = args.scalers.split(",") if args.scalers else sorted(scan("agents", "SCALERS"))
    test = 5 if args.seeds is None else args.seeds
    data: dict[str, Any] = {
        "name": args.out.name,
        "scalers": [name.strip() for name in names if name.strip()],
        "seeds": {"test": test, "train": args.train_seeds or min(TRAIN_SEEDS, max(1, test))},
    }
    if args.trace:
        scenario = args.scenario or DEFAULT_SCENARIO
        entry = {"path": args.trace, "scenario": scenario, "format": args.format}
        data["traces"] = [{**entry, "scaling": args.scaling, "mean_need": args.mean_need}]
    else:
        data["scenarios"] = [args.scenario]
    return parse_study(data, "command line")


def _source(case: LoadCase, study: Study) -> Source:
    scenario = sources.base(case.scenario)
    check_unloaded(scenario)
    own = scenario.cluster.slo.attainment
    digest = scenario.hash if case.trace is None else f"{scenario.hash} {_file_digest(Path(case.trace.path))}"
    others = [target for target in study.targets if abs(target - own) > 1e-9]
    generated = case.trace is None or not case.trace.windows_days
    training = (LoadCase(Path(case.scenario).stem, case.scenario), scenario.hash) if generated else None
    return Source(case, digest, (own, *others), sources.about(case), training)


def _check_buildable(grid: Grid, scaler: ScalerCase) -> None:
    """Build every scaler once on the first load: wrong parameters cost no simulation."""
    cells = [cells[0] for row in grid.sweep(grid.sources[0], scaler, "train") for cells in row]
    for cell in cells + (grid.upstream(grid.sources[0], scaler)[:1] if scaler.upstream is not None else []):
        try:
            build_scaler(cell.setting, sources.base(cell.load.scenario))
        except (TypeError, ValueError) as error:
            what = setting_words(cell.setting)
            raise ScenarioError(f"scaler '{scaler.label}' cannot be built ({what}): {error}; mend its params") from None


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); expected a recorded load") from None


def identity(study: Study, grid: Grid) -> dict[str, Any]:
    """What must be the same for --resume to go on."""
    return {
        "study": study.model_dump(mode="json"),
        "scalers": [asdict(scaler) for scaler in grid.scalers],
        "loads": {source.case.name: source.digest for source in grid.sources},
        "policies": dict(grid.digests),
        "code": grid.code,
    }


def tell(results: dict[str, Any], out: Path) -> None:
    """The verdict of every load and where the report is, on the terminal."""
    if not results["rows"]:
        raise ResultError(f"no cell could be run; the first error: {results['failures'][0]['error']}")
    for load in results["loads"]:
        text = next(v["text"] for v in results["verdicts"] if v["load"] == load["name"])
        print(f"{load['name']}: {text}")
    if results["failures"]:
        print(f"{len(results['failures'])} cells failed; they are listed in failures.csv and in the report")
    print(f"report: {out / 'report.html'}")
