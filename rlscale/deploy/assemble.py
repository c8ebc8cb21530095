"""From live.yaml to a live service, its memory included. Nothing is ordered in here."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rlscale.deploy.audit import Audit, memory
from rlscale.deploy.base import Clock, LiveConfigError
from rlscale.deploy.config import LiveConfig, ScalerConfig
from rlscale.deploy.exporter import Exporter
from rlscale.deploy.guard import Guarded
from rlscale.deploy.kinds import Site, build
from rlscale.deploy.live import Current, Decider, Live
from rlscale.deploy.observed import ObservedError, from_json
from rlscale.deploy.remembering import Remembering
from rlscale.deploy.shadow import Shadowed
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

    @property
    def name(self) -> str:
        """Of the scaler."""
        return "" if self.config.scaler is None else self.config.scaler.name


def assemble(plan: Plan, clock: Clock) -> Live:
    """A service that is ready to turn. LiveConfigError when something that is named cannot be built; nothing stays open
    then."""
    config, limits = plan.config, plan.limits
    alone = Site(config.service, limits, plan.interval_s, clock)
    with ExitStack() as opened:

        def made(field: str, entry: Mapping[str, Any], site: Site) -> Any:
            found = build(field, entry, site, plan.where, plan.text)
            opened.callback(found.close)
            return found

        leader = made("leader", config.leader, alone)
        site = replace(alone, leads=leader.leads, last_order_s=getattr(leader, "last_order_s", math.inf))
        backend = made("backend", config.backend, site)
        asked = hasattr(backend, "pages")
        if asked and config.metrics["kind"] != "none":
            raise LiveConfigError(f"{plan.where}: whoever asks backend {config.backend['kind']} tells it the metrics; "
                                  "leave the key metrics out")  # fmt: skip
        source = backend if asked else made("metrics", config.metrics, site)
        seen, state = remembered(plan, clock)
        tolerance = float(getattr(backend, "tolerance", 0.0))
        current = Current(plan.name, decider_of(plan, seen, (state or {}).get("decider"), tolerance))
        place = Place(limits, plan.interval_s, ZoneInfo(config.timezone))
        world = LiveWorld(place, source, backend, clock, leader.leads)
        if state is not None:
            world.restore(state["world"])
        exporter = Exporter(config.service, limits)
        if hasattr(backend, "metrics"):
            exporter.backend(backend.metrics)
        scalars = None if config.tensorboard is None else Scalars(config.tensorboard, limits)
        audit = Audit(config.audit.path, int(config.audit.max_mb * 1e6), config.audit.keep)
        opened.pop_all()
    return Live(config.service, world, current, audit, exporter, leader.leads, scalars, asked, leader)


def remembered(plan: Plan, clock: Clock) -> tuple[list[Observation], dict[str, Any] | None]:
    """What the service saw within `audit.replay_s`, oldest first, and the state it was in."""
    config = plan.config
    try:
        found, state = memory(config.audit.path, config.service, clock.unix_s() - config.audit.replay_s)
        return [from_json(record["observation"], plan.limits) for record in found], state
    except (ObservedError, KeyError, TypeError, ValueError) as error:
        log.warning("%s: the memory cannot be used (%s); beginning anew", config.audit.path, error)
        return [], None


def decider_of(plan: Plan, seen: Sequence[Observation], state: Any, tolerance: float) -> Decider:
    """The scaler behind its shields, with fallback and shadow; each begins with what was seen before."""
    config, limits = plan.config, plan.limits
    scaler, fallback = (scaler_of(entry, plan, seen) for entry in (config.scaler, config.fallback))
    built = Guarded(scaler, fallback, config.shields, limits, tolerance, plan.name, config.fallback.name)
    decider: Decider = built
    if config.shadow is not None:
        decider = Shadowed(built, scaler_of(config.shadow, plan, seen), limits, config.shadow.name)
    if state is not None:
        try:
            decider.restore(state)  # type: ignore[attr-defined]
        except (ValueError, KeyError, TypeError) as error:
            log.warning("the state of the shields cannot be used (%s); they begin anew", error)
            decider.reset()
    return decider


def scaler_of(entry: ScalerConfig | None, plan: Plan, seen: Sequence[Observation]) -> Scaler:
    """One scaler that will begin with what was seen."""
    if entry is None:
        raise LiveConfigError(f"{plan.where}: no scaler; name one there or with --scaler")
    try:
        made = build_scaler(entry.name, plan.limits, plan.config.service, **entry.parameters)
    except RlscaleError as error:
        raise LiveConfigError(f"{plan.where}: {error}") from None
    return Remembering(entry.name, made, seen)


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
