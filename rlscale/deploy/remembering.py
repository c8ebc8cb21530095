"""A scaler that begins with what a former process saw: windows, histories and networks are where they were."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rlscale.circle import begin
from rlscale.types import Decision, Floats, Observation, Scaler

PASSED_ON = ("statistics", "interval_s", "multiplier")  # what shields ask a policy for
log = logging.getLogger("rlscale.live")


class Remembering:
    """Beginning is deciding again on all that was seen, as the scaler is the only one who knows what it keeps of it.

    Predicts by itself, so that its forecaster remembers, too.
    """

    def __init__(self, name: str, scaler: Scaler, seen: Sequence[Observation]) -> None:
        self.name, self._scaler, self._seen = name, scaler, seen
        self._forecaster: Any = getattr(scaler, "forecaster", None)
        for told in PASSED_ON:
            if hasattr(scaler, told):
                setattr(self, told, getattr(scaler, told))

    def reset(self) -> None:
        """Begin anew: with what was seen before this process began."""
        self.warm_up(np.zeros(0), 60.0)

    def warm_up(self, history_per_s: Floats, history_step_s: float) -> None:
        """Load before that."""
        begin(self._scaler, history_per_s, history_step_s)
        for seen in self._seen:
            try:
                self.decide(seen)
            except Exception as error:  # what fails again when it counts is somebody else's to catch
                log.warning("%s failed on what it was shown again, it remembers less: %s", self.name, error)
                return

    def decide(self, seen: Observation) -> Decision:
        """As the scaler does."""
        if self._forecaster is not None:
            rate = self._forecaster.update(float(seen.arrival_per_s), seen.interval_s)
            seen = replace(seen, forecast_per_s=rate)
        return self._scaler.decide(seen)
