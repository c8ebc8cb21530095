"""A fleet behind two HTTP calls: what is read and ordered, and answers that are none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rlscale.deploy.base import BackendError, Fleet, LiveConfigError
from rlscale.deploy.rest import Rest, RestConfig
from rlscale.yaml_file import checked

FLEET = {"ready": [3], "pending": [1], "target": [4]}


@pytest.fixture
def plane() -> Iterator[tuple[str, dict[str, Any]]]:
    """A control plane: the body and status it answers, and what was put."""
    told: dict[str, Any] = {"body": json.dumps(FLEET), "status": 200, "put": []}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            told["put"].append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer()

        def _answer(self) -> None:
            body = str(told["body"]).encode()
            self.send_response(told["status"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/fleet", told
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_fleet_is_read_and_ordered(plane: tuple[str, dict[str, Any]]) -> None:
    url, told = plane
    backend = Rest(url, 2.0, pools=1)
    assert backend.fleet() == Fleet((3,), (1,), (4,))
    told["body"] = json.dumps(FLEET | {"draining": [2]})
    assert backend.fleet().draining == (2,)
    backend.order((5,))
    backend.order((5,))
    assert told["put"] == [{"target": [5]}, {"target": [5]}]
    backend.close()


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "{}", json.dumps(FLEET | {"ready": [3, 3]}),
                                  json.dumps(FLEET | {"ready": [-1]}), json.dumps(FLEET | {"target": [True]}),
                                  json.dumps(FLEET | {"pending": "1"}), "[" * 100_000])  # fmt: skip
def test_an_answer_that_is_no_fleet_is_an_error(plane: tuple[str, dict[str, Any]], body: str) -> None:
    url, told = plane
    told["body"] = body
    backend = Rest(url, 2.0, pools=1)
    with pytest.raises(BackendError, match="answered"):
        backend.fleet()
    backend.close()


def test_a_refused_order_and_a_plane_that_is_gone_are_errors(plane: tuple[str, dict[str, Any]]) -> None:
    url, told = plane
    told["status"] = 503
    backend = Rest(url, 2.0, pools=1)
    with pytest.raises(BackendError, match="HTTP 503"):
        backend.order((1,))
    backend.close()
    with pytest.raises(BackendError, match="GET http://127"):
        Rest("http://127.0.0.1:1/fleet", 1.0, pools=1).fleet()


@pytest.mark.parametrize("url", ["https://a/b", "http://user:secret@a/b", "fleet", "http://a/b?c=d"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(LiveConfigError, match="expected http://HOST"):
        checked(RestConfig, {"url": url}, "live.yaml", LiveConfigError)
