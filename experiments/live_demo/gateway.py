"""The gateway of the toy service as a process: one address in front of all replicas.

POST /generate goes to the ready replica with the least outstanding requests, in turn where several have as few, and
waits where there is none. What a replica sends away is tried elsewhere; what ran on one that died is lost. PUT
/replicas {"ready": [ports]} says who is ready, in the order of their slots. GET /metrics has the pages of all of them.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from typing import Any

import aiohttp
from aiohttp import web

from experiments.live_demo.children import bound_socket, serve_until_told
from experiments.live_demo.pages_merged import merged

LONGEST_S = 600.0


class Gateway:
    """Balances over the ready replicas. `timeout_s`: wall seconds that a request waits for one."""

    def __init__(self, host: str, timeout_s: float, session: aiohttp.ClientSession) -> None:
        self._host, self._timeout_s, self._session = host, timeout_s, session
        self._ready: list[int] = []
        self._outstanding: dict[int, int] = defaultdict(int)
        self._turn = 0
        self._changed = asyncio.Condition()
        self._loop = asyncio.get_running_loop()

    def application(self) -> web.Application:
        """Its pages."""
        app = web.Application()
        app.add_routes([
            web.post("/generate", self.generate), web.put("/replicas", self.replicas),
            web.get("/metrics", self.metrics), web.get("/healthz", self.healthz),
        ])  # fmt: skip
        return app

    async def replicas(self, request: web.Request) -> web.Response:
        """Who is ready from now on."""
        self._ready = [int(port) for port in (await request.json())["ready"]]
        async with self._changed:
            self._changed.notify_all()
        return web.Response()

    async def healthz(self, _: web.Request) -> web.Response:
        """Whether anybody is ready."""
        return web.Response(status=200 if self._ready else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        """One page for a Prometheus that does not find the replicas by itself."""
        pages = await asyncio.gather(*(self._page(port) for port in self._ready))
        return web.Response(text=merged(pages), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Serve a request, on whichever replica takes it."""
        told, came_s = await request.json(), self._loop.time()
        while True:
            left_s = self._timeout_s - (self._loop.time() - came_s)
            port = await self._chosen(left_s)
            if port is None:
                return web.Response(status=503, headers={"outcome": "gave-up"})
            self._outstanding[port] += 1
            try:
                answer = await self._passed_on(request, port, {**told, "waited_s": self._loop.time() - came_s})
            finally:
                self._outstanding[port] -= 1
            if answer is not None:
                return answer

    async def _passed_on(self, request: web.Request, port: int, told: dict[str, Any]) -> web.StreamResponse | None:
        """The replica's answer; None where another one should be asked."""
        answer = web.StreamResponse()
        try:
            async with self._session.post(f"http://{self._host}:{port}/generate", json=told) as reply:
                if reply.status != 200:
                    outcome = reply.headers.get("outcome", "lost")
                    return None if outcome == "moved" else web.Response(status=503, headers={"outcome": outcome})
                await answer.prepare(request)
                async for part in reply.content.iter_any():
                    await answer.write(part)
        except aiohttp.ClientConnectorError:
            self._ready = [one for one in self._ready if one != port]  # it has died; the fleet will say so too
            return None
        except aiohttp.ClientError:
            if answer.prepared and request.transport is not None:
                request.transport.close()  # an answer without its end is no answer
            return web.Response(status=502, headers={"outcome": "lost"})
        await answer.write_eof()
        return answer

    async def _chosen(self, within_s: float) -> int | None:
        if not self._ready:
            try:
                async with self._changed:
                    await asyncio.wait_for(self._changed.wait_for(lambda: bool(self._ready)), max(0.0, within_s))
            except TimeoutError:
                return None
        self._turn += 1
        turn = self._turn % len(self._ready)
        return min(self._ready[turn:] + self._ready[:turn], key=lambda port: self._outstanding[port])

    async def _page(self, port: int) -> tuple[int, str]:
        try:
            async with self._session.get(f"http://{self._host}:{port}/metrics") as reply:
                return port, await reply.text()
        except aiohttp.ClientError:
            return port, ""


async def main(told: dict[str, Any]) -> None:
    """Serve until told to end."""
    limits = aiohttp.TCPConnector(limit=0, keepalive_timeout=5.0)
    patience = aiohttp.ClientTimeout(total=LONGEST_S)
    async with aiohttp.ClientSession(connector=limits, timeout=patience) as session:
        gateway = Gateway(told["workers_host"], told["timeout_s"], session)
        await serve_until_told(gateway.application(), bound_socket(told["host"], told["port"]), asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
