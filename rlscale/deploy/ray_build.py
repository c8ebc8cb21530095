"""Limits, scalers and shields of a Ray Serve deployment, from what its settings name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from rlscale.decide import blind, hold
from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.guard import Guarded
from rlscale.deploy.ray_settings import SERVE_RULE, RaySettings, checked, interval_s
from rlscale.deploy.remembering import Remembering
from rlscale.deploy.worker import Worker
from rlscale.limits_file import load_limits, parse_limits
from rlscale.scalers import POLICY, build_scaler
from rlscale.types import Decision, Observation, Scaler, ScalingLimits

ONGOING = 2.0  # Serve's own default of target_ongoing_requests
BUILD_S = 10.0  # for which Serve's controller waits for a scaler to be read and imported


class ServeRule:
    """What Ray Serve itself would do: replicas = requests present / target_ongoing_requests, rounded up."""

    def __init__(self, ongoing: float) -> None:
        self.ongoing = ongoing if ongoing > 0 else ONGOING

    def reset(self) -> None:
        """There is nothing to forget."""

    def decide(self, seen: Observation) -> Decision:
        """Holds while metrics are missing."""
        why = blind(seen, waiting=seen.waiting, running=seen.running)
        if why:
            return hold(seen, why)
        present = float(seen.waiting + seen.running)
        return Decision((math.ceil(present / self.ongoing),), f"{present:.4g} requests, {self.ongoing:g} per replica")


class Unbuilt:
    """A scaler that could not be built: every question is another attempt, and what fails is that question."""

    def __init__(self, build: Callable[[], Scaler]) -> None:
        self._build = build
        self._scaler: Scaler | None = None

    def reset(self) -> None:
        """Left to the scaler once there is one."""
        if self._scaler is not None:
            self._scaler.reset()

    def decide(self, seen: Observation) -> Decision:
        """As the scaler, or the error that it cannot be built for."""
        if self._scaler is None:
            self._scaler = self._build()
            self._scaler.reset()
        return self._scaler.decide(seen)


def rehearse(given: Mapping[str, Any]) -> None:
    """Do once what will be done in the controller. Raises what is wrong with settings, limits and scalers."""
    settings = checked(given)
    every_s, limits = interval_s(settings), limits_of(settings)
    _scaler(settings.scaler, settings.parameters, limits, every_s)
    if settings.fallback != SERVE_RULE:
        _scaler(settings.fallback_scaler, settings.fallback_parameters, limits, every_s)


def limits_of(settings: RaySettings) -> ScalingLimits:
    """The limits of the settings, or those beside the policy. Raises LiveConfigError, or PolicyError for the file."""
    given = settings.limits
    if isinstance(given, dict):
        limits = parse_limits(json.dumps(given).encode(), "policy_kwargs: limits")
    elif given is not None or settings.scaler.startswith(POLICY):
        limits = load_limits(given or settings.scaler.removeprefix(POLICY))
    else:
        raise LiveConfigError(f"policy_kwargs: no limits; {settings.policy} brings none of its own")
    pools = len(limits.min_replicas)
    if pools != 1:
        raise LiveConfigError(f"policy_kwargs: limits of {pools} pools; a deployment of Ray Serve is one pool")
    return limits


def guarded(
    settings: RaySettings, limits: ScalingLimits, every_s: float, ongoing: float = math.nan,
    past: Sequence[Observation] = (), sample: Observation | None = None,
) -> Guarded:  # fmt: skip
    """The scaler behind its shields, with its fallback; both begin with what was seen before a restart.

    `every_s` seconds between decisions; `ongoing` requests per replica, for Serve's own rule. On `sample` a scaler
    decides while it is built, since what it imports and compiles for that would make its first decision late.
    """

    def member(name: str, parameters: Mapping[str, Any]) -> Scaler:
        if name == SERVE_RULE:
            return ServeRule(ongoing)
        return Remembering(name, _built(lambda: _scaler(name, parameters, limits, every_s), sample), past)

    first = member(settings.scaler, settings.parameters)
    second = member(settings.fallback_scaler, settings.fallback_parameters)
    return Guarded(first, second, settings.shields, limits, 0.0, settings.policy, settings.fallback)


def _built(build: Callable[[], Scaler], sample: Observation | None) -> Scaler:
    """In a thread: a share that hangs must not stop Serve."""

    def tried() -> Scaler:
        scaler = build()
        if sample is not None:
            with suppress(Exception):  # it will raise again when it is asked in earnest
                scaler.reset()
                scaler.decide(sample)
        return scaler

    try:
        return Worker("rlscale build").call(tried, BUILD_S)
    except Exception:
        return Unbuilt(build)


def _scaler(name: str, parameters: Mapping[str, Any], limits: ScalingLimits, every_s: float) -> Scaler:
    scaler = build_scaler(name, limits, "", **parameters)
    trained_s = getattr(scaler, "interval_s", every_s)
    if trained_s != every_s:
        raise LiveConfigError(f"{name} was trained with {trained_s:g} s between decisions, they are {every_s:g} s "
                              "apart; leave interval_s out and deploy again")  # fmt: skip
    return scaler
