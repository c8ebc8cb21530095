"""Pages and POST /decide over real HTTP on loopback, and what they make of questions that are none."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from live_fakes import UNREACHABLE, FakeBackend, FakeClock, FakeSource, Plain

from agents.headroom import Headroom
from envs import get_scenario
from rlscale.circle import turn
from rlscale.deploy.audit import Audit, records
from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.exporter import Exporter
from rlscale.deploy.http_decide import Asked, openapi
from rlscale.deploy.kinds import Site
from rlscale.deploy.live import Current, Live
from rlscale.deploy.pages import Application, PageServer, pages
from rlscale.deploy.tensorboard import Scalars
from rlscale.deploy.world import LiveWorld, Place
from rlscale.types import Decision, Observation, ScalingLimits

pytest.importorskip("prometheus_client", reason="needs prometheus-client")
pytest.importorskip("waitress", reason="needs waitress")

QUESTION: dict[str, Any] = {"metrics": {"arrival_per_s": 100.0, "waiting": 0, "running": 5},
                            "fleet": {"ready": [4], "pending": [0]}}  # fmt: skip


@pytest.fixture(scope="module")
def limits() -> ScalingLimits:
    return get_scenario("chat").limits


@pytest.fixture
def live(limits: ScalingLimits, tmp_path: Path) -> Iterator[Live]:
    clock = FakeClock()
    world = LiveWorld(Place(limits, 15.0), FakeSource(clock), FakeBackend(), clock)
    current = Current("headroom", Plain(Headroom(limits)))
    found = Live("chat", world, current, Audit(tmp_path / "audit.jsonl"), Exporter("chat", limits), lambda: True,
                 Scalars(tmp_path / "scalars", limits))  # fmt: skip
    yield found
    found.close()


@pytest.fixture
def server(live: Live) -> Iterator[str]:
    found = PageServer(Application(pages(live), live.failed), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{found.port}"
    found.close()


@pytest.fixture
def asked(limits: ScalingLimits, tmp_path: Path) -> Iterator[tuple[str, Live, FakeClock]]:
    clock = FakeClock()
    backend = Asked(Site("chat", limits, 15.0, clock))
    world = LiveWorld(Place(limits, 15.0), backend, backend, clock)
    live = Live("chat", world, Current("headroom", Plain(Headroom(limits))), Audit(tmp_path / "audit.jsonl"),
                Exporter("chat", limits), lambda: True, asked=True)  # fmt: skip
    server = PageServer(Application(pages(live) | backend.pages(live), live.failed), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.port}", live, clock
    server.close()
    live.close()


def once(live: Live) -> None:
    assert live.world.wait()
    live.keep(turn(live.world, live.current, live.world.place.limits))


def test_pages_say_what_happened(live: Live, server: str) -> None:
    assert requests.get(f"{server}/healthz", timeout=10).text == "ok\n"
    unready = requests.get(f"{server}/readyz", timeout=10)
    assert (unready.status_code, unready.text) == (503, "no decision yet\n")
    once(live)
    assert requests.get(f"{server}/readyz", timeout=10).status_code == 200
    text = requests.get(f"{server}/metrics", timeout=10).text
    assert 'rlscale_target_replicas{pool="0",service="chat"} 2.0' in text
    assert 'rlscale_decisions_total{outcome="ordered",scaler="headroom",service="chat"} 1.0' in text
    assert 'rlscale_arrival_per_s{service="chat"} 10.0' in text and "rlscale_decision_seconds_bucket" in text
    state = requests.get(f"{server}/state", timeout=10).json()
    assert state["target"] == [2] and state["observation"]["arrival_per_s"] == 10.0
    assert requests.get(f"{server}/nowhere", timeout=10).status_code == 404
    assert requests.post(f"{server}/metrics", timeout=10).status_code == 405
    assert requests.head(f"{server}/healthz", timeout=10).text == ""


def test_metrics_that_are_gone_make_it_unready_and_not_unhealthy(live: Live, server: str) -> None:
    once(live)
    live.world.source.error = UNREACHABLE  # type: ignore[attr-defined]
    for _ in range(9):
        once(live)
    assert requests.get(f"{server}/healthz", timeout=10).status_code == 200
    unready = requests.get(f"{server}/readyz", timeout=10)
    assert (unready.status_code, unready.text) == (503, "metrics are 135 s old\n")
    assert (
        'rlscale_errors_total{service="chat",where="metrics"} 9.0' in requests.get(f"{server}/metrics", timeout=10).text
    )


def test_a_circle_that_stands_still_is_unhealthy(live: Live, server: str) -> None:
    once(live)
    live.world.clock.now_s += 136.0  # type: ignore[attr-defined]
    answer = requests.get(f"{server}/healthz", timeout=10)
    assert (answer.status_code, answer.text) == (503, "no turn for 136 s\n")


def test_the_audit_log_holds_every_decision(live: Live) -> None:
    for _ in range(5):
        once(live)
    found = [record for record in records(live.audit.path) if record["kind"] == "decision"]
    assert [record["t_s"] for record in found] == [0.0, 15.0, 30.0, 45.0, 60.0]
    assert all(record["target"] == [2] and record["outcome"] == "ordered" and record["reason"] for record in found)


def test_scalars_can_be_read_by_tensorboard(live: Live, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(3):
        once(live)
    assert live.scalars is not None
    live.scalars.close()
    read = EventAccumulator(str(tmp_path / "scalars"))
    read.Reload()
    assert [event.value for event in read.Scalars("action/target")] == [2.0] * 3
    assert {"load/arrival_per_s", "cost/usd_per_hour", "capacity/ready"} <= set(read.Tags()["scalars"])
    assert "latency/ttft_mean_s" not in read.Tags()["scalars"], "it is not known here"


def test_an_address_that_is_taken_is_told(server: str, live: Live) -> None:
    port = int(server.rpartition(":")[2])
    with pytest.raises(LiveConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
        PageServer(Application({}, live.failed), "127.0.0.1", port)


def test_a_question_is_a_turn_and_asking_again_changes_nothing(asked: tuple[str, Live, FakeClock]) -> None:
    url, live, clock = asked
    first = requests.post(f"{url}/decide", json=QUESTION, timeout=10).json()
    assert first["target"] == [7] and not first["repeated"] and first["interval_s"] == 15.0  # 1.2 x 100 / 18.6
    other = QUESTION | {"metrics": {"arrival_per_s": 300.0, "waiting": 0, "running": 5}}
    assert requests.post(f"{url}/decide", json=other, timeout=10).json() == first | {"repeated": True}
    clock.now_s += 15.0
    assert requests.post(f"{url}/decide", json=other, timeout=10).json()["target"] == [20]
    assert live.turned == 2 and requests.get(f"{url}/healthz", timeout=10).status_code == 200


def test_missing_metrics_hold(asked: tuple[str, Live, FakeClock]) -> None:
    url, _, _ = asked
    answer = requests.post(f"{url}/decide", json={"metrics": {}, "fleet": {"ready": [4], "pending": [1]}}, timeout=10)
    assert answer.json()["target"] == [5] and "hold" in answer.json()["reason"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body: Invalid JSON"),
        (b"{", "body: Invalid JSON"),
        (b"[]", "body"),
        (b'{"metrics": {}}', "fleet: Field required"),
        (b'{"metrics": {"arrival_per_s": -1}, "fleet": {"ready": [1], "pending": [0]}}', "metrics.arrival_per_s"),
        (b'{"metrics": {"arrival_per_s": NaN}, "fleet": {"ready": [1], "pending": [0]}}', ""),
        (b'{"metrics": {"arival": 1}, "fleet": {"ready": [1], "pending": [0]}}', "metrics.arival: Extra inputs"),
        (b'{"metrics": {}, "fleet": {"ready": [1, 2], "pending": [0, 0]}}', "expected 1 counts"),
        (b'{"metrics": {}, "fleet": {"ready": [-1], "pending": [0]}}', "fleet.ready: got [-1]"),
        (b'{"metrics": {}, "fleet": {"ready": [1.5], "pending": [0]}}', "fleet.ready.0"),
    ],
)
def test_a_question_that_is_none_is_refused_with_its_field(
    asked: tuple[str, Live, FakeClock], body: bytes, said: str
) -> None:
    url, live, _ = asked
    answer = requests.post(f"{url}/decide", data=body, timeout=10)
    assert answer.status_code == 422 and said in answer.json()["error"], answer.text
    assert live.turned == 0


def test_a_page_that_fails_tells_nothing_of_it(live: Live) -> None:
    def broken(_: bytes) -> Any:
        raise RuntimeError("password=hunter2")

    server = PageServer(Application({("GET", "/x"): broken}, live.failed), "127.0.0.1", 0)
    answer = requests.get(f"http://127.0.0.1:{server.port}/x", timeout=10)
    server.close()
    assert answer.status_code == 500 and "hunter2" not in answer.text


def test_the_description_is_one_of_openapi() -> None:
    described = openapi()
    assert described["openapi"] == "3.1.0"
    text = json.dumps(described)
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in described["components"]["schemas"], reference


def test_ten_thousand_malformed_questions_leave_it_serving(asked: tuple[str, Live, FakeClock]) -> None:
    """Random bytes, cut requests, wrong lengths, odd methods: seed 0, 10 000 of them."""
    url, live, _ = asked
    rng, port = random.Random(0), int(url.rpartition(":")[2])
    good = json.dumps(QUESTION).encode()
    before_mb = resident_mb()
    for _ in range(10_000):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(malformed(rng, good))
    assert requests.post(f"{url}/decide", json=QUESTION, timeout=30).json()["target"] == [7]
    assert live.last is not None and resident_mb() - before_mb < 50.0


def malformed(rng: random.Random, good: bytes) -> bytes:
    """One that is no question, or a good one with bytes changed."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 200))
    body = bytearray(good)
    for _ in range(rng.randrange(1, 20)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    length = (len(body), -1, 10**12, rng.randrange(5))[rng.randrange(4)]
    method = ("POST", "GET", "BREW", "P\0ST")[kind % 4]
    head = f"{method} /decide HTTP/1.{rng.randrange(3)}\r\nHost: x\r\nContent-Length: {length}\r\n".encode()
    whole = head + (b"Transfer-Encoding: chunked\r\n" if kind == 4 else b"") + b"\r\n" + bytes(body)
    return whole[: rng.randrange(1, len(whole))] if rng.random() < 0.5 else whole


def resident_mb() -> float:
    pages_resident = int(Path("/proc/self/statm").read_text().split()[1])
    return pages_resident * os.sysconf("SC_PAGE_SIZE") / 1e6


class Counting(Plain):
    """Ten replicas more at every decision."""

    def decide(self, seen: Observation) -> Decision:
        return Decision((int(seen.target[0]) + 10,), "more")


def test_another_decider_takes_over_between_two_turns(live: Live) -> None:
    once(live)
    live.current.decider = Counting(None)
    once(live)
    assert live.last is not None and live.last.bounded.target == (12,)
