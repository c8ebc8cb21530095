"""Sudden silence: metrics that all at once tell of no requests are doubted for a while before a fleet is taken away.

With a mean of m requests per interval none at all come by chance with a probability of exp(-m), 1e-13 for 30. A label
that was renamed or a scrape of the wrong port reads just like that, and is no missing metric. If it is true after all,
the fleet costs what it costs for `doubt_s`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlscale.deploy.shield_config import Silence as Setting
from rlscale.deploy.shields.base import Context, Ruling, State
from rlscale.deploy.shields.recent import Recent
from rlscale.types import Floats, Observation

PASS = Ruling()
LARGEST_PER_S = 1e12  # no rate; the mean of such stays a number


class Silence:
    """Holds while arrivals are below `share` of what they were, at most for `doubt_s`."""

    counted = ("silence_hold",)

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._rates = Recent(setting.window_s)
        self.reset()

    def reset(self) -> None:
        """No load seen."""
        self._rates.clear()
        self._doubted_since_s, self._before_per_s = math.nan, 0.0

    def warm_up(self, history_per_s: Floats, history_step_s: float) -> None:
        """A history is no measure of what metrics have told."""

    def judge(self, seen: Observation, context: Context) -> Ruling:
        """Hold while silence is doubted."""
        rate_per_s = float(seen.arrival_per_s)
        if context.blind or not math.isfinite(rate_per_s):
            return PASS
        if math.isnan(self._doubted_since_s):
            self._rates.forget(context.now_s)
            self._before_per_s = float(np.mean(self._rates.values or [0.0]))
        if not self._silent(rate_per_s, seen.interval_s):
            self._doubted_since_s = math.nan
            self._rates.add(context.now_s, min(rate_per_s, LARGEST_PER_S))
            return PASS
        if math.isnan(self._doubted_since_s):
            self._doubted_since_s = context.now_s
        for_s = context.now_s - self._doubted_since_s
        if for_s >= self.setting.doubt_s:
            self.reset()  # so it is
            self._rates.add(context.now_s, rate_per_s)
            return PASS
        what = f"{rate_per_s:.4g}/s after {self._before_per_s:.4g}/s"
        return Ruling("hold", f"silence: {what}, doubted for {for_s:.0f} of {self.setting.doubt_s:g} s")

    def _silent(self, rate_per_s: float, interval_s: float) -> bool:
        expected = self._before_per_s * interval_s
        return expected >= self.setting.least_requests and rate_per_s < self.setting.share * self._before_per_s

    def state(self) -> State:
        """For JSON."""
        since = None if math.isnan(self._doubted_since_s) else self._doubted_since_s
        return {"rates": self._rates.state(), "doubted_since_s": since, "before_per_s": self._before_per_s}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        self._rates.restore(state["rates"])
        since = state["doubted_since_s"]
        self._doubted_since_s = math.nan if since is None else float(since)
        self._before_per_s = float(state["before_per_s"])
