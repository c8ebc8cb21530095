"""Everything a server can do wrong: nothing but a MetricsError comes out, in time."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlscale.deploy.base import MetricsError
from rlscale.deploy.metrics_config import MetricsConfig, source_of
from rlscale.deploy.prometheus_answer import read_answer
from tests.fake_prometheus import NOW_S, FakePrometheus, Handler, running, says, vector
from tests.prometheus_source import GOOD, SLO, source


@pytest.fixture
def server() -> Iterator[FakePrometheus]:
    with running() as site:
        yield site


def test_a_server_that_is_down() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}"
        found = source_of(MetricsConfig(url=url), SLO, 1)
        with pytest.raises(MetricsError, match="refused") as error:
            found.read()
    assert "secret" not in str(error.value)


def hang(handler: Handler) -> None:
    handler.server.released.wait(10.0)


def dribble_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.released.wait(0.02):
        handler.wfile.write(b" ")


def dribble_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.server.released.wait(0.02):
        handler.wfile.write(b"a")


@pytest.mark.parametrize("answer", [hang, dribble_body, dribble_headers])
def test_the_deadline_holds_for_the_whole_answer(server: FakePrometheus, answer: Any) -> None:
    server.answer = answer
    found = source(server, timeout_s=0.3)
    begun_s = time.monotonic()
    with pytest.raises(MetricsError, match=r"within 0\.3 s|timed out"):
        found.read()
    assert time.monotonic() - begun_s < 0.8
    server.answer = says(vector(GOOD))
    assert found.read().waiting == 3.0  # it is well again at once


def test_requests_that_hang_for_ever_leave_nothing_behind(server: FakePrometheus) -> None:
    server.answer = dribble_headers
    found = source(server, timeout_s=0.1)
    for _ in range(10):
        with pytest.raises(MetricsError, match=r"no complete answer within 0\.1 s"):
            found.read()
    ours = [thread.name for thread in threading.enumerate() if "process_request" not in thread.name]
    assert not [name for name in ours if "resolver" in name or "prometheus" in name]


def big(handler: Handler) -> None:
    handler.send(200, b'{"status":"success","data":"' + b"x" * 10_000_000 + b'"}')


def redirect(handler: Handler) -> None:
    handler.send(302, b"", {"Location": "http://u:pw@elsewhere.example/api?token=pw"})


def cut_off(handler: Handler) -> None:
    handler.send(200, b'{"status":"success","da', {"Content-Length": "500"})
    handler.close_connection = True


def zipped(handler: Handler) -> None:
    handler.send(200, b"\x1f\x8b", {"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (big, "longer than 4 MB; narrow the labels"),
        (redirect, r"redirects to http://elsewhere\.example/api; none is followed"),
        (cut_off, "the answer ended 477 bytes early"),
        (zipped, "compressed"),
        (says(b"<html>Bad gateway</html>", 502), "HTTP 502 and no JSON: <html>"),
        (says(b""), "no JSON: nothing"),
        (says(b'{"status":"success","da'), "no JSON"),
        (says(b"[" * 200_000), "no JSON"),
        (says([1, 2]), "expected a JSON object"),
        (
            says({"status": "error", "errorType": "timeout", "error": "query timed out"}, 503),
            "timeout: query timed out",
        ),
        (says({"status": "success"}, 500), "HTTP 500"),
        (says({"status": "success", "data": []}), "expected a mapping with a list 'result'"),
        (says({"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}), "expected a vector"),
    ],
)
def test_an_answer_that_is_none(server: FakePrometheus, answer: Any, said: str) -> None:
    server.answer = answer
    with pytest.raises(MetricsError, match=said) as error:
        source(server).read()
    assert server.url in str(error.value)
    assert "pw" not in str(error.value)


@pytest.mark.parametrize(
    "item",
    [
        None, 7, [], {"metric": {}}, {"value": [1, "2"]}, {"metric": {"a": 1}, "value": [1, "2"]},
        {"metric": {}, "value": [1, 2]}, {"metric": {}, "value": [1, "two"]}, {"metric": {}, "value": ["1", "2"]},
        {"metric": {}, "value": [1]}, {"metric": {}, "value": [True, "2"]}, {"metric": {}, "value": []},
        {"metric": {}, "value": [1e999, "2"]},
    ],
)  # fmt: skip
def test_a_series_that_is_none(server: FakePrometheus, item: Any) -> None:
    told = vector(GOOD)
    told["data"]["result"].append(item)
    server.answer = says(told)
    with pytest.raises(MetricsError, match="expected"):
        source(server).read()


def test_series_twice_and_queries_with_several_series(server: FakePrometheus) -> None:
    told = vector(GOOD)
    told["data"]["result"].append(told["data"]["result"][1])
    server.answer = says(told)
    with pytest.raises(MetricsError, match="one series twice"):
        source(server).read()
    told["data"]["result"][-1] = {"metric": {"rlscale_part": "waiting", "pod": "b"}, "value": [NOW_S, "1"]}
    server.answer = says(told)
    with pytest.raises(MetricsError, match=r"waiting: gave 2 series; expected one: sum"):
        source(server).read()


def test_a_refused_query_is_named(server: FakePrometheus) -> None:
    def refuse(handler: Handler) -> None:
        query = handler.server.asked[-1]["query"]
        if "oops" in query:
            said = {"status": "error", "errorType": "bad_data", "error": "unclosed left parenthesis"}
            handler.send(400, json.dumps(said).encode())
        else:
            says(vector({}))(handler)

    server.answer = refuse
    with pytest.raises(MetricsError, match=r"metrics\.queries\.running: .*unclosed.*the query was sum\(oops"):
        source(server, queries={"running": "sum(oops"}).read()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.integers(100, 599), st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(status: int, body: bytes) -> None:
    with pytest.raises(MetricsError):
        read_answer(status, body, "vector")


@given(st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_in_any_place_is_read_or_refused(data: st.DataObject) -> None:
    told: Any = vector(GOOD)
    place, key = told, data.draw(st.sampled_from(["status", "data"]))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
    place[key] = data.draw(JSON)
    try:
        for one in read_answer(200, json.dumps(told).encode(), "vector"):
            assert isinstance(one.value, float)
    except MetricsError:
        pass


@pytest.mark.parametrize("seed", range(4))
def test_a_source_lives_through_hundreds_of_damaged_answers(server: FakePrometheus, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = json.dumps(vector(GOOD)).encode()
    found = source(server)
    refused = 0
    for _ in range(60):
        body = bytearray(whole)
        for at in rng.integers(len(body), size=int(rng.integers(1, 6))):
            body[at] = int(rng.integers(256))
        server.answer = says(bytes(body[: int(rng.integers(1, len(body)))] if rng.random() < 0.3 else body))
        try:
            found.read()
        except MetricsError:
            refused += 1
    assert refused > 20
    server.answer = says(vector(GOOD))
    assert found.read().waiting == 3.0
