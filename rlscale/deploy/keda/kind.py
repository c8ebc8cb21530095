"""`backend: {kind: keda}` of live.yaml: the options completed by what is known of the service."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlscale.deploy.base import Backend, LiveConfigError, MetricsError
from rlscale.deploy.keda.backend import KedaBackend
from rlscale.deploy.keda.board import Served
from rlscale.deploy.keda.config import KedaConfig
from rlscale.deploy.keda.fleets import CountedFleet, ReadFleet
from rlscale.deploy.keda.server import KedaServer
from rlscale.deploy.kinds import Kind, Site, build

MAX_QUERY_S = 5.0
INTERVALS = 3  # that an order is told for: two decisions may fail before the fleet is left alone


def completed(options: KedaConfig, site: Site) -> tuple[KedaConfig, Served]:
    """Options and service with nothing left open. Raises LiveConfigError."""
    least = tuple(int(count) for count in site.limits.min_replicas)
    pools = options.pools or (("all",) if len(least) == 1 else ())
    if len(pools) != len(least):
        raise LiveConfigError(
            f"backend.pools: got {len(pools)} names, expected one for each of the {len(least)} pools of the scenario, "
            "in its order"
        )
    stale_s = INTERVALS * site.interval_s if options.stale_s is None else options.stale_s
    if stale_s <= site.interval_s:
        raise LiveConfigError(
            f"backend.stale_s={stale_s:g}: an order would be withheld before the next, after {site.interval_s:g} s; "
            f"expected {INTERVALS * site.interval_s:g} or more"
        )
    return options.model_copy(update={"stale_s": stale_s}), Served(site.service, pools, least)


def _build(options: KedaConfig, site: Site) -> KedaBackend:
    config, served = completed(options, site)
    fleet = fleet_source(config, site)
    server = KedaServer(config, site.clock)
    try:
        return KedaBackend(config, served, fleet, server)
    except LiveConfigError:
        server.close()
        raise


def fleet_source(config: KedaConfig, site: Site) -> Backend | ReadFleet | None:
    """Who is asked for the number of replicas; None when that is assumed."""
    if config.fleet_kubernetes is not None:
        entry = {"kind": "kubernetes", **config.fleet_kubernetes}
        watched: Backend = build("backend", entry, site, "backend.fleet_kubernetes")
        return watched
    if config.fleet_prometheus is not None:
        return _counted(config.fleet_prometheus, config.fleet_queries, min(MAX_QUERY_S, site.interval_s / 4.0))
    return None


def _counted(url: str, queries: Sequence[str], timeout_s: float) -> CountedFleet:
    from rlscale.deploy.prometheus_http import Api

    api = Api(url, timeout_s)

    def count(query: str) -> float:
        series = api.query(query)
        if len(series) > 1:
            raise MetricsError(f"query {query!r} has {len(series)} series; expected one, as of count() or sum()")
        return series[0].value if series else math.nan

    return CountedFleet(count, queries, api.close)


KIND = Kind(KedaConfig, _build)
