"""What every scaler does with bad input: as its upstream does, or hold; never an error, never a wild count."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from rlscale.checks.fleet import HOUR, INTERVAL_S, STALE, ToyFleet, drive, observation
from rlscale.checks.trial import Property, Trial, expect, readable
from rlscale.decide import carried_per_s
from rlscale.errors import ScenarioError
from rlscale.execute import bound
from rlscale.types import Observation, Scaler, ScalingLimits

HUGE = 2**31
_CLOCK_BACK_S = 1800.0


def _holds_without_metrics(trial: Trial) -> None:
    scaler, fleet = trial.fresh(), ToyFleet(trial.limits, 40.0)
    before = drive(scaler, fleet, HOUR)[-1].target
    fleet.blind_s = INTERVAL_S
    blind = {decision.target for decision in drive(scaler, fleet, 20)}
    expect(blind == {before}, f"without metrics the target went from {before} to {blind}; expected it to hold")


def _recovers_from_a_gap(trial: Trial) -> None:
    scaler, fleet = trial.fresh(), ToyFleet(trial.limits, 40.0)
    before = drive(scaler, fleet, HOUR)[-1].target
    fleet.blind_s = INTERVAL_S
    drive(scaler, fleet, 20)
    fleet.blind_s, fleet.rate_per_s = 0.0, 160.0
    after = drive(scaler, fleet, HOUR)[-1].target
    expect(
        _grew(before, after, trial.limits),
        f"metrics came back with four times the load and the target is {after}; expected more than {before}",
    )


def _grew(before: tuple[int, ...], after: tuple[int, ...], limits: ScalingLimits) -> bool:
    """Carries more, or could not."""
    more = carried_per_s(after, limits) > carried_per_s(before, limits)
    return more or carried_per_s(before, limits) >= carried_per_s(limits.max_replicas, limits)


def _holds_on_old_metrics(trial: Trial) -> None:
    """Scrapes repeat, ever older, a moment of four times the load, then one of none."""
    for rate_per_s in (160.0, 0.0):
        scaler, fleet = trial.fresh(), ToyFleet(trial.limits, 40.0)
        before = drive(scaler, fleet, HOUR)[-1].target
        fleet.freeze(rate_per_s)
        old = {decision.target for decision in drive(scaler, fleet, 20)}
        seen = f"on metrics an hour old ({rate_per_s:g}/s) the target went from {before} to {old}"
        expect(old == {before}, f"{seen}; expected it to hold")


def _bears_one_missing_metric(trial: Trial) -> None:
    for name in STALE:
        scaler, fleet = trial.fresh(), ToyFleet(trial.limits, 40.0)
        carried = [carried_per_s(decision.target, trial.limits) for decision in drive(scaler, fleet, HOUR)[-40:]]
        fleet.missing = name
        judge = partial(readable, pools=len(fleet.ready))
        try:
            taken = drive(scaler, fleet, 40, judge)
        except Exception as error:
            seen = f"without {name} it raised {type(error).__name__}: {error}"
            raise AssertionError(f"{seen}; expected a hold or a decision without it") from error
        least = min((decision.target for decision in taken), key=lambda target: carried_per_s(target, trial.limits))
        kept = carried_per_s(least, trial.limits) >= min(carried) - 1e-6
        seen = f"without {name} the target fell to {least}, less than {min(carried):.4g}/s at the same load before"
        expect(kept, f"{seen}; expected a missing metric to add at most")


def _bears_a_clock_set_back(trial: Trial) -> None:
    """By half an hour: what was remembered may stay in force until the clock has caught up, and no longer."""
    scaler, fleet = trial.fresh(), ToyFleet(trial.limits, 40.0, start_s=0.0)
    usual = [decision.target for decision in drive(scaler, fleet, HOUR)[-40:]]
    before = usual[-1]
    fleet.skew_s = -_CLOCK_BACK_S
    judge = partial(readable, pools=len(before))
    back = {decision.target for decision in drive(scaler, fleet, 20, judge)}
    most = max(carried_per_s(target, trial.limits) for target in back)
    allowed = max(carried_per_s(target, trial.limits) for target in usual) + float(trial.limits.capacity_per_s.max())
    seen = f"the clock was set back and at a constant load the target went from {before} to {back}"
    expect(most <= allowed, f"{seen}; expected it to stay")
    expect(all(sum(target) >= min(map(sum, usual)) - 1 for target in back), f"{seen}; expected it to stay")
    fleet.rate_per_s = 160.0
    after = drive(scaler, fleet, HOUR)[-1].target
    grown = _grew(before, after, trial.limits)
    expect(grown, f"an hour of four times the load after that left the target at {after}; expected more than {before}")


def _bears_bounds_of_zero(trial: Trial) -> None:
    none = np.zeros_like(trial.limits.max_replicas)
    limits = replace(trial.limits, min_replicas=none, max_replicas=none)
    scaler, fleet = trial.fresh(limits), ToyFleet(limits, 40.0)
    for rate in (40.0, 0.0):
        fleet.rate_per_s = rate
        drive(scaler, fleet, 20, partial(readable, pools=len(none)))


def _moments(limits: ScalingLimits, scaler: Scaler, size: float, start: int) -> Iterator[tuple[int, ...]]:
    """Bounded targets of an hour with loads and queues of `size`; whatever is ordered is ready at once."""
    fleet = np.full(len(limits.seats), start, np.int64)
    for interval in range(HOUR):
        seen: Observation = observation(
            limits,
            t_s=interval * INTERVAL_S,
            ready=fleet,
            compute_occupancy=np.ones(len(fleet)),
            memory_occupancy=np.ones(len(fleet)),
            **dict.fromkeys(("arrival_per_s", "waiting", "running", "dropped_per_s", "ttft_s", "tpot_s"), size),
            attainment=0.0,
            forecast_per_s=size,
        )
        decision = scaler.decide(seen)
        readable(decision, len(fleet))
        target = bound(decision, limits, fleet.tolist()).target
        yield target
        fleet = np.array(target, np.int64)


def _bears_huge_numbers(trial: Trial) -> None:
    limits = trial.limits
    before = tuple(2 for _ in limits.seats)
    for target in _moments(limits, trial.fresh(), float(HUGE), 2):
        fell = carried_per_s(target, limits) < carried_per_s(before, limits)
        expect(not fell, f"at 2^31 requests per second the target fell from {before} to {target}; expected it to grow")
        before = target
    wide = replace(limits, max_replicas=np.full(len(limits.seats), HUGE))
    for target in _moments(wide, trial.fresh(wide), float(HUGE), HUGE):
        expect(all(0 <= count <= HUGE for count in target), f"of 2^31 replicas it made {target}; expected its bounds")


def _bears_a_pool_that_carries_nothing(trial: Trial) -> None:
    """No replica of the last pool meets the SLO: its target of sequences is 0."""
    carries, seats = trial.limits.capacity_per_s.copy(), trial.limits.seats.copy()
    carries[-1] = seats[-1] = 0.0
    limits = replace(trial.limits, capacity_per_s=carries, seats=seats)
    for size in (0.0, 40.0):
        for _ in _moments(limits, trial.fresh(limits), size, 2):
            pass


def _refuses_a_knob_of_zero(trial: Trial) -> None:
    """A target of zero divides nothing: refused, or a value like any other. NaN is always refused."""
    knob = trial.kind.knob
    if knob is None:
        return
    for value in (0.0, math.nan):
        try:
            scaler = trial.with_setting(knob.name, value)
        except (ScenarioError, ValueError):
            continue
        expect(not math.isnan(value), f"{knob.name} = nan was accepted; expected a ScenarioError")
        drive(scaler, ToyFleet(trial.limits, 40.0), 8, partial(readable, pools=len(trial.limits.seats)))


BAD_INPUT: dict[str, Property] = {
    "holds without metrics": Property(_holds_without_metrics),
    "recovers from a gap": Property(_recovers_from_a_gap, True),
    "holds on old metrics": Property(_holds_on_old_metrics),
    "bears one missing metric": Property(_bears_one_missing_metric),
    "bears a clock set back": Property(_bears_a_clock_set_back, True),
    "bears bounds of zero": Property(_bears_bounds_of_zero),
    "bears huge numbers": Property(_bears_huge_numbers, True),
    "bears a pool that carries nothing": Property(_bears_a_pool_that_carries_nothing),
    "refuses a knob of zero": Property(_refuses_a_knob_of_zero),
}
