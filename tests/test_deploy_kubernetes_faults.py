"""The Kubernetes backend against an API server that fails, hangs, dribbles or answers half."""

from __future__ import annotations

import time
from collections.abc import Iterator

import kube_server as kube
import pytest
from kube_cluster import Cluster
from kube_server import KubeServer, backend, fail

from rlscale.deploy.base import BackendError

SLOW_S = 2.0  # far above what an answer takes, far below what an unbounded wait would


@pytest.fixture
def server() -> Iterator[KubeServer]:
    with kube.running(Cluster()) as server:
        yield server


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (fail(500), "overloaded or failing"),
        (fail(503), "overloaded or failing"),
        (fail(504), "overloaded or failing"),
        (fail(429, Retry_After="1"), "overloaded or failing"),
        (fail(422, "spec.replicas: Invalid value"), "does not take this request"),
        (fail(302, Location="http://elsewhere.example/"), "redirection"),
        (kube.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"spec\": {"), "bytes early"),
        (kube.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"spec\":"), "no JSON object"),
        (kube.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull"), "no JSON object"),
        (kube.raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "no HTTP answer"),
        (kube.raw(b""), "no HTTP answer|closed|reset"),
    ],
)  # fmt: skip
def test_a_server_that_keeps_failing_is_an_error_that_says_so(server: KubeServer, act: kube.Act, words: str) -> None:
    server.cluster.add("chat", 3)
    server.script = [act] * 20
    one = backend(server, attempts=2, deadline_s=0.9)
    start = time.monotonic()
    with pytest.raises(BackendError, match=f"get deployments/scale 'chat'.*(?:{words})"):
        one.order((4,))
    assert time.monotonic() - start < SLOW_S
    assert not [call for call in server.cluster.calls if call.verb == "patch"]


@pytest.mark.parametrize("act", [fail(500), fail(429, Retry_After="0"), kube.raw(b""), kube.done_but_lost, fail(401)])
@pytest.mark.parametrize("number", [0, 1])
def test_a_fault_that_passes_is_not_noticed(server: KubeServer, act: kube.Act, number: int) -> None:
    """The first request of an order reads, the second writes; a lost answer to a write must not write again."""
    chat = server.cluster.add("chat", 3)
    server.script = [kube.well] * number + [act]
    backend(server).order((4,))
    assert chat.replicas == 4


def test_the_server_is_asked_again_when_it_wants_to_be(server: KubeServer) -> None:
    waits: list[float] = []
    server.cluster.add("chat", 3)
    server.script = [fail(429, Retry_After="3")]
    backend(server, pause=waits.append).fleet()
    assert waits == [3.0]


@pytest.mark.parametrize("act", [kube.hold, kube.dribble(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500),
                                 kube.dribble(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + b" " * 9999),
                                 kube.dribble(b"HTTP/1.1 100 Continue\r\n\r\n" * 500)])  # fmt: skip
def test_a_server_that_dribbles_meets_the_deadline(server: KubeServer, act: kube.Act) -> None:
    server.cluster.add("chat", 3)
    server.script = [act] * 9
    one = backend(server, deadline_s=0.6, request_s=0.4)
    start = time.monotonic()
    with pytest.raises(BackendError, match=r"no complete answer|refused|no time was left"):
        one.fleet()
    assert time.monotonic() - start < SLOW_S


def test_a_server_that_is_not_there_is_an_error_in_time() -> None:
    with kube.running(Cluster()) as gone:
        one = backend(gone, deadline_s=0.6)
        gone.server_close()
    start = time.monotonic()
    with pytest.raises(BackendError, match=r"no complete answer|refused|no time was left"):
        one.fleet()
    assert time.monotonic() - start < SLOW_S
