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
from rlscale.deploy.ray_build import builder, limits_of
from rlscale.deploy.ray_context import ContextReader, altered, bounds, fleet, number
from rlscale.deploy.ray_fallback import guarded
from rlscale.deploy.ray_settings import RaySettings
from rlscale.deploy.world import LiveWorld, Place
from rlscale.errors import RlscaleError
from rlscale.execute import bound
from rlscale.types import Observation, ScalingLimits

REPLAY_S = 3600.0  # of the log, shown again to scalers after a restart: the longest window of a feature
AUDIT_BYTES, AUDIT_FILES = 16_000_000, 4  # read whole at a restart: about a second


class RayService:
    """Built at the first decision, when Serve tells the bounds. Raises LiveConfigError when limits cannot be read."""

    def __init__(self, settings: RaySettings, interval_s: float, ctx: Any, clock: Clock) -> None:
        self.name = f"{ctx.app_name}/{ctx.deployment_name}"
        self.settings, self.interval_s, self._clock = settings, interval_s, clock
        self.limits = _within(limits_of(settings), *_configured(ctx, settings.to_zero))
        self.warnings = altered(ctx.config, interval_s)
        self._view = _View()
        self._reader = ContextReader(self.limits, clock.steady_s())
        self._world = LiveWorld(Place(self.limits, interval_s), self._view, self._view, clock, _heard)
        self._rows: list[Observation] = []
        self.decisions = 0
        self._audit_fault = ""
        self._audit: Audit | None = None
        errors = self._remember()
        self.scaler = guarded(
            builder(settings.scaler, settings.parameters, self.limits, interval_s, self._rows),
            builder(settings.fallback_scaler, settings.fallback_parameters, self.limits, interval_s, self._rows,
                    number(getattr(ctx.config, "target_ongoing_requests", None))),
            settings.patience_s,
        )  # fmt: skip
        self.scaler.errors = errors
        self._write("start", {"settings": settings.model_dump(), "interval_s": interval_s})
        for text in self.warnings:
            self._write("warning", {"text": text})

    def decide(self, ctx: Any) -> int:
        """Replicas to have now."""
        began_s = time.perf_counter()
        seen = self._observe(ctx)
        decision = self.scaler.decide(seen)
        low, high = bounds(ctx, self.settings.to_zero)
        bounded = bound(decision, _within(self.limits, low, high), seen.target)
        target, why = _not_by_accident(bounded.target[0], seen, isinstance(self._view.reading, Reading))
        self.decisions += 1
        self._write("decision", {
            "observation": to_json(seen),
            "asked": [float(count) for count in decision.target],
            "target": [target],
            "by": self.scaler.decided_by,
            "reason": "; ".join(part for part in (decision.reason, bounded.reason, why) if part),
            "beside": [float(count) for count in self.scaler.beside.target] if self.scaler.beside else None,
            "arrival": self._reader.how,
            "error": self.scaler.last_error,
            "decision_s": round(time.perf_counter() - began_s, 6),
            "state": {"world": self._world.state(), "decisions": self.decisions, "errors": self.scaler.errors},
        })  # fmt: skip
        return target

    def _observe(self, ctx: Any) -> Observation:
        self._view.now = fleet(ctx)
        try:
            self._view.reading = self._reader.read(ctx, self._clock.steady_s(), self._clock.unix_s())
        except MetricsError as error:
            self._view.reading = error
        self._world.look()
        return self._world.observe()

    def _remember(self) -> int:
        """Go on where the log ends; errors so far. A log that cannot be used must not keep anybody from serving."""
        if self.settings.audit is None:
            return 0
        try:
            records, state = memory(Path(self.settings.audit), self.name, self._clock.unix_s() - REPLAY_S)
        except OSError as error:
            self._audit_fault = str(error)
            return 0
        for record in records:
            try:
                self._rows.append(from_json(record["observation"], self.limits))
            except (RlscaleError, KeyError, TypeError):
                continue  # of another version
        if not isinstance(state, dict) or not isinstance(state.get("world"), dict):
            return 0
        self._world.restore(state["world"])
        self.decisions = int(state.get("decisions", 0))
        return int(state.get("errors", 0))

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
            "decided_by": self.scaler.decided_by,
            "errors": self.scaler.errors,
            "last_error": self.scaler.last_error,
            "arrival": self._reader.how,
            "audit_fault": self._audit_fault,
            "warnings": self.warnings,
        }


class _View:
    """Source and backend of the live world: what the context of this tick says."""

    def __init__(self) -> None:
        self.now: Fleet | None = None
        self.reading: Reading | MetricsError = MetricsError("nothing read yet")

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


def _not_by_accident(target: int, seen: Observation, read: bool) -> tuple[int, str]:
    """The last replica goes only when it is known, by metrics that could be read just now, that nobody asks."""
    if target > 0 or seen.target[0] == 0:
        return target, ""
    idle = read and seen.arrival_per_s == 0 and seen.waiting == 0 and seen.running == 0
    return (0, "") if idle else (1, "1 stays: not known to be idle")
