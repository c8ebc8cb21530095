"""A Prometheus of the demo's own, where the binary is installed: it scrapes the replicas, the loop asks it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import yaml

from experiments.live_demo.children import START_S, Child, Children, bound_socket
from rlscale.errors import ResultError

HOST = "127.0.0.1"
POLL_S = 0.05
SEEN_S = 30.0  # for every replica to have been scraped


def installed() -> str | None:
    """The binary, if there is one."""
    return shutil.which("prometheus")


async def start(children: Children, folder: Path, ports: Sequence[int], every_s: float) -> tuple[Child, str]:
    """A server that scrapes these ports, ready to be asked, and its URL."""
    binary = installed()
    if binary is None:
        raise ResultError("no prometheus on the PATH; install it, or give --metrics scrape")
    folder.mkdir(parents=True, exist_ok=True)
    every = f"{round(1000 * every_s)}ms"
    targets = [f"{HOST}:{port}" for port in ports]  # all there may ever be: who is not up is marked stale at once
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every},
        "scrape_configs": [{"job_name": "toy", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    sock = bound_socket(HOST, 0, listens=False)
    port = sock.getsockname()[1]
    sock.close()
    child = await children.program(
        "prometheus", binary, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}", "--log.level=warn",
    )  # fmt: skip
    url = f"http://{HOST}:{port}"
    await _until(f"{url}/-/ready", lambda status, _: status == 200, START_S, child)
    return child, url


async def has_seen(child: Child, url: str, replicas: int) -> None:
    """Until so many replicas have been scraped."""
    asked = f"{url}/api/v1/query?query=count(vllm:num_requests_running)"
    await _until(asked, lambda _, text: f'"{replicas}"' in text, SEEN_S, child)


async def _until(url: str, enough: object, within_s: float, child: Child) -> None:
    assert callable(enough)
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session:
        while loop.time() < until_s:
            try:
                async with session.get(url) as answer:
                    if enough(answer.status, await answer.text()):
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(POLL_S)
    raise ResultError(f"{child.name} did not answer as expected within {within_s:g} s; see {child.log}")
