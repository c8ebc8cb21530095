"""The control plane of the toy service: keeps processes as the books of the fleet say, and takes orders over HTTP.

GET /fleet says ready, pending, draining and target; PUT /fleet {"target": [n]} orders, as the backend `rest` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from experiments.live_demo.children import Child, Children, bound_socket, served
from experiments.live_demo.fleet import ALIVE, Books, FleetLaw
from rlscale.errors import ResultError

TICK_S = 0.02  # wall
SPARE = 6  # nodes beside the most that are allowed: those that still drain
HTTP_S = 5.0


@dataclass(frozen=True, slots=True)
class Site:
    """A toy service as its control plane starts it."""

    host: str
    model: str
    speed: float
    most: int  # replicas
    replica: dict[str, Any]
    law: FleetLaw


class Control:
    """The fleet as processes. Times are simulated seconds since `begin`; before it the fleet stands still."""

    def __init__(self, site: Site, children: Children, gateway_url: str) -> None:
        self.site, self._children, self._gateway_url = site, children, gateway_url
        nodes = site.most + SPARE
        self._kept = [bound_socket(site.host, 0, listens=False) for _ in range(nodes)]
        self.ports: list[int] = [sock.getsockname()[1] for sock in self._kept]
        self._workers: dict[int, Child] = {}
        self._up: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: tuple[list[int], set[int]] = ([], set())
        self.books = Books(site.law, nodes, self._up.__contains__)
        self._began_s: float | None = None
        self._lock = asyncio.Lock()
        self.failure: BaseException | None = None  # what ended one of its tasks
        self._session: aiohttp.ClientSession | None = None

    async def start(self, replicas: int, host: str, port: int = 0) -> int:
        """So many replicas are ready when this returns; the port of the control plane."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HTTP_S))
        self.books.begin(replicas, 0.0)
        self._task(self._keep())
        while not set(self.books.slots("ready")) <= self._up or self._told[0] == []:
            if self.failure is not None:
                raise self.failure
            await asyncio.sleep(TICK_S)
        app = web.Application()
        app.add_routes([web.get("/fleet", self._get), web.put("/fleet", self._put)])
        sock = bound_socket(host, port)
        self._runner = await served(app, sock)
        return int(sock.getsockname()[1])

    def begin(self, monotonic_s: float) -> None:
        """Time runs from then on."""
        self._began_s = monotonic_s

    @property
    def now_s(self) -> float:
        """Simulated seconds since the beginning, 0 before it."""
        return 0.0 if self._began_s is None else max(0.0, (time.monotonic() - self._began_s) * self.site.speed)

    async def close(self) -> None:
        """End all replicas."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.end(9) for worker in self._workers.values()))
        if self._session is not None:
            await self._session.close()
        if hasattr(self, "_runner"):
            await self._runner.cleanup()
        for sock in self._kept:
            sock.close()

    def kill(self, slot: int) -> None:
        """Kill a replica, to see what happens."""
        self._workers[slot].signal(9)

    async def _get(self, _: web.Request) -> web.Response:
        fleet = self.books.fleet()
        return web.json_response({"ready": fleet.ready, "pending": fleet.pending, "draining": fleet.draining,
                                  "target": fleet.target})  # fmt: skip

    async def _put(self, request: web.Request) -> web.Response:
        try:
            target = (await request.json())["target"]
            if not (isinstance(target, list) and len(target) == 1 and type(target[0]) is int):
                raise ValueError(target)
        except (KeyError, TypeError, ValueError, json.JSONDecodeError):
            return web.Response(status=400, text='expected {"target": [replicas]}')
        self.books.order(min(max(0, target[0]), self.site.most), self.now_s)
        await self._follow()
        return await self._get(request)

    async def _keep(self) -> None:
        while True:
            self.books.advance(self.now_s)
            await self._follow()
            await asyncio.sleep(TICK_S)

    async def _follow(self) -> None:
        """Processes and gateway as the books say: first who takes requests, then who drains, so that none is lost."""
        async with self._lock:
            books = self.books
            for slot in books.slots(*ALIVE):
                if slot not in self._workers:
                    self._workers[slot] = await self._launched(slot)
            for slot in [slot for slot in self._workers if books.nodes[slot].state not in ALIVE]:
                self._workers.pop(slot).signal(9)
                self._up.discard(slot)
            ready = [slot for slot in books.slots("ready") if slot in self._up]
            draining = set(books.slots("draining"))
            if ready != self._told[0]:
                await self._tell_gateway([self.ports[slot] for slot in ready])
            for slot in draining - self._told[1]:
                await self._ask("POST", f"http://{self.site.host}:{self.ports[slot]}/drain")
            self._told = (ready, draining)

    async def _launched(self, slot: int) -> Child:
        site = self.site
        told = {"host": site.host, "port": self.ports[slot], "speed": site.speed, "model": site.model,
                "replica": site.replica}  # fmt: skip
        worker = await self._children.python(f"replica-{slot}", "worker", json.dumps(told))
        self._task(self._watch(slot, worker))
        return worker

    async def _watch(self, slot: int, worker: Child) -> None:
        """A worker from its start to its end."""
        try:
            await worker.ready()
        except ResultError:
            if self._began_s is None:
                raise  # it will not be better with the next one
        if self._workers.get(slot) is worker and worker.running:
            self._up.add(slot)
        await worker.process.wait()
        if self._workers.get(slot) is worker:  # its end is news
            del self._workers[slot]
            self._up.discard(slot)
            self.books.gone(slot, self.now_s)

    async def _tell_gateway(self, ports: list[int]) -> None:
        await self._ask("PUT", f"{self._gateway_url}/replicas", {"ready": ports})

    async def _ask(self, method: str, url: str, told: Any = None) -> None:
        assert self._session is not None, "started"
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # who has died is noticed by its process
            async with self._session.request(method, url, json=told) as answer:
                await answer.read()

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
