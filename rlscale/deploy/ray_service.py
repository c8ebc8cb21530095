"""One Ray Serve deployment at its control interval: what is seen, what is decided on it, and the record of both."""

from __future__ import annotations

import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rlscale.deploy.audit import Audit, memory
from rlscale.deploy.base import Clock, Fleet, MetricsError, Reading
from rlscale.deploy.observed import from_json, to_json
from rlscale.deploy.ray_build import guarded, limits_of
from rlscale.deploy.ray_context import ContextReader, altered, bounds, fleet, number
from rlscale.deploy.ray_settings import RaySettings
from rlscale.deploy.shields.breaker import FAILURES
from rlscale.deploy.world import LiveWorld, Place
from rlscale.errors import RlscaleError
from rlscale.execute import bound
from rlscale.types import Observation, ScalingLimits

REPLAY_S = 3600.0  # of the log, shown again to scalers after a restart: the longest window of a feature
FAILED = (*(f"scaler_{kind}" for kind in FAILURES), "fallback_failed", "shield_error")
AUDIT_BYTES, AUDIT_FILES = 16_000_000, 4  # read whole at a restart: about a second


class RayService:
    """Built at the first decision, when Serve tells the bounds. Raises LiveConfigError when limits cannot be read."""

    def __init__(self, settings: RaySettings, interval_s: float, ctx: Any, clock: Clock) -> None:
        self.name = f"{ctx.app_name}/{ctx.deployment_name}"
        self.settings, self.interval_s, self._clock = settings, interval_s, clock
        self._to_zero = settings.shields.limits.scale_to_zero
        self.limits = _within(limits_of(settings), *_configured(ctx, self._to_zero))
        self.warnings = altered(ctx.config, interval_s)
        self._view = _View()
        self._reader = ContextReader(self.limits, clock.steady_s())
        self._world = LiveWorld(Place(self.limits, interval_s), self._view, self._view, clock)
        self._world.on_error = _heard
        self.decisions, self.errors, self.last_error = 0, 0, ""
        self._audit: Audit | None = None
        self._audit_fault = ""
        past, state = self._remembered()
        self.guard = guarded(settings, self.limits, interval_s,
                             number(getattr(ctx.config, "target_ongoing_requests", None)), past,
                             self._observe(ctx))  # fmt: skip
        self._restore(state)
        self._write("start", {"settings": settings.model_dump(mode="json"), "interval_s": interval_s})
        for text in self.warnings:
            self._write("warning", {"text": text})

    def decide(self, ctx: Any) -> int:
        """Replicas to have now."""
        began_s = time.perf_counter()
        seen = self._observe(ctx)
        failed = self._failures()
        decision = self.guard.decide(seen)
        # The limits shield lets the last replica go when nobody has asked for long enough. Not while nothing is heard.
        to_zero = self._to_zero and not self._view.missing
        bounded = bound(decision, _within(self.limits, *bounds(ctx, to_zero)), seen.target)
        reason = "; ".join(part for part in (decision.reason, bounded.reason) if part)
        self._world.apply(seen, bounded)
        self._world.target = None  # the next context says what came of it
        self.decisions += 1
        self.errors += self._failures() - failed
        self.last_error = reason if self._failures() > failed else ""
        self._write("decision", {
            "observation": to_json(seen),
            "target": list(bounded.target),
            "reason": reason,
            "fallback": self.guard.decided_by != "scaler",
            "decided_by": self.guard.decided_by,
            "arrival": self._reader.how,
            "missing": self._view.missing,
            "errors": self.errors,
            "decision_s": round(time.perf_counter() - began_s, 6),
            "state": {"world": self._world.state(), "decider": self.guard.state(), "decisions": self.decisions,
                      "errors": self.errors},
        })  # fmt: skip
        return bounded.target[0]

    def _failures(self) -> int:
        """Questions that a scaler, or a shield, could not answer."""
        return sum(self.guard.counts[name] for name in FAILED)

    def _observe(self, ctx: Any) -> Observation:
        self._view.now = fleet(ctx)
        try:
            self._view.reading = self._reader.read(ctx, self._clock.steady_s(), self._clock.unix_s())
        except MetricsError as error:
            self._view.reading = error
        self._world.look()
        return self._world.observe()

    def _remembered(self) -> tuple[list[Observation], dict[str, Any]]:
        """What was seen in the last hour and the state at the end of it; nothing of a log that cannot be read."""
        if self.settings.audit is None:
            return [], {}
        try:
            rows, state = memory(Path(self.settings.audit), self.name, self._clock.unix_s() - REPLAY_S)
            return [from_json(row["observation"], self.limits) for row in rows], state or {}
        except (OSError, RlscaleError, KeyError, TypeError, ValueError) as error:
            self._audit_fault = f"{type(error).__name__}: {error}"
            return [], {}

    def _restore(self, state: dict[str, Any]) -> None:
        if not state:
            return
        try:
            self.decisions, self.errors = int(state["decisions"]), int(state["errors"])
            self._world.restore(state["world"])
            self.guard.restore(state["decider"])
        except (KeyError, TypeError, ValueError) as error:
            self._audit_fault = f"the state of another version: {error}"
            self.guard.reset()

    def _write(self, kind: str, record: dict[str, Any]) -> None:
        if self.settings.audit is None:
            return
        try:
            if self._audit is None:
                self._audit = Audit(Path(self.settings.audit), AUDIT_BYTES, AUDIT_FILES)
                weakref.finalize(self, self._audit.close)
            self._audit.write(kind, self._clock.unix_s(), {"service": self.name, **record})
            self._audit_fault = ""
        except (OSError, ValueError, RlscaleError) as error:
            self._audit_fault = f"{type(error).__name__}: {error}"

    def status(self) -> dict[str, Any]:
        """How it stands, in JSON values."""
        return {
            "service": self.name,
            "scaler": self.settings.policy,
            "fallback": self.settings.fallback,
            "interval_s": self.interval_s,
            "decisions": self.decisions,
            "decided_by": self.guard.decided_by,
            "errors": self.errors,
            "last_error": self.last_error,
            "counts": {name: count for name, count in self.guard.counts.items() if count},
            "arrival": self._reader.how,
            "missing": self._view.missing,
            "audit_fault": self._audit_fault,
            "warnings": self.warnings,
        }


class _View:
    """Source and backend of the live world: what the context of this tick says."""

    def __init__(self) -> None:
        self.now: Fleet | None = None
        self.reading: Reading | MetricsError = MetricsError("nothing read yet")

    @property
    def missing(self) -> str:
        """Why there were no metrics at this tick; empty when there were."""
        return str(self.reading) if isinstance(self.reading, MetricsError) else ""

    def read(self) -> Reading:
        if isinstance(self.reading, MetricsError):
            raise self.reading
        return self.reading

    def fleet(self) -> Fleet:
        assert self.now is not None, "the context is read before the world looks"
        return self.now

    def order(self, target: tuple[int, ...]) -> None:
        """Serve takes the order from what the policy returns."""

    def close(self) -> None:
        """There is nothing open."""


def _heard(where: str, error: Exception) -> None:
    """Metrics that are missing are in the observation: they grow old."""


def _configured(ctx: Any, to_zero: bool) -> tuple[int, int]:
    """The bounds of the configuration; those of the moment where it does not say."""
    low, high = bounds(ctx, to_zero)
    least, most = (number(getattr(ctx.config, name, None)) for name in ("min_replicas", "max_replicas"))
    first = max(int(least), 0 if to_zero else 1) if least == least else low
    return first, max(first, int(most) if most == most else high)


def _within(limits: ScalingLimits, low: int, high: int) -> ScalingLimits:
    if int(limits.min_replicas[0]) == low and int(limits.max_replicas[0]) == high:
        return limits
    return replace(limits, min_replicas=np.array([low]), max_replicas=np.array([high]))
