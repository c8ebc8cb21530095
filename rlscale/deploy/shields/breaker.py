"""Circuit breaker: a scaler that fails repeatedly is left alone for a while, then tried once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlscale.deploy.shield_config import Breaker as Setting
from rlscale.deploy.shields.base import State
from rlscale.deploy.shields.recent import Recent

FAILURES = ("error", "invalid", "slow", "stuck")  # it raised, was unreadable, was late, is late since an earlier call


class Breaker:
    """Closed: the scaler is asked. Open: it is not, until `cool_off_s` has passed; then one answer decides."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._failed = Recent(setting.window_s)
        self.reset()

    def reset(self) -> None:
        """Closed, nothing remembered."""
        self._failed.clear()
        self._open_until_s = -math.inf
        self.open = False

    def allows(self, now_s: float) -> bool:
        """Whether the scaler may be asked."""
        return not (self.setting.on and self.open and now_s < self._open_until_s)

    def succeeded(self) -> None:
        """It answered; the trial of an open breaker closes it."""
        if self.open:
            self.reset()

    def failed(self, now_s: float) -> bool:
        """It did not. Whether that has opened the breaker, or failed the trial."""
        self._failed.add(now_s, 1.0)
        if not self.setting.on or (not self.open and len(self._failed.values) < self.setting.failures):
            return False
        self.open, self._open_until_s = True, now_s + self.setting.cool_off_s
        return True

    def state(self) -> State:
        """For JSON."""
        until = self._open_until_s if self.open else None
        return {"open": self.open, "open_until_s": until, "failed": self._failed.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        self.open = bool(state["open"])
        self._open_until_s = float(state["open_until_s"]) if self.open else -math.inf
        self._failed.restore(state["failed"])
