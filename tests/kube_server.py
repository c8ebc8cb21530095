"""`Cluster` behind HTTP on loopback, where a script makes it misbehave."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kube_cluster import REASONS, Cluster, Json

from rlscale.deploy.kubernetes import KubernetesScale
from rlscale.deploy.kubernetes_config import Access, KubernetesConfig, ScaleTarget

Act = Callable[["Handler"], None]


class KubeServer(ThreadingHTTPServer):
    """The cluster behind HTTP; the acts of `script` come first, one per request."""

    daemon_threads, block_on_close = True, False

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cluster = cluster
        self.script: list[Act] = []
        self.released = threading.Event()
        self.opened: list[KubernetesScale] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is expected here."""


@contextmanager
def running(cluster: Cluster) -> Iterator[KubeServer]:
    """A server in a thread of its own."""
    with KubeServer(cluster) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        for one in server.opened:
            one.close()
        server.released.set()
        server.shutdown()
        thread.join()


def backend(server: KubeServer, *names: str, **settings: Any) -> KubernetesScale:
    """A backend over Deployments of these names; closed with the server."""
    targets = settings.pop("targets", None) or [ScaleTarget(name=name) for name in names or ("chat",)]
    named = {key: settings.pop(key) for key in ("leads", "pause") if key in settings}
    access = settings.pop("access", Access(server=server.url))
    settings = {"namespace": "llm", "deadline_s": 5.0, "request_s": 2.0} | settings
    config = KubernetesConfig(targets=targets, access=access, **settings)
    server.opened.append(KubernetesScale(config, rng=random.Random(0), **named))
    return server.opened[-1]


class Handler(BaseHTTPRequestHandler):
    server: KubeServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length) if length else None
        act = self.server.script.pop(0) if self.server.script else well
        act(self)

    do_GET = do_PATCH = do_POST = do_PUT = answer

    def log_message(self, *args: Any) -> None:
        pass

    def reply(self, status: int, headers: dict[str, str], thing: Json) -> None:
        text = json.dumps(thing).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)


def well(handler: Handler) -> None:
    """Answer as the API server does."""
    headers = {name.lower(): value for name, value in handler.headers.items()}
    handler.reply(*handler.server.cluster.handle(handler.command, handler.path, headers, handler.body))


def fail(code: int, message: str = "injected", **headers: str) -> Act:
    """Answer with a Status object."""
    status = {"kind": "Status", "status": "Failure", "message": message, "reason": REASONS.get(code, ""), "code": code}
    return lambda handler: handler.reply(code, {k.replace("_", "-"): v for k, v in headers.items()}, status)


def raw(text: bytes, then_hang_up: bool = True) -> Act:
    """Send these bytes, whatever they mean."""

    def act(handler: Handler) -> None:
        handler.wfile.write(text)
        handler.close_connection = then_hang_up

    return act


def hold(handler: Handler) -> None:
    """Say nothing until the end of the test."""
    handler.server.released.wait(30)
    handler.close_connection = True


def dribble(text: bytes) -> Act:
    """A byte every 20 ms, for as long as anybody listens."""

    def act(handler: Handler) -> None:
        handler.close_connection = True
        for byte in text:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.02)

    return act


def done_but_lost(handler: Handler) -> None:
    """Do what was asked, and hang up instead of answering."""
    headers = {name.lower(): value for name, value in handler.headers.items()}
    handler.server.cluster.handle(handler.command, handler.path, headers, handler.body)
    handler.close_connection = True
