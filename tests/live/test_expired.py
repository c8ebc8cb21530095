"""Certificates that have expired: of Prometheus and of the API server. The reason is one line, no token is sent,
nothing is ordered, and a renewed certificate is taken without a restart.

Of the KEDA server and its clients: test_keda.py.
"""

from __future__ import annotations

import math
import ssl
from pathlib import Path
from typing import Any

import kube_server as kube
import pytest
from authority import Authority, Pair
from fake_prometheus import running, says, vector
from kube_cluster import Cluster
from kube_server import backend
from prometheus_source import SLO

from rlscale.deploy.base import BackendError, MetricsError
from rlscale.deploy.kubernetes_config import Access
from rlscale.deploy.metrics_config import MetricsConfig, source_of

pytestmark = [pytest.mark.live, pytest.mark.timeout(60)]
GONE_S = (-9_000.0, -60.0)


def behind_tls(server: Any, pair: Pair) -> ssl.SSLContext:
    """The certificate of an HTTP server; the handshake comes with the first read, in the connection's own thread."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return context


def test_the_certificate_of_prometheus(tmp_path: Path) -> None:
    authority, token = Authority(tmp_path, "authority"), tmp_path / "token"
    token.write_text("secret")
    late, renewed = authority.issue("late", *GONE_S), authority.issue("renewed")
    with running() as server:
        context = behind_tls(server, late)
        server.answer = says(vector({}))
        config = MetricsConfig(url=f"https://127.0.0.1:{server.server_port}", ca_file=str(authority.file),
                               token_file=str(token))  # fmt: skip
        source = source_of(config, SLO, 1)
        for _ in range(2):
            with pytest.raises(MetricsError, match=r"certificate.*expired") as error:
                source.read()
            assert len(str(error.value).splitlines()) == 1 and "secret" not in str(error.value)
        assert server.asked == []
        context.load_cert_chain(renewed.cert, renewed.key)
        assert math.isnan(source.read().arrival_per_s)  # it has no series, but it answers
        assert len(server.asked) == 1
        source.close()


def test_the_certificate_of_the_api_server(tmp_path: Path) -> None:
    authority, token = Authority(tmp_path, "authority"), tmp_path / "token"
    token.write_text("secret")
    late, renewed = authority.issue("late", *GONE_S), authority.issue("renewed")
    cluster = Cluster()
    cluster.add("chat", 3)
    with kube.running(cluster) as server:
        context = behind_tls(server, late)
        access = Access(server=f"https://127.0.0.1:{server.server_port}", ca_file=str(authority.file),
                        token_file=str(token))  # fmt: skip
        one = backend(server, access=access, attempts=1)
        for ask in (one.fleet, lambda: one.order((5,))):
            with pytest.raises(BackendError, match=r"certificate.*expired") as error:
                ask()
            assert len(str(error.value).splitlines()) == 1 and "secret" not in str(error.value)
        assert cluster.calls == []
        context.load_cert_chain(renewed.cert, renewed.key)
        assert one.fleet().target == (3,)
