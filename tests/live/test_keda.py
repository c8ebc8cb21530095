"""A client in another language, Node, asks the KEDA server as KEDA does, over TLS and mutual TLS."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from keda_parts import METRIC, config, serving, tls

from rlscale.deploy.clock import SystemClock

FOLDER = Path(__file__).parent / "keda"
DEADLINE_S = 60.0  # for one run of the client; 0.6 s on an idle machine

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("node") is None, reason="needs node; make test-live installs it"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules").is_dir(), reason="needs the client's npm packages; make test-live installs them"
    ),
]


class Client:
    """A running client; what it says comes line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line)
        self._said.put("")

    def hear(self) -> Any:
        """The next thing it says; None when it has ended."""
        line = self._said.get(timeout=DEADLINE_S)
        return json.loads(line) if line else None

    def rest(self) -> list[Any]:
        """Everything until its end."""
        return list(iter(self.hear, None))


@contextmanager
def client(port: int, calls: list[dict[str, Any]], **given: Any) -> Iterator[Client]:
    asked = {"address": f"127.0.0.1:{port}", "calls": calls, **{name: str(value) for name, value in given.items()}}
    process = subprocess.Popen(
        ["node", str(FOLDER / "client.js"), json.dumps(asked)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    try:
        yield Client(process)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class Late(SystemClock):
    """A clock that is behind, so that a certificate is still good that has ended."""

    late_s = 7_200.0

    def unix_s(self) -> float:
        return super().unix_s() - self.late_s


def ref(**metadata: str) -> dict[str, Any]:
    own = {"scalerAddress": "scaler.serving:6000", "enableTLS": "true"}  # KEDA's own keys come along
    return {"name": "chat", "namespace": "serving", "scalerMetadata": {**own, **metadata}}


def metrics(**metadata: str) -> dict[str, Any]:
    return {"method": "GetMetrics", "request": {"scaledObjectRef": ref(**metadata), "metricName": METRIC}}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ca")


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mutual-tls"])
@pytest.mark.parametrize("source", ["proto", "reflection"])
def test_every_call_is_answered_over_tls(authority: Authority, mutual: bool, source: str) -> None:
    own, theirs = authority.issue("server"), authority.issue("keda")
    given: dict[str, Any] = {"ca": authority.file, "from": source}
    if mutual:
        given |= {"cert": theirs.cert, "key": theirs.key}
    calls = [
        {"method": "GetMetricSpec", "request": ref(service="code", pool="spot")},
        metrics(service="chat"),
        metrics(service="code", pool="h100"),
        metrics(service="code", pool="spot"),
        {"method": "IsActive", "request": ref(service="chat")},
        {"method": "IsActive", "request": ref(service="code", pool="spot")},
        {"method": "StreamIsActive", "request": ref(service="chat"), "messages": 2},
        {"method": "StreamMetricSpec", "request": ref(service="chat")},
    ]
    with serving(config(tls=tls(own, authority.file if mutual else None))) as (server, chat, code):
        chat.order((12,))
        code.order((3, 0))
        with client(server.port, calls, **given) as node:
            spec = {"metricName": METRIC, "targetSize": 1, "targetSizeFloat": 1}
            assert node.hear()["answer"] == {"metricSpecs": [spec]}
            for wanted in (12, 3, 0):
                value = {"metricName": METRIC, "metricValue": wanted, "metricValueFloat": wanted}
                assert node.hear()["answer"] == {"metricValues": [value]}
            assert [node.hear()["answer"]["result"] for _ in range(2)] == [True, False]
            assert node.hear() == {"method": "StreamIsActive", "answer": {"result": True}}
            chat.order((0,))  # the stream is open: it hears of the change
            assert node.hear() == {"method": "StreamIsActive", "answer": {"result": False}}
            assert node.hear()["code"] == "CANCELLED"  # by the client, after two messages
            assert node.hear() == {"method": "StreamMetricSpec", "answer": {"metricSpecs": [spec]}}
            assert [event["code"] for event in node.rest()] == ["CANCELLED"]


def test_what_cannot_be_answered_has_a_status_of_its_own() -> None:
    calls = [
        {"method": "IsActive"},
        {"method": "IsActive", "request": ref(service="code")},
        metrics(service="none"),
        metrics(service="chat"),
        {"method": "IsActive", "request": ref(service="chat")},
        {"method": "StreamIsActive", "request": ref(service="chat")},
        {"method": "GetMetricSpec", "request": ref(service="chat")},
    ]
    with serving() as (server, _, _), client(server.port, calls) as node:
        codes = [event.get("code") for event in node.rest()]
    assert codes == ["INVALID_ARGUMENT", "INVALID_ARGUMENT", "NOT_FOUND", *["UNAVAILABLE"] * 3, None]


def test_health_and_reflection_tell_what_is_there() -> None:
    ready = {"method": "Health/Check", "request": {"service": "externalscaler.ExternalScaler"}}
    with serving() as (server, chat, code):
        with client(server.port, [{"method": "list"}, {"method": "Health/Check"}, ready]) as node:
            names = [
                "externalscaler.ExternalScaler",
                "grpc.health.v1.Health",
                "grpc.reflection.v1alpha.ServerReflection",
            ]
            assert node.hear()["answer"] == names
            assert [event["answer"]["status"] for event in node.rest()] == [1, 2]  # it lives, and has no orders yet
        chat.order((1,))
        code.order((1, 0))
        with client(server.port, [ready]) as node:
            assert [event["answer"]["status"] for event in node.rest()] == [1]


def test_a_server_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    own = Authority(tmp_path, "other").issue("server")
    with serving(config(tls=tls(own))) as (server, chat, _):
        chat.order((2,))
        with client(server.port, [metrics(service="chat")], ca=authority.file) as node:
            (event,) = node.rest()
        assert (event["code"], "answer" in event) == ("UNAVAILABLE", False)
        assert "certificate" in event["details"]
        assert not server.metrics().keys() & {("rlscale_keda_calls_total", (("method", "GetMetrics"), ("code", "OK")))}


@pytest.mark.parametrize("wrong", ["none", "other", "expired"])
def test_a_client_without_a_good_certificate_is_refused(authority: Authority, tmp_path: Path, wrong: str) -> None:
    pairs = {"other": Authority(tmp_path, "other").issue("keda"), "expired": authority.issue("late", -9_000, -60)}
    given = {"cert": pairs[wrong].cert, "key": pairs[wrong].key} if wrong in pairs else {}
    with serving(config(tls=tls(authority.issue("server"), authority.file))) as (server, chat, _):
        chat.order((2,))
        with client(server.port, [metrics(service="chat")], ca=authority.file, **given) as node:
            (event,) = node.rest()
        assert event["code"] == "UNAVAILABLE"
        assert not [name for name, labels in server.metrics() if name == "rlscale_keda_calls_total"]


def test_plaintext_is_no_way_around_tls(authority: Authority) -> None:
    with serving(config(tls=tls(authority.issue("server")))) as (server, chat, _):
        chat.order((2,))
        with client(server.port, [metrics(service="chat")]) as node:
            assert [event["code"] for event in node.rest()] == ["UNAVAILABLE"]


def test_a_server_certificate_that_ran_out_is_refused_and_warned_of(authority: Authority) -> None:
    own = authority.issue("ran-out", begins_s=-9_000, ends_s=-60)
    clock = Late()
    with serving(config(tls=tls(own)), clock) as (server, chat, _):
        chat.order((2,))
        clock.late_s = 0.0
        with client(server.port, [metrics(service="chat")], ca=authority.file) as node:
            (event,) = node.rest()
        assert (event["code"], "expired" in event["details"]) == ("UNAVAILABLE", True)
        found = server.metrics()
        assert found["rlscale_keda_certificate_expiring", ()] == 1.0
        assert found["rlscale_keda_certificate_left_seconds", ()] < 0.0


def test_a_renewed_certificate_is_taken_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    pair = authority.issue("server")
    with serving(config(tls=tls(pair))) as (server, chat, _):
        chat.order((2,))
        with client(server.port, [metrics(service="chat")], ca=authority.file) as node:
            assert "answer" in node.hear()
        new = other.issue("new")
        for old, fresh in ((pair.cert, new.cert), (pair.key, new.key)):
            fresh.replace(old)
        deadline_s = time.monotonic() + 20.0
        while server.metrics()["rlscale_keda_certificate_reloads_total", ()] < 1:
            assert time.monotonic() < deadline_s, "the new pair was not read"
            time.sleep(0.05)
        with client(server.port, [metrics(service="chat")], ca=other.file) as node:
            assert "answer" in node.hear()
        with client(server.port, [metrics(service="chat")], ca=authority.file) as node:
            assert node.hear()["code"] == "UNAVAILABLE"
