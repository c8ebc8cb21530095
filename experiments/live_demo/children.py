"""Processes that do not outlive the one that started them: each holds a pipe of its parent's and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlscale.errors import ResultError

if TYPE_CHECKING:
    from aiohttp import web

READY = "ready"
START_S = 60.0  # for a process to say that it is ready, on a busy machine
END_S = 5.0
# A program that knows nothing of pipes ends with the shell that reads one.
SHELL = '"$@" </dev/null >/dev/null & child=$!; cat >/dev/null; kill -9 $child 2>/dev/null; wait $child 2>/dev/null'


class Child:
    """A process that was started, with lines going in and coming out."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path, heeds_signals: bool) -> None:
        self.name, self.process, self.log, self._heeds_signals = name, process, log, heeds_signals

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    async def ready(self) -> None:
        """Until it says so; ResultError when it ends before or takes too long."""
        assert self.process.stdout is not None, "started with a pipe"
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), START_S)
        except TimeoutError:
            line = b""
        if line.decode().strip() != READY:
            raise ResultError(f"{self.name} did not start; it said: {_last_line(self.log)}")

    async def tell(self, line: str) -> None:
        """Send it a line."""
        assert self.process.stdin is not None, "started with a pipe"
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(line.encode() + b"\n")
            await self.process.stdin.drain()

    async def end(self, number: int = signal.SIGTERM, within_s: float = END_S) -> None:
        """Tell it to end, and see to it."""
        if self._heeds_signals:
            self.signal(number)
        elif self.process.stdin is not None:
            self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), within_s)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def signal(self, number: int) -> None:
        """Send a signal, if there is still somebody to send it to."""
        with contextlib.suppress(ProcessLookupError):
            if self.running:
                os.kill(self.process.pid, number)  # `send_signal` would reap the process before asyncio does


class Children:
    """All processes of the demo. Leaving it ends them, whatever has happened."""

    def __init__(self, logs: Path) -> None:
        self._logs, self._all = logs, list[Child]()
        logs.mkdir(parents=True, exist_ok=True)

    async def __aenter__(self) -> Children:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(child.end() for child in self._all))

    async def python(self, name: str, module: str, *args: str) -> Child:
        """`python -m module`, which has to keep to the pipe: see `on_lines`."""
        return await self._start(name, True, sys.executable, "-m", f"experiments.live_demo.{module}", *args)

    async def program(self, name: str, *command: str) -> Child:
        """A program that knows nothing of pipes."""
        return await self._start(name, False, "/bin/sh", "-c", SHELL, "sh", *command)

    async def _start(self, name: str, heeds_signals: bool, *command: str) -> Child:
        log = self._logs / f"{name}.log"
        self._all = [child for child in self._all if child.running]
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )  # fmt: skip
        child = Child(name, process, log, heeds_signals)
        self._all.append(child)
        return child


def on_lines(heard: Callable[[str], None]) -> None:
    """In a child: hear the parent's lines, in a thread, and end with the parent."""

    def listen() -> None:
        for line in sys.stdin:
            heard(line.strip())
        os._exit(1)

    threading.Thread(target=listen, name="parent", daemon=True).start()


def say_ready() -> None:
    """In a child: everything is there."""
    print(READY, flush=True)


def bound_socket(host: str, port: int, listens: bool = True) -> socket.socket:
    """A TCP socket at an address that several processes may hold; those that do not listen keep it for the one that
    does. Port 0: any that is free."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise ResultError(f"{host}:{port} cannot be listened on ({error.strerror}); choose another port") from None
    if listens:
        found.listen(1024)
    return found


async def serve_until_told(app: web.Application, sock: socket.socket, done: asyncio.Event) -> None:
    """In a child: serve until `done`, SIGTERM, or the end of the parent."""
    runner = await served(app, sock)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    on_lines(lambda _: None)
    say_ready()
    await done.wait()
    await runner.cleanup()


async def served(app: web.Application, sock: socket.socket) -> Any:
    """Serve from now on; the runner has to be cleaned up."""
    from aiohttp import web

    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    return runner


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing"
