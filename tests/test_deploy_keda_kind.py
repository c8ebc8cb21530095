"""`backend: {kind: keda}` of live.yaml: completed by what is known of the service, and where the fleet comes from."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
from live_fakes import FakeClock

from rlscale.deploy import kinds
from rlscale.deploy.base import BackendError, Fleet, LiveConfigError, MetricsError
from rlscale.deploy.keda import kind
from rlscale.deploy.keda.board import Served
from rlscale.deploy.keda.config import KedaConfig
from rlscale.deploy.keda.fleets import AssumedFleet, CountedFleet
from rlscale.types import ScalingLimits, Slo

ASSUMED = {"fleet_from": "assumed", "assumed_delay_s": 60.0, "assumed_replicas": [2]}


def site(*least: int) -> kinds.Site:
    each = np.ones(len(least))
    limits = ScalingLimits(np.array(least), np.array(least) + 9, each, each, each, each, each, Slo(1.0), 60.0)
    return kinds.Site("chat", limits, 15.0, FakeClock())


def options(**given: Any) -> KedaConfig:
    return KedaConfig.model_validate({**ASSUMED, **given})


def test_what_is_left_open_follows_from_the_service() -> None:
    config, served = kind.completed(options(), site(1))
    assert served == Served("chat", ("all",), (1,))
    assert config.stale_s == 45.0
    _, served = kind.completed(options(pools=["h100", "spot"]), site(1, 0))
    assert served == Served("chat", ("h100", "spot"), (1, 0))


@pytest.mark.parametrize(
    ("given", "least", "says"),
    [
        ({}, (1, 0), "backend.pools: got 0 names, expected one for each of the 2"),
        ({"pools": ["a", "b"]}, (1,), "backend.pools: got 2 names"),
        ({"stale_s": 15.0}, (1,), "withheld before the next, after 15 s; expected 45"),
    ],
)
def test_what_does_not_fit_the_service_is_refused(given: dict[str, Any], least: tuple[int, ...], says: str) -> None:
    with pytest.raises(LiveConfigError, match=says):
        kind.completed(options(**given), site(*least))


def test_the_kind_is_found_by_its_name_and_names_a_wrong_option() -> None:
    entry = {"kind": "keda", **ASSUMED, "stale": 9.0}
    with pytest.raises(LiveConfigError, match=r"unknown key 'backend.stale'; did you mean 'stale_s'"):
        kinds.build("backend", entry, site(1), "live.yaml")


def test_an_assumed_fleet_carries_out_every_order_after_the_delay() -> None:
    clock = FakeClock()
    fleet = AssumedFleet((2,), delay_s=60.0, steady_s=clock.steady_s)
    assert fleet() == Fleet((2,), (0,), (2,))
    fleet.note((5,))
    clock.now_s += 30.0
    fleet.note((5,))  # said again: the delay does not begin anew
    fleet.note((8,))
    assert fleet() == Fleet((2,), (6,), (8,))
    clock.now_s += 30.0
    assert fleet() == Fleet((5,), (3,), (8,))
    fleet.note((4,))  # scale in: gone at once, and what was on its way never comes
    assert fleet() == Fleet((4,), (0,), (4,))
    clock.now_s += 3_600.0
    assert fleet() == Fleet((4,), (0,), (4,))


def test_a_counted_fleet_is_what_the_queries_say() -> None:
    counts = {"a": 3.0, "b": 1.0}
    fleet = CountedFleet(counts.__getitem__, ("a", "b"))
    assert fleet() == Fleet((3, 1), (0, 0), (3, 1))
    fleet.note((5, 0))
    assert fleet() == Fleet((3, 1), (2, 0), (5, 0))


@pytest.mark.parametrize("answer", [math.nan, math.inf, -1.0, 2.5])
def test_a_count_that_is_none_is_an_error_and_not_zero_replicas(answer: float) -> None:
    with pytest.raises(BackendError, match="ready replicas"):
        CountedFleet(lambda query: answer, ("up",))()


def test_metrics_that_cannot_be_read_are_an_error_of_the_backend() -> None:
    def count(query: str) -> float:
        raise MetricsError("refused")

    with pytest.raises(BackendError, match="not known: refused"):
        CountedFleet(count, ("up",))()


@pytest.fixture
def prometheus() -> Iterator[tuple[str, dict[str, list[float]]]]:
    """A server that answers queries from a table: the values of the series of each."""
    table: dict[str, list[float]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            from urllib.parse import parse_qs

            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["query"][0]
            series = [{"metric": {"n": str(n)}, "value": [1e9, str(v)]} for n, v in enumerate(table[asked])]
            body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": series}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", table
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_fleet_is_counted_by_prometheus(prometheus: tuple[str, dict[str, list[float]]]) -> None:
    url, table = prometheus
    config = KedaConfig(fleet_from="metrics", fleet_prometheus=url, fleet_queries=("up a", "up b"))
    fleet: Any = kind.fleet_source(config, site(1, 1))
    table |= {"up a": [4.0], "up b": [0.0]}
    fleet.note((4, 2))
    assert fleet() == Fleet((4, 0), (0, 2), (4, 2))
    table["up a"] = []
    with pytest.raises(BackendError, match="'up a' says nan"):
        fleet()
    table["up a"] = [1.0, 1.0]
    with pytest.raises(BackendError, match="2 series"):
        fleet()
    fleet.close()
