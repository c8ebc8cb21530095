"""The clients of the toy service as a process: sends recorded requests at their times, whatever becomes of the others.

Hears `begin MONOTONIC_S`; writes a line per request at the end. Times are simulated seconds since then, measured here;
latencies count from when a request should have been sent.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from experiments.live_demo.children import on_lines, say_ready
from experiments.results import write_csv

COLUMNS = ("number", "arrival_s", "prompt_tokens", "output_tokens", "sent_s", "first_s", "end_s", "outcome")


@dataclass(slots=True)
class Sent:
    """One request."""

    number: int
    arrival_s: float
    prompt_tokens: float
    output_tokens: float
    sent_s: float = float("nan")
    first_s: float = float("inf")
    end_s: float = float("inf")
    outcome: str = "lost"


class Client:
    """Sends open loop: a slow service does not make it send less."""

    def __init__(self, url: str, speed: float, session: aiohttp.ClientSession) -> None:
        self._url, self._speed, self._session = url, speed, session
        self._loop = asyncio.get_running_loop()
        self.began_s = 0.0

    async def replay(self, requests: list[Sent]) -> None:
        """All of them to their end; when this is cancelled, no further than that."""
        async with asyncio.TaskGroup() as under_way:
            for request in requests:
                wait_s = self.began_s + request.arrival_s / self._speed - self._loop.time()
                if wait_s > 0.0:
                    await asyncio.sleep(wait_s)
                under_way.create_task(self._send(request))

    async def _send(self, request: Sent) -> None:
        request.sent_s = self._now_s()
        told = {"prompt_tokens": request.prompt_tokens, "output_tokens": request.output_tokens}
        try:
            async with self._session.post(self._url, json=told) as answer:
                if answer.status != 200:
                    request.outcome = answer.headers.get("outcome", "lost")
                    return
                async for _ in answer.content:
                    request.first_s = min(request.first_s, self._now_s())
                request.end_s, request.outcome = self._now_s(), "served"
        except (aiohttp.ClientError, TimeoutError):
            request.outcome = "lost"

    def _now_s(self) -> float:
        return (self._loop.time() - self.began_s) * self._speed


async def main(told: dict[str, Any]) -> None:
    """Replay a file of requests."""
    columns = np.loadtxt(told["requests"], delimiter=",", skiprows=1, ndmin=2)
    requests = [Sent(number, *row) for number, row in enumerate(columns.tolist())]
    began = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def hear(line: str) -> None:
        if line.startswith("begin "):
            loop.call_soon_threadsafe(began.set_result, float(line.removeprefix("begin ")))

    on_lines(hear)
    patience = aiohttp.ClientTimeout(total=told["longest_s"])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=patience) as session:
        client = Client(told["url"], told["speed"], session)
        say_ready()
        client.began_s = await began
        await client.replay(requests)
    rows = [{name: getattr(request, name) for name in COLUMNS} for request in requests]
    write_csv(Path(told["out"]), rows, COLUMNS)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
