"""Recorded availability of spot capacity: a CSV file with a column per zone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rlscale.workloads.faults import fault
from rlscale.workloads.table import content, read_csv

TIME = "t_s"
Series = tuple[tuple[str, tuple[float, ...]], ...]


def read_spot_series(path: Path, zones: list[str], horizon_s: float) -> tuple[float, Series]:
    """Step in seconds, and (zone, values) of every zone asked for: available where a value is above 0.

    The first column is `t_s`, equally spaced; the series has to be at least as long as the horizon. Errors name file,
    line and column.
    """
    table = read_csv(path, content(path))
    times_s = table.numbers(TIME, "a time in seconds")
    steps = np.diff(times_s)
    if len(steps) == 0 or steps[0] <= 0.0:
        raise fault(path, f"{len(times_s)} rows", "times that rise", "use a longer series", column=TIME)
    uneven = np.abs(steps - steps[0]) > 1e-6 * steps[0]
    if uneven.any():
        row = int(np.argmax(uneven)) + 1
        got = f"a step of {steps[row - 1]:g} s after steps of {steps[0]:g} s"
        raise fault(path, got, "equal steps", "fill the gap", table.line(row), TIME)
    length_s = len(times_s) * float(steps[0])
    if length_s < horizon_s:
        raise fault(
            path, f"{length_s:g} s of availability", f"at least the horizon of {horizon_s:g} s",
            "use a longer series or lower horizon_s", table.line(len(times_s) - 1), TIME,
        )  # fmt: skip
    found = {zone: table.numbers(zone, "0 where there is no capacity, else above") for zone in dict.fromkeys(zones)}
    return float(steps[0]), tuple((zone, tuple(values.tolist())) for zone, values in found.items())
