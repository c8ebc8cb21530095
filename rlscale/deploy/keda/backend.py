"""The KEDA external scaler as a backend: an order is what KEDA is told when it asks; the fleet comes from elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from rlscale.deploy.base import Backend, Fleet, LiveConfigError
from rlscale.deploy.keda.board import Served
from rlscale.deploy.keda.config import KedaConfig
from rlscale.deploy.keda.fleets import AssumedFleet, ReadFleet
from rlscale.deploy.keda.server import KedaServer


class KedaBackend:
    """One service told to KEDA, from construction until `close`.

    `fleet`: a backend of which only `fleet()` is used, or a function; required unless `fleet_from` is `assumed`.
    `server`: shared with other services and closed by whoever made it; by default the backend has its own.

    Order at every interval, changed or not: an order is told for `stale_s` and then withheld.
    """

    def __init__(
        self,
        config: KedaConfig,
        served: Served,
        fleet: Backend | ReadFleet | None = None,
        server: KedaServer | None = None,
    ) -> None:
        _check_fleet(config, served, fleet)
        self.config, self._served = config, served
        self._owns = server is None
        self.server = server or KedaServer(config)
        self._source = fleet
        self._assumed: AssumedFleet | None = None
        if config.fleet_from == "assumed":
            delay_s = config.assumed_delay_s or 0.0
            self._assumed = AssumedFleet(config.assumed_replicas, delay_s, self.server.steady_s)
        self._read = _reader(self._assumed or fleet)
        try:
            self.server.board.serve(served)
        except LiveConfigError:
            self._close_own()
            raise

    @property
    def tolerance(self) -> float:
        """Relative change of the fleet up to which the HPA does nothing."""
        return self.config.tolerance

    @property
    def last_order(self) -> tuple[int, ...] | None:
        """The order that is told, or was until it went stale; None when there is none."""
        return self.server.board.order_of(self._served.service)

    def fleet(self) -> Fleet:
        """Replicas by the chosen source. Raises BackendError."""
        return self._read()

    def order(self, target: tuple[int, ...]) -> None:
        """Tell KEDA so many replicas per pool from now on. Raises BackendError below a pool's minimum."""
        self.server.board.publish(self._served.service, target)
        if self._assumed is not None:
            self._assumed.note(tuple(target))
        self.server.look()

    def withdraw(self) -> None:
        """Tell KEDA nothing until the next order, as when another instance leads; the fleet stays as it is."""
        self.server.board.withdraw(self._served.service)
        self.server.look()

    def close(self) -> None:
        """Withdraw the order and stop an own server; the fleet stays as it is. A given fleet source stays open."""
        self.server.board.leave(self._served.service)
        self._close_own()

    def _close_own(self) -> None:
        if self._owns:
            self.server.close()


def _check_fleet(config: KedaConfig, served: Served, fleet: Backend | ReadFleet | None) -> None:
    if config.fleet_from == "assumed" and fleet is not None:
        raise LiveConfigError("fleet_from: assumed asks nobody, yet a fleet source is given; choose one")
    if config.fleet_from != "assumed" and fleet is None:
        raise LiveConfigError(f"fleet_from: {config.fleet_from} needs a fleet source, and none is given")
    for name in ("assumed_replicas", "fleet_queries"):
        given = getattr(config, name)
        if given and len(given) != len(served.pools):
            raise LiveConfigError(f"{name} has {len(given)} entries; expected one for each of the pools {served.pools}")


def _reader(source: Backend | ReadFleet | None) -> Callable[[], Fleet]:
    if isinstance(source, Backend):
        return source.fleet
    assert source is not None, "checked at the door"
    return source
