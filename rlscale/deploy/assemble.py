"""From live.yaml to a live service, its memory included. Nothing is ordered in here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from rlscale.circle import begin, decide
from rlscale.deploy.audit import Audit, memory
from rlscale.deploy.base import Clock, LiveConfigError
from rlscale.deploy.config import LiveConfig, ScalerConfig
from rlscale.deploy.exporter import Exporter
from rlscale.deploy.guard import Guarded
from rlscale.deploy.kinds import Site, build
from rlscale.deploy.live import Current, Decider, Live
from rlscale.deploy.observed import ObservedError, from_json
from rlscale.deploy.tensorboard import Scalars
from rlscale.deploy.world import LiveWorld, Place
from rlscale.errors import RlscaleError
from rlscale.scalers import build_scaler
from rlscale.types import Observation, Scaler, ScalingLimits

log = logging.getLogger("rlscale.live")


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked configuration with what was computed from its scenario, and where it stands."""

    config: LiveConfig
    limits: ScalingLimits
    interval_s: float
    where: str
    text: str = ""


def assemble(plan: Plan, clock: Clock) -> Live:
    """A service that is ready to turn. LiveConfigError when something that is named cannot be built."""
    config, limits = plan.config, plan.limits
    if config.scaler is None:
        raise LiveConfigError(f"{plan.where}: no scaler; name one there or with --scaler")
    site = Site(config.service, limits, plan.interval_s, clock)
    backend = build("backend", config.backend, site, plan.where, plan.text)
    asked = hasattr(backend, "pages")
    if asked and config.metrics["kind"] != "none":
        raise LiveConfigError(f"{plan.where}: whoever asks backend {config.backend['kind']} tells it the metrics; "
                              "leave the key metrics out")  # fmt: skip
    source = backend if asked else build("metrics", config.metrics, site, plan.where, plan.text)
    leader = build("leader", config.leader, site, plan.where, plan.text)
    exporter = Exporter(config.service, limits)
    scalars = None if config.tensorboard is None else Scalars(config.tensorboard, limits)
    audit = Audit(config.audit.path, int(config.audit.max_mb * 1e6), config.audit.keep)
    place = Place(limits, plan.interval_s, ZoneInfo(config.timezone))
    world = LiveWorld(place, source, backend, clock, leader.leads)
    seen, state = remembered(plan, clock)
    tolerance = float(getattr(backend, "tolerance", 0.0))
    decider = guarded(plan, seen, (state or {}).get("decider"), tolerance)
    if state is not None:
        world.restore(state["world"])
    live = Live(config.service, world, Current(decider), audit, exporter, leader.leads, scalars, asked, leader)
    live.say("start", {"service": config.service, "scaler": decider.name, "replayed": len(seen),
                       "config": config.model_dump(mode="json")})  # fmt: skip
    return live


def remembered(plan: Plan, clock: Clock) -> tuple[list[Observation], dict[str, Any] | None]:
    """What the service saw within `audit.replay_s`, oldest first, and the state it was in."""
    config = plan.config
    try:
        found, state = memory(config.audit.path, config.service, clock.unix_s() - config.audit.replay_s)
        return [from_json(record["observation"], plan.limits) for record in found], state
    except (ObservedError, KeyError, TypeError, ValueError) as error:
        log.warning("%s: the memory cannot be used (%s); beginning anew", config.audit.path, error)
        return [], None


def guarded(plan: Plan, seen: Sequence[Observation], state: dict[str, Any] | None, tolerance: float) -> Decider:
    """The scaler behind its shields with fallback and shadow, each having been shown again what was seen before."""
    config = plan.config
    assert config.scaler is not None, "checked in assemble"
    built = [scaler(entry, plan, seen) for entry in (config.scaler, config.fallback, config.shadow)]
    decider = Guarded(built[0], built[1], config.shields, plan.limits, plan.interval_s, shadow=built[2],
                      name=config.scaler.name, tolerance=tolerance)  # fmt: skip
    if state is not None:
        decider.restore(state)
    return decider


def scaler(entry: ScalerConfig | None, plan: Plan, seen: Sequence[Observation]) -> Any:
    """One scaler in the state in which deciding on all that was seen has left it; None of nothing."""
    if entry is None:
        return None
    try:
        made: Scaler = build_scaler(entry.name, plan.limits, plan.config.service, **entry.parameters)
    except RlscaleError as error:
        raise LiveConfigError(f"{plan.where}: {error}") from None
    begin(made, np.zeros(0), 60.0)
    for one in seen:
        try:
            decide(made, one, plan.limits)
        except Exception as error:  # as it would be caught when it decides; here it only means less memory
            log.warning("%s failed on what it was shown again: %s", entry.name, error)
            break
    return made


def changed(old: LiveConfig, new: LiveConfig) -> list[str]:
    """Fields that differ and cannot change while a service runs."""
    free = {"scaler", "fallback", "shadow", "shields"}
    return [name for name in LiveConfig.model_fields if name not in free and getattr(old, name) != getattr(new, name)]


def relative_to(config: LiveConfig, folder: Path) -> LiveConfig:
    """Files named in a configuration are found from where it lies."""
    found = {"audit": config.audit.model_copy(update={"path": folder / config.audit.path})}
    for name in ("limits", "tensorboard"):
        path = getattr(config, name)
        if path is not None:
            found[name] = folder / path
    return config.model_copy(update=found)
