"""A Ray Serve policy on a clock that stands still, and what Serve makes of its answers. No ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fake_ray import LIMITS, FakeContext, StillClock

from rlscale.deploy.audit import records
from rlscale.deploy.ray_pilot import Pilot

# What a scaler asks for is what Serve gets; the breaker is slow enough for any machine.
CLOSED = ("metrics", "silence", "distribution", "queueing", "flap", "tolerance")
OPEN: dict[str, Any] = {name: {"on": False} for name in CLOSED} | {
    "breaker": {"deadline_s": 10.0, "failures": 100}, "limits": {"max_share_down": 1.0},
}  # fmt: skip
TO_ZERO = OPEN | {"limits": {"max_share_down": 1.0, "scale_to_zero": True, "idle_s": 10.0}}
SCRIPTED = {"policy": "fake_ray:Scripted", "limits": LIMITS, "interval_s": 5.0, "shields": OPEN}


def busy(**changed: Any) -> FakeContext:
    """Four requests on two replicas: Serve's own rule keeps two."""
    return FakeContext(4.0, **changed)


class Serving:
    """A policy and what Serve makes of its answers."""

    def __init__(self, clock: StillClock | None = None, **kwargs: Any) -> None:
        self.clock = clock or StillClock()
        self.pilot = Pilot(kwargs, self.clock)
        self.ctx = busy()

    def tick(self, seconds: float = 5.0, **seen: Any) -> int:
        self.clock.passes(seconds)
        for name, value in seen.items():
            setattr(self.ctx, name, value)
        count, state = self.pilot.tick(self.ctx)
        assert json.loads(json.dumps(state)) == state
        self.ctx.target_num_replicas = self.ctx.current_num_replicas = count
        return count

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.pilot.status()["rlscale"]
        return found


def decisions(folder: Path) -> list[dict[str, Any]]:
    """The decisions in the log of a folder."""
    return [row for row in records(folder / "audit.jsonl") if row["kind"] == "decision"]
