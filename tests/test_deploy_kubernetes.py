"""The Kubernetes backend against an API server that keeps its contract, and one that does not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kube_contract
import kube_server as kube
import pytest
from kube_cluster import Call, Cluster, pod
from kube_server import KubeServer, backend, fail
from pydantic import ValidationError

from rlscale.deploy import kubernetes_access
from rlscale.deploy.base import Backend, BackendError, Fleet, LiveConfigError
from rlscale.deploy.kubernetes_config import Access, ScaleTarget

TOKEN = "eyJhbGciOi.secret.of-the-pod"
SLOW_S = 2.0  # far above what an answer takes, far below what an unbounded wait would


@pytest.fixture
def server() -> Iterator[KubeServer]:
    with kube.running(Cluster()) as server:
        yield server


def writes(cluster: Cluster) -> int:
    return sum(call.verb in ("patch", "update") for call in cluster.calls)


def took_s(call: Callable[[], object]) -> float:
    start = time.monotonic()
    with pytest.raises(BackendError):
        call()
    return time.monotonic() - start


def test_it_is_a_backend_that_loses_no_small_change(server: KubeServer) -> None:
    one = backend(server)
    assert isinstance(one, Backend)
    assert one.tolerance == 0.0


def test_the_fleet_is_told_from_scale_and_pods(server: KubeServer) -> None:
    chat = server.cluster.add("chat", 5)
    chat.pods = [pod("chat", True), pod("chat", True), pod("chat", False), pod("chat", True, leaving=True),
                 pod("chat", False, phase="Failed"), pod("other", True)]  # fmt: skip
    batch = server.cluster.add("batch", 0)
    batch.pods = [pod("batch", False, leaving=True)]
    # Two of the five pods of chat were never created; they are ordered all the same.
    assert backend(server, "chat", "batch").fleet() == Fleet((2, 0), (3, 0), (5, 0), (1, 1))


def test_many_pods_are_read_page_by_page(server: KubeServer) -> None:
    server.cluster.add("chat", 1201).pods = [pod("chat", True)] * 1201
    assert backend(server).fleet().ready == (1201,)
    assert sum(call.resource == "pods" for call in server.cluster.calls) == 3


def test_an_order_writes_only_what_differs(server: KubeServer) -> None:
    chat, batch = server.cluster.add("chat", 3), server.cluster.add("batch", 2)
    one = backend(server, "chat", "batch")
    one.order((4, 2))
    assert (chat.replicas, batch.replicas, writes(server.cluster)) == (4, 2, 1)
    one.order((4, 2))
    assert writes(server.cluster) == 1


def test_any_kind_with_a_scale_subresource_will_do(server: KubeServer) -> None:
    group = server.cluster.add("big", 1, plural="leaderworkersets", group="leaderworkerset.x-k8s.io")
    target = ScaleTarget(name="big", kind="LeaderWorkerSet", api_version="leaderworkerset.x-k8s.io/v1")
    backend(server, targets=[target]).order((2,))
    assert group.replicas == 2


def test_a_conflict_is_read_again_and_written_once_more(server: KubeServer) -> None:
    chat = server.cluster.add("chat", 3)
    meddle = iter([7, 8])

    def before(call: Call) -> None:
        if call.verb == "patch" and (other := next(meddle, None)) is not None:
            server.cluster.touch(chat, other)

    server.cluster.before = before
    backend(server).order((4,))
    assert chat.replicas == 4
    assert writes(server.cluster) == 3


def test_endless_conflicts_end_at_the_deadline(server: KubeServer) -> None:
    chat = server.cluster.add("chat", 3)
    server.cluster.before = lambda call: server.cluster.touch(chat) if call.verb == "patch" else None
    one = backend(server, deadline_s=0.5)
    assert took_s(lambda: one.order((4,))) < SLOW_S
    assert chat.replicas == 3


def test_who_does_not_lead_writes_nothing(server: KubeServer) -> None:
    chat = server.cluster.add("chat", 3)
    with pytest.raises(BackendError, match="another instance may lead"):
        backend(server, leads=lambda: False).order((4,))
    assert (chat.replicas, writes(server.cluster)) == (3, 0)


def test_leading_is_asked_again_after_a_conflict(server: KubeServer) -> None:
    chat, answers = server.cluster.add("chat", 3), iter([True, False])
    server.cluster.before = lambda call: server.cluster.touch(chat, 9) if call.verb == "patch" else None
    with pytest.raises(BackendError, match="another instance may lead"):
        backend(server, leads=lambda: next(answers)).order((4,))
    assert chat.replicas == 9, "what the new leader wrote stays"


@pytest.mark.parametrize("order", [(), (1, 2), (-1,), (1.5,), (float("nan"),), (True,), ("3",), (None,), (2**31,)])
def test_what_is_no_order_never_reaches_the_server(server: KubeServer, order: Any) -> None:
    server.cluster.add("chat", 3)
    with pytest.raises(BackendError, match="order"):
        backend(server).order(order)
    assert server.cluster.calls == []


def test_no_fleet_goes_to_zero_by_accident(server: KubeServer) -> None:
    chat = server.cluster.add("chat", 3)
    with pytest.raises(BackendError, match="allow_zero: true"):
        backend(server).order((0,))
    assert chat.replicas == 3
    backend(server, allow_zero=True).order((0,))
    assert chat.replicas == 0
    assert backend(server).fleet().target == (0,)


def test_one_pool_that_fails_does_not_hold_up_the_others(server: KubeServer) -> None:
    batch = server.cluster.add("batch", 2)
    with pytest.raises(BackendError, match=r"1 of 2 orders placed.*no deployments 'chat' in namespace 'llm'"):
        backend(server, "chat", "batch").order((4, 5))
    assert batch.replicas == 5


def test_one_pool_that_hangs_leaves_time_for_the_others(server: KubeServer) -> None:
    server.cluster.add("chat", 3)
    batch = server.cluster.add("batch", 2)
    server.script = [kube.hold]
    one = backend(server, "chat", "batch", deadline_s=1.0, attempts=1)
    assert took_s(lambda: one.order((4, 5))) < SLOW_S
    assert batch.replicas == 5


@pytest.mark.parametrize(
    ("verb", "resource", "call", "advice"),
    [
        (
            "get",
            "deployments/scale",
            "fleet",
            r"apiGroups \['apps'\], resources \['deployments/scale'\], verbs \['get'\]",
        ),
        ("list", "pods", "fleet", r"apiGroups \[''\], resources \['pods'\], verbs \['list'\]"),
        ("patch", "deployments/scale", "order", r"verbs \['patch'\], resourceNames \['chat'\]"),
    ],
)
def test_a_missing_right_is_named(server: KubeServer, verb: str, resource: str, call: str, advice: str) -> None:
    server.cluster.add("chat", 3)
    server.cluster.denied = {(verb, resource)}
    one = backend(server)
    with pytest.raises(BackendError, match=advice):
        one.fleet() if call == "fleet" else one.order((4,))


def test_an_answer_of_other_replicas_than_ordered_is_an_error(server: KubeServer) -> None:
    chat = server.cluster.add("chat", 3)
    scale = {"metadata": {"resourceVersion": str(chat.version)}, "spec": {"replicas": 2}, "status": {}}
    server.script = [kube.well, lambda handler: handler.reply(200, {}, scale)]
    with pytest.raises(BackendError, match="set to 2 instead of 4; look for an admission webhook"):
        backend(server).order((4,))


@pytest.mark.parametrize("scale", [{}, {"spec": []}, {"spec": {"replicas": "3"}}, {"spec": {"replicas": -1}},
                                   {"spec": {"replicas": True}}, {"spec": {"replicas": 3}}])  # fmt: skip
def test_an_answer_that_is_none_is_no_fleet(server: KubeServer, scale: Any) -> None:
    server.script = [lambda handler: handler.reply(200, {}, scale)]
    with pytest.raises(BackendError, match=r"spec\.replicas|label selector"):
        backend(server).fleet()


def test_a_token_that_was_renewed_is_read_anew(server: KubeServer, tmp_path: Path) -> None:
    server.cluster.add("chat", 3)
    file = tmp_path / "token"
    one = backend(server, access=Access(server=server.url, token_file=str(file)))
    for server.cluster.token in ("first", "second"):
        file.write_text(f"{server.cluster.token}\n")
        assert one.fleet().target == (3,)


def test_no_message_holds_the_token(server: KubeServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    access = Access(server=server.url, token_file=str(file))
    file.write_text(TOKEN)
    server.script = [fail(code, f"you sent 'Bearer {TOKEN}'") for code in (400, 403, 500)]
    for _ in range(3):
        with pytest.raises(BackendError) as refused:
            backend(server, access=access, attempts=1).fleet()
        assert "***" in str(refused.value)
        assert "secret" not in str(refused.value)
    for content in (f"{TOKEN}\r\nX-Evil: {TOKEN}", f"{TOKEN}\x00", f"{TOKEN} {TOKEN}", f"ü{TOKEN}", ""):
        file.write_text(content)
        with pytest.raises(BackendError, match="expected one line of printable ASCII") as refused:
            backend(server, access=access).fleet()
        assert "secret" not in str(refused.value)


def test_a_pod_uses_its_service_account(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_access, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(LiveConfigError, match=r"access\.kubeconfig or access\.server"):
        kubernetes_access.caller(Access())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    for name, text in {"token": f"{TOKEN}\n", "namespace": "llm\n", "ca.crt": "none"}.items():
        (tmp_path / name).write_text(text)
    who = kubernetes_access.caller(Access())
    assert (who.server, who.namespace, who.token()) == ("https://[fd00::1]:6443", "llm", TOKEN)
    with pytest.raises(BackendError, match=r"ca\.crt: no usable certificates"):
        who.place()


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ({"server": "https://me:pw@host"}, "user name or password"),
        ({"server": "http://10.0.0.1"}, "not encrypted"),
        ({"server": "ftp://host"}, "expected https"),
        ({"token_file": "t"}, "without a server"),
        ({"server": "https://h", "kubeconfig": "k"}, "one way"),
        ({"server": "https://h", "client_key": "k"}, "belong together"),
        ({"context": "c"}, "give kubeconfig"),
        ({"tokn": "x"}, "Extra inputs"),
    ],
)
def test_access_that_makes_no_sense_is_refused(access: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Access.model_validate(access)


@pytest.mark.parametrize("name", ["../../secrets", "a/b", "A", "", "a" * 300, "a?b", "a%2fb"])
def test_a_name_cannot_lead_to_another_path(name: str) -> None:
    with pytest.raises(ValidationError):
        ScaleTarget(name=name)


def test_a_missing_client_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kubernetes", None)
    with pytest.raises(LiveConfigError, match=r"pip install 'rlscale\[kubernetes\]'"):
        kubernetes_access.caller(Access(kubeconfig="config"))


def test_the_server_of_these_tests_keeps_the_contract() -> None:
    """The very requests that tests/live/test_kubernetes.py sends to a real one."""
    cluster = Cluster()
    cluster.add("chat", 3)

    def send(method: str, path: str, body: dict[str, Any] | None, kind: str) -> tuple[int, dict[str, Any]]:
        text = None if body is None else json.dumps(body).encode()
        status, _, thing = cluster.handle(method, path, {"content-type": kind}, text)
        return status, thing

    kube_contract.check(send)
