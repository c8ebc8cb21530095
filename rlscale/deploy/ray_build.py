"""Limits and scalers of a Ray Serve deployment, from what its settings name."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rlscale.circle import begin
from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.contained import decide
from rlscale.deploy.ray_fallback import ServeRule
from rlscale.deploy.ray_settings import SERVE_RULE, RaySettings, checked, interval_s
from rlscale.limits_file import load_limits, parse_limits
from rlscale.scalers import POLICY, build_scaler
from rlscale.types import Observation, Scaler, ScalingLimits

ONGOING = 2.0  # Serve's own default of target_ongoing_requests
REPLAY_WITHIN_S = 5.0  # of real time


def rehearse(given: Mapping[str, Any]) -> None:
    """Do once what will be done in the controller. Raises what is wrong with settings, limits and scalers."""
    settings = checked(given)
    every_s, limits = interval_s(settings), limits_of(settings)
    builder(settings.scaler, settings.parameters, limits, every_s)()
    builder(settings.fallback_scaler, settings.fallback_parameters, limits, every_s)()


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


def builder(
    name: str, parameters: Mapping[str, Any], limits: ScalingLimits, every_s: float, past: Sequence[Observation] = (),
    ongoing: float = math.nan,
) -> Callable[[], Scaler]:  # fmt: skip
    """A function that makes the scaler of that name and shows it the observations before a restart.

    `every_s` seconds between decisions; `ongoing` requests per replica, for Serve's own rule.
    """

    def build() -> Scaler:
        if name == SERVE_RULE:
            return ServeRule(ongoing if ongoing > 0 else ONGOING)
        scaler = build_scaler(name, limits, "", **parameters)
        trained_s = getattr(scaler, "interval_s", every_s)
        if trained_s != every_s:
            raise LiveConfigError(f"{name} was trained with {trained_s:g} s between decisions, they are {every_s:g} s "
                                  "apart; leave interval_s out and deploy again")  # fmt: skip
        begin(scaler, np.zeros(0), every_s)
        _show(scaler, past)
        return scaler

    return build


def _show(scaler: Scaler, past: Sequence[Observation]) -> None:
    until_s = time.monotonic() + REPLAY_WITHIN_S
    for seen in past:
        if time.monotonic() > until_s:
            return
        try:
            decide(scaler, seen, len(seen.target))
        except Exception:  # it will say so when it is asked in earnest
            continue
