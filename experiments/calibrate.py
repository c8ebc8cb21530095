"""Fit the iteration law to measured latencies and write service profiles.

MEASUREMENTS is a CSV: a table of TTFT and TPOT by prompt length, output length and batch (`prompt_tokens`,
`output_tokens`, `batch`, `tpot_ms`, `ttft_ms`; `gpu`, `model`, `engine`, `precision`, `gpus` make groups), a request
log of one replica (`arrival_s`, `prompt_tokens`, `output_tokens`, `ttft_ms`, `tpot_ms` or `e2e_ms`), or one of the
published tables of AIConfigurator, Splitwise and ML.ENERGY. Every group becomes a profile of its own; a scenario names
it by its file: `profile: mine.yaml`. With --prometheus, recorded metrics become a load, a profile, a scenario and a
comparison of scalers.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from experiments import calibrate_prometheus
from experiments.calibrate_fit import LAW, TPOT, TTFT, Fit, Rows, fit, independent, with_uncertainty
from experiments.calibrate_forms import Form, Measurements, merged, rows_of
from experiments.calibrate_log import is_log, read_log, rows_of_log
from experiments.calibrate_profile import as_yaml, left_out, slug
from experiments.calibrate_read import read_measurements
from experiments.calibrate_report import report
from experiments.results import provenance, write_csv, write_json, write_text
from rlscale.errors import ResultError, TraceError, nearest

SEED, DRAWS = 0, 100  # of the bootstrap
FORMS: tuple[Form, ...] = ("closed-loop", "static")


@dataclass(frozen=True, slots=True)
class Case:
    """What is fitted: rows of one group, what they span, what they are of."""

    group: str
    rows: Rows
    span: dict[str, tuple[float, float]]  # least and most of what was measured
    about: dict[str, Any]
    where: tuple[tuple[float, ...], ...]  # (prompt, output, batch) of every row


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A case with its fit."""

    case: Case
    fit: Fit
    left_out: dict[str, str]

    def residuals(self) -> dict[str, np.ndarray]:
        """Fitted over measured less one, by kind of time."""
        ratio = self.fit.predict_s(self.case.rows) / self.case.rows.measured_s - 1.0
        return {name: ratio[self.case.rows.kind == kind] for name, kind in (("tpot", TPOT), ("ttft", TTFT))}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments calibrate`."""
    parser.add_argument("measurements", type=Path, nargs="?", help="CSV of measured latencies, or of a request log")
    parser.add_argument("--out", type=Path, help="new folder (default: runs/calibrate-NAME)")
    parser.add_argument("--only", default="", metavar="TEXT", help="groups whose name contains this")
    parser.add_argument("--form", choices=FORMS, help="how a table of your own was measured: B requests always in "
                        "flight (default), or B prompts at once and decoded to the end")  # fmt: skip
    parser.add_argument("--like", metavar="PROFILE", help="built-in profile whose memory, seats and start-ups to take")
    parser.add_argument("--gpu", help="GPU of the profile as nodes name it, such as H100-SXM5-80GB")
    parser.add_argument("--model", help="model of the profile")
    parser.add_argument("--gpus", type=int, help="GPUs per replica")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=SEED, help="of the bootstrap")
    calibrate_prometheus.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Fit every group, write profiles, residuals and a report; or calibrate with what Prometheus recorded."""
    if args.measurements is None or args.prometheus is not None or args.offline is not None:
        return calibrate_prometheus.run(args)
    out = args.out or Path("runs") / f"calibrate-{args.measurements.stem}"
    if out.exists():
        raise ResultError(f"{out} exists; give another --out, nothing is overwritten")
    if args.draws < 2:
        raise ResultError(f"--draws: got {args.draws}, expected at least 2; 100 are enough for a standard error")
    started = datetime.now(UTC)
    cases = chosen(_cases(args), args.only, args.measurements)
    refused = {case.group: reason for case in cases if (reason := too_few(case.rows))}
    if len(refused) == len(cases):
        first, reason = next(iter(refused.items()))
        raise TraceError(f"{args.measurements}: '{first}': {reason}")
    done = [calibrate(case, args.seed, args.draws) for case in cases if case.group not in refused]
    _write(out, args, done, refused, provenance(started, {"bootstrap": args.seed}))
    print((out / "report.md").read_text(), end="")
    print(f"\nProfiles in {out}; a scenario beside them names one by its file, `profile: {_file(done[0])}`.")
    return 0


def calibrate(case: Case, seed: int, draws: int) -> Calibrated:
    """The fit of one case with its uncertainty."""
    found = with_uncertainty(case.rows, fit(case.rows), seed, draws)
    return Calibrated(case, found, left_out(found, case.rows, case.span))


def too_few(rows: Rows) -> str:
    """Why rows cannot be fitted; empty when they can."""
    needed = sum(independent(rows)) + 1
    if len(rows) >= max(needed, 2):
        return ""
    return (
        f"got {len(rows)} measured times; expected at least {max(needed, 2)}, one more than the numbers they are to "
        "tell; measure more lengths or batches"
    )


def chosen(cases: Sequence[Case], only: str, path: Path) -> list[Case]:
    """The cases whose group contains a text, whatever its case."""
    found = [case for case in cases if only.lower() in case.group.lower()]
    if not found:
        raise TraceError(f"{path}: no group contains '{only}'; {nearest(only, [case.group for case in cases])}")
    return found


def case_of(seen: Measurements, form: Form, source: str) -> Case:
    """The configurations of a group, ready to be fitted; repeated runs count once, by their median."""
    seen = merged(seen)
    rows = rows_of(seen, form)
    known = np.isfinite(seen.prompt)
    held = seen.batch * (np.nan_to_num(seen.prompt) + seen.output / 2.0)  # at different tokens of their answers
    span = {"batch": _range(seen.batch), "output_tokens": _range(seen.output)}
    if known.any():
        span["prompt_tokens"] = _range(seen.prompt[known])
    where = np.column_stack([seen.prompt, seen.output, seen.batch])
    each = np.vstack([where[np.isfinite(seen.tpot_s)], where[np.isfinite(seen.ttft_s)]])
    about = {
        "model": seen.model, "gpu": seen.gpu, "gpus": seen.gpus, "source": f"{source}: {seen.label}",
        "rows": len(seen), "of": "configurations", "held": float(held.max()), "seats": math.ceil(seen.batch.max()),
    }  # fmt: skip
    return Case(seen.label, rows, span, about, tuple(tuple(row) for row in each.tolist()))


def _cases(args: argparse.Namespace) -> list[Case]:
    if is_log(args.measurements):
        cases = [_case_of_log(args.measurements)]
    else:
        source, groups = read_measurements(args.measurements)
        cases = [case_of(seen, args.form or source.form, args.measurements.name) for seen in groups]
    given = {key: getattr(args, key) for key in ("gpu", "model", "gpus") if getattr(args, key) is not None}
    return [Case(c.group, c.rows, c.span, {**c.about, **given}, c.where) for c in cases]


def _case_of_log(path: Path) -> Case:
    log = read_log(path)
    rows = rows_of_log(log)
    if not len(rows):
        raise TraceError(f"{path}: no request has two output tokens; expected answers from which TPOT can be read")
    sequences = rows.base[:, 1] / rows.base[:, 0]
    span = {"batch": _range(sequences), "prompt_tokens": _range(log.prompt), "output_tokens": _range(log.output)}
    context = rows.base[:, 3] / rows.base[:, 0]
    about = {
        "model": "unknown", "gpu": "any", "gpus": 1, "source": f"{path.name}: a request log", "rows": len(rows),
        "of": "requests", "held": float(context.max()), "seats": math.ceil(sequences.max()),
    }  # fmt: skip
    several = np.flatnonzero((log.output > 1.0) & (log.last_s > log.first_s))
    where = np.column_stack([log.prompt[several], log.output[several], sequences])
    return Case(path.stem, rows, span, about, tuple(tuple(row) for row in where.tolist()))


def _write(out: Path, args: argparse.Namespace, done: Sequence[Calibrated], refused: Mapping[str, str],
           made_by: Mapping[str, Any]) -> None:  # fmt: skip
    texts = {_file(one): as_yaml(slug(one.case.group), one.case.about, one.fit, one.left_out, one.case.span, args.like)
             for one in done}  # fmt: skip
    out.mkdir(parents=True)
    for file, text in texts.items():
        write_text(out / file, text)
    coefficients = [row for one in done for row in _coefficients(one)]
    write_csv(out / "coefficients.csv", coefficients, list(coefficients[0]))
    residuals = [row for one in done for row in _residuals(one)]
    write_csv(out / "residuals.csv", residuals, list(residuals[0]))
    summary = {**made_by, "coefficients": coefficients, "refused": dict(refused)}
    write_json(out / "summary.json", summary)
    write_text(out / "report.md", report(done, refused, str(made_by["command"]), args.draws, args.seed))


def _file(one: Calibrated) -> str:
    return f"{slug(one.case.group)}.yaml"


def _coefficients(one: Calibrated) -> list[dict[str, Any]]:
    return [
        {"group": one.case.group, "coefficient": name.removesuffix("_s"), "value_s": one.fit.value[i],
         "std_error_s": one.fit.std_error[i], "low_s": one.fit.low[i], "high_s": one.fit.high[i],
         "left_out": one.left_out.get(name, "")}
        for i, name in enumerate(LAW)
    ]  # fmt: skip


def _residuals(one: Calibrated) -> list[dict[str, Any]]:
    rows = one.case.rows
    ratio = one.fit.predict_s(rows) / rows.measured_s - 1.0
    return [
        {"group": one.case.group, "prompt_tokens": prompt, "output_tokens": output, "batch": batch,
         "time": "tpot" if kind == TPOT else "ttft", "fitted_over_measured": error}
        for (prompt, output, batch), kind, error in zip(one.case.where, rows.kind, ratio, strict=True)
    ]  # fmt: skip


def _range(values: Any) -> tuple[float, float]:
    return float(f"{np.min(values):.6g}"), float(f"{np.max(values):.6g}")
