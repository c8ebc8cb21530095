"""Who calls the API server: a pod's service account, named files, or a kubeconfig. All is read anew as it changes.

Service account tokens live for an hour and less and are replaced in place, and so are certificates.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rlscale.deploy.base import BackendError, LiveConfigError
from rlscale.deploy.bearer import MAX_BYTES, clean, token_of
from rlscale.deploy.http_link import Place
from rlscale.deploy.kubernetes_config import Access, check_server
from rlscale.deploy.trusted import Trusted

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Caller:
    """Where the API server is, how it is trusted, and what says who we are."""

    def __init__(
        self, server: str, files: Access, token: Callable[[], str], namespace: str = "", server_name: str = ""
    ) -> None:
        url = urlsplit(server)
        self.server = f"{url.scheme}://{url.netloc}"
        self.prefix = url.path.rstrip("/")  # of every path, where a proxy stands in front
        self.namespace = namespace
        self._trusted = Trusted(
            url, BackendError, files.ca_file, files.client_certificate, files.client_key, server_name
        )
        self._token = token

    def place(self) -> Place:
        """See `Trusted.place`."""
        return self._trusted.place()

    def token(self) -> str:
        """The bearer token as it is now, or "" where a certificate says who we are."""
        return self._token()


def caller(access: Access) -> Caller:
    """The caller that a configuration describes. Raises LiveConfigError when there is none, BackendError for files."""
    if access.kubeconfig:
        return _of_kubeconfig(access)
    if access.server:
        return Caller(access.server, access, _token_of(access.token_file))
    return _in_cluster()


def _in_cluster() -> Caller:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not SERVICE_ACCOUNT.is_dir():
        raise LiveConfigError(
            "this is no pod with a service account (KUBERNETES_SERVICE_HOST is not set, or its token is not mounted); "
            "give access.kubeconfig or access.server, or set automountServiceAccountToken in the pod"
        )
    host = f"[{host}]" if ":" in host else host
    files = Access(server=f"https://{host}:{port}", ca_file=str(SERVICE_ACCOUNT / "ca.crt"))
    return Caller(files.server, files, _token_of(str(SERVICE_ACCOUNT / "token")), _namespace())


def _of_kubeconfig(access: Access) -> Caller:
    """By the official client, which knows every way of logging in that a kubeconfig can name."""
    try:
        from kubernetes import client, config
    except ImportError:
        raise LiveConfigError(
            "access.kubeconfig needs the package kubernetes, which is not installed; "
            "pip install 'rlscale[kubernetes]', or give access.server with its files"
        ) from None
    path = str(Path(access.kubeconfig).expanduser())
    settings = client.Configuration()
    try:
        config.load_kube_config(path, access.context or None, settings, persist_config=False)
        _, current = config.list_kube_config_contexts(path)
        known = {one["name"]: one["context"] for one in config.list_kube_config_contexts(path)[0]}
        namespace = known[access.context or current["name"]].get("namespace", "")
    except Exception as error:  # the client raises its own, YAML's and whatever a login helper raises
        # Not its words: they may quote what the file holds.
        raise LiveConfigError(
            f"access.kubeconfig={access.kubeconfig} with context '{access.context or 'current'}' cannot be used "
            f"({type(error).__name__}); try `kubectl --kubeconfig {access.kubeconfig} config get-contexts`"
        ) from None
    return Caller(*_trusted(settings, access), namespace, settings.tls_server_name or "")


def _trusted(settings: Any, access: Access) -> tuple[str, Access, Callable[[], str]]:
    where = f"access.kubeconfig={access.kubeconfig}"
    if not settings.verify_ssl:
        raise LiveConfigError(f"{where} skips TLS verification; expected the cluster's certificate-authority")
    if settings.proxy:
        raise LiveConfigError(f"{where} names a proxy-url, which is not supported; give access.server instead")
    try:
        check_server(settings.host)
    except ValueError as error:
        raise LiveConfigError(f"{where}: {error}") from None
    files = Access(
        server=settings.host,
        ca_file=settings.ssl_ca_cert or "",
        client_certificate=settings.cert_file or "",
        client_key=settings.key_file or "",
    )

    def token() -> str:
        # Asking also renews what has expired. The value carries its own "Bearer ".
        value = settings.auth_settings().get("BearerToken", {}).get("value") or ""
        return clean(str(value).removeprefix("Bearer "), where, BackendError) if value else ""

    return settings.host, files, token


def _token_of(path: str) -> Callable[[], str]:
    return lambda: token_of(Path(path), BackendError) if path else ""


def _namespace() -> str:
    path = SERVICE_ACCOUNT / "namespace"
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise BackendError(f"{path}: cannot be read ({reason}); check the volume and its permissions") from None
