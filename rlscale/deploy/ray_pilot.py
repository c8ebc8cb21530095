"""A Ray Serve autoscaling policy at every tick of Serve's controller: whether to decide, and an answer in any case."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from rlscale.decide import Cadence
from rlscale.deploy.base import Clock
from rlscale.deploy.clock import SystemClock
from rlscale.deploy.ray_context import bounds, number
from rlscale.deploy.ray_counters import Counters
from rlscale.deploy.ray_service import RayService
from rlscale.deploy.ray_settings import INTERVAL_S, RaySettings, checked, interval_s

_log = logging.getLogger("ray.serve.rlscale")  # below Serve's own logger, so that it ends in the controller's log


class Pilot:
    """Decides every `interval_s`; in between, and whatever happens, the last target is the answer.

    Never raises: Serve would log it at every tick, keep the old target and tell nobody.
    """

    def __init__(self, given: Mapping[str, Any], clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._service: RayService | None = None
        self._target: int | None = None  # asked for
        self._reached = False  # whether Serve has put it in force
        self._bounds: tuple[float, float] = (1, math.inf)
        self._errors, self._last_error = 0, ""
        self._told = ""
        self._counters: Counters | None = None
        self._settings: RaySettings | None = None
        every_s = INTERVAL_S
        try:
            settings = checked(given)
            every_s = interval_s(settings)
            self._settings = settings
        except Exception as error:
            self._last_error = f"{error}"
        self._interval_s = every_s
        self._cadence = Cadence(every_s)

    def tick(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        """Replicas to have, and how things stand as the policy's state."""
        try:
            self._adopt(ctx)
            if self._cadence.due(self._clock.steady_s()):
                self._decide(ctx)
        except Exception as error:
            self._note(f"{type(error).__name__}: {error!s:.300}")
        return self._answer(ctx), self.status()

    def status(self) -> dict[str, Any]:
        """How things stand, in JSON values: errors so far, the last one, who decided, what is asked for."""
        blank: dict[str, Any] = {"errors": 0, "last_error": "", "decided_by": "hold"}
        service = self._service.status() if self._service else blank
        errors, last_error = service["errors"] + self._errors, self._last_error or service["last_error"]
        return {"rlscale": {**service, "errors": errors, "last_error": last_error, "target": self._target}}

    def _decide(self, ctx: Any) -> None:
        if self._settings is None:
            return self._note(self._last_error)
        if self._service is None:
            self._service = RayService(self._settings, self._interval_s, ctx, self._clock)
            self._counters = Counters(f"{ctx.app_name}", f"{ctx.deployment_name}")
            for text in self._service.warnings:
                _log.warning("Serve changes what the policy of %s decides: %s", self._service.name, text)
        self._target, self._reached = self._service.decide(ctx), False
        self._last_error = ""
        self._tell(self._service.last_error)
        if self._counters is not None:
            self._counters.decided(self._service.guard.decided_by)
            self._counters.errors(self._service.errors + self._errors)
        return None

    def _adopt(self, ctx: Any) -> None:
        """Serve changes a target by itself when it wakes a service from zero, or when bounds change."""
        current = number(ctx.target_num_replicas)
        if self._target is None or math.isnan(current):
            return
        if current == self._target:
            self._reached = True
        elif self._reached:
            self._target, self._reached = int(current), False

    def _answer(self, ctx: Any) -> int:
        try:
            self._bounds = bounds(ctx, self._settings is not None and self._settings.shields.limits.scale_to_zero)
        except Exception as error:
            self._last_error = f"{type(error).__name__}: {error!s:.300}"
        current = number(getattr(ctx, "target_num_replicas", None))
        wanted = self._target if self._target is not None else 1.0 if math.isnan(current) else current
        low, high = self._bounds
        return int(min(max(wanted, low), high))

    def _note(self, error: str) -> None:
        self._errors += 1
        self._last_error = error
        self._tell(error)
        if self._counters is not None and self._service is not None:
            self._counters.errors(self._service.errors + self._errors)

    def _tell(self, error: str) -> None:
        """Once per error, not once per interval."""
        if error and error != self._told:
            _log.error("the scaler could not decide, and what stands beside it does: %s", error)
        self._told = error
