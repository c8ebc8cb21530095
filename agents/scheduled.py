"""Capacity by the hour of the week, as a table learnt from earlier loads. Needs no metrics where the table is full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.headroom import LEVELS, Headroom
from rlscale.decide import lead_s, positive
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Floats, Knob, Load, Observation, ScalerKind, ScalingLimits

HOUR_S = 3600.0
HOURS = 168


class Scheduled:
    """headroom * the largest rate of the table from now until a replica ordered now would be ready.

    `table`: mean requests per second of the 168 hours of a week, Monday 00:00 first. Hours it does not know (NaN,
    or all of them without a table) are left to the headroom rule.
    """

    def __init__(
        self, limits: ScalingLimits, headroom: float = 1.2, table: Sequence[float] | Floats | None = None
    ) -> None:
        self.headroom = positive("scheduled: headroom", headroom)
        self.table = np.full(HOURS, np.nan) if table is None else np.asarray(table, dtype=np.float64)
        if self.table.shape != (HOURS,):
            raise ScenarioError(f"scheduled: a table of {self.table.size} rates; expected {HOURS}, Monday 00:00 first")
        if np.any(self.table < 0) or np.any(np.isinf(self.table)):
            raise ScenarioError("scheduled: a rate in the table is negative or infinite; expected requests per second")
        self._lead_s = lead_s(limits)
        self._reactive = Headroom(limits, headroom)

    @staticmethod
    def fit(loads: Sequence[Load]) -> dict[str, Any]:
        """The parameter that is learnt from training loads."""
        return {"table": hourly_rates(loads)}

    def reset(self) -> None:
        """Nothing to forget: the table was there before the run."""
        self._reactive.reset()

    def decide(self, seen: Observation) -> Decision:
        """Headroom times the rate of this hour, or of the next where that is higher and near enough."""
        first = int(seen.week_s // HOUR_S)
        last = int((seen.week_s + self._lead_s) // HOUR_S)
        rates = self.table[np.arange(first, last + 1) % HOURS]
        if np.isnan(rates).any():
            return self._reactive.decide(seen)
        wanted = self.headroom * float(rates.max())
        return Decision(reason=f"hour {first % HOURS} of the week, {wanted:.4g}/s wanted", capacity_per_s=wanted)


def hourly_rates(loads: Sequence[Load]) -> Floats:
    """(168,) mean requests per second by hour of the week, over the loads and the history before them.

    An hour that no load covers takes the mean of the same hour on the other days; NaN where there is none either.
    """
    requests, seconds = np.zeros(HOURS), np.zeros(HOURS)
    for load in loads:
        before_s = len(load.history_per_s) * load.history_step_s
        _add(requests, seconds, load.history_per_s, load.history_step_s, load.week_s - before_s)
        _add(requests, seconds, load.rate_per_s, load.step_s, load.week_s)
    by_day, covered = requests.reshape(7, 24), seconds.reshape(7, 24)
    any_day = _mean(by_day.sum(axis=0), covered.sum(axis=0))
    table: Floats = np.where(covered > 0, _mean(by_day, covered), any_day).ravel()
    return table


def _add(requests: Floats, seconds: Floats, rates: Floats, step_s: float, start_s: float) -> None:
    """Add the cells of one series to their hours, in place; NaN cells were not measured."""
    hours = ((start_s + (np.arange(len(rates)) + 0.5) * step_s) // HOUR_S).astype(np.int64) % HOURS
    measured = np.isfinite(rates)
    np.add.at(requests, hours[measured], rates[measured] * step_s)
    np.add.at(seconds, hours[measured], step_s)


def _mean(requests: Floats, seconds: Floats) -> Floats:
    mean: Floats = np.divide(requests, seconds, out=np.full(requests.shape, np.nan), where=seconds > 0)
    return mean


SCALERS = {
    "scheduled": ScalerKind(
        Scheduled,
        Knob("headroom", LEVELS, 1.2, "capacity over the rate of the hour"),
        "capacity by hour of the week; `fit` makes the table from training loads",
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {"scheduled": {"headroom": ("log", 0.7, 3.0)}}
