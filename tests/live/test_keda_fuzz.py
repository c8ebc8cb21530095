"""Ten thousand messages that are none, and the KEDA server goes on: right numbers, no more memory, no threads left."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from keda_parts import METRIC, config, method, question, serving, tls, until, wire

from rlscale.deploy.keda import KedaServer

pytestmark = pytest.mark.live
grpc = pytest.importorskip("grpc", reason="needs the extra keda; make test-live installs it")

MESSAGES, RAW = 8_000, 2_000
GROWTH_BYTES = 8 * 2**20  # 0.2 MiB measured
DEADLINE_S = 240.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def bad_messages(luck: random.Random) -> Iterator[tuple[str, bytes]]:
    """Method and body."""
    good = question("chat").SerializeToString()
    names = ("IsActive", "GetMetricSpec", "GetMetrics", "Nothing", "")
    while True:
        cut = good[: luck.randrange(len(good))]
        turned = bytearray(good)
        turned[luck.randrange(len(good))] ^= 1 << luck.randrange(8)
        yield luck.choice(names), luck.choice((
            luck.randbytes(luck.randrange(200)),
            cut,
            bytes(turned),
            b"\x0a" + b"\xff" * 9 + b"\x01",  # a field of 2^64 bytes
            b"\x0b" * luck.randrange(1, 2_000),  # groups in groups
            b"\x0a\x02\xc3\x28",  # not UTF-8
        ))  # fmt: skip


def bad_connections(luck: random.Random) -> Iterator[bytes]:
    """What a connection begins with."""
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    while True:
        huge = b"\xff\xff\xff" + bytes([luck.randrange(256), luck.randrange(256)]) + luck.randbytes(4)
        yield luck.choice((
            luck.randbytes(luck.randrange(1, 400)),
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /externalscaler.ExternalScaler/GetMetrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
            PREFACE[: luck.randrange(1, len(PREFACE))],
            PREFACE + settings[: luck.randrange(len(settings))],
            PREFACE + settings + huge + luck.randbytes(100),
            PREFACE + settings + luck.randbytes(luck.randrange(300)),
            b"\x16\x03\x01\x02\x00" + luck.randbytes(200),  # a TLS hello, of sorts
        ))  # fmt: skip


def throw(port: int, body: bytes) -> None:
    """Connect, say it, perhaps listen a little, go."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5.0) as peer:
        peer.sendall(body)
        peer.settimeout(0.01)
        peer.recv(64)


def channel_to(server: KedaServer, authority: Authority) -> Any:
    place = f"localhost:{server.port}"
    if server.config.tls is None:
        return grpc.insecure_channel(place)
    return grpc.secure_channel(place, grpc.ssl_channel_credentials(authority.file.read_bytes()))


@pytest.mark.parametrize("way", ["plaintext", "tls"])
def test_ten_thousand_messages_that_are_none(way: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    luck = random.Random(7)
    ends_s = time.monotonic() + DEADLINE_S
    authority = Authority(tmp_path, "ca")
    given = config(tls=tls(authority.issue("server"))) if way == "tls" else config()
    with serving(given) as (server, chat, _), channel_to(server, authority) as channel:
        chat.order((7,))
        metrics = method(channel, "GetMetrics", wire.GetMetricsResponse)
        messages, connections = bad_messages(luck), bad_connections(luck)

        def one_message() -> None:
            name, body = next(messages)
            with contextlib.suppress(grpc.RpcError):
                found = method(channel, name, wire.GetMetricsResponse)(body, timeout=10)
                # A flipped bit may leave a good question; then the answer has to be good too.
                assert name != "GetMetrics" or [value.metricValue for value in found.metricValues] == [7]

        def repeat(act: Callable[[], None], times: int) -> None:
            for _ in range(times):
                assert time.monotonic() < ends_s, f"not within {DEADLINE_S:g} s"
                act()

        def one_connection() -> None:
            throw(server.port, next(connections))

        repeat(one_message, MESSAGES // 4)  # what is allocated once is there after these
        repeat(one_connection, RAW // 4)
        began_bytes, began_threads = resident_bytes(), threading.active_count()
        repeat(one_message, MESSAGES - MESSAGES // 4)
        repeat(one_connection, RAW - RAW // 4)

        assert metrics(question("chat"), timeout=10).metricValues[0].metricValue == 7
        growth = resident_bytes() - began_bytes
        with capfd.disabled():
            print(f"\n{way}: {MESSAGES} messages, {RAW} connections, memory grew by {growth / 2**20:.1f} MiB")
        assert growth < GROWTH_BYTES
        assert threading.active_count() <= began_threads + 1
        codes = {labels[1][1] for name, labels in server.metrics() if name == "rlscale_keda_calls_total"}
        assert "UNKNOWN" not in codes, "a handler raised"
    assert "Traceback" not in capfd.readouterr().err  # nobody floods the log


def test_connections_that_say_nothing_do_not_keep_others_out_for_long() -> None:
    with serving(config(max_connections=64)) as (server, chat, _):
        chat.order((7,))
        silent = [socket.create_connection(("127.0.0.1", server.port), timeout=5.0) for _ in range(200)]
        try:

            def answered() -> bool:
                with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                    call = method(channel, "GetMetrics", wire.GetMetricsResponse)
                    try:
                        return bool(call(question("chat", METRIC), timeout=2).metricValues[0].metricValue == 7)
                    except grpc.RpcError:
                        return False

            until(answered, "an answer beside 200 silent connections", deadline_s=30.0)
        finally:
            for peer in silent:
                peer.close()
