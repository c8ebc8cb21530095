"""Flap limiter: a target that turned too often lately stands still, unless the load needs more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlscale.decide import carried_per_s, demand_per_s
from rlscale.deploy.shield_config import Flap as Setting
from rlscale.deploy.shields.base import Context, State, Target, Verdict
from rlscale.deploy.shields.queueing import suffers
from rlscale.deploy.shields.recent import Recent
from rlscale.types import Observation


@dataclass(slots=True)
class _Trail:
    """Where a pool's target has been heading: +1 up, -1 down, 0 not known yet; and how far it came."""

    extreme: int
    heading: int = 0

    def turned(self, now: int, swing: float) -> bool:
        """Take in the target; whether it has come back by `swing` from as far as it went."""
        back = self.heading * (self.extreme - now)
        if self.heading == 0:
            moved = now - self.extreme
            if abs(moved) >= swing:
                self.heading, self.extreme = (1 if moved > 0 else -1), now
            return False
        if back < 0:
            self.extreme = now
        if back < swing:
            return False
        self.heading, self.extreme = -self.heading, now
        return True


class Flap:
    """Counts, pool by pool, how often the target in force turned back by more than noise.

    While a pool flaps both directions are held: letting only one of them through would turn a swing into a drift.
    """

    counted = ("flap_hold",)

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.reset()

    def reset(self) -> None:
        """No change seen."""
        self._trails: list[_Trail] = []
        self._turns: list[Recent] = []
        self._waiting = 0.0

    def apply(self, seen: Observation, wanted: Target, context: Context) -> Verdict:
        """As wanted, but for pools that flap."""
        self._watch(context)
        pressed = self._pressed(seen, context)
        held = [
            pool
            for pool, (want, now) in enumerate(zip(wanted, context.current, strict=True))
            if want != now and len(self._turns[pool].values) >= self.setting.reversals and not (want > now and pressed)
        ]
        if not held:
            return Verdict(wanted)
        target = tuple(context.current[pool] if pool in held else want for pool, want in enumerate(wanted))
        words = ", ".join(f"pool {pool} turned {len(self._turns[pool].values)} times" for pool in held)
        return Verdict(target, f"flap: {words} in {self.setting.window_s:g} s, held", ("flap_hold",))

    def _watch(self, context: Context) -> None:
        """Take in what has been put in force since the last decision."""
        if len(self._trails) != len(context.current):
            self._trails = [_Trail(count) for count in context.current]
            self._turns = [Recent(self.setting.window_s) for _ in context.current]
        for trail, turns, now in zip(self._trails, self._turns, context.current, strict=True):
            swing = max(self.setting.swing_replicas, self.setting.swing_share * trail.extreme)
            if trail.turned(now, swing):
                turns.add(context.now_s, 1.0)
            turns.forget(context.now_s)

    def _pressed(self, seen: Observation, context: Context) -> bool:
        """The queue grows, the load is above what was ordered, the SLO is missed; or nobody can tell."""
        if context.blind:
            return True
        before, self._waiting = self._waiting, float(max(seen.waiting, seen.decode_waiting))
        short = demand_per_s(seen, context.limits) > carried_per_s(context.current, context.limits)
        return self._waiting > before or short or suffers(seen, context.limits)

    def state(self) -> State:
        """For JSON."""
        trails = [[trail.extreme, trail.heading] for trail in self._trails]
        return {"trails": trails, "turns": [turns.state() for turns in self._turns], "waiting": self._waiting}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        self._trails = [_Trail(int(extreme), int(heading)) for extreme, heading in state["trails"]]
        self._turns = [Recent(self.setting.window_s) for _ in state["turns"]]
        for turns, pairs in zip(self._turns, state["turns"], strict=True):
            turns.restore(pairs)
        self._waiting = float(state["waiting"])
