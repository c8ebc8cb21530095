"""A live service as a process: pages beside it, signals to end it or to read its configuration anew."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

from rlscale.deploy.assemble import Plan, changed, decider_of, remembered
from rlscale.deploy.clock import SystemClock
from rlscale.deploy.live import Live
from rlscale.deploy.pages import Application, PageServer, pages
from rlscale.errors import RlscaleError

log = logging.getLogger("rlscale.live")


class Service:
    """Runs until SIGTERM or SIGINT; SIGHUP reads the configuration anew. Made and run in the main thread."""

    def __init__(self, live: Live, plan: Plan, read_again: Callable[[], Plan], with_pages: bool = True) -> None:
        self.live, self.plan, self._read_again = live, plan, read_again
        self._asked_to_read, self._ending = threading.Event(), False
        self.server: PageServer | None = None
        if with_pages:
            table = pages(live) | (live.world.backend.pages(live) if live.asked else {})  # type: ignore[attr-defined]
            self.server = PageServer(Application(table, live.failed), plan.config.pages.address, plan.config.pages.port)

    def run(self) -> None:
        """Turn until told to end, then close everything. The fleet stays as it is."""
        clock = self.live.world.clock
        assert isinstance(clock, SystemClock), "signals stop the clock of this machine"
        before = {number: signal.signal(number, handler) for number, handler in (
            (signal.SIGTERM, lambda *_: clock.stop()), (signal.SIGINT, lambda *_: clock.stop()),
            (signal.SIGHUP, lambda *_: self._asked_to_read.set()),
        )}  # fmt: skip
        reader = threading.Thread(target=self._reload_when_asked, name="reload", daemon=True)
        reader.start()
        config = self.plan.config.model_dump(mode="json")
        self.live.say("start", {"service": self.live.service, "scaler": self.live.current.name, "config": config})
        try:
            self.live.run()
        finally:
            self._ending = True
            self._asked_to_read.set()
            for number, handler in before.items():
                signal.signal(number, handler)
            self.live.say("stop", {"service": self.live.service, "turns": self.live.turned})
            if self.server is not None:
                self.server.close()
            self.live.close()

    def reload(self) -> str:
        """Another scaler, fallback, shadow or shields from the configuration as it is now. What cannot be used changes
        nothing; returns what was done."""
        try:
            plan = self._read_again()
            fixed = changed(self.plan.config, plan.config)
            if fixed:
                raise RlscaleError(f"{', '.join(fixed)} cannot change while the service runs; start it anew")
            live = self.live
            seen, _ = remembered(plan, live.world.clock)
            tolerance = float(getattr(live.world.backend, "tolerance", 0.0))
            live.current.decider, live.current.name = decider_of(plan, seen, None, tolerance), plan.name
            self.plan = plan
            done = f"reloaded: {live.current.name}"
            live.say("reload", {"service": live.service, "config": plan.config.model_dump(mode="json")})
        except Exception as error:  # a configuration must not end a service that runs
            self.live.failed("reload", error)
            return f"not reloaded: {error}"
        log.info(done)
        return done

    def _reload_when_asked(self) -> None:
        while True:
            self._asked_to_read.wait()
            self._asked_to_read.clear()
            if self._ending:
                return
            self.reload()


def to_stderr(level: int = logging.INFO) -> None:
    """Log lines with time and level."""
    handler: Any = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("rlscale")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
