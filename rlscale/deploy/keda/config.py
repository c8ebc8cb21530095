"""What a live configuration may say about the KEDA external scaler. Knows no gRPC."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rlscale.strict import Strict

# YAML knows neither paths nor tuples: these fields take what it has for them.
FilePath = Annotated[Path, Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Counts = Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(strict=False)]


class TlsConfig(Strict):
    """Certificates, PEM. The files are read again when they change; connections that are open stay."""

    cert_file: FilePath = Field(description="own certificate, then its intermediates")
    key_file: FilePath = Field(description="its private key, unencrypted")
    client_ca_file: FilePath | None = Field(None, description="mutual TLS: clients need a certificate of these CAs")
    warn_before_s: float = Field(14 * 86_400.0, ge=0, description="how long before its end a certificate is warned of")


class KedaConfig(Strict):
    """The gRPC server that KEDA asks, and where the number of replicas comes from, which KEDA does not tell.

    `fleet_from` has no default, since each choice means something else:
    `kubernetes`: the scale subresource of the target; exact, needs the right to read it.
    `metrics`: a query per pool that counts ready replicas; what is ordered beyond them counts as pending.
    `assumed`: no one is asked; an order counts as pending for `assumed_delay_s` and as ready from then on, beginning
    with `assumed_replicas`. Wrong as soon as the HPA, the scheduler or a person does something else; for trials.
    """

    address: str = Field("127.0.0.1", description="IP address to listen on; 0.0.0.0 or :: for all of them")
    port: int = Field(6000, ge=0, le=65_535, description="0: any that is free")
    tls: TlsConfig | None = None
    plaintext: bool = Field(False, description="agree to listen beyond this machine without TLS")
    pools: Names = Field((), description="names by which triggers ask for a pool; may be left out for one pool")
    stale_s: float | None = Field(None, gt=0, description="an older order is not told; default: three intervals")
    fleet_from: Literal["kubernetes", "metrics", "assumed"]
    fleet_kubernetes: dict[str, Any] | None = Field(
        None, description="kubernetes: the options of that backend, of which only the fleet is used"
    )
    fleet_prometheus: str | None = Field(None, description="metrics: URL of the server that is asked")
    fleet_queries: Names = Field((), description="metrics: for each pool a query that counts its ready replicas")
    assumed_delay_s: float | None = Field(None, ge=0, description="assumed: from an order to ready replicas")
    assumed_replicas: Counts = Field((), description="assumed: per pool, what runs at the start")
    tolerance: float = Field(0.1, ge=0, lt=1, description="relative change below which the HPA does nothing")
    max_message_bytes: int = Field(65_536, ge=1_024, le=4_194_304)
    max_streams: int = Field(64, ge=1, le=1_024, description="streams open at a time, all clients together")
    max_concurrent_rpcs: int = Field(256, ge=2, le=8_192, description="streams included; further calls are refused")
    max_connections: int = Field(256, ge=1, le=65_536)
    max_connection_age_s: float = Field(
        3_600.0, ge=1, description="clients connect anew after it, and show a certificate that is valid then"
    )

    @model_validator(mode="after")
    def _open_by_choice(self) -> KedaConfig:
        if self.tls is None and not self.plaintext and not _on_loopback(self.address):
            raise ValueError(
                f"address={self.address} is reachable from other machines and there is no tls; give tls with cert_file "
                "and key_file, or say plaintext: true where a network policy lets only KEDA in"
            )
        return self

    @model_validator(mode="after")
    def _fleet(self) -> KedaConfig:
        own = {
            "kubernetes": ("fleet_kubernetes",),
            "metrics": ("fleet_prometheus", "fleet_queries"),
            "assumed": ("assumed_delay_s", "assumed_replicas"),
        }
        for choice, names in own.items():
            for name in names:
                given = getattr(self, name) not in (None, ())
                if given and choice != self.fleet_from:
                    raise ValueError(f"{name} is given, but fleet_from is {self.fleet_from}; it belongs to {choice}")
                if not given and choice == self.fleet_from:
                    raise ValueError(f"fleet_from: {choice} needs {name}")
        return self

    @model_validator(mode="after")
    def _room(self) -> KedaConfig:
        if self.max_concurrent_rpcs <= self.max_streams:
            raise ValueError(
                f"max_concurrent_rpcs={self.max_concurrent_rpcs} leaves no room beside max_streams={self.max_streams}"
            )
        return self


def _on_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise ValueError(f"address={address!r} is no IP address; expected one such as 0.0.0.0 or ::1") from None
