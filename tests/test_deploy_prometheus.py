"""Prometheus as a source: what a reading says, and that nothing but a MetricsError ever comes out."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rlscale.deploy.base import LiveConfigError, MetricsError, Reading, Source
from rlscale.deploy.metrics_config import MetricsConfig, source_of
from rlscale.deploy.prometheus import Prometheus
from rlscale.deploy.prometheus_answer import read_answer
from rlscale.deploy.templates import Filling, load_template, names
from rlscale.types import Slo
from tests.fake_prometheus import NOW_S, FakePrometheus, Handler, running, says, vector

SLO = Slo(ttft_s=1.0, tpot_s=0.05)
TTFT = {"0.5": 40.0, "1.0": 80.0, "2.5": 95.0, "+Inf": 100.0}
TPOT = {"0.025": 50.0, "0.05": 90.0, "0.1": 100.0, "+Inf": 100.0}
GOOD: dict[str, Any] = {
    "arrival_per_s": 5.0, "waiting": 3, "running": 12, "dropped_per_s": 0.0, "prompt_tokens": 1000.0,
    "answer_tokens": 200.0, "memory@0": 0.4, "running@0": 12, "ttft.0.buckets": TTFT, "ttft.0.sum": 70.0,
    "tpot.0.buckets": TPOT, "tpot.0.sum": 3.0,
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[FakePrometheus]:
    with running() as site:
        yield site


def source(server: FakePrometheus, **given: Any) -> Prometheus:
    slo = given.pop("slo", SLO)
    return source_of(MetricsConfig(url=given.pop("url", server.url), **given), slo, 1)


def read(server: FakePrometheus, parts: dict[str, Any], **given: Any) -> Reading:
    server.answer = says(vector(parts))
    found = source(server, **given)
    try:
        return found.read()
    finally:
        found.close()


def test_every_field_of_a_reading_is_what_was_told(server: FakePrometheus) -> None:
    seen = read(server, GOOD)
    assert (seen.taken_s, seen.arrival_per_s, seen.waiting, seen.running) == (NOW_S, 5.0, 3.0, 12.0)
    assert (seen.ttft_s, seen.tpot_s) == (pytest.approx(0.7), pytest.approx(0.03))
    assert seen.ttft_p90_s == pytest.approx(1.0 + 1.5 * 10 / 15)
    assert seen.tpot_p90_s == pytest.approx(0.05)
    assert seen.attainment == pytest.approx(0.8 + 0.9 - 1.0)
    assert (seen.prompt_tokens, seen.answer_tokens) == (1000.0, 200.0)
    assert (seen.memory, seen.running_by_pool) == ((0.4,), (12.0,))


def test_a_source_is_a_source(server: FakePrometheus) -> None:
    assert isinstance(source(server), Source)


def test_a_missing_metric_is_nan_and_never_zero(server: FakePrometheus) -> None:
    seen = read(server, {"waiting": 3})
    assert seen.waiting == 3.0
    for name in ("arrival_per_s", "running", "ttft_s", "tpot_s", "attainment", "dropped_per_s", "prompt_tokens"):
        assert math.isnan(getattr(seen, name)), name
    assert math.isnan(seen.memory[0])


@pytest.mark.parametrize("odd", ["NaN", "+Inf", "-Inf"])
def test_a_number_that_is_none_is_not_known(server: FakePrometheus, odd: str) -> None:
    seen = read(server, {**GOOD, "arrival_per_s": odd, "memory@0": odd})
    assert math.isnan(seen.arrival_per_s)
    assert math.isnan(seen.memory[0])
    assert seen.waiting == 3.0


def test_an_empty_window_is_as_in_the_simulator(server: FakePrometheus) -> None:
    none = dict.fromkeys(TTFT, 0.0)
    seen = read(server, {**GOOD, "ttft.0.buckets": none, "ttft.0.sum": 0.0, "tpot.0.buckets": none, "tpot.0.sum": 0.0})
    assert (seen.ttft_s, seen.tpot_s, seen.attainment, seen.ttft_p90_s) == (0.0, 0.0, 1.0, 0.0)


def test_what_was_dropped_missed_the_slo(server: FakePrometheus) -> None:
    """100 answers in 60 s and 100 dropped halve the share."""
    assert read(server, {**GOOD, "dropped_per_s": 100.0 / 60.0}).attainment == pytest.approx(0.35)


def test_the_ttft_limit_grows_with_the_mean_prompt(server: FakePrometheus) -> None:
    """1000 tokens at 2000 per second add 0.5 s: of the 15 between 1.0 and 2.5 s a third is in time."""
    seen = read(server, GOOD, slo=Slo(1.0, 0.05, ttft_tokens_per_s=2000.0))
    assert seen.attainment == pytest.approx(0.85 + 0.9 - 1.0)


def test_an_slo_without_tpot_needs_no_tpot(server: FakePrometheus) -> None:
    parts = {part: value for part, value in GOOD.items() if not part.startswith("tpot")}
    assert read(server, parts, slo=Slo(1.0)).attainment == pytest.approx(0.8)
    assert math.isnan(read(server, parts).attainment)


def test_the_first_histogram_that_is_there_counts(server: FakePrometheus) -> None:
    parts = {part.replace("tpot.0", "tpot.1"): value for part, value in GOOD.items()}
    assert read(server, parts).tpot_s == pytest.approx(0.03)


def test_edges_that_differ_in_spelling_are_one_edge(server: FakePrometheus) -> None:
    twice = {"0.5": 20.0, "0.50": 20.0, "1": 40.0, "1.0": 40.0, "2.5": 95.0, "+Inf": 100.0}
    assert read(server, {**GOOD, "ttft.0.buckets": twice}).attainment == pytest.approx(0.7)


def test_a_share_above_one_is_an_error_and_names_the_query(server: FakePrometheus) -> None:
    with pytest.raises(MetricsError, match="memory: got 43, expected a share"):
        read(server, {**GOOD, "memory@0": 43})


def test_one_connection_serves_all_readings(server: FakePrometheus) -> None:
    server.answer = says(vector(GOOD))
    found = source(server)
    for _ in range(5):
        found.read()
    assert len(server.asked) == 5
    assert len(server.connections) == 1
    found.close()


def test_series_that_are_gone_leave_their_age(server: FakePrometheus) -> None:
    found = source(server)
    server.answer = says(vector(GOOD))
    found.read()
    server.answer = says({"status": "success", "data": {"resultType": "vector", "result": []}})
    gone = found.read()
    assert gone.taken_s == NOW_S
    assert math.isnan(gone.arrival_per_s)
    assert gone.memory == ()


def test_no_series_ever_is_an_error_that_says_what_was_looked_for(server: FakePrometheus) -> None:
    server.answer = says({"status": "success", "data": {"resultType": "vector", "result": []}})
    with pytest.raises(MetricsError, match=r"no series of .*num_requests_running.*metrics\.labels"):
        source(server, labels={"model_name": "m"}).read()


# What a server can do wrong: nothing but a MetricsError comes out, in time.


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


def test_requests_that_hang_for_ever_do_not_pile_up(server: FakePrometheus) -> None:
    server.answer = dribble_headers
    found = source(server, timeout_s=0.05)
    for _ in range(8):
        with pytest.raises(MetricsError, match=r"no full answer|timed out"):
            found.read()
    with pytest.raises(MetricsError, match="8 earlier requests still hang"):
        found.read()


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
        (big, "more than 4000000 bytes"),
        (redirect, r"redirects to http://elsewhere\.example/api; none is followed"),
        (cut_off, "cannot be asked"),
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


# Secrets, configuration, templates.


def test_the_token_is_read_anew_and_never_shown(server: FakePrometheus, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    server.answer = says(vector(GOOD))
    found = source(server, token_file=str(token))
    found.read()
    token.write_text("second-secret\n")
    found.read()
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer first", "Bearer second-secret"]
    server.answer = says(b"nothing", 401)
    with pytest.raises(MetricsError) as error:
        found.read()
    assert "second-secret" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"two\nlines", b"\xff\xfe", b"x" * 70_000])
def test_a_file_that_holds_no_token(server: FakePrometheus, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(MetricsError, match="holds no token"):
        source(server, token_file=str(tmp_path / "token")).read()
    with pytest.raises(MetricsError, match="cannot be read"):
        source(server, token_file=str(tmp_path / "none")).read()
    assert server.asked == []


def test_credentials_of_the_url_are_sent_and_not_shown(server: FakePrometheus) -> None:
    server.answer = says(b"no", 500)
    url = server.url.replace("//", "//user:p%40ss@")
    with pytest.raises(MetricsError) as error:
        source(server, url=url).read()
    assert "ss" not in str(error.value).replace("answered", "")
    assert server.headers[0]["Authorization"] == "Basic dXNlcjpwQHNz"  # user:p@ss


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "ftp://a"}, "expected http"), ({"url": "http://"}, "expected http"), ({"uurl": "x"}, "uurl"),
        ({"url": "http://[::1"}, "expected http"), ({"url": "http://a:99999"}, "expected http"),
        ({"labels": {"a-b": "c"}}, "letters, digits"), ({"pools": [{"__name__": "c"}]}, "letters, digits"),
        ({"queries": {"arival": "x"}}, "queries"), ({"window_s": 0.0}, "window_s"), ({"timeout_s": "5"}, "timeout_s"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MetricsConfig(**{"url": "http://a", **given})


def test_as_many_pools_as_the_scenario_has() -> None:
    two = MetricsConfig(url="http://a", pools=[{"pool": "h100"}, {"pool": "a100"}])
    assert {"memory@0", "memory@1", "running@0", "running@1"} <= set(source_of(two, SLO, 2).parts)
    assert 'pool="a100"' in source_of(two, SLO, 2).parts["memory@1"]
    assert not any("@" in part for part in source_of(MetricsConfig(url="http://a"), SLO, 2).parts)
    with pytest.raises(LiveConfigError, match="labels of 2 pools, the scenario has 3"):
        source_of(two, SLO, 3)


def test_values_of_labels_are_escaped() -> None:
    text = Filling({"model": 'a"} or vector(1) or {b="\\\n$window'}, 60.0).fill("x{$labels}[$window]", "q")
    assert text == 'x{model="a\\"} or vector(1) or {b=\\"\\\\\\n$window"}[60000ms]'


@pytest.mark.parametrize("text", ["$windw", "100$", "${labels"])
def test_an_unknown_place_is_refused(text: str) -> None:
    with pytest.raises(LiveConfigError, match=r"metrics\.queries\.waiting: .*known: \$labels"):
        source_of(MetricsConfig(url="http://a", queries={"waiting": text}), SLO, 1)


@pytest.mark.parametrize("name", names())
def test_every_template_can_be_filled_and_names_what_a_scaler_needs(name: str) -> None:
    template = load_template(name)
    assert template.product == name
    assert {"arrival_per_s", "running", "dropped_per_s"} <= set(template.queries)
    filling = Filling({"a": "b"}, 60.0, 1.0, 0.05)
    for text in (*template.queries.values(), template.fresh):
        assert filling.fill(text, "q").count('a="b"') == text.count("$labels") > 0
        assert filling.fill(text, "q").count("(") == filling.fill(text, "q").count(")")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("product: x\nfresh: y\nqueries: {waitng: z}\n", r"own\.yaml:3: queries\.waitng"),
        ("product: x\nfresh: y\nqueries: {}\nmore: 1\n", r"own\.yaml:4: more: Extra inputs"),
        ("product: [", r"own\.yaml:\d: not YAML"), ("- 1\n", r"own\.yaml:1"), ("\xff", "is not text"),
    ],
)  # fmt: skip
def test_a_template_of_ones_own_is_checked(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(LiveConfigError, match=said):
        load_template(str(path))
    with pytest.raises(LiveConfigError, match="cannot be read"):
        load_template(str(tmp_path / "none.yaml"))
    with pytest.raises(LiveConfigError, match="did you mean 'vllm'"):
        load_template("vlm")
