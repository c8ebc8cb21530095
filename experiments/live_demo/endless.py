"""The toy service alone, under an endless load: something for a Prometheus and a loop of one's own to work on."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from experiments.live_demo.children import Children
from experiments.live_demo.client import Client, Sent
from experiments.live_demo.conductor import Demo, toy_service


async def serve(demo: Demo, address: str, port: int) -> None:
    """Gateway at the port, with the metrics of all replicas at /metrics; the fleet at the next port, at /fleet. The
    load is played again and again until SIGINT or SIGTERM."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        logs = Path(stack.enter_context(TemporaryDirectory(prefix="live-demo-")))
        children: Children = await stack.enter_async_context(Children(logs))
        control, url, fleet_url = await toy_service(demo, children, stack, address, port)
        demo.tell(f"POST {url}/generate, GET {url}/metrics, GET and PUT {fleet_url}; {demo.speed:g} times as fast")
        control.begin(time.monotonic())
        work = [asyncio.create_task(_load(demo, f"{url}/generate")), asyncio.create_task(ended.wait())]
        await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        for task in work:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _load(demo: Demo, url: str) -> None:
    requests = demo.recorded.requests
    columns = (requests.arrival_s.tolist(), requests.prompt_tokens.tolist(), requests.output_tokens.tolist())
    rows = [Sent(number, *row) for number, row in enumerate(zip(*columns, strict=True))]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        client = Client(url, demo.speed, session)
        while True:
            client.began_s = asyncio.get_running_loop().time()
            await client.replay([replace(row) for row in rows])
