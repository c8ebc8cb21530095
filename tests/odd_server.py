"""A web server that keeps one file and can misbehave in every way a download has to live with."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Act = Callable[["Handler"], None]


class OddServer(ThreadingHTTPServer):
    """Answers requests with the acts of `script`, one after the other, and then well."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag = body, '"one"'
        self.script: list[Act] = []
        self.seen: list[tuple[str, str]] = []  # path and Range of every request
        self.released = threading.Event()

    def url(self, path: str = "/file.csv") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is expected here."""


@contextmanager
def running(body: bytes) -> Iterator[OddServer]:
    """A server in a thread of its own; those that wait for it are released at the end."""
    with OddServer(body) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield site
        site.released.set()
        site.shutdown()
        thread.join()


def forget_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the machine must not come between."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Handler(BaseHTTPRequestHandler):
    server: OddServer
    timeout = 5

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Range", "")))
        act = self.server.script.pop(0) if self.server.script else well
        act(self)

    def log_message(self, *args: Any) -> None:
        pass

    def start(self, length: int | None, status: int = 200, **more: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        if "ETag" not in more and self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.end_headers()

    def first(self) -> int:
        """First byte asked for: 0 without a range, or when the file has changed since."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", self.server.etag) == self.server.etag
        return int(match[1]) if match and same else 0

    def begin(self) -> bytes:
        """Headers of an honest answer; what its body should be."""
        body, first = self.server.body, self.first()
        if first >= len(body):
            self.start(0, 416)
        elif first:
            span = f"bytes {first}-{len(body) - 1}/{len(body)}"
            self.start(len(body) - first, 206, Content_Range=span)
        else:
            self.start(len(body))
        return body[first:]


def well(handler: Handler) -> None:
    handler.wfile.write(handler.begin())


def without_ranges(handler: Handler) -> None:
    handler.start(len(handler.server.body))
    handler.wfile.write(handler.server.body)


def truncated(size: int) -> Act:
    """Promises everything, closes after `size` bytes."""
    return lambda handler: void(handler.wfile.write(handler.begin()[:size]))


def without_ranges_truncated(size: int) -> Act:
    def act(handler: Handler) -> None:
        handler.start(len(handler.server.body))
        handler.wfile.write(handler.server.body[:size])

    return act


def stalled(size: int) -> Act:
    """Sends `size` bytes and then nothing, without closing."""

    def act(handler: Handler) -> None:
        handler.wfile.write(handler.begin()[:size])
        handler.wfile.flush()
        handler.server.released.wait(5)

    return act


def silent(handler: Handler) -> None:
    handler.server.released.wait(5)


def reset(size: int) -> Act:
    """Breaks the connection off after `size` bytes, as a network does."""

    def act(handler: Handler) -> None:
        handler.wfile.write(handler.begin()[:size])
        handler.wfile.flush()
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return act


def corrupt(handler: Handler) -> None:
    body = bytearray(handler.begin())
    body[len(body) // 2] ^= 0xFF
    handler.wfile.write(bytes(body))


def status(code: int, **headers: str) -> Act:
    def act(handler: Handler) -> None:
        handler.start(0, code, **headers)

    return act


def instead(body: bytes) -> Act:
    """Another body, with status 200."""

    def act(handler: Handler) -> None:
        handler.start(len(body))
        handler.wfile.write(body)

    return act


def chunked(handler: Handler) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.start(None, Transfer_Encoding="chunked", Connection="close")
    for first in range(0, len(handler.server.body), 1000):
        part = handler.server.body[first : first + 1000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
    handler.wfile.write(b"0\r\n\r\n")


def endless(handler: Handler) -> None:
    """Neither a length nor an end."""
    handler.start(None)
    while True:
        handler.wfile.write(bytes(1 << 16))


def void(_: Any) -> None:
    pass
