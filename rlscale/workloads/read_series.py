"""Reader of plain rate series: a count or a rate per cell, with a time column or a fixed step."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rlscale.types import Floats
from rlscale.workloads.faults import fault
from rlscale.workloads.table import Table, Times
from rlscale.workloads.trace import Series, Trace

TIMES = ("timestamp", "time", "datetime", "date", "t_s")
COUNTS = ("count", "counts", "requests", "value", "arrivals")  # requests per cell
RATES = ("rate_per_s", "requests_per_s", "rate", "rps", "qps")  # requests per second


def value_columns(names: Iterable[str]) -> list[str]:
    """Columns that can hold the load."""
    return [name for name in names if name.lower() in COUNTS + RATES]


def series(table: Table, step_s: float | None = None) -> Trace:
    """Counts per cell. Cells flagged in a column `missing`, or without a row, are interpolated."""
    value = _value_column(table)
    recorded = table.numbers(value, "requests")
    flagged = _flags(table)
    time = next((name for name in table.names if name.lower() in TIMES), None)
    times = None if time is None else table.times(time)
    step_s = step_s or (_step_in_name(table) if times is None or time is None else _step_of(table, times, time))
    if times is not None and time is not None:
        recorded, flagged = _on_grid(table, times, time, step_s, recorded, flagged)
    if flagged.all():
        raise fault(
            table.path, "only missing cells", "at least one recorded one", "use another trace", column="missing"
        )
    counts = recorded * (step_s if value.lower() in RATES else 1.0)
    index = np.arange(len(counts))
    counts[flagged] = np.interp(index[flagged], index[~flagged], counts[~flagged])
    whole = value.lower() in COUNTS and bool(np.all(counts[~flagged] == np.rint(counts[~flagged])))
    notes = (f"{int(flagged.sum())} missing cells interpolated",) if flagged.any() else ()
    return Trace(
        table.path.name,
        "series",
        len(counts) * step_s,
        series=Series(step_s, counts, flagged, whole),
        week_s=0.0 if times is None else times.week_s,
        notes=(f"cells of {step_s:g} s", *notes),
    )


def _value_column(table: Table) -> str:
    found = value_columns(table.names)
    if len(found) != 1:
        expected = f"one column of {', '.join(COUNTS)} (per cell) or {', '.join(RATES)} (per second)"
        raise fault(table.path, f"the columns {', '.join(table.names)}", expected, "rename the column to use", line=1)
    return found[0]


def _flags(table: Table) -> NDArray[np.bool_]:
    if "missing" not in table.names:
        return np.zeros(len(table), bool)
    return table.numbers("missing", "0 or 1") > 0


def _step_in_name(table: Table) -> float:
    """A file without times says its step at the end of its name: `..._10s.csv`, `..._5min.csv.gz`."""
    match = re.search(r"_(\d+(?:\.\d+)?)(s|min|h)$", table.path.name.split(".")[0])
    if match is None:
        got = "neither a time column nor a step in the file name"
        raise fault(table.path, got, "one of them", "give the step in seconds (--step-s), or name the file ..._10s.csv")
    return float(match[1]) * {"s": 1.0, "min": 60.0, "h": 3600.0}[match[2]]


def _step_of(table: Table, times: Times, name: str) -> float:
    if len(table) < 2 or times.since_first_s[-1] <= 0:
        raise fault(table.path, "cells at one moment", "at least two times", "use a longer trace", column=name)
    return float(np.median(np.diff(times.since_first_s)))


def _on_grid(
    table: Table, times: Times, name: str, step_s: float, values: Floats, flagged: NDArray[np.bool_]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Values by cell; a cell without a row is missing."""
    cell = np.rint(times.since_first_s / step_s).astype(np.int64)
    off = np.abs(times.since_first_s / step_s - cell) > 0.01
    bad = off | np.concatenate([[False], np.diff(cell) == 0])
    if bad.any():
        row = int(np.argmax(bad))
        got = f"a time {times.since_first_s[row]:g} s after the first" + ("" if off[row] else ", as in the row above")
        expected = f"one row per cell of {step_s:g} s"
        raise fault(table.path, got, expected, "bring the times to the grid", table.line(row), name)
    full, missing = np.zeros(cell[-1] + 1), np.ones(cell[-1] + 1, bool)
    full[cell], missing[cell] = values, flagged
    return full, missing
