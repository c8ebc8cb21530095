"""Credentials out of a kubeconfig, by the official client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import certificates
import pytest
import yaml

from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.kubernetes_access import caller
from rlscale.deploy.kubernetes_config import Access

pytest.importorskip("kubernetes", reason="needs the package kubernetes: pip install 'rlscale[kubernetes]'")
pytestmark = pytest.mark.live


def kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Access:
    file = folder / "config"
    both = {"cluster": "c", "user": "u", "namespace": "llm"}
    file.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "one",
        "contexts": [{"name": "one", "context": both}, {"name": "two", "context": both | {"namespace": "other"}}],
        "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}],
    }))  # fmt: skip
    return Access(kubeconfig=str(file))


def test_server_certificates_token_and_namespace_are_taken(tmp_path: Path) -> None:
    own = certificates.own(tmp_path, "server")
    cluster = {"server": "https://127.0.0.1:6443", "certificate-authority": str(own.certificate)}
    access = kubeconfig(tmp_path, cluster, {"token": "of-the-user"})
    who = caller(access)
    assert (who.server, who.namespace, who.token()) == ("https://127.0.0.1:6443", "llm", "of-the-user")
    assert who.place().tls is not None
    assert caller(access.model_copy(update={"context": "two"})).namespace == "other"


def test_a_client_certificate_needs_no_token(tmp_path: Path) -> None:
    own = certificates.own(tmp_path, "server")
    cluster = {"server": "https://127.0.0.1:6443", "certificate-authority": str(own.certificate)}
    who = caller(
        kubeconfig(tmp_path, cluster, {"client-certificate": str(own.certificate), "client-key": str(own.key)})
    )
    assert who.token() == ""
    assert who.place().tls is not None


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"server": "https://h:1", "insecure-skip-tls-verify": True}, "skips TLS verification"),
        ({"server": "http://10.0.0.1:1"}, "not encrypted"),
        ({"server": "https://h:1", "proxy-url": "http://p:1"}, "proxy-url"),
        ({"server": "https://h:1", "certificate-authority": "/none"}, "cannot be used"),
        ({}, "expected https://HOST:PORT"),
    ],
)
def test_what_cannot_be_trusted_is_refused_without_a_secret(tmp_path: Path, cluster: Any, words: str) -> None:
    access = kubeconfig(tmp_path, cluster, {"token": "very-secret"})
    with pytest.raises(LiveConfigError, match=words) as refused:
        caller(access)
    assert "very-secret" not in str(refused.value)


def test_a_context_that_is_not_there_is_named(tmp_path: Path) -> None:
    access = kubeconfig(tmp_path, {"server": "https://h:1"}, {"token": "t"})
    with pytest.raises(LiveConfigError, match="context 'three'"):
        caller(access.model_copy(update={"context": "three"}))
    with pytest.raises(LiveConfigError, match="cannot be used"):
        caller(Access(kubeconfig=str(tmp_path / "none")))
