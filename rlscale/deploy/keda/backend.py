"""The KEDA external scaler as a backend: an order is what KEDA is told when it asks; the fleet comes from elsewhere."""

from __future__ import annotations

from rlscale.deploy.base import Backend, Fleet, LiveConfigError
from rlscale.deploy.keda.board import Served
from rlscale.deploy.keda.config import KedaConfig
from rlscale.deploy.keda.fleets import AssumedFleet, CountedFleet, ReadFleet
from rlscale.deploy.keda.server import KedaServer, Metrics


class KedaBackend:
    """One service told to KEDA, from construction until `close`.

    `fleet`: a backend of which only `fleet()` is used, or a function; required unless `fleet_from` is `assumed`.
    `server`: may be shared with other services, and stops with the last of them; by default the backend has its own.

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
        self.server = server or KedaServer(config)
        if fleet is None:
            delay_s = config.assumed_delay_s or 0.0
            fleet = AssumedFleet(config.assumed_replicas, delay_s, self.server.clock.steady_s)
        self._fleet: Backend | ReadFleet = fleet
        self.server.board.serve(served)

    @property
    def tolerance(self) -> float:
        """Relative change of the fleet up to which the HPA does nothing."""
        return self.config.tolerance

    def fleet(self) -> Fleet:
        """Replicas by the chosen source. Raises BackendError."""
        return self._fleet.fleet() if isinstance(self._fleet, Backend) else self._fleet()

    def order(self, target: tuple[int, ...]) -> None:
        """Tell KEDA so many replicas per pool from now on. Raises BackendError below a pool's minimum."""
        order = self.server.board.publish(self._served.service, target)
        if isinstance(self._fleet, AssumedFleet | CountedFleet):
            self._fleet.note(order.target)
        self.server.tell_health()

    def withdraw(self) -> None:
        """Tell KEDA nothing until the next order, as when another instance leads; the fleet stays as it is."""
        self.server.board.withdraw(self._served.service)
        self.server.tell_health()

    def metrics(self) -> Metrics:
        """What there is to tell about the server, for an exporter."""
        return self.server.metrics()

    def close(self) -> None:
        """Withdraw the order and let go of the fleet source; the fleet stays as it is."""
        self.server.leave(self._served.service)
        if isinstance(self._fleet, Backend | CountedFleet):
            self._fleet.close()


def _check_fleet(config: KedaConfig, served: Served, fleet: Backend | ReadFleet | None) -> None:
    if config.fleet_from == "assumed" and fleet is not None:
        raise LiveConfigError("fleet_from: assumed asks nobody, yet a fleet source is given; choose one")
    if config.fleet_from != "assumed" and fleet is None:
        raise LiveConfigError(f"fleet_from: {config.fleet_from} needs a fleet source, and none is given")
    for name in ("assumed_replicas", "fleet_queries"):
        given = getattr(config, name)
        if given and len(given) != len(served.pools):
            raise LiveConfigError(f"{name} has {len(given)} entries; expected one for each of the pools {served.pools}")
