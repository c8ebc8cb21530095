"""Missing or old metrics: hold, then let the fallback decide until there have been fresh ones for a while."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlscale.deploy.shield_config import Metrics as Setting
from rlscale.deploy.shields.base import Context, Ruling, State
from rlscale.types import Floats, Observation

PASS = Ruling()


def unreadable(seen: Observation, setting: Setting) -> str:
    """Why these metrics cannot be decided upon; empty when they can. A rate or a count below 0 is none."""
    if not seen.age_s <= max(setting.stale_s, 3.0 * seen.interval_s):
        return f"metrics are {float(seen.age_s):.0f} s old"
    values = {name: np.asarray(getattr(seen, name), np.float64) for name in setting.needed}
    missing = [name for name, value in values.items() if not np.isfinite(value).any() or (value < 0.0).any()]
    return f"no value for {', '.join(missing)}" if missing else ""


class Metrics:
    """Hands over after `hold_s` without metrics, back after `fresh_decisions` with them."""

    counted = ("metrics_hold", "metrics_fallback")

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.reset()

    def reset(self) -> None:
        """Metrics are fresh."""
        self._blind_since_s = math.nan
        self._handed_over = False
        self._fresh = 0

    def warm_up(self, history_per_s: Floats, history_step_s: float) -> None:
        """A history says nothing of how old metrics are."""

    def judge(self, seen: Observation, context: Context) -> Ruling:
        """Hold while blind, and the fallback from `hold_s` on."""
        if not context.blind:
            return self._sees()
        self._fresh = 0
        if math.isnan(self._blind_since_s):
            self._blind_since_s = context.now_s
        for_s = context.now_s - self._blind_since_s
        self._handed_over |= for_s >= self.setting.hold_s
        if not self._handed_over:
            return Ruling("hold", f"metrics: {context.blind}, held for {for_s:.0f} of {self.setting.hold_s:g} s")
        return Ruling("fallback", f"metrics: {context.blind} for {for_s:.0f} s", not self.setting.scale_in_blind)

    def _sees(self) -> Ruling:
        self._blind_since_s = math.nan
        self._fresh += 1
        if self._handed_over and self._fresh > self.setting.fresh_decisions:
            self._handed_over = False
        if not self._handed_over:
            return PASS
        return Ruling("fallback", f"metrics: back for {self._fresh} of {self.setting.fresh_decisions} decisions")

    def state(self) -> State:
        """For JSON."""
        since = None if math.isnan(self._blind_since_s) else self._blind_since_s
        return {"blind_since_s": since, "handed_over": self._handed_over, "fresh": self._fresh}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        since = state["blind_since_s"]
        self._blind_since_s = math.nan if since is None else float(since)
        self._handed_over, self._fresh = bool(state["handed_over"]), int(state["fresh"])
