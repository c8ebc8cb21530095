"""Flap limiter: a target that turned too often lately stands still, unless the load needs more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlscale.decide import carried_per_s, demand_per_s
from rlscale.deploy.shield_config import Flap as Setting
from rlscale.deploy.shields.base import Context, State, Target, Verdict
from rlscale.deploy.shields.queueing import suffers
from rlscale.deploy.shields.recent import Recent
from rlscale.types import Observation


class Flap:
    """Counts, pool by pool, how often the target in force changed its direction.

    While a pool flaps both directions are held: letting only one of them through would turn a swing into a drift.
    """

    counted = ("flap_hold",)

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.reset()

    def reset(self) -> None:
        """No change seen."""
        self._last: Target = ()
        self._signs: list[int] = []
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
        if len(self._last) != len(context.current):
            self._last, self._signs = context.current, [0] * len(context.current)
            self._turns = [Recent(self.setting.window_s) for _ in context.current]
        for pool, (was, now) in enumerate(zip(self._last, context.current, strict=True)):
            sign = (now > was) - (now < was)
            if sign and self._signs[pool] == -sign:
                self._turns[pool].add(context.now_s, 1.0)
            self._turns[pool].forget(context.now_s)
            self._signs[pool] = sign or self._signs[pool]
        self._last = context.current

    def _pressed(self, seen: Observation, context: Context) -> bool:
        """The queue grows, the load is above what was ordered, the SLO is missed; or nobody can tell."""
        if context.blind:
            return True
        before, self._waiting = self._waiting, float(max(seen.waiting, seen.decode_waiting))
        short = demand_per_s(seen, context.limits) > carried_per_s(context.current, context.limits)
        return self._waiting > before or short or suffers(seen, context.limits)

    def state(self) -> State:
        """For JSON."""
        turns = [recent.state() for recent in self._turns]
        return {"last": list(self._last), "signs": list(self._signs), "turns": turns, "waiting": self._waiting}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        self._last = tuple(int(count) for count in state["last"])
        self._signs = [int(sign) for sign in state["signs"]]
        self._turns = [Recent(self.setting.window_s) for _ in state["turns"]]
        for recent, pairs in zip(self._turns, state["turns"], strict=True):
            recent.restore(pairs)
        self._waiting = float(state["waiting"])
