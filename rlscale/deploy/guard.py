"""A scaler behind shields, with a fallback that decides where it cannot. Itself a scaler: simulated exactly as live."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlscale.deploy.member import Answer, Member, current
from rlscale.deploy.shield_config import ShieldsConfig
from rlscale.deploy.shields.base import Context, Ruling, State, Target
from rlscale.deploy.shields.breaker import FAILURES, Breaker
from rlscale.deploy.shields.metrics import unreadable
from rlscale.deploy.shields.table import gates, shields
from rlscale.types import Decision, Floats, Observation, Scaler, ScalingLimits

FORMAT = 1  # of the state
ALWAYS = ("fallback", "hold", "fallback_failed", "breaker_open", "shield_error")


class Guarded:
    """Never raises and always answers whole replicas.

    Every observation goes to the scaler, unless its breaker is open, and to the fallback, so that its windows are warm
    when it takes over. Gates then say whose target counts; where that one has none, the next best: scaler, fallback,
    the target in force. Shields change it in turn, and the reason says each change. `counts` has the decisions that
    each intervention touched, by name, since the last reset. `tolerance` is the backend's (0.1 for KEDA).
    """

    def __init__(
        self, scaler: Scaler, fallback: Scaler, config: ShieldsConfig, limits: ScalingLimits, tolerance: float = 0.0,
        name: str = "scaler", fallback_name: str = "fallback",
    ) -> None:  # fmt: skip
        deadline_s = config.breaker.deadline_s if config.breaker.on else None
        self.config, self.limits = config, limits
        self.tolerance = tolerance if config.tolerance.share is None else config.tolerance.share
        self.scaler = Member(name, scaler, limits, deadline_s)
        self.fallback = Member(fallback_name, fallback, limits, deadline_s)
        self.breaker = Breaker(config.breaker)
        self.gates, self.shields = gates(config, scaler, limits), shields(config)
        self.reset()

    def reset(self) -> None:
        """Forget the previous run."""
        for member in (self.scaler, self.fallback):
            member.reset()
        self.breaker.reset()
        names: list[str] = []
        for gate in self.gates.values():
            gate.reset()
            names += gate.counted
        for shield in self.shields.values():
            shield.reset()
            names += shield.counted
        self.counts = dict.fromkeys((*ALWAYS, *(f"scaler_{kind}" for kind in FAILURES), *names), 0)
        self.decided_by = "scaler"
        self._now_s, self._ahead_s = -math.inf, 0.0

    def warm_up(self, history_per_s: Floats, history_step_s: float) -> None:
        """Load before the run."""
        for member in (self.scaler, self.fallback):
            member.warm_up(history_per_s, history_step_s)
        for gate in self.gates.values():
            gate.warm_up(history_per_s, history_step_s)

    def decide(self, seen: Observation) -> Decision:
        """What may be asked of the backend, and every reason for it."""
        context = Context(self.limits, self._clock(float(seen.t_s)), current(seen),
                          unreadable(seen, self.config.metrics), self.tolerance)  # fmt: skip
        notes: list[str] = []
        ruling = self._ruling(seen, context, notes)
        answers = {"scaler": self._asked(context.now_s, seen), "fallback": self._spare(seen)}
        chosen = self._chosen(ruling, answers, context, notes)
        target = self._shielded(seen, chosen.target, context, notes)
        reason = "; ".join(part for part in (chosen.reason, *notes) if part)
        return Decision(target, reason, standby=chosen.standby)

    @property
    def gauges(self) -> dict[str, float]:
        """State to watch: who decides, whether the breaker is open, how far out of range the observation is."""
        score = {f"{name}_score": float(gate.score) for name, gate in self.gates.items() if hasattr(gate, "score")}
        serves = {f"decided_by_{who}": float(self.decided_by == who) for who in ("scaler", "fallback", "hold")}
        return serves | {"breaker_is_open": float(self.breaker.open)} | score

    def state(self) -> State:
        """What must survive a restart, as JSON can say it."""
        return {
            "format": FORMAT,
            "now_s": self._now_s if math.isfinite(self._now_s) else None,
            "ahead_s": self._ahead_s,
            "counts": dict(self.counts),
            "decided_by": self.decided_by,
            "breaker": self.breaker.state(),
            "gates": {name: gate.state() for name, gate in self.gates.items()},
            "shields": {name: shield.state() for name, shield in self.shields.items()},
            "scaler": self.scaler.state(),
            "fallback": self.fallback.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave. What is switched on since begins anew; raises ValueError for another format."""
        if state.get("format") != FORMAT:
            raise ValueError(f"state of format {state.get('format')!r}, expected {FORMAT}; remove it to begin anew")
        self._now_s = -math.inf if state["now_s"] is None else float(state["now_s"])
        self._ahead_s = float(state["ahead_s"])
        self.counts |= {name: int(count) for name, count in state["counts"].items() if name in self.counts}
        self.decided_by = str(state["decided_by"])
        self.breaker.restore(state["breaker"])
        for name in self.gates.keys() & state["gates"].keys():
            self.gates[name].restore(state["gates"][name])
        for name in self.shields.keys() & state["shields"].keys():
            self.shields[name].restore(state["shields"][name])
        self.scaler.restore(state["scaler"])
        self.fallback.restore(state["fallback"])

    def _clock(self, t_s: float) -> float:
        """Time for the shields: stands still where the clock of observations was set back, or began anew."""
        if t_s + self._ahead_s < self._now_s:
            self._ahead_s = self._now_s - t_s
        self._now_s = t_s + self._ahead_s
        return self._now_s

    def _ruling(self, seen: Observation, context: Context, notes: list[str]) -> Ruling:
        """The first gate that does not leave it to the scaler; all of them judge."""
        chosen = Ruling()
        for name, gate in self.gates.items():
            try:
                ruling = gate.judge(seen, context)
            except Exception as error:
                notes.append(self._broken(name, error))
                continue
            if ruling.reason:
                notes.append(ruling.reason)
            if ruling.who != "scaler" and chosen.who == "scaler":
                chosen = ruling
                self.counts[f"{name}_{ruling.who}"] += 1
        return chosen

    def _asked(self, now_s: float, seen: Observation) -> Answer:
        if not self.breaker.allows(now_s):
            return Answer(reason=f"{self.scaler.name}: left alone, the breaker is open", failure="open")
        answer = self.scaler.ask(seen)
        if not answer.failure:
            self.breaker.succeeded()
            return answer
        self.counts[f"scaler_{answer.failure}"] += 1
        self.counts["breaker_open"] += self.breaker.failed(now_s)
        return answer

    def _spare(self, seen: Observation) -> Answer:
        answer = self.fallback.ask(seen)
        self.counts["fallback_failed"] += bool(answer.failure)
        return answer

    def _chosen(self, ruling: Ruling, answers: dict[str, Answer], context: Context, notes: list[str]) -> Answer:
        """The answer that counts."""
        held = Answer(context.current, "held")
        if ruling.who != "hold" and answers["scaler"].failure:
            notes.append(answers["scaler"].reason)
        who = "fallback" if ruling.who == "scaler" and answers["scaler"].failure else ruling.who
        if who == "fallback" and answers["fallback"].failure:
            notes.append(answers["fallback"].reason)
            who = "hold"
        self.decided_by = who
        if who == "scaler":
            return answers["scaler"]
        self.counts[who] += 1
        if who == "hold":
            return held
        answer = answers["fallback"]
        target = answer.target
        if ruling.only_out:
            target = tuple(max(pair) for pair in zip(target, context.current, strict=True))
        return Answer(target, f"{self.fallback.name}: {answer.reason}", answer.standby)

    def _shielded(self, seen: Observation, target: Target, context: Context, notes: list[str]) -> Target:
        for name, shield in self.shields.items():
            try:
                verdict = shield.apply(seen, target, context)
            except Exception as error:
                notes.append(self._broken(name, error))
                continue
            target = verdict.target
            if verdict.reason:
                notes.append(verdict.reason)
            for counted in verdict.counted:
                self.counts[counted] += 1
        return target

    def _broken(self, name: str, error: Exception) -> str:
        """A shield of one's own may be wrong; the others still stand."""
        self.counts["shield_error"] += 1
        return f"{name}: raised {type(error).__name__}, left out"
