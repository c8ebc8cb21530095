"""Scalers that misbehave: named from outside as `odd_scalers:SLOW`, and one or more for each property they break."""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace

import numpy as np

from rlscale.decide import Window, blind, carried_per_s, demand_per_s, hold, positive
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits


class Odd:
    """Keeps `replicas`; at the given time it does what its kind says."""

    def __init__(self, limits: ScalingLimits, replicas: float = 4, act: str = "", from_s: float = 600.0) -> None:
        self.replicas, self.act, self.from_s = int(replicas), act, from_s

    def reset(self) -> None:
        """Nothing to forget."""

    def decide(self, seen: Observation) -> Decision:
        """The same as ever, except for the odd thing."""
        if seen.t_s >= self.from_s:
            if self.act == "raise":
                raise ZeroDivisionError("a decision divided by zero")
            if self.act == "die":
                os._exit(3)
        if self.act == "sleep":
            time.sleep(0.003)
        return Decision((self.replicas,), "odd")


def _kind(act: str) -> ScalerKind:
    return ScalerKind(
        lambda limits, replicas=4, **params: Odd(limits, replicas, act, **params),
        Knob("replicas", (3, 4, 5, 6), 4),
        f"a constant fleet that will {act}",
    )


SLOW, BROKEN, DEADLY = _kind("sleep"), _kind("raise"), _kind("die")


class Rule:
    """The headroom rule, right until a subclass breaks one property of it."""

    def __init__(self, limits: ScalingLimits, headroom: float = 1.2, window_s: float = 0.0) -> None:
        self.limits, self.window_s = limits, window_s
        self.headroom = positive("odd: headroom", headroom)
        self.reset()

    def reset(self) -> None:
        """Forget."""
        self.calls = 0
        self.window = Window(self.window_s)

    def decide(self, seen: Observation) -> Decision:
        """Headroom times demand, held for the window."""
        self.calls += 1
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        return hold(seen, why) if why else self.wanted(seen, self.headroom * demand_per_s(seen, self.limits))

    def wanted(self, seen: Observation, capacity_per_s: float) -> Decision:
        """What a subclass gets wrong."""
        return self.asked(self.window.extreme(seen.t_s, capacity_per_s))

    def asked(self, capacity_per_s: float) -> Decision:
        """A decision for so much."""
        return Decision(reason="headroom", capacity_per_s=capacity_per_s)

    def fleet_per_s(self, seen: Observation) -> float:
        """What is ordered, ready or not."""
        return carried_per_s(seen.target, self.limits)


class SaysNothing(Rule):
    def asked(self, capacity_per_s):
        return Decision(capacity_per_s=capacity_per_s)


class AsksForNan(Rule):
    """NaN, for a moment: Execute holds, so nothing else is wrong."""

    def wanted(self, seen, capacity_per_s):
        return self.asked(math.nan if self.calls == 30 else capacity_per_s)


class CountsPoolsWrong(Rule):
    def wanted(self, seen, capacity_per_s):
        return Decision((3, 3), "two pools") if self.calls == 30 else self.asked(capacity_per_s)


class GuessesAtRandom(Rule):
    def wanted(self, seen, capacity_per_s):
        luck = np.random.default_rng().random()
        return self.asked(capacity_per_s * (1.0 + 0.05 * luck))


class NeverForgets(Rule):
    def reset(self):
        self.resets = getattr(self, "resets", -1) + 1
        super().reset()

    def wanted(self, seen, capacity_per_s):
        return self.asked(capacity_per_s * (1.0 + 0.3 * self.resets))


class ReadsTheClock(Rule):
    def wanted(self, seen, capacity_per_s):
        return self.asked(capacity_per_s + (20.0 if time.time() > 3e9 else 0.0))


class KeepsAWarmReplica(Rule):
    """Without traffic it stays at two."""

    def wanted(self, seen, capacity_per_s):
        return self.asked(max(capacity_per_s, 15.0) if len(self.limits.seats) == 1 else capacity_per_s)


class RestartsItsCooldown(Rule):
    """Whenever the recommendation changes it waits anew: on a rippling load for ever."""

    last, since_s = 0.0, 0.0

    def reset(self):
        super().reset()
        self.last, self.since_s = 0.0, 0.0

    def wanted(self, seen, capacity_per_s):
        if capacity_per_s != self.last:
            self.last, self.since_s = capacity_per_s, seen.t_s
        calm = not 0 <= seen.t_s - self.since_s < 300.0
        return self.asked(capacity_per_s if calm else max(capacity_per_s, self.fleet_per_s(seen)))


class ShrinksWithinItsWindow(Rule):
    def wanted(self, seen, capacity_per_s):
        return self.asked(capacity_per_s)


class CountsPendingTwice(Rule):
    """Asks for as much again as is needed while any of it is starting."""

    def wanted(self, seen, capacity_per_s):
        one_step = seen.ready.sum() > 0 and 0 < seen.pending.sum() < 4
        return self.asked(2.0 * capacity_per_s if one_step else capacity_per_s)


class AddsOneAMinute(Rule):
    """Above the threshold one more, whatever is on its way."""

    def wanted(self, seen, capacity_per_s):
        high = float(np.nan_to_num(seen.compute_occupancy).max()) > 0.9 and seen.waiting == 0
        more = 5.0 if high and self.calls % 5 == 0 else 0.0
        return self.asked(max(capacity_per_s, self.fleet_per_s(seen) + more) if high else capacity_per_s)


class TakesPendingForIdle(Rule):
    """Takes an order back when it has not helped after two minutes."""

    def wanted(self, seen, capacity_per_s):
        late = int(seen.pending_by_age[:, 3:].sum()) > 8 and seen.ready.sum() > 0
        return self.asked(0.5 * capacity_per_s if late and seen.waiting > 0 else capacity_per_s)


class TakesStartingForIdle(Rule):
    def wanted(self, seen, capacity_per_s):
        return self.asked(0.0 if seen.ready.sum() == 0 and seen.pending.sum() == 4 else capacity_per_s)


class ReplacesWhatDrains(Rule):
    """When the load comes back, orders twice what is draining."""

    def wanted(self, seen, capacity_per_s):
        lost = carried_per_s(seen.draining, self.limits)
        back = lost > 0 and capacity_per_s > self.fleet_per_s(seen)
        return self.asked(self.fleet_per_s(seen) + 2.0 * lost if back else capacity_per_s)


class NeedsOneToStart(Rule):
    def wanted(self, seen, capacity_per_s):
        return self.asked(capacity_per_s if np.any(seen.target) else 0.0)


class TakesNanForZero(Rule):
    def decide(self, seen):
        if math.isfinite(seen.running) or seen.age_s < 10.0:
            return super().decide(seen)
        return self.asked(float(np.nan_to_num(demand_per_s(seen, self.limits))))


class StaysAfterAGap(Rule):
    lost = False

    def reset(self):
        super().reset()
        self.lost = False

    def decide(self, seen):
        gap = seen.age_s > 10.0 and math.isnan(seen.arrival_per_s)
        self.lost = self.lost or gap
        return hold(seen, "lost") if self.lost else super().decide(seen)


class NeverAsksForTheAge(Rule):
    def decide(self, seen):
        return super().decide(replace(seen, age_s=2.0))


class GuardsOnlyTheRate(Rule):
    def wanted(self, seen, capacity_per_s):
        return self.asked(capacity_per_s if int(seen.running) >= 0 else 0.0)


class MeasuresTimeBetweenCalls(Rule):
    """Counts the seconds since its last call: below 0 when the clock was set back."""

    last_s = 0.0

    def reset(self):
        super().reset()
        self.last_s = 0.0

    def wanted(self, seen, capacity_per_s):
        passed_s, self.last_s = seen.t_s - self.last_s, seen.t_s
        return self.asked(capacity_per_s * (1.0 + math.sqrt(passed_s) * 0.0))


class DividesByTheMaximum(Rule):
    def wanted(self, seen, capacity_per_s):
        return self.asked(capacity_per_s if 1 / int(self.limits.max_replicas.max()) < 2 else 0.0)


class CountsIn32Bits(Rule):
    def wanted(self, seen, capacity_per_s):
        signed = (int(capacity_per_s) + 2**31) % 2**32 - 2**31
        return self.asked(float(signed) if capacity_per_s > 1e6 else capacity_per_s)


class DividesByTheSeats(Rule):
    def wanted(self, seen, capacity_per_s):
        return self.asked(capacity_per_s + 0.0 / float(self.limits.seats[-1].item()))


class TakesAnyKnob(Rule):
    def __init__(self, limits, headroom=1.2, window_s=0.0):
        super().__init__(limits, 1.2, window_s)


BREAKS: dict[type[Rule], str] = {
    SaysNothing: "says what it wants",
    AsksForNan: "says what it wants",
    CountsPoolsWrong: "says what it wants",
    GuessesAtRandom: "repeats itself",
    NeverForgets: "forgets on reset",
    ReadsTheClock: "ignores the wall clock",
    KeepsAWarmReplica: "scales in without traffic",
    RestartsItsCooldown: "scales in for less load",
    ShrinksWithinItsWindow: "waits before it shrinks",
    CountsPendingTwice: "counts pending once",
    AddsOneAMinute: "stops ordering",
    TakesPendingForIdle: "keeps what it ordered",
    TakesStartingForIdle: "keeps a starting fleet",
    ReplacesWhatDrains: "takes back what it gave",
    NeedsOneToStart: "starts from zero",
    TakesNanForZero: "holds without metrics",
    StaysAfterAGap: "recovers from a gap",
    NeverAsksForTheAge: "holds on old metrics",
    GuardsOnlyTheRate: "bears one missing metric",
    MeasuresTimeBetweenCalls: "bears a clock set back",
    DividesByTheMaximum: "bears bounds of zero",
    CountsIn32Bits: "bears huge numbers",
    DividesByTheSeats: "bears a pool that carries nothing",
    TakesAnyKnob: "refuses a knob of zero",
}


def kind_of(rule: type[Rule]) -> ScalerKind:
    """As the registry would list it."""
    window = "window_s" if rule in (Rule, ShrinksWithinItsWindow) else ""
    return ScalerKind(rule, Knob("headroom", (1.0, 1.2), 1.2), "odd", stabilisation=window)
