"""The gRPC server that KEDA asks: limits, health, reflection, TLS. Says what the board says, and never more."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

from rlscale.deploy.base import Clock, LiveConfigError
from rlscale.deploy.clock import SystemClock
from rlscale.deploy.keda.board import Board
from rlscale.deploy.keda.config import KedaConfig

log = logging.getLogger(__name__)

STALE_S = 120.0  # where neither the configuration nor an interval says better
WORKERS = 8  # threads for calls that answer at once; every stream has one more
LOOK_S = 1.0  # how often certificates and the age of orders are looked at
READY = "externalscaler.ExternalScaler"  # health name for a readiness probe: serving while all orders are fresh
ALIVE = ""  # health name for a liveness probe: serving while the server runs

Metrics = dict[tuple[str, tuple[tuple[str, str], ...]], float]  # (name, labels) -> value


class KedaServer:
    """Runs from construction until `close`. Several backends may share one: a service each."""

    def __init__(self, config: KedaConfig, clock: Clock | None = None) -> None:
        _need_extra()
        from grpc_health.v1.health import HealthServicer

        from rlscale.deploy.keda._rpcs import Rpcs

        self.config, self.clock = config, clock or SystemClock()
        self.board = Board(config.stale_s or STALE_S, self.clock.steady_s)
        self._certificate = self._watched()
        self._rpcs = Rpcs(self.board, config.max_streams)
        self._health = HealthServicer()
        self._server = self._build()
        self.port = self._listen()
        self._closed = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keda-keeper", daemon=True)
        self._server.start()
        self._keeper.start()

    def metrics(self) -> Metrics:
        """Gauges, and counters by names that end in `_total`, for an exporter."""
        found: Metrics = {}
        for (method, code), calls in self._rpcs.outcomes().items():
            found["rlscale_keda_calls_total", (("method", method), ("code", code))] = calls
        for service in self.board.services:
            age_s = self.board.age_s(service)
            if age_s is not None:
                found["rlscale_keda_order_age_seconds", (("service", service),)] = age_s
        if self._certificate is not None:
            found["rlscale_keda_certificate_left_seconds", ()] = self._certificate.left_s
            found["rlscale_keda_certificate_expiring", ()] = float(self._certificate.expiring)
            found["rlscale_keda_certificate_reloads_total", ()] = self._certificate.reloads
            found["rlscale_keda_certificate_failed_reloads_total", ()] = self._certificate.failed_reloads
        return found

    def tell_health(self) -> None:
        """Bring health up to date; done every second, and after every order."""
        from grpc_health.v1.health_pb2 import HealthCheckResponse as Answer

        self._health.set(READY, Answer.SERVING if self.board.is_fresh() else Answer.NOT_SERVING)

    def leave(self, service: str) -> None:
        """Serve one service less; without any, stop."""
        if not self.board.leave(service):
            self.close()

    def close(self) -> None:
        """Tell nothing any more, end the streams, let go of the port. A second time does nothing."""
        self._closed.set()
        self.board.close()
        self._server.stop(grace=2.0).wait()
        if self._keeper.is_alive():
            self._keeper.join()

    def _keep(self) -> None:
        while not self._closed.wait(LOOK_S):
            try:
                self.tell_health()
                if self._certificate is not None:
                    self._certificate.look()
            except Exception:  # without this thread health would go on saying what was true once
                log.exception("health and certificate could not be looked at")

    def _watched(self) -> Any:
        if self.config.tls is None:
            return None
        from rlscale.deploy.keda._certificates import Watched

        return Watched(self.config.tls, self.clock.unix_s)

    def _build(self) -> Any:
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc
        from grpc_reflection.v1alpha import reflection, reflection_pb2

        from rlscale.deploy.keda import _wire

        config = self.config
        server = grpc.server(
            ThreadPoolExecutor(WORKERS + config.max_streams, "keda"),
            handlers=(self._rpcs.handler(),),
            options=_options(config),
            maximum_concurrent_rpcs=config.max_concurrent_rpcs,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._health.set(ALIVE, health_pb2.HealthCheckResponse.SERVING)
        self._health.set(READY, health_pb2.HealthCheckResponse.NOT_SERVING)
        for file in (health_pb2, reflection_pb2):  # the pool of reflection has to know what it lists
            _wire.POOL.AddSerializedFile(file.DESCRIPTOR.serialized_pb)
        names = (_wire.SERVICE, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server, pool=_wire.POOL)
        return server

    def _listen(self) -> int:
        config = self.config
        host = f"[{config.address}]" if ":" in config.address else config.address
        place = f"{host}:{config.port}"
        try:
            if self._certificate is None:
                port = self._server.add_insecure_port(place)
            else:
                port = self._server.add_secure_port(place, _credentials(self._certificate))
        except RuntimeError:
            port = 0
        if port == 0:
            raise LiveConfigError(
                f"cannot listen on {place}: the port is taken or the address is not this machine's; change one"
            )
        return int(port)


def _credentials(certificate: Any) -> Any:
    """Credentials that follow the watched certificate from one handshake to the next."""
    import grpc

    given = certificate.current

    def as_grpc(now: Any) -> Any:
        return grpc.ssl_server_certificate_configuration([(now.key, now.chain)], now.client_ca)

    def newest() -> Any:
        nonlocal given
        now = certificate.current
        if now is given:
            return None  # gRPC keeps what it has
        given = now
        return as_grpc(now)

    mutual = given.client_ca is not None
    return grpc.dynamic_ssl_server_credentials(as_grpc(given), newest, require_client_authentication=mutual)


def _options(config: KedaConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # a second server on the port is an error, not half of the calls
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: a small message cannot unpack to a large one
        ("grpc.max_metadata_size", 16_384),
        ("grpc.absolute_max_metadata_size", 32_768),
        ("grpc.max_concurrent_streams", config.max_concurrent_rpcs),  # per connection
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.max_connection_age_ms", int(config.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", 10_000),
        ("grpc.server_handshake_timeout_ms", 5_000),  # who connects and says nothing
        ("grpc.keepalive_time_ms", 30_000),  # finds clients that went without a word
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


def _need_extra() -> None:
    missing = [name for name in ("grpc", "grpc_health", "grpc_reflection", "cryptography") if find_spec(name) is None]
    if missing:
        raise LiveConfigError(
            f"the KEDA backend needs packages that are not installed ({', '.join(missing)}); "
            "install the extra: pip install 'rlscale[keda]'"
        )
