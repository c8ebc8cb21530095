"""A live service: the circle turned on a real world, and what is kept of every turn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rlscale.circle import Turn, turns
from rlscale.deploy.audit import Audit
from rlscale.deploy.exporter import Exporter
from rlscale.deploy.observed import to_json
from rlscale.deploy.tensorboard import Scalars
from rlscale.deploy.told import Told
from rlscale.deploy.world import LiveWorld
from rlscale.types import Decision, Observation, Scaler

STATE_EVERY = 20  # decisions: the state of the shields is longer than all the rest of a record
log = logging.getLogger("rlscale.live")


class Decider(Scaler, Protocol):
    """A scaler behind its shields, perhaps with a shadow."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Interventions and errors so far, by name."""
        ...

    @property
    def gauges(self) -> Mapping[str, float]:
        """State to watch; `decided_by_scaler` is 1 when the last decision was the scaler's own."""
        ...

    def state(self) -> dict[str, Any]:
        """To be kept over a restart."""
        ...


@dataclass
class Current:
    """The decider in force, with the name of its scaler; another one takes its place between two turns."""

    name: str
    decider: Decider

    def reset(self) -> None:
        """Forget the run."""
        self.decider.reset()

    def decide(self, seen: Observation) -> Decision:
        """As the decider in force."""
        return self.decider.decide(seen)

    @property
    def by_fallback(self) -> bool:
        """Whether somebody else than the scaler decided last."""
        return self.decider.gauges.get("decided_by_scaler", 1.0) < 1.0

    @property
    def shadowed(self) -> Mapping[str, Any]:
        """What the shadow would have done at the last decision: scaler, target, reason; nothing without one."""
        found: Mapping[str, Any] = getattr(self.decider, "last", {})
        return found


@dataclass
class Live:
    """One service. `run` returns when the clock was stopped."""

    service: str
    world: LiveWorld
    current: Current
    audit: Audit
    exporter: Exporter
    leads: Callable[[], bool]
    scalars: Scalars | None = None
    asked: bool = False  # turns happen when somebody asks for one
    leader: Any = None  # what has to be let go in the end
    turned: int = 0
    last: Turn | None = None
    last_steady_s: float | None = None
    _missed: int = field(default=0, repr=False)
    _told: Told = field(default_factory=Told, repr=False)

    def __post_init__(self) -> None:
        self.world.on_error = self.failed

    def run(self) -> None:
        """Turn until stopped. A turn that cannot be recorded is a failure of the log, not of the service."""
        if self.asked:
            while self.world.clock.wait(3600.0):
                pass
            return
        for turn in turns(self.world, self.current, self.world.place.limits):
            self.keep(turn)

    def keep(self, turn: Turn) -> None:
        """Record a turn everywhere."""
        world, current, unix_s = self.world, self.current, self.world.clock.unix_s()
        self.turned, self.last, self.last_steady_s = self.turned + 1, turn, world.clock.steady_s()
        leads, fallback, shadowed = self.leads(), current.by_fallback, current.shadowed
        outcome = "ordered" if world.ordered else "failed" if leads else "follows"
        self.exporter.turn(turn, current.name, outcome, leads, fallback)
        self.exporter.shields(current.decider.counts, current.decider.gauges)
        self.exporter.missed(world.missed_intervals - self._missed)
        self._missed = world.missed_intervals
        self._tell(turn)
        record = {
            "service": self.service, "scaler": current.name, "t_s": turn.seen.t_s, "week_s": turn.seen.week_s,
            "observation": to_json(turn.seen), "target": list(turn.bounded.target), "reason": turn.bounded.reason,
            "outcome": outcome, "fallback": fallback, "decision_s": turn.decision_s,
        }  # fmt: skip
        if self.turned % STATE_EVERY == 1:
            record["state"] = {"world": world.state(), "decider": current.decider.state()}
        if shadowed:
            record["shadow"] = dict(shadowed)
            self.exporter.shadow(shadowed["target"] or ())
        self.say("decision", record, unix_s)
        if self.scalars is not None:
            self.scalars.turn(self.turned, unix_s, turn)

    def _tell(self, turn: Turn) -> None:
        """What a person who watches the log wants to know: targets that change, failures that are over."""
        before, now = tuple(int(count) for count in turn.seen.target), tuple(turn.bounded.target)
        if now != before:
            log.info("target %s -> %s: %s", _counts(before), _counts(now), turn.bounded.reason)
        for where, count in self._told.over():
            log.info("%s: again, after %d failure%s", where, count, "" if count == 1 else "s")

    def say(self, kind: str, record: Mapping[str, Any], unix_s: float | None = None) -> None:
        """Something for the audit log; a full disk is counted and does not stop the service."""
        try:
            self.audit.write(kind, self.world.clock.unix_s() if unix_s is None else unix_s, record)
        except OSError as error:
            self.exporter.error("audit")
            log.error("audit log %s: %s", self.audit.path, error.strerror or error)

    def failed(self, where: str, error: Exception) -> None:
        """A failure that the world survived."""
        self.exporter.error(where)
        if self._told.failed(where, str(error), self.world.clock.steady_s()):
            log.warning("%s: %s", where, error)
        self.say("error", {"service": self.service, "where": where, "error": str(error)})

    def health(self) -> str:
        """Why this process should be started anew; empty while the circle turns, whatever its surroundings do."""
        if self.last_steady_s is None or self.asked:
            return ""
        quiet_s = self.world.clock.steady_s() - self.last_steady_s
        most_s = 5 * self.world.place.interval_s + 60.0
        return f"no turn for {quiet_s:.0f} s" if quiet_s > most_s else ""

    def readiness(self) -> str:
        """Why this instance is no use yet; empty once it has decided on metrics that it could read."""
        if self.last is None:
            return "no decision yet"
        age_s, most_s = float(self.last.seen.age_s), max(120.0, 3 * self.world.place.interval_s)
        return "" if age_s <= most_s else f"metrics are {age_s:.0f} s old"

    def close(self) -> None:
        """Let go of everything; the fleet stays as it is."""
        for part in (self.leader, self.world.source, self.world.backend, self.scalars, self.audit):
            if part is not None:
                part.close()


def _counts(counts: Sequence[int]) -> str:
    return "+".join(map(str, counts))
