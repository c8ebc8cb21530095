"""The KEDA backend without gRPC: what its configuration may say, what it answers, and where the fleet comes from."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_fakes import FakeClock
from pydantic import ValidationError

from rlscale.deploy.base import Backend, BackendError, Fleet, LiveConfigError
from rlscale.deploy.keda import backend as keda_backend
from rlscale.deploy.keda.answers import METRIC, RefusedError, check_metric, desired
from rlscale.deploy.keda.backend import KedaBackend
from rlscale.deploy.keda.board import Board, Served, StaleError
from rlscale.deploy.keda.config import KedaConfig

CHAT = Served("chat", ("h100",), (1,))
CODE = Served("code", ("h100", "spot"), (1, 0))
ASSUMED = {"fleet_from": "assumed", "assumed_delay_s": 60.0, "assumed_replicas": (2,)}

KUBERNETES = {"fleet_from": "kubernetes", "fleet_kubernetes": {"targets": [{"name": "chat"}]}}
METRICS = {"fleet_from": "metrics", "fleet_prometheus": "http://127.0.0.1:9090", "fleet_queries": ("count(up)",)}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(now_s=1_000.0)


@pytest.fixture
def board(clock: FakeClock) -> Board:
    board = Board(stale_s=60.0, steady_s=clock.steady_s)
    for served in (CHAT, CODE):
        board.serve(served)
    return board


def refusal(board: Board, **metadata: str) -> tuple[str, str]:
    with pytest.raises(RefusedError) as refused:
        desired(board, metadata)
    return refused.value.code, refused.value.text


def test_a_yaml_file_may_say_it_with_paths_and_lists() -> None:
    text = """
    address: 0.0.0.0
    tls: {cert_file: tls.crt, key_file: tls.key, client_ca_file: ca.crt}
    fleet_from: assumed
    assumed_delay_s: 300
    assumed_replicas: [2, 0]
    """
    config = KedaConfig.model_validate(yaml.safe_load(text))
    assert config.tls is not None
    assert (config.tls.client_ca_file, config.assumed_replicas, config.port) == (Path("ca.crt"), (2, 0), 6000)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "fleet_from"),
        ({"fleet_from": "guess"}, "'kubernetes', 'metrics' or 'assumed'"),
        ({"fleet_from": "kubernetes"}, "fleet_from: kubernetes needs fleet_kubernetes"),
        ({"fleet_from": "metrics", "fleet_queries": ["up"]}, "fleet_from: metrics needs fleet_prometheus"),
        ({"fleet_from": "metrics", "fleet_prometheus": "http://p"}, "fleet_from: metrics needs fleet_queries"),
        ({"fleet_from": "assumed", "assumed_replicas": (1,)}, "needs assumed_delay_s"),
        ({"fleet_from": "assumed", "assumed_delay_s": 9.0}, "needs assumed_replicas"),
        ({**KUBERNETES, "assumed_delay_s": 9.0}, "it belongs to assumed"),
        ({**ASSUMED, "assumed_replicas": (-1,)}, "greater than or equal to 0"),
        ({**ASSUMED, "assumed_replicas": (True,)}, "valid integer"),
        ({**ASSUMED, "adress": "::1"}, "Extra inputs"),
        ({**ASSUMED, "address": "0.0.0.0"}, "reachable from other machines and there is no tls"),
        ({**ASSUMED, "address": "localhost"}, "is no IP address"),
        ({**ASSUMED, "port": "6000"}, "valid integer"),
        ({**ASSUMED, "stale_s": 0.0}, "greater than 0"),
        ({**ASSUMED, "stale_s": math.nan}, "finite"),
        ({**ASSUMED, "max_streams": 64, "max_concurrent_rpcs": 64}, "leaves no room"),
        ({**ASSUMED, "tls": {"cert_file": "a"}}, "key_file"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        KedaConfig.model_validate(given)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_own_machine_needs_no_certificate(address: str) -> None:
    assert KedaConfig.model_validate({**ASSUMED, "address": address}).tls is None
    assert KedaConfig.model_validate({**ASSUMED, "address": "0.0.0.0", "plaintext": True}).tls is None


def test_each_pool_of_each_service_is_told_its_own_number(board: Board) -> None:
    board.publish("chat", (3,))
    board.publish("code", (5, 0))
    assert desired(board, {"service": "chat", "scalerAddress": "x:6000"}) == 3  # KEDA sends its own keys along
    assert desired(board, {"service": "code", "pool": "h100"}) == 5
    assert desired(board, {"service": "code", "pool": "spot"}) == 0


def test_what_is_missing_unknown_or_not_known_yet_has_a_status_each(board: Board) -> None:
    assert refusal(board)[0] == "INVALID_ARGUMENT"
    assert refusal(board, service="")[0] == "INVALID_ARGUMENT"
    assert refusal(board, service="code")[0] == "INVALID_ARGUMENT"  # two pools, none named
    code, text = refusal(board, service="chta")
    assert (code, "did you mean 'chat'" in text) == ("NOT_FOUND", True)
    assert refusal(board, service="code", pool="h200")[0] == "NOT_FOUND"
    assert refusal(board, service="chat")[0] == "UNAVAILABLE"  # no order yet
    assert refusal(Board(60.0, FakeClock().steady_s), service="chat")[0] == "UNAVAILABLE"  # nothing served yet


def test_a_name_of_any_length_is_refused_in_a_short_sentence(board: Board) -> None:
    code, text = refusal(board, service="c" * 60_000)
    assert (code, len(text) < 200) == ("NOT_FOUND", True)


def test_an_order_is_told_until_it_is_stale_and_again_after_the_next(board: Board, clock: FakeClock) -> None:
    board.publish("chat", (3,))
    clock.now_s += 60.0
    assert desired(board, {"service": "chat"}) == 3
    clock.now_s += 0.5
    code, text = refusal(board, service="chat")
    assert (code, "60 s" in text) == ("UNAVAILABLE", True)
    board.publish("chat", (3,))
    assert desired(board, {"service": "chat"}) == 3
    board.withdraw("chat")
    assert refusal(board, service="chat")[0] == "UNAVAILABLE"


def test_all_orders_have_to_be_fresh_for_the_server_to_be_ready(board: Board, clock: FakeClock) -> None:
    board.publish("chat", (3,))
    assert not board.is_fresh()
    board.publish("code", (1, 0))
    assert board.is_fresh()
    clock.now_s += 61.0
    assert not board.is_fresh()


@pytest.mark.parametrize("target", [(0,), (-1,), (2**31,), (1, 1), (), (1.5,), (math.nan,), ("3",), (None,)])
def test_an_order_that_is_none_leaves_the_one_before(board: Board, target: tuple[Any, ...]) -> None:
    board.publish("chat", (3,))
    with pytest.raises(BackendError, match="service 'chat'"):
        board.publish("chat", target)
    assert board.wanted("chat", "h100") == 3


def test_zero_is_told_only_where_it_is_allowed(board: Board) -> None:
    assert board.publish("code", (1, 0)).target == (1, 0)
    with pytest.raises(BackendError, match="expected 1 to"):
        board.publish("code", (0, 1))


def test_a_service_is_served_once_and_its_name_outlives_it(board: Board) -> None:
    with pytest.raises(LiveConfigError, match="is there twice"):
        board.serve(CHAT)
    board.publish("chat", (3,))
    board.leave("chat")
    # Else a trigger without a service would now be told the number of `code`.
    assert refusal(board)[0] == "INVALID_ARGUMENT"
    board.serve(CHAT)
    with pytest.raises(StaleError):
        board.wanted("chat", "h100")


def test_who_waits_hears_of_an_order_at_once(board: Board) -> None:
    heard = threading.Event()
    version = board.version

    def listen() -> None:
        board.wait(version, timeout_s=30.0)
        heard.set()

    thread = threading.Thread(target=listen)
    thread.start()
    board.publish("chat", (3,))
    assert heard.wait(5.0)
    thread.join()


@pytest.mark.parametrize(("name", "code"), [
    ("", "INVALID_ARGUMENT"), ("rps", "NOT_FOUND"), ("s0-rps", "NOT_FOUND"), ("s-" + METRIC, "NOT_FOUND"),
    (METRIC + "\n", "NOT_FOUND"), ("s" * 60_000, "NOT_FOUND"),
])  # fmt: skip
def test_no_other_metric_is_answered_for(name: str, code: str) -> None:
    check_metric(METRIC)
    check_metric("s12-" + METRIC)
    with pytest.raises(RefusedError) as refused:
        check_metric(name)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("service", "pools", "least"),
    [("", ("a",), (1,)), ("s", (), ()), ("s", ("a", "a"), (1, 1)), ("s", ("a",), (1, 1)), ("s", ("a",), (-1,))],
)
def test_a_service_needs_names_and_a_minimum_for_each_pool(
    service: str, pools: tuple[str, ...], least: tuple[int, ...]
) -> None:
    with pytest.raises(LiveConfigError):
        Served(service, pools, least)


class FakeServer:
    """What the backend needs of a server, without gRPC."""

    def __init__(self, board: Board, clock: FakeClock) -> None:
        self.board, self.clock, self.looks, self.closed = board, clock, 0, False

    def tell_health(self) -> None:
        self.looks += 1

    def leave(self, service: str) -> None:
        self.closed = not self.board.leave(service)


def backend(board: Board, clock: FakeClock, served: Served, **given: Any) -> tuple[KedaBackend, FakeServer]:
    server: Any = FakeServer(board, clock)
    fleet = given.pop("fleet", None)
    return KedaBackend(KedaConfig.model_validate(given or ASSUMED), served, fleet, server), server


def test_an_order_is_told_and_assumed(board: Board, clock: FakeClock) -> None:
    own, server = backend(board, clock, Served("own", ("a",), (1,)))
    assert isinstance(own, Backend)
    assert own.tolerance == 0.1
    own.order((4,))
    assert board.wanted("own", "a") == 4
    assert own.fleet() == Fleet((2,), (2,), (4,))
    own.withdraw()
    assert refusal(board, service="own")[0] == "UNAVAILABLE"
    own.close()
    assert (server.looks, server.closed) == (2, False)  # others are still served
    board.leave("chat")
    assert not board.leave("code")


def test_a_refused_order_is_not_assumed(board: Board, clock: FakeClock) -> None:
    own, _ = backend(board, clock, Served("own", ("a",), (1,)))
    with pytest.raises(BackendError):
        own.order((0,))
    assert own.fleet() == Fleet((2,), (0,), (2,))


def test_another_backend_may_tell_the_fleet_and_never_gets_an_order(board: Board, clock: FakeClock) -> None:
    closed = []

    class Scale:
        def fleet(self) -> Fleet:
            return Fleet((7,), (1,), (8,))

        def order(self, target: tuple[int, ...]) -> None:
            raise AssertionError("KEDA scales, not this one")

        def close(self) -> None:
            closed.append(True)

    own, _ = backend(board, clock, Served("own", ("a",), (1,)), fleet=Scale(), **KUBERNETES)
    own.order((9,))
    assert own.fleet() == Fleet((7,), (1,), (8,))
    own.close()
    assert closed == [True]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (KUBERNETES, "needs a fleet source"),
        ({**METRICS, "fleet_queries": ("a", "b"), "fleet": lambda: None}, "fleet_queries has 2 entries"),
        ({**ASSUMED, "fleet": lambda: None}, "asks nobody"),
        ({**ASSUMED, "assumed_replicas": (1, 2)}, "assumed_replicas has 2 entries"),
    ],
)
def test_a_fleet_source_that_does_not_fit_is_refused(
    board: Board, clock: FakeClock, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(LiveConfigError, match=says):
        backend(board, clock, Served("own", ("a",), (1,)), **given)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlscale.deploy.keda.server.find_spec", lambda name: None)
    with pytest.raises(LiveConfigError, match=r"install 'rlscale\[keda\]'"):
        keda_backend.KedaServer(KedaConfig.model_validate(ASSUMED))
