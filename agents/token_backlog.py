"""Replicas so that the queued prompt tokens are worked off within a time bound, at the fleet's token velocity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlscale.decide import blind, hold, positive
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits


class TokenBacklog:
    """capacity = headroom * (tokens waiting / bound + tokens arriving per second) / usual tokens per request.

    Tokens waiting are requests waiting times the mean prompt, those arriving the rate times it. A replica's velocity
    is what it carries within the SLO, capacity_per_s requests of the usual length: the running mean of the prompts,
    with the time constant `memory_s`, or `usual_tokens` where given. So a queue of long prompts counts for more, and
    where lengths are not measured every request is a usual one.
    """

    def __init__(
        self,
        limits: ScalingLimits,
        bound_s: float = 30.0,
        headroom: float = 1.2,
        memory_s: float = 21_600.0,
        usual_tokens: float = 0.0,
    ) -> None:
        self.limits = limits
        self.bound_s = positive("token-backlog: bound_s", bound_s)
        self.headroom = positive("token-backlog: headroom", headroom)
        self.memory_s = positive("token-backlog: memory_s", memory_s)
        self._given = usual_tokens if usual_tokens > 0 else math.nan
        self.reset()

    def reset(self) -> None:
        """Forget the usual length."""
        self._usual = self._given
        self._now = math.nan  # the last mean prompt that was measured
        self._last_s = math.nan

    def state(self) -> dict[str, Any]:
        """Lengths and their time, as JSON can hold them (None: not known)."""
        known = {"usual_tokens": self._usual, "prompt_tokens": self._now, "last_s": self._last_s}
        return {name: value if math.isfinite(value) else None for name, value in known.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` said."""
        known = [state["usual_tokens"], state["prompt_tokens"], state["last_s"]]
        self._usual, self._now, self._last_s = (math.nan if value is None else float(value) for value in known)

    def decide(self, seen: Observation) -> Decision:
        """Every call, from the newest scrape."""
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting)
        if why:
            return hold(seen, why)
        ratio = self._length(seen)
        requests_per_s = float(seen.waiting) / self.bound_s + float(seen.arrival_per_s)
        wanted = self.headroom * ratio * requests_per_s
        reason = f"{float(seen.waiting):.0f} waiting, prompts {ratio:.2f} of the usual, {wanted:.4g}/s wanted"
        return Decision(reason=reason, capacity_per_s=wanted)

    def _length(self, seen: Observation) -> float:
        """Mean prompt now over the usual one; learns both."""
        prompt = float(seen.prompt_tokens)
        if math.isfinite(prompt) and prompt > 0:
            self._now = prompt
            if math.isnan(self._usual):
                self._usual = prompt
            elif math.isnan(self._given) and seen.t_s > self._last_s:
                weight = 1.0 - math.exp((self._last_s - seen.t_s) / self.memory_s)
                self._usual += weight * (prompt - self._usual)
            self._last_s = float(seen.t_s)
        return self._now / self._usual if math.isfinite(self._now) else 1.0


_HEADROOMS = (0.8, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0)

SCALERS = {
    "token-backlog": ScalerKind(
        TokenBacklog,
        Knob("headroom", _HEADROOMS, 1.2, "capacity over the tokens that arrive or wait"),
        "replicas that work off the queued prompt tokens within a time bound",
    )
}

SEARCH: dict[str, dict[str, tuple[object, ...]]] = {
    "token-backlog": {
        "headroom": ("log", 0.8, 3.0),
        "bound_s": ("log", 2.0, 300.0),
        "memory_s": ("log", 600.0, 86_400.0),
    }
}
