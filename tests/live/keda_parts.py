"""What the tests of the KEDA server share: a server per test, and KEDA's side of the protocol in Python."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rlscale.deploy.base import Clock
from rlscale.deploy.keda import KedaBackend, KedaConfig, KedaServer, Served, TlsConfig

for name in ("grpc", "grpc_health", "grpc_reflection", "cryptography"):
    pytest.importorskip(name, reason="needs the extra keda; make test-live installs it")
wire = importlib.import_module("rlscale.deploy.keda._wire")  # would fail without them

CHAT = Served("chat", ("h100",), (0,))
CODE = Served("code", ("h100", "spot"), (1, 0))
METRIC = "rlscale-desired-replicas"


def config(**given: Any) -> KedaConfig:
    assumed = {"fleet_from": "assumed", "assumed_delay_s": 0.0, "assumed_replicas": (1,)}
    return KedaConfig.model_validate({"port": 0, **assumed, **given})


@contextmanager
def serving(
    given: KedaConfig | None = None, clock: Clock | None = None
) -> Iterator[tuple[KedaServer, KedaBackend, KedaBackend]]:
    """A server with the services `chat` (one pool, may be zero) and `code` (two pools), and no orders."""
    given = given or config()
    server = KedaServer(given, clock)
    two = given.model_copy(update={"assumed_replicas": (1, 0)})
    try:
        yield server, KedaBackend(given, CHAT, server=server), KedaBackend(two, CODE, server=server)
    finally:
        server.close()


def ref(**metadata: str) -> Any:
    return wire.ScaledObjectRef(name="chat", namespace="serving", scalerMetadata=metadata)


def question(service: str, metric: str = METRIC, **metadata: str) -> Any:
    return wire.GetMetricsRequest(scaledObjectRef=ref(service=service, **metadata), metricName=metric)


def method(channel: Any, name: str, answer: Any, stream: bool = False) -> Any:
    """A call by name, whose question is bytes or a message."""
    kind = channel.unary_stream if stream else channel.unary_unary
    return kind(
        f"/{wire.SERVICE}/{name}",
        request_serializer=lambda asked: asked if isinstance(asked, bytes) else asked.SerializeToString(),
        response_deserializer=answer.FromString,
    )


def until(true: Callable[[], bool], what: str, deadline_s: float = 20.0) -> None:
    """Wait for something, with a deadline."""
    ends_s = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < ends_s, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.02)


def tls(pair: Any, client_ca: Path | None = None, **given: Any) -> TlsConfig:
    return TlsConfig(cert_file=pair.cert, key_file=pair.key, client_ca_file=client_ca, **given)
