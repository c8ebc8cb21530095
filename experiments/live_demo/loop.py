"""The live loop of the demo as a process: `serve`, in simulated seconds.

Hears `begin MONOTONIC_S` when the load begins. A loop that is started again after it died goes on where its audit log
ends.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from experiments.live_demo.accelerated import AcceleratedClock, AcceleratedSource, WallClock, hurried
from experiments.live_demo.children import on_lines, say_ready
from experiments.live_demo.config import plan_of
from rlscale.deploy.assemble import Plan, assemble
from rlscale.deploy.base import MetricsError
from rlscale.deploy.kinds import Site, build
from rlscale.deploy.live import Live
from rlscale.deploy.service import Service, to_stderr
from rlscale.limits_file import load_limits


def main(told: dict[str, Any]) -> None:
    """Decide until told to end."""
    to_stderr(logging.INFO)
    plan = plan_of(told["config"], load_limits(Path(told["limits"])), told["interval_s"])
    clock = AcceleratedClock(told["speed"], told["began_s"])
    live = assembled(plan, clock, told["metrics"])
    heard = _listen(clock)
    say_ready()
    if told["began_s"] is None:
        heard.wait()
        clock.until(plan.interval_s)  # the first interval passes before anything is decided
    Service(live, plan, lambda: plan, with_pages=False).run()


def assembled(plan: Plan, clock: AcceleratedClock, metrics: dict[str, Any]) -> Live:
    """The service with a source that says wall seconds."""
    site = Site(plan.config.service, hurried(plan.limits, clock.speed), plan.interval_s / clock.speed, WallClock(clock))
    source = AcceleratedSource(build("metrics", metrics, site, plan.where), clock)
    with suppress(MetricsError):
        source.read()  # whoever reads pages itself begins now, so that the first decision knows rates
    live = assemble(plan, clock)
    live.world.source = source
    return live


def _listen(clock: AcceleratedClock) -> threading.Event:
    """Set when the parent has said when the load begins."""
    heard = threading.Event()

    def hear(line: str) -> None:
        if line.startswith("begin "):
            clock.began_s = float(line.removeprefix("begin "))
            heard.set()

    on_lines(hear)
    return heard


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
