"""Everything registered keeps the contract of a scaler, and the contract notices who does not."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from rlscale import registry
from rlscale.checks import ToyFleet, check_scaler, drive, limits_of, totals
from rlscale.decide import carried_per_s, demand_per_s, hold
from rlscale.types import Decision, Observation, ScalerKind, ScalingLimits

KINDS: dict[str, ScalerKind] = registry.scan("agents", "SCALERS")
OPEN_LOOP = {"fixed"}  # ignore the load by design
FORGET_OVER_DAYS = {"autopilot"}  # with upstream's settings: no scale-in within the hour the contract gives


@pytest.mark.parametrize("pools", [1, 3])
@pytest.mark.parametrize("name", KINDS)
def test_every_scaler_keeps_the_contract(name: str, pools: int):
    check_scaler(KINDS[name], limits_of(pools), reacts=name not in OPEN_LOOP)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.upstream])
def test_upstream_settings_can_be_built_and_keep_the_contract(name: str):
    check_scaler(KINDS[name], limits_of(), reacts=name not in FORGET_OVER_DAYS, **KINDS[name].upstream)


def test_a_full_schedule_keeps_the_contract_without_looking_at_the_load():
    check_scaler(KINDS["scheduled"], limits_of(), reacts=False, table=[40.0] * 168)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.knob])
def test_every_value_of_a_knob_can_be_built_and_the_default_is_among_them(name: str):
    kind = KINDS[name]
    assert len(set(kind.knob.values)) >= 8
    assert kind.knob.default in kind.knob.values
    for value in kind.knob.values:
        kind.build(limits_of(), **{kind.knob.name: value})


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.knob])
def test_a_knob_runs_from_cheap_to_dear(name: str):
    """Five steady minutes at 60 requests/s: no value asks for fewer replicas than the one before it."""
    kind, fleets = KINDS[name], []
    for value in kind.knob.values:
        fleet = ToyFleet(limits_of(), 60.0, start_s=0.0)
        fleets.append(totals(drive(kind.build(limits_of(), **{kind.knob.name: value}), fleet, 400))[-1])
    assert fleets == sorted(fleets)
    assert fleets[0] < fleets[-1]


class Mutant:
    """The headroom rule, right until a subclass breaks one clause."""

    def __init__(self, limits: ScalingLimits) -> None:
        self.limits = limits
        self.reset()

    def reset(self) -> None:
        self.calls = 0

    def decide(self, seen: Observation) -> Decision:
        self.calls += 1
        if math.isnan(seen.arrival_per_s):
            return hold(seen, "missing")
        return self.wanted(seen, 1.2 * demand_per_s(seen, self.limits))

    def wanted(self, seen: Observation, capacity_per_s: float) -> Decision:
        return Decision(reason="headroom", capacity_per_s=capacity_per_s)


class NeverForgets(Mutant):
    def reset(self) -> None:
        self.calls = getattr(self, "calls", 0)

    def wanted(self, seen, capacity_per_s):
        return Decision(reason="habit", capacity_per_s=capacity_per_s + self.calls)


class ReadsTheClock(Mutant):
    def wanted(self, seen, capacity_per_s):
        return Decision(reason="clock", capacity_per_s=capacity_per_s + (20.0 if time.time() > 3e9 else 0.0))


class GuessesAtRandom(Mutant):
    def __init__(self, limits: ScalingLimits) -> None:
        super().__init__(limits)
        self.luck = np.random.default_rng()

    def wanted(self, seen, capacity_per_s):
        return Decision(reason="luck", capacity_per_s=capacity_per_s + 50 * self.luck.random())


class TakesNanForZero(Mutant):
    def decide(self, seen):
        return self.wanted(seen, float(np.nan_to_num(1.2 * demand_per_s(seen, self.limits))))


class StaysAfterAGap(Mutant):
    level = 0.0

    def decide(self, seen):
        self.level = 0.5 * self.level + 0.5 * seen.arrival_per_s  # NaN for ever
        return hold(seen, "lost") if math.isnan(self.level) else self.wanted(seen, 1.2 * self.level)

    def reset(self) -> None:
        super().reset()
        self.level = 0.0


class NeverScalesIn(Mutant):
    def wanted(self, seen, capacity_per_s):
        return Decision(reason="up only", capacity_per_s=max(capacity_per_s, carried_per_s(seen.target, self.limits)))


class MultipliesWhatIsStarting(Mutant):
    """want = target * utilisation / setpoint: 4 become 5, 6, 8, 10 ... while the first is still loading."""

    def wanted(self, seen, capacity_per_s):
        ratio = seen.compute_occupancy[0] / 0.8
        now = int(seen.target[0])
        return Decision((now if abs(ratio - 1) < 0.1 else math.ceil(now * ratio),), "proportional")


class AddsOneAMinute(Mutant):
    """Above the threshold one more, whatever is on its way."""

    def wanted(self, seen, capacity_per_s):
        high, low = seen.compute_occupancy[0] > 0.8, seen.compute_occupancy[0] < 0.5
        return Decision((int(seen.target[0]) + (int(high) - int(low) if self.calls % 4 == 0 else 0),), "step")


class TakesStartingForIdle(Mutant):
    def wanted(self, seen, capacity_per_s):
        idle = float(np.nan_to_num(seen.compute_occupancy[0])) == 0
        return Decision(reason="idle", capacity_per_s=0.0 if idle else capacity_per_s)


class AsksForNan(Mutant):
    def wanted(self, seen, capacity_per_s):
        return Decision(reason="nan", capacity_per_s=math.nan)


class SaysNothing(Mutant):
    def wanted(self, seen, capacity_per_s):
        return Decision(capacity_per_s=capacity_per_s)


class CountsPoolsWrong(Mutant):
    def wanted(self, seen, capacity_per_s):
        return Decision((3, 3), "two pools")


def kind_of(mutant: type[Mutant]) -> ScalerKind:
    return ScalerKind(mutant, None, "")


def test_the_rule_that_the_mutants_break_keeps_the_contract():
    check_scaler(kind_of(Mutant))


@pytest.mark.parametrize(
    ("mutant", "said"),
    [
        (NeverForgets, "after reset"),
        (ReadsTheClock, "wall clock"),
        (GuessesAtRandom, "after reset"),
        (TakesNanForZero, "missing metrics mean hold"),
        (StaysAfterAGap, "metrics came back"),
        (NeverScalesIn, "without traffic"),
        (MultipliesWhatIsStarting, "count the pending ones"),
        (AddsOneAMinute, "count the pending ones"),
        (TakesStartingForIdle, "none ready yet"),
        (AsksForNan, "finite capacity"),
        (SaysNothing, "no reason"),
        (CountsPoolsWrong, "2 targets for 1 pools"),
    ],
)
def test_a_scaler_that_breaks_a_clause_is_named(mutant: type[Mutant], said: str):
    with pytest.raises(AssertionError, match=said):
        check_scaler(kind_of(mutant))
