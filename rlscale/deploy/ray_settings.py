"""What `policy_kwargs` of a Ray Serve deployment may say, checked. Plain JSON values only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from rlscale import yaml_file
from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.shield_config import Breaker, ShieldsConfig
from rlscale.scalers import POLICY
from rlscale.strict import Strict

INTERVAL_S = 15.0  # of scalers that have no control interval of their own
SERVE_RULE = "serve-rule"


class RayBreaker(Breaker):
    """Serve's controller, which looks after everything else too, stands still while a decision is waited for."""

    deadline_s: float | None = Field(0.5, gt=0, le=10, description="seconds for one decision")


class RayShields(ShieldsConfig):
    """All shields, each on unless switched off."""

    breaker: RayBreaker = RayBreaker()


class RaySettings(Strict):
    """One deployment's scaler and what stands beside it."""

    policy: str = Field(min_length=1, description="a policy folder (with a /), a registered scaler, or module:Class")
    limits: str | dict[str, Any] | None = Field(
        None,
        description="see rlscale.limits_file: a file, a folder that holds it, or its content; default: the policy's",
    )
    fallback: str = Field(SERVE_RULE, min_length=1, description="the scaler that decides when the first one cannot")
    audit: str | None = Field(None, min_length=1, description="log of every decision, and the memory over a restart")
    parameters: dict[str, bool | int | float | str] = Field(default_factory=dict, description="of the scaler")
    fallback_parameters: dict[str, bool | int | float | str] = Field(default_factory=dict)
    interval_s: float | None = Field(None, gt=0, le=3600, description="between decisions; default: the policy's own")
    shields: RayShields = RayShields()

    @property
    def scaler(self) -> str:
        """The scaler in the words of `rlscale.scalers.build_scaler`."""
        return _word(self.policy)

    @property
    def fallback_scaler(self) -> str:
        """The fallback in the same words."""
        return _word(self.fallback)


def checked(given: Mapping[str, Any]) -> RaySettings:
    """The settings, or LiveConfigError with every fault of them."""
    return yaml_file.checked(RaySettings, dict(given), "policy_kwargs", LiveConfigError)


def interval_s(settings: RaySettings) -> float:
    """Seconds between decisions: those a policy was trained with, unless it is another scaler.

    Raises LiveConfigError when both are given and differ: features are windows counted in intervals.
    """
    trained_s = _trained_s(settings.scaler)
    if settings.interval_s is None:
        return trained_s or INTERVAL_S
    if trained_s and settings.interval_s != trained_s:
        raise LiveConfigError(f"policy_kwargs: interval_s = {settings.interval_s:g}, but {settings.policy} was trained "
                              f"with {trained_s:g}; leave interval_s out")  # fmt: skip
    return settings.interval_s


def _trained_s(scaler: str) -> float:
    """0 for what is no readable policy folder; reading it in earnest says what is wrong with it."""
    if not scaler.startswith(POLICY):
        return 0.0
    try:
        return float(json.loads((Path(scaler.removeprefix(POLICY)) / "manifest.json").read_bytes())["interval_s"])
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0


def _word(name: str) -> str:
    return f"{POLICY}{name}" if "/" in name and not name.startswith(POLICY) else name
