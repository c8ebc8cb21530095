"""A Prometheus that answers what a test wants, byte for byte, as slowly as it wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

NOW_S = 1_800_000_000.0
Answer = Callable[["Handler"], None]


class FakePrometheus(ThreadingHTTPServer):
    """`answer` is called for every request."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Answer = says(vector({}))
        self.asked: list[dict[str, str]] = []
        self.headers: list[Mapping[str, str]] = []
        self.connections: set[Any] = set()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is expected here."""


class Handler(BaseHTTPRequestHandler):
    server: FakePrometheus
    protocol_version = "HTTP/1.1"
    timeout = 10
    disable_nagle_algorithm = True  # headers and body are two packets

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.asked.append({key: values[0] for key, values in parse_qs(body).items()})
        self.server.headers.append(dict(self.headers))
        self.server.connections.add(self.client_address)
        self.server.answer(self)

    do_GET = do_POST

    def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""


@contextmanager
def running() -> Iterator[FakePrometheus]:
    """A server in a thread of its own; answers that wait are released at the end."""
    with FakePrometheus() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def says(told: Any, status: int = 200) -> Answer:
    """An answer of JSON, or of bytes as they are."""
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return lambda handler: handler.send(status, body)


def vector(parts: Mapping[str, Any], taken_s: float = NOW_S) -> dict[str, Any]:
    """An instant answer: part -> value, or -> {le: count} for buckets; `fresh` is added."""
    result = []
    for part, value in {"fresh": taken_s, **parts}.items():
        for le, count in value.items() if isinstance(value, dict) else [("", value)]:
            labels = {"rlscale_part": part} | ({"le": le} if le else {})
            result.append({"metric": labels, "value": [NOW_S, count if isinstance(count, str) else f"{count!r}"]})
    return {"status": "success", "data": {"resultType": "vector", "result": result}}
