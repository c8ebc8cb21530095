"""What every scaler does with good metrics: the bugs that real autoscalers were reported for, each as a property."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from unittest import mock

import numpy as np

from rlscale.checks.fleet import HOUR, INTERVAL_S, START_S, ToyFleet, drive, settle, totals
from rlscale.checks.trial import Property, Trial, expect, readable
from rlscale.decide import carried_per_s
from rlscale.execute import allocate
from rlscale.types import Decision, Scaler

_STARTING = int(START_S / INTERVAL_S)  # intervals until what is ordered first is ready
_WINDOW_S = 900.0  # a stabilisation window to build scalers with
_SLACK_S = 300.0  # slower than any scaler's own beat


def _says_what_it_wants(trial: Trial) -> None:
    scaler, fleet = trial.fresh(), ToyFleet(trial.limits, 40.0)
    for rate in (40.0, 90.0, 0.0, 150.0):
        fleet.rate_per_s = rate
        drive(scaler, fleet, 20, partial(readable, pools=len(fleet.ready)))


def _story(trial: Trial, scaler: Scaler) -> list[Decision]:
    fleet = ToyFleet(trial.limits, 40.0)
    story = []
    for rate in (40.0, 90.0, 20.0, 0.0, 150.0, 60.0):
        fleet.rate_per_s = rate
        story += drive(scaler, fleet, 20)
    return story


def _told(trial: Trial, scaler: Scaler) -> str:
    return repr(_story(trial, scaler))


def _repeats_itself(trial: Trial) -> None:
    alike = _told(trial, trial.fresh()) == _told(trial, trial.fresh())
    expect(alike, "two scalers built alike decide differently; expected randomness to be an argument")


def _forgets_on_reset(trial: Trial) -> None:
    scaler = trial.fresh()
    first = _told(trial, scaler)
    scaler.reset()
    again = _told(trial, scaler)
    random = _told(trial, trial.fresh()) != first
    expect(random or again == first, "after reset the same run gives other decisions; expected it to forget everything")


def _ignores_the_wall_clock(trial: Trial) -> None:
    first, second = (_told(trial, trial.fresh()) for _ in range(2))
    clocks = {name: mock.Mock(return_value=4e9) for name in ("time", "monotonic", "perf_counter")}
    with mock.patch.multiple("time", **clocks):
        later = _told(trial, trial.fresh())
    expect(first != second or later == first, "decisions depend on the wall clock; expected seen.t_s alone")


def _scales_in_without_traffic(trial: Trial) -> None:
    """Down to the minimum, by a step an hour at least: some take one replica every few minutes."""
    scaler, fleet = trial.fresh(), ToyFleet(trial.limits, 40.0)
    before = settle(scaler, fleet)
    least = tuple(int(count) for count in trial.limits.min_replicas)
    fleet.rate_per_s = 0.0
    while before != least:
        idle = drive(scaler, fleet, HOUR)[-1].target
        fell = idle == least or sum(idle) < sum(before)
        expect(
            fell, f"an hour without traffic left the target at {idle}; expected the minimum, {least}, or a step to it"
        )
        before = idle


def _scales_in_for_less_load(trial: Trial) -> None:
    """A tenth of the load and a ripple on it: whatever restarts a cooldown must not do so for ever."""
    limits = replace(trial.limits, max_replicas=10 * trial.limits.max_replicas)  # no maximum may hide a need
    scaler, fleet = trial.fresh(limits), ToyFleet(limits, 160.0, start_s=0.0)
    before = settle(scaler, fleet)
    for minute in range(0, 60, 2):
        fleet.rate_per_s = 19.2 if minute % 4 else 16.0
        after = drive(scaler, fleet, 8)[-1].target
    fell = carried_per_s(after, trial.limits) < carried_per_s(before, trial.limits)
    expect(fell, f"an hour after the load fell to a tenth the target was still {after}; expected less than {before}")


def _waits_before_it_shrinks(trial: Trial) -> None:
    """With the stabilisation window of this kind set to 15 minutes."""
    if not trial.kind.stabilisation:
        return
    scaler = trial.with_setting(trial.kind.stabilisation, _WINDOW_S)
    fleet = ToyFleet(trial.limits, 160.0, start_s=0.0)
    before = sum(settle(scaler, fleet))
    fleet.rate_per_s = 20.0
    within = min(totals(drive(scaler, fleet, int((_WINDOW_S - _SLACK_S) / INTERVAL_S))))
    after = totals(drive(scaler, fleet, HOUR))[-1]
    window = f"{trial.kind.stabilisation} = {_WINDOW_S:g}"
    expect(within >= before, f"with {window} the target fell from {before} to {within} within it; expected it to wait")
    expect(after < before, f"with {window} the target was still {after} an hour after it; expected less than {before}")


def _step_up(trial: Trial, start_s: float) -> list[int]:
    """Targets after the load steps to 95 % of what is ready: no queue builds up."""
    scaler, fleet = trial.fresh(), ToyFleet(trial.limits, 40.0, start_s)
    drive(scaler, fleet, HOUR)
    fleet.rate_per_s = 0.95 * carried_per_s(fleet.ready, trial.limits)
    return totals(drive(scaler, fleet, HOUR))


def _counts_pending_once(trial: Trial) -> None:
    settled, most = _step_up(trial, 0.0)[-1], max(_step_up(trial, START_S)[:_STARTING])
    seen = f"while replicas took {START_S:.0f} s to start, the target rose to {most}"
    expect(most <= 1.5 * settled + 1, f"{seen}; expected about the {settled} it settles at when they start at once")


def _stops_ordering(trial: Trial) -> None:
    settled, starting = _step_up(trial, 0.0)[-1], _step_up(trial, START_S)[:_STARTING]
    early, late = starting[: _STARTING // 2], starting[_STARTING // 2 :]
    still = max(late) <= max(settled, *early) + 1  # a trend may still creep
    expect(still, f"at a constant load the target still rose, {starting}, with none of it ready; expected one order")


def _keeps_what_it_ordered(trial: Trial) -> None:
    """Four times the load: until the first new replica is ready nothing says that fewer would do."""
    scaler, fleet = trial.fresh(), ToyFleet(trial.limits, 40.0)
    drive(scaler, fleet, HOUR)
    fleet.rate_per_s = 160.0
    most = 0.0
    for decision in drive(scaler, fleet, _STARTING):
        now = carried_per_s(decision.target, trial.limits)
        most = max(most, now)
        seen = f"with none ready the order fell from {most:.4g}/s to {now:.4g}/s"
        expect(now >= min(most, 160.0) - 1e-6, f"{seen} under a load of 160/s; expected pending replicas to be kept")


def _keeps_a_starting_fleet(trial: Trial) -> None:
    """All replicas are still loading: nothing runs, which is not to say that nothing is wanted."""
    fleet = ToyFleet(trial.limits, 40.0)
    ordered = sum(allocate(40.0, trial.limits).target)
    fleet.orders = [(0.0, pool) for pool, count in enumerate(fleet.ready) for _ in range(count)]
    fleet.ready = np.zeros_like(fleet.ready)
    least = min(totals(drive(trial.fresh(), fleet, _STARTING)))
    expect(
        least >= ordered, f"with none ready yet the target fell to {least}; expected the {ordered} that are starting"
    )


def _takes_back_what_it_gave(trial: Trial) -> None:
    """Replicas drain while the load comes back, as much as those left can carry."""
    scaler, fleet = trial.fresh(), ToyFleet(trial.limits, 80.0, start_s=0.0)
    settle(scaler, fleet)
    before = max(carried_per_s(decision.target, trial.limits) for decision in drive(scaler, fleet, 40))
    fleet.rate_per_s = 20.0
    for _ in range(HOUR):
        drive(scaler, fleet, 1)
        if carried_per_s(fleet.ready, trial.limits) < 0.9 * before:
            break
    fleet.rate_per_s = min(80.0, 0.95 * carried_per_s(fleet.ready, trial.limits))
    most = max(carried_per_s(decision.target, trial.limits) for decision in drive(scaler, fleet, _STARTING))
    spare = float(trial.limits.capacity_per_s.max())
    seen = f"a fleet of {before:.4g}/s shrank, the load came back and it grew to {most:.4g}/s while replicas drained"
    expect(most <= 1.2 * before + spare, f"{seen}; expected about as much as before")


def _starts_from_zero(trial: Trial) -> None:
    limits = replace(trial.limits, min_replicas=np.zeros_like(trial.limits.min_replicas))
    fleet = ToyFleet(limits, 0.0)
    scaler = trial.fresh(limits)
    drive(scaler, fleet, 20)
    fleet.apply((0,) * len(fleet.ready))
    fleet.rate_per_s = 40.0
    most = max(totals(drive(scaler, fleet, HOUR)))
    expect(most > 0, "an hour of requests to a fleet of none, with a minimum of 0, ordered none; expected one or more")


READABLE = "says what it wants"
CONDUCT: dict[str, Property] = {
    READABLE: Property(_says_what_it_wants),
    "repeats itself": Property(_repeats_itself),
    "forgets on reset": Property(_forgets_on_reset),
    "ignores the wall clock": Property(_ignores_the_wall_clock),
    "scales in without traffic": Property(_scales_in_without_traffic, True),
    "scales in for less load": Property(_scales_in_for_less_load, True),
    "waits before it shrinks": Property(_waits_before_it_shrinks, True),
    "counts pending once": Property(_counts_pending_once, True),
    "stops ordering": Property(_stops_ordering, True),
    "keeps what it ordered": Property(_keeps_what_it_ordered, True),
    "keeps a starting fleet": Property(_keeps_a_starting_fleet, True),
    "takes back what it gave": Property(_takes_back_what_it_gave, True),
    "starts from zero": Property(_starts_from_zero, True),
}
