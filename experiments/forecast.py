"""Rolling back-test of forecasters, one lead time ahead: pinball loss, MASE, coverage, microseconds, training time.

Recorded loads (--trace) and days of generated scenarios (--scenario); without either, the days of four scenarios. The
new folder gets scores.csv, results.json, report.md and a figure per series: its best and its worst day.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.backtest import Forecasts, Series, backtest, best_of, score, scored
from experiments.results import provenance, write_csv, write_json, write_text
from rlscale.errors import ResultError, ScenarioError
from rlscale.predict import FORECASTERS, forecaster

SCENARIOS = ("chat", "code", "flash-crowd", "api")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `forecast`."""
    parser.add_argument("--trace", nargs="+", type=Path, default=[], metavar="FILE", help="recorded loads")
    parser.add_argument("--scenario", nargs="+", default=[], metavar="NAME",
                        help=f"generated loads (default, without --trace: {' '.join(SCENARIOS)})")  # fmt: skip
    parser.add_argument("--forecasters", help=f"names, separated by commas (default: {','.join(FORECASTERS)})")
    parser.add_argument("--lead-s", type=_positive, default=540.0, help="how far ahead, seconds (default 540)")
    parser.add_argument("--interval-s", type=_positive, default=60.0,
                        help="seconds of a measurement (default 60); longer where a trace's cells are")  # fmt: skip
    parser.add_argument("--days", type=int, default=3, help="days of every generated load (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="which test load of a scenario (default 0)")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the results")


def run(args: argparse.Namespace) -> int:
    """Score everything, then write everything; nothing appears before it is complete."""
    if args.out.exists():
        raise ResultError(f"{args.out} exists; give --out a new folder, nothing is overwritten")
    started = datetime.now(UTC)
    names = _names(args)
    series = _series(args)
    for one in series:
        scored(one, one.ahead(args.lead_s))  # too short a series costs no time
    rows: list[dict[str, Any]] = []
    figures: dict[str, str] = {}
    for one in series:
        done = [backtest(one, name, args.lead_s) for name in names]
        found = [score(forecasts) for forecasts in done]
        rows += found
        figures[one.name] = _figure(done, found)
        best = best_of(found, "pinball_90")
        print(f"{one.name}: {found[0]['scored']} cells scored, least pinball loss at 0.9: {best['forecaster']}")
    made = provenance(started, {"scenario": args.seed}) | {"command": _command(args, names)}
    _write(args.out, series, rows, figures, made)
    print(f"report: {args.out / 'report.md'}")
    return 0


def _figure(done: Sequence[Forecasts], rows: Sequence[dict[str, Any]]) -> str:
    from experiments.forecast_figure import draw

    best = best_of(rows, "pinball_90")["forecaster"]
    return draw(next(forecasts for forecasts in done if forecasts.forecaster == best))


def _write(
    out: Path, series: Sequence[Series], rows: list[dict[str, Any]], figures: dict[str, str], made: dict[str, Any]
) -> None:
    from experiments.forecast_report import report

    out.mkdir(parents=True)
    write_csv(out / "scores.csv", rows, list(rows[0]))
    for name, figure in figures.items():
        write_text(out / f"{name}.svg", figure)
    about = [{"name": s.name, "kind": s.kind, "interval_s": s.interval_s, "cells": len(s.rates_per_s),
              "warm_up": s.warm_up, "notes": list(s.notes)} for s in series]  # fmt: skip
    write_text(out / "report.md", report(about, rows, made["command"]))
    write_json(out / "results.json", {"series": about, "scores": rows, "provenance": made})


def _names(args: argparse.Namespace) -> list[str]:
    names = [name.strip() for name in args.forecasters.split(",")] if args.forecasters else list(FORECASTERS)
    names = list(dict.fromkeys(name for name in names if name))
    if not names:
        raise ScenarioError(f"--forecasters names none; expected some of {', '.join(FORECASTERS)}")
    for name in names:
        forecaster(name, args.lead_s)  # a wrong name, or a library that is not there, costs no time
    return names


def _series(args: argparse.Namespace) -> list[Series]:
    from experiments.backtest_series import generated, recorded

    if args.days < 1:
        raise ScenarioError(f"--days {args.days}; expected 1 or more")
    scenarios = args.scenario or ([] if args.trace else SCENARIOS)
    found = [recorded(path, args.interval_s) for path in args.trace]
    found += [generated(name, args.days, args.interval_s, args.seed) for name in scenarios]
    names = [series.name for series in found]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ScenarioError(f"two series are called {', '.join(double)}; each needs a name of its own")
    return found


def _command(args: argparse.Namespace, names: Sequence[str]) -> str:
    """What to type for the same result; traces by their names, since everybody keeps them elsewhere."""
    words = ["python -m experiments forecast"]
    if args.trace:
        words += ["--trace", *(path.name for path in args.trace)]
    if args.scenario:
        words += ["--scenario", *(Path(name).name for name in args.scenario)]
    if list(names) != list(FORECASTERS):
        words += ["--forecasters", ",".join(names)]
    for flag, value, usual in (("--lead-s", args.lead_s, 540.0), ("--interval-s", args.interval_s, 60.0),
                               ("--days", args.days, 3), ("--seed", args.seed, 0)):  # fmt: skip
        if value != usual:
            words += [flag, f"{value:g}"]
    return " ".join([*words, "--out", args.out.name if args.out.is_absolute() else str(args.out)])


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
    return value
