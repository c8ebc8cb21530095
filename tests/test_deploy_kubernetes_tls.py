"""Certificates between the loop and the API server: trusted, refused, of both sides, renewed in place."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import certificates
import kube_server as kube
import pytest
from kube_cluster import Cluster
from kube_server import KubeServer, backend

from rlscale.deploy.base import BackendError
from rlscale.deploy.kubernetes_config import Access


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def tls_server(stack: ExitStack, own: certificates.Pair, clients: Path | None = None) -> KubeServer:
    """An API server behind TLS; with `clients` it asks for a certificate that this one signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    cluster = Cluster()
    cluster.add("chat", 3)
    server = stack.enter_context(kube.running(cluster))
    # The handshake comes with the first read, in the thread of the connection: a client that fails it holds up nobody.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def access(server: KubeServer, **files: Any) -> Access:
    return Access(server=f"https://127.0.0.1:{server.server_port}", **{name: str(file) for name, file in files.items()})


def test_a_certificate_of_the_given_authority_is_trusted(stack: ExitStack, tmp_path: Path) -> None:
    own = certificates.own(tmp_path, "server")
    server = tls_server(stack, own)
    assert backend(server, access=access(server, ca_file=own.certificate)).fleet().target == (3,)


def test_any_other_certificate_is_refused_before_a_token_is_sent(stack: ExitStack, tmp_path: Path) -> None:
    server, other = tls_server(stack, certificates.own(tmp_path, "server")), certificates.own(tmp_path, "other")
    token = tmp_path / "token"
    token.write_text("secret")
    one = backend(server, access=access(server, ca_file=other.certificate, token_file=token), attempts=1)
    with pytest.raises(BackendError, match="certificate is not to be trusted"):
        one.fleet()
    with pytest.raises(BackendError, match="certificate is not to be trusted"):
        backend(server, access=access(server, token_file=token), attempts=1).fleet()  # the system's authorities
    assert server.cluster.calls == []


def test_a_certificate_for_another_host_is_refused(stack: ExitStack, tmp_path: Path) -> None:
    own = certificates.own(tmp_path, "server")
    server = tls_server(stack, own)
    far = Access(server=f"https://localhost:{server.server_port}", ca_file=str(own.certificate))
    with pytest.raises(BackendError, match="certificate is not to be trusted"):
        backend(server, access=far, attempts=1).fleet()


def test_both_sides_can_show_certificates(stack: ExitStack, tmp_path: Path) -> None:
    own, mine = certificates.own(tmp_path, "server"), certificates.own(tmp_path, "client")
    server = tls_server(stack, own, clients=mine.certificate)
    files = {"ca_file": own.certificate, "client_certificate": mine.certificate, "client_key": mine.key}
    assert backend(server, access=access(server, **files)).fleet().target == (3,)
    with pytest.raises(BackendError, match=r"TLS failed|closed|reset|no HTTP answer|ended"):
        backend(server, access=access(server, ca_file=own.certificate), attempts=1).fleet()


def test_an_authority_that_was_renewed_is_read_anew(stack: ExitStack, tmp_path: Path) -> None:
    first, second = certificates.own(tmp_path, "first"), certificates.own(tmp_path, "second")
    trusted = tmp_path / "ca.crt"
    shutil.copy(first.certificate, trusted)
    server = tls_server(stack, second)
    one = backend(server, access=access(server, ca_file=trusted), attempts=1)
    with pytest.raises(BackendError, match="not to be trusted"):
        one.fleet()
    trusted.unlink()  # a new inode, as a mounted secret gets
    shutil.copy(second.certificate, trusted)
    assert one.fleet().target == (3,)


def test_a_missing_file_is_named(stack: ExitStack, tmp_path: Path) -> None:
    own = certificates.own(tmp_path, "server")
    server = tls_server(stack, own)
    with pytest.raises(BackendError, match=r"none\.crt: a certificate cannot be read"):
        backend(server, access=access(server, ca_file=tmp_path / "none.crt")).fleet()
