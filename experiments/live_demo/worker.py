"""A replica of the toy service as a process: HTTP in front, the law behind. Started by the fleet, one per port.

POST /generate {prompt_tokens, output_tokens, waited_s} answers with a line at the first token and one at the last, or
with status 503 and the header `outcome`: `gave-up`, or `moved` where another replica should serve it. POST /drain takes
no more requests and ends the process with the last one. GET /metrics, GET /healthz.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from typing import Any

from aiohttp import web

from experiments.live_demo.children import bound_socket, serve_until_told
from experiments.live_demo.replica import replica_of
from experiments.live_demo.vllm_page import VllmPage
from rlscale.sim.naive import Job

GRAIN_S = 0.004  # wall time between two looks at iterations that nobody outside can tell


class Asked:
    """A request that is being served."""

    def __init__(self, came_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.came_s, self.first_s = came_s, 0.0
        self.outcome: str = ""
        self.first, self.last = loop.create_future(), loop.create_future()

    def end(self, outcome: str) -> None:
        """Nothing more will come."""
        self.outcome = outcome
        for future in (self.first, self.last):
            if not future.done():
                future.set_result(None)


class Worker:
    """Keeps the virtual time of the replica at wall time times `speed`."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.replica, self.speed = replica_of(told["replica"]), float(told["speed"])
        self.page = VllmPage(told["model"], self.speed)
        self.draining, self.done = False, asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._asked: dict[int, Asked] = {}
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def application(self) -> web.Application:
        """Its pages."""
        app = web.Application()
        app.add_routes([
            web.post("/generate", self.generate), web.post("/drain", self.drain),
            web.get("/metrics", self.metrics), web.get("/healthz", self.healthz),
        ])  # fmt: skip
        return app

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Serve a request."""
        told = await request.json()
        if self.draining:
            return _unserved("moved")
        number, now_s = next(self._numbers), self._now_s()
        asked = self._asked[number] = Asked(now_s)
        self.replica.serve(number, now_s, self.speed * float(told["waited_s"]), float(told["prompt_tokens"]),
                           float(told["output_tokens"]))  # fmt: skip
        self._tell()
        await asked.first
        if asked.outcome in ("moved", "gave-up"):
            return _unserved(asked.outcome)
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"first\n")
        await asked.last
        await answer.write(b"last\n")
        await answer.write_eof()
        return answer

    async def drain(self, _: web.Request) -> web.Response:
        """Take no more; the process ends with the last request."""
        self.draining = True
        moved = self.replica.drain(self._now_s())
        self._tell()
        for job in moved:
            self._asked.pop(job.number).end("moved")
        self._end_when_empty()
        return web.Response()

    async def metrics(self, _: web.Request) -> web.Response:
        """The page that Prometheus scrapes."""
        self._advance()
        self.page.waiting.set(self.replica.waiting)
        self.page.running.set(self.replica.running)
        self.page.memory.set(self.replica.memory)
        return web.Response(body=self.page.text(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def healthz(self, _: web.Request) -> web.Response:
        """It is there."""
        return web.Response()

    def _now_s(self) -> float:
        return (self._loop.time() - self._began_s) * self.speed

    def _advance(self) -> None:
        self.replica.go_on(self._now_s())
        self._tell()

    def _tell(self) -> None:
        """Pass on what has happened, and come back when something else will have."""
        for event in self.replica.news():
            asked = self._asked[event.job.number]
            if event.what == "first":
                asked.first_s = event.at_s
                self.page.ttft.observe((event.at_s - asked.came_s) / self.speed)
                asked.first.set_result(None)
            elif event.what == "finished":
                self._finished(event.job, event.at_s)
            else:
                self.page.gave_up()
                self._asked.pop(event.job.number).end("gave-up")
        self._end_when_empty()
        if self._timer is not None:
            self._timer.cancel()
        if self.replica.events:
            at_s = self._began_s + self.replica.next_s / self.speed
            if not self.replica.next_matters:
                at_s = max(at_s, self._loop.time() + GRAIN_S)
            self._timer = self._loop.call_at(at_s, self._advance)

    def _finished(self, job: Job, at_s: float) -> None:
        asked = self._asked.pop(job.number)
        self.page.finished(job.prompt, job.output, (asked.first_s - asked.came_s) / self.speed,
                           (at_s - asked.came_s) / self.speed)  # fmt: skip
        asked.end("served")

    def _end_when_empty(self) -> None:
        if self.draining and not self._asked:
            self._loop.call_later(GRAIN_S, self.done.set)  # what was answered is on its way


def _unserved(outcome: str) -> web.Response:
    return web.Response(status=503, headers={"outcome": outcome})


async def main(told: dict[str, Any]) -> None:
    """Serve until drained or told to end."""
    worker = Worker(told)
    await serve_until_told(worker.application(), bound_socket(told["host"], told["port"]), worker.done)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
