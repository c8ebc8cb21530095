"""Starts toy service, Prometheus, loop and clients; lets a load pass; ends everything, come what may."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from experiments.live_demo import prometheus
from experiments.live_demo.accelerated import MONDAY_S
from experiments.live_demo.children import Child, Children, bound_socket
from experiments.live_demo.config import live_config
from experiments.live_demo.control import Control, Site
from experiments.live_demo.fleet import fleet_law
from experiments.live_demo.outcome import Played, read_requests
from experiments.live_demo.recorded import Recorded
from experiments.live_demo.replica import described
from experiments.results import write_text
from rlscale.deploy.audit import records
from rlscale.errors import ResultError
from rlscale.limits_file import LIMITS, limits_text
from rlscale.scenario import Scenario

HOST = "127.0.0.1"
LEAST_SCRAPE_S = 0.15  # wall, between two scrapes
WINDOW_SCRAPES = 3  # between the first and the last of a rate
LOOK_S = 0.05
TELL_S = 10.0
LEAD_S = 0.5  # wall, from the word to the beginning
REST_S = 30.0  # wall, for the clients to write down what they saw
Metrics = Literal["prometheus", "scrape"]


@dataclass(frozen=True)
class Demo:
    """What is played, and how fast."""

    scenario: Scenario
    recorded: Recorded
    speed: float
    metrics: Metrics
    tell: Callable[[str], None] = print
    faults: Sequence[tuple[float, str]] = ()  # (simulated second, "replica" or "loop"): killed then

    @property
    def scrape_s(self) -> float:
        """Wall seconds between two scrapes, which divide an interval wherever it has room for one."""
        spec = self.scenario.cluster
        wanted_s, interval_s = max(LEAST_SCRAPE_S, spec.scrape_interval_s / self.speed), spec.interval_s / self.speed
        return interval_s / math.floor(interval_s / wanted_s) if interval_s >= wanted_s else wanted_s

    @property
    def window_s(self) -> float:
        """Wall seconds that a reading covers: those of an interval, or what a rate needs."""
        return max(WINDOW_SCRAPES * self.scrape_s, self.scenario.cluster.interval_s / self.speed)

    @property
    def lag_s(self) -> float:
        """Simulated seconds since the metrics were scraped, on average: every replica has a beat of its own."""
        return 0.5 * self.scrape_s * self.speed

    def site(self, host: str = HOST) -> Site:
        """The toy service."""
        spec = self.scenario.cluster
        profile = spec.pools[0].profile
        return Site(host, profile.model, self.speed, spec.pools[0].max_replicas, described(profile, spec.timeout_s),
                    fleet_law(spec))  # fmt: skip


async def play(demo: Demo, scaler: str, folder: Path) -> Played:
    """One scaler on the whole load. Its logs and the table of its requests are in `folder` afterwards."""
    folder.mkdir(parents=True)
    demo.recorded.write(folder / "load.csv")
    write_text(folder / LIMITS, limits_text(demo.scenario.limits))  # the loop needs no simulator, and starts sooner
    async with AsyncExitStack() as stack:
        database = stack.enter_context(TemporaryDirectory(prefix="live-demo-", ignore_cleanup_errors=True))
        children = await stack.enter_async_context(Children(folder / "logs"))
        control, gateway_url, control_url = await toy_service(demo, children, stack)
        metrics = await _metrics(demo, children, control, Path(database))
        loop = await _loop(demo, children, scaler, folder, control_url, metrics, None)
        client = await children.python("clients", "client", json.dumps({
            "requests": str(folder / "load.csv"), "out": str(folder / "requests.csv"), "speed": demo.speed,
            "url": f"{gateway_url}/generate", "longest_s": (demo.scenario.cluster.timeout_s + 600.0) / demo.speed + 5.0,
        }))  # fmt: skip
        await client.ready()
        began_s = time.monotonic() + LEAD_S
        control.begin(began_s)
        for child in (loop, client):
            await child.tell(f"begin {began_s!r}")
        run = _Run(demo, control, client, scaler)
        loop, restarts = await run.until_the_end(loop, lambda: _loop(
            demo, children, scaler, folder, control_url, metrics, began_s))  # fmt: skip
        cost_usd, books = control.books.cost_usd(run.end_s), control.books
        fleet_log = [row for row in books.log if row[0] < run.end_s]
        await _finish(client, loop)
    _tidy(folder)
    decisions = read_decisions(folder / "audit.jsonl")
    return Played(scaler, folder.name, read_requests(folder / "requests.csv"), fleet_log, cost_usd, books.churn,
                  books.started, books.late, books.failed, decisions, restarts, books.law.usd_per_s)  # fmt: skip


async def toy_service(demo: Demo, children: Children, stack: AsyncExitStack, host: str = HOST, port: int = 0
                      ) -> tuple[Control, str, str]:  # fmt: skip
    """Gateway, control plane and the first replicas, all ready; the URLs of gateway and fleet."""
    fleet_port = port + 1 if port else 0
    if port == 0:
        sock = bound_socket(host, 0, listens=False)
        port = sock.getsockname()[1]
        stack.callback(sock.close)
    gateway = await children.python("gateway", "gateway", json.dumps({
        "host": host, "port": port, "workers_host": HOST, "timeout_s": demo.scenario.cluster.timeout_s / demo.speed,
    }))  # fmt: skip
    await gateway.ready()
    url = f"http://{HOST}:{port}"
    control = Control(demo.site(), children, url)
    stack.push_async_callback(control.close)
    control_port = await control.start(demo.recorded.initial, host, fleet_port)
    return control, url, f"http://{HOST}:{control_port}/fleet"


def read_decisions(path: Path) -> list[dict[str, Any]]:
    """The decisions of an audit log, with the simulated time of each."""
    return [{**record, "at_s": record["unix_s"] - MONDAY_S} for record in records(path) if record["kind"] == "decision"]


@dataclass
class _Run:
    """A load that passes."""

    demo: Demo
    control: Control
    client: Child
    scaler: str

    @property
    def end_s(self) -> float:
        """Simulated seconds of load."""
        return self.demo.recorded.load.duration_s

    async def until_the_end(self, loop: Child, again: Any) -> tuple[Child, int]:
        """Look after everything until the load has passed. The loop decides until an interval before."""
        faults, restarts, told_s = sorted(self.demo.faults), 0, -math.inf
        last_s = self.end_s - 0.5 * self.demo.scenario.cluster.interval_s
        while (now_s := self.control.now_s) < self.end_s:
            if self.control.failure is not None:
                raise self.control.failure
            if not self.client.running and now_s < last_s:
                raise ResultError(f"the clients ended early; see {self.client.log}")
            if faults and faults[0][0] <= now_s:
                self._strike(faults.pop(0)[1], loop)
            if now_s >= last_s:
                loop.signal(15)
            elif not loop.running:
                loop, restarts = await again(), restarts + 1
            if time.monotonic() - told_s >= TELL_S:
                told_s = time.monotonic()
                self._tell(now_s)
            await asyncio.sleep(LOOK_S)
        return loop, restarts

    def _strike(self, whom: str, loop: Child) -> None:
        self.demo.tell(f"  kill -9 {whom}")
        if whom == "loop":
            loop.signal(9)
        else:
            self.control.kill(self.control.books.slots("ready")[0])

    def _tell(self, now_s: float) -> None:
        fleet = self.control.books.fleet()
        when = f"{_clock(now_s)} of {_clock(self.end_s)}"
        self.demo.tell(f"  {self.scaler}: {when}, {fleet.ready[0]} ready, {fleet.pending[0]} starting, "
                       f"{self.control.books.cost_usd(now_s):.2f} USD")  # fmt: skip


async def _metrics(demo: Demo, children: Children, control: Control, folder: Path) -> dict[str, Any]:
    """What live.yaml says under `metrics`, wall seconds."""
    if demo.metrics == "prometheus":
        server, url = await prometheus.start(children, folder / "prometheus", control.ports, demo.scrape_s)
        await prometheus.has_seen(server, url, demo.recorded.initial)
        window_s = demo.window_s + demo.scrape_s  # a rate of n scrapes covers the n - 1 intervals between them
        return {"kind": "prometheus", "url": url, "template": "vllm", "window_s": window_s, "timeout_s": 2.0}
    urls = [f"http://{HOST}:{port}/metrics" for port in control.ports]
    return {"kind": "scrape", "urls": urls, "every_s": demo.scrape_s, "window_s": demo.window_s, "timeout_s": 1.0}


async def _loop(demo: Demo, children: Children, scaler: str, folder: Path, fleet_url: str, metrics: dict[str, Any],
                began_s: float | None) -> Child:  # fmt: skip
    told = {"limits": str(folder / LIMITS), "interval_s": demo.scenario.cluster.interval_s, "speed": demo.speed,
            "metrics": metrics, "began_s": began_s,
            "config": live_config(scaler, folder, {"kind": "rest", "url": fleet_url, "timeout_s": 2.0})}  # fmt: skip
    child = await children.python("loop", "loop", json.dumps(told))
    await child.ready()
    return child


async def _finish(client: Child, loop: Child) -> None:
    """The clients wait for their last answers."""
    await loop.end()
    try:
        await asyncio.wait_for(client.process.wait(), REST_S)
    except TimeoutError:
        raise ResultError(f"the clients still wait for answers; see {client.log}") from None
    if client.process.returncode != 0:
        raise ResultError(f"the clients failed; see {client.log}")


def _tidy(folder: Path) -> None:
    """What says nothing that is not said elsewhere goes."""
    for path in (folder / "load.csv", folder / LIMITS, folder / "audit.jsonl.lock", *(folder / "logs").iterdir()):
        if path.parent == folder or path.stat().st_size == 0:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (folder / "logs").rmdir()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
