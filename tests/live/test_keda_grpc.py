"""The KEDA server met by gRPC in Python: the contract, limits, streams, certificates."""

from __future__ import annotations

import random
import threading
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from keda_parts import CHAT, METRIC, config, method, question, ref, serving, tls, until, wire

from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.keda import KedaBackend, KedaServer

pytestmark = pytest.mark.live
grpc = pytest.importorskip("grpc", reason="needs the extra keda; make test-live installs it")


def failed(call: Any, *asked: Any) -> str:
    """The status code's name."""
    with pytest.raises(grpc.RpcError) as error:
        call(*asked)
    return str(error.value.code().name)


def open_stream(channel: Any, **metadata: str) -> Any:
    return method(channel, "StreamIsActive", wire.IsActiveResponse, stream=True)(ref(**metadata), timeout=30)


def test_the_messages_are_those_of_the_proto_file(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc", reason="needs grpcio-tools; make test-live installs it")
    folder = str(files("rlscale.deploy.keda"))
    compiled = tmp_path / "set"
    assert protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={compiled}", "externalscaler.proto"]) == 0
    from google.protobuf import descriptor_pb2

    (file,) = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file
    assert wire.file_descriptor() == file


def test_a_number_is_told_in_both_fields_and_zero_is_a_number() -> None:
    with serving() as (server, chat, code), grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        metrics = method(channel, "GetMetrics", wire.GetMetricsResponse)
        active = method(channel, "IsActive", wire.IsActiveResponse)
        for wanted in (7, 0, 2**31 - 1):
            chat.order((wanted,))
            (value,) = metrics(question("chat")).metricValues
            assert (value.metricName, value.metricValue, value.metricValueFloat) == (METRIC, wanted, wanted)
            assert active(ref(service="chat")).result == (wanted > 0)
        code.order((1, 4))
        (value,) = metrics(question("code", f"s3-{METRIC}", pool="spot")).metricValues
        assert (value.metricName, value.metricValue) == (f"s3-{METRIC}", 4)
        assert failed(metrics, question("code", "rps", pool="spot")) == "NOT_FOUND"
        assert failed(metrics, question("code")) == "INVALID_ARGUMENT"
        assert failed(metrics, question("nobody")) == "NOT_FOUND"


def test_five_thousand_orders_arrive_as_they_were_given() -> None:
    luck = random.Random(3)
    with serving() as (server, _, code), grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        metrics = method(channel, "GetMetrics", wire.GetMetricsResponse)
        asked = {pool: question("code", pool=pool) for pool in ("h100", "spot")}
        for _ in range(5_000):
            target = (luck.randint(1, 200), luck.randint(0, 200))
            code.order(target)
            found = [metrics(asked[pool]).metricValues[0] for pool in ("h100", "spot")]
            assert tuple(value.metricValue for value in found) == target
            assert tuple(value.metricValueFloat for value in found) == target


def test_one_service_alone_needs_no_metadata() -> None:
    backend = KedaBackend(config(), CHAT)
    try:
        backend.order((5,))
        with grpc.insecure_channel(f"127.0.0.1:{backend.server.port}") as channel:
            assert method(channel, "IsActive", wire.IsActiveResponse)(ref()).result
    finally:
        backend.close()


def test_a_stale_or_withdrawn_order_is_never_a_number_and_ends_the_stream() -> None:
    with (
        serving(config(stale_s=0.5)) as (server, chat, _),
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        metrics = method(channel, "GetMetrics", wire.GetMetricsResponse)
        assert failed(metrics, question("chat")) == "UNAVAILABLE"
        chat.order((3,))
        stream = open_stream(channel, service="chat")
        assert next(stream).result
        assert failed(next, stream) == "UNAVAILABLE"
        assert failed(metrics, question("chat")) == "UNAVAILABLE"
        chat.order((3,))
        assert metrics(question("chat")).metricValues[0].metricValue == 3
        chat.withdraw()
        assert failed(metrics, question("chat")) == "UNAVAILABLE"


def test_a_stopping_server_ends_its_streams_at_once() -> None:
    with serving() as (server, chat, _), grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        chat.order((3,))
        stream = open_stream(channel, service="chat")
        assert next(stream).result
        began_s = time.monotonic()
        threading.Thread(target=server.close).start()
        assert failed(next, stream) == "UNAVAILABLE"
        assert time.monotonic() - began_s < 5.0


def test_streams_are_limited_and_leave_room_for_calls() -> None:
    with (
        serving(config(max_streams=3)) as (server, chat, _),
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        chat.order((3,))
        streams = [open_stream(channel, service="chat") for _ in range(3)]
        assert all(next(stream).result for stream in streams)
        assert failed(next, open_stream(channel, service="chat")) == "RESOURCE_EXHAUSTED"
        metrics = method(channel, "GetMetrics", wire.GetMetricsResponse)
        assert metrics(question("chat"), timeout=10).metricValues[0].metricValue == 3
        streams[0].cancel()  # who goes makes room

        def is_free() -> bool:
            stream = open_stream(channel, service="chat")
            try:
                return bool(next(stream).result)
            except grpc.RpcError:
                return False

        until(is_free, "room for a stream")


@pytest.mark.parametrize("case", ["large", "compressed", "metadata"])
def test_what_is_too_large_is_refused_before_it_is_read(case: str) -> None:
    with serving() as (server, chat, _), grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        chat.order((3,))
        metrics = method(channel, "GetMetrics", wire.GetMetricsResponse)
        if case == "large":
            assert failed(metrics, question("chat", metric="x" * 70_000)) == "RESOURCE_EXHAUSTED"
        elif case == "metadata":
            with pytest.raises(grpc.RpcError):
                metrics(question("chat"), metadata=(("x", "y" * 40_000),))
        else:  # whatever its size: 10 MB of zeros are 10 kB
            for size in (1_000, 10_000_000):
                with pytest.raises(grpc.RpcError) as error:
                    metrics(question("chat", metric="0" * size), compression=grpc.Compression.Gzip)
                assert error.value.code().name == "UNIMPLEMENTED"
        assert metrics(question("chat")).metricValues[0].metricValue == 3


def test_two_servers_do_not_share_a_port() -> None:
    with serving() as (server, _, _), pytest.raises(LiveConfigError, match=r"cannot listen on 127\.0\.0\.1"):
        KedaServer(config(port=server.port))


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(LiveConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        KedaServer(config(address="192.0.2.1", plaintext=True))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("expired", "expired on .* renew it"),
        ("early", "not valid before"),
        ("no file", "cannot be read"),
        ("no pem", "holds no certificate"),
        ("no key", "holds no private key"),
        ("other key", "is not the key of the certificate"),
        ("no authority", "client_ca_file .* holds no certificate"),
    ],
)
def test_a_certificate_that_cannot_serve_is_an_error_at_the_start(tmp_path: Path, wrong: str, says: str) -> None:
    authority = Authority(tmp_path, "ca")
    spans_s = {"expired": (-9_000.0, -60.0), "early": (3_600.0, 7_200.0)}
    given = tls(authority.issue("server", *spans_s.get(wrong, (-60.0, 3_600.0))))
    junk = write(tmp_path / "junk", "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n")
    changes = {
        "no file": {"cert_file": tmp_path / "gone"},
        "no pem": {"cert_file": junk},
        "no key": {"key_file": junk},
        "other key": {"key_file": authority.issue("other").key},
        "no authority": {"client_ca_file": junk},
    }
    with pytest.raises(LiveConfigError, match=says) as error:
        KedaServer(config(tls=given.model_copy(update=changes.get(wrong, {}))))
    assert "secret" not in str(error.value)


def test_a_pair_renewed_by_halves_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = Authority(tmp_path, "ca")
    pair, new = authority.issue("server"), authority.issue("new")
    with serving(config(tls=tls(pair))) as (server, chat, _):
        chat.order((2,))
        new.cert.replace(pair.cert)
        until(lambda: server.metrics()["rlscale_keda_certificate_failed_reloads_total", ()] == 1, "the half is seen")
        credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{server.port}", credentials) as channel:
            assert method(channel, "IsActive", wire.IsActiveResponse)(ref(service="chat")).result
        new.key.replace(pair.key)
        until(lambda: server.metrics()["rlscale_keda_certificate_reloads_total", ()] == 1, "the whole is taken")
    assert "the old one stays" in caplog.text
    assert "BEGIN" not in caplog.text


def test_a_certificate_near_its_end_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pair = Authority(tmp_path, "ca").issue("server", ends_s=3_600.0)
    with serving(config(tls=tls(pair, warn_before_s=7_200.0))) as (server, chat, _):
        for _ in range(3):
            chat.order((2,))
        assert server.metrics()["rlscale_keda_certificate_expiring", ()] == 1.0
        assert 3_000 < server.metrics()["rlscale_keda_certificate_left_seconds", ()] <= 3_600
    assert caplog.text.count("renew it") == 1
