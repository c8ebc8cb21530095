"""What a user may say about a Kubernetes API server, the workloads to scale and the Lease to lead by."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rlscale.strict import Strict

# Names become parts of a URL path: nothing but what the API server itself accepts gets there.
LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
IDENTITY = r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,98}[A-Za-z0-9])?$"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Access(Strict):
    """Where the API server is and who calls. Nothing said: the pod's own service account.

    Paths of certificates and tokens are read again when the files change; their content never enters a message.
    """

    server: str = Field("", description="URL of the API server, https:// (http:// on loopback only)")
    ca_file: str = Field("", description="PEM of its certificate authority; empty: those of the system")
    token_file: str = Field("", description="file that holds the bearer token")
    client_certificate: str = Field("", description="PEM of a client certificate, instead of a token")
    client_key: str = Field("", description="PEM of its key")
    kubeconfig: str = Field("", description="path of a kubeconfig, instead of all above")
    context: str = Field("", description="one of its contexts; empty: the current one")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        files = [self.ca_file, self.token_file, self.client_certificate, self.client_key]
        if self.kubeconfig and (self.server or any(files)):
            raise ValueError("kubeconfig and server are both given; expected one way to the API server")
        if any(files) and not self.server:
            raise ValueError("files of credentials without a server; give server as https://HOST:PORT")
        if self.context and not self.kubeconfig:
            raise ValueError("context is one of a kubeconfig; give kubeconfig as well")
        if bool(self.client_certificate) != bool(self.client_key):
            raise ValueError("client_certificate and client_key belong together; give both or none")
        if self.server:
            check_server(self.server)
        return self


class ScaleTarget(Strict):
    """A workload with a scale subresource; its pods are the replicas of one pool."""

    name: str = Field(pattern=SUBDOMAIN)
    kind: str = Field("Deployment", pattern=r"^[A-Z][A-Za-z0-9]{0,62}$")
    api_version: str = Field("apps/v1", pattern=r"^([a-z0-9][-a-z0-9.]{0,251}/)?v[a-z0-9]{1,30}$")
    resource: str = Field("", pattern=r"^([a-z][a-z0-9]{0,62})?$", description="plural; empty: the kind's usual one")
    selector: str = Field("", max_length=1000, description="label selector of its pods; empty: the one it declares")

    @property
    def group(self) -> str:
        """API group, empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """Version within the group."""
        return self.api_version.rpartition("/")[2]

    @property
    def plural(self) -> str:
        """Name of the resource in paths and in RBAC rules."""
        return self.resource or f"{self.kind.lower()}s"


class KubernetesConfig(Strict):
    """The backend that writes scale subresources: one target per pool, in the order of the pools."""

    targets: list[ScaleTarget] = Field(min_length=1, max_length=64)
    namespace: str = Field("", pattern=rf"^$|{LABEL}", description="empty: that of the service account or context")
    access: Access = Access()
    deadline_s: float = Field(10.0, gt=0, le=300, description="for a whole reading or order, retries included")
    request_s: float = Field(4.0, gt=0, le=300, description="for one request of it")
    attempts: int = Field(4, ge=1, le=20, description="requests before a fault of the server is an error")
    allow_zero: bool = Field(False, description="whether an order of no replicas at all is placed")

    @model_validator(mode="after")
    def _no_target_twice(self) -> Self:
        seen = [(target.group, target.plural, target.name) for target in self.targets]
        for one in seen:
            if seen.count(one) > 1:
                raise ValueError(f"target {one[1]} '{one[2]}' is given twice; expected another one per pool")
        return self


class LeaseConfig(Strict):
    """Leader election among instances of one service. Every instance of it names the same Lease."""

    name: str = Field(pattern=SUBDOMAIN)
    namespace: str = Field("", pattern=rf"^$|{LABEL}", description="empty: that of the service account or context")
    identity: str = Field("", pattern=rf"^$|{IDENTITY}", description="empty: the host name; made unique in any case")
    access: Access = Access()
    lease_duration_s: int = Field(15, ge=1, le=3600, description="unchanged for so long, the Lease may be taken")
    renew_deadline_s: float = Field(10.0, gt=0, description="a leader that could not renew for so long stops ordering")
    retry_s: float = Field(2.0, gt=0, description="between two tries to renew or to take the Lease")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        # The gap between the two is what an order already on its way, and clocks of different speed, may take.
        if not self.retry_s * 2.0 <= self.renew_deadline_s <= self.lease_duration_s * 0.8:
            raise ValueError(
                f"retry_s={self.retry_s:g}, renew_deadline_s={self.renew_deadline_s:g}, "
                f"lease_duration_s={self.lease_duration_s}; expected 2 x retry_s <= renew_deadline_s <= "
                "0.8 x lease_duration_s"
            )
        return self

    @property
    def margin_s(self) -> float:
        """Between the end of leading and the earliest taking over: what the last order may take."""
        return self.lease_duration_s - self.renew_deadline_s


def check_server(server: str) -> None:
    """ValueError unless it is a URL that credentials may be sent to."""
    url = urlsplit(server)
    if url.username or url.password or "@" in url.netloc:
        raise ValueError("server holds a user name or password; put a token into a file and name it as token_file")
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        raise ValueError(f"server={server!r}; expected https://HOST:PORT")
    url.port  # noqa: B018 - raises ValueError for a port that is none
    if url.scheme == "http" and url.hostname not in LOOPBACK:
        raise ValueError(f"server={server!r} is not encrypted; expected https:// for any host but loopback")
