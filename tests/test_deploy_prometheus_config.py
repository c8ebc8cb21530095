"""Secrets, configuration and templates of the source."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rlscale.deploy.base import LiveConfigError, MetricsError
from rlscale.deploy.metrics_config import MetricsConfig, source_of
from rlscale.deploy.templates import Filling, load_template, names
from tests.fake_prometheus import FakePrometheus, running, says, vector
from tests.prometheus_source import GOOD, SLO, source


@pytest.fixture
def server() -> Iterator[FakePrometheus]:
    with running() as site:
        yield site


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


def test_a_certificate_is_trusted_only_when_named(server: FakePrometheus, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answer = says(vector(GOOD))
    url = server.url.replace("http://", "https://")
    with pytest.raises(MetricsError, match="not to be trusted: self-signed certificate"):
        source(server, url=url).read()
    with pytest.raises(MetricsError, match="a certificate cannot be read"):
        source(server, url=url, ca_file=str(tmp_path / "none.pem")).read()
    trusting = source(server, url=url, ca_file=str(certificate))
    assert trusting.read().waiting == 3.0
    trusting.close()


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
        ("product: x\nfresh: y\nqueries: {waitng: z}\n", r"own\.yaml, line 3: queries\.waitng"),
        ("product: x\nfresh: y\nqueries: {}\nmore: 1\n", r"own\.yaml, line 4: unknown key 'more'; known: fresh"),
        ("product: [", r"own\.yaml, line \d: not YAML"),
        ("- 1\n", r"own\.yaml: got \[1\], expected a template in YAML"), ("\xff", "is not text"),
        ("#" * 200_001, "has 200001 bytes; expected at most 200000"),
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
