"""The Kubernetes backend and the election against a real kube-apiserver with etcd behind it.

RLSCALE_KUBE_ASSETS names a folder with the binaries `kube-apiserver` and `etcd`. No controllers run, so that
Deployments make no pods: the tests make them.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certificates
import kube_contract
import pytest
import requests
import yaml

from rlscale.deploy.base import BackendError, Fleet
from rlscale.deploy.kubernetes import KubernetesScale
from rlscale.deploy.kubernetes_config import Access, KubernetesConfig, LeaseConfig, ScaleTarget
from rlscale.deploy.lease import LeaseLeader

ROOT = Path(__file__).resolve().parents[2]
ASSETS = os.environ.get("RLSCALE_KUBE_ASSETS", "")
ROLE = ROOT / "rlscale" / "deploy" / "packaging" / "kustomize" / "base" / "role.yaml"
ADMIN, LOOP, NOBODY = "token-of-admin", "token-of-loop", "token-of-nobody"
START_S = 90.0

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not ASSETS, reason="needs RLSCALE_KUBE_ASSETS, a folder with kube-apiserver and etcd"),
]


@dataclass
class Plane:
    """A control plane of etcd and an API server."""

    url: str
    certificate: Path
    folder: Path

    def send(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": kind}
        answer = requests.request(method, self.url + path, json=body, headers=headers, timeout=10,
                                  verify=str(self.certificate))  # fmt: skip
        return answer.status_code, answer.json()

    def make(self, path: str, thing: Any) -> None:
        status, answer = self.send("POST", path, thing)
        assert status == 201, answer

    def kinds(self, group: str) -> dict[str, str]:
        """Kinds of a group and version by the names their collections have; none where it is not served."""
        answer = requests.get(self.url + group, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=10,
                              verify=str(self.certificate))  # fmt: skip
        found = answer.json()["resources"] if answer.ok else []
        return {one["kind"]: one["name"] for one in found if "/" not in one["name"]}

    def access(self, token: str) -> Access:
        file = self.folder / f"{token}.txt"
        file.write_text(token)
        return Access(server=self.url, ca_file=str(self.certificate), token_file=str(file))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    folder = tmp_path_factory.mktemp("plane")
    own = certificates.own(folder, "server")
    store, peers, secure = free_port(), free_port(), free_port()
    (folder / "tokens.csv").write_text(f'{ADMIN},admin,1,"system:masters"\n{LOOP},loop,2\n{NOBODY},nobody,3\n')
    commands = [
        [f"{ASSETS}/etcd", f"--data-dir={folder}/etcd", f"--listen-client-urls=http://127.0.0.1:{store}",
         f"--advertise-client-urls=http://127.0.0.1:{store}", f"--listen-peer-urls=http://127.0.0.1:{peers}"],
        [f"{ASSETS}/kube-apiserver", f"--etcd-servers=http://127.0.0.1:{store}", "--bind-address=127.0.0.1",
         f"--secure-port={secure}", f"--tls-cert-file={own.certificate}", f"--tls-private-key-file={own.key}",
         f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=RBAC", f"--cert-dir={folder}",
         "--disable-admission-plugins=ServiceAccount", "--service-cluster-ip-range=10.0.0.0/24",
         "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={own.certificate}",
         f"--service-account-signing-key-file={own.key}"],
    ]  # fmt: skip
    running = []
    try:
        for command in commands:
            log = (folder / f"{Path(command[0]).name}.log").open("wb")
            running.append(subprocess.Popen(command, stdout=log, stderr=log))
            log.close()
        made = Plane(f"https://127.0.0.1:{secure}", own.certificate, folder)
        wait_ready(made, running)
        prepare(made)
        yield made
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)
        shutil.rmtree(folder / "etcd", ignore_errors=True)


def wait_ready(plane: Plane, running: list[subprocess.Popen[bytes]]) -> None:
    give_up_s = time.monotonic() + START_S
    while time.monotonic() < give_up_s:
        assert all(process.poll() is None for process in running), f"a server ended; see {plane.folder}/*.log"
        try:
            headers = {"Authorization": f"Bearer {ADMIN}"}
            if requests.get(f"{plane.url}/readyz", headers=headers, verify=str(plane.certificate), timeout=2).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.2)
    pytest.fail(f"the API server was not ready within {START_S:g} s; see {plane.folder}/*.log")


def prepare(plane: Plane) -> None:
    plane.make("/api/v1/namespaces", {"metadata": {"name": "llm"}})
    role, binding = yaml.safe_load_all(ROLE.read_text())
    binding["subjects"] = [{"kind": "User", "name": "loop", "apiGroup": "rbac.authorization.k8s.io"}]
    plane.make("/apis/rbac.authorization.k8s.io/v1/namespaces/llm/roles", role)
    plane.make("/apis/rbac.authorization.k8s.io/v1/namespaces/llm/rolebindings", binding)


@pytest.fixture
def chat(plane: Plane) -> Iterator[str]:
    """A Deployment of 3 replicas, fresh for every test, and no Lease."""
    labels, containers = {"app": "chat"}, [{"name": "c", "image": "none"}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template}
    everything = "/apis/apps/v1/namespaces/llm/deployments"
    plane.make(everything, {"metadata": {"name": "chat"}, "spec": spec})
    yield "chat"
    plane.send("DELETE", f"{everything}/chat")
    plane.send("DELETE", f"{kube_contract.LEASES}/chat")
    plane.send("DELETE", f"{kube_contract.LEASES}/rlscale-chat")


def backend(plane: Plane, token: str = LOOP) -> KubernetesScale:
    return KubernetesScale(
        KubernetesConfig(targets=[ScaleTarget(name="chat")], namespace="llm", access=plane.access(token))
    )


def test_it_keeps_the_contract_the_other_tests_rely_on(plane: Plane, chat: str) -> None:
    kube_contract.check(plane.send)


def test_the_fleet_is_read_and_ordered_with_the_shipped_role(plane: Plane, chat: str) -> None:
    pods = "/api/v1/namespaces/llm/pods"
    for number in range(3):
        pod = {"metadata": {"name": f"chat-{number}", "labels": {"app": "chat"}},
               "spec": {"containers": [{"name": "c", "image": "none"}]}}  # fmt: skip
        plane.make(pods, pod)
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    assert plane.send("PATCH", f"{pods}/chat-0/status", ready, kube_contract.MERGE)[0] == 200
    failed = {"status": {"phase": "Failed"}}
    assert plane.send("PATCH", f"{pods}/chat-1/status", failed, kube_contract.MERGE)[0] == 200
    one = backend(plane)
    assert one.fleet() == Fleet((1,), (2,), (3,), (0,))
    one.order((5,))
    one.order((5,))
    assert one.fleet().target == (5,)
    one.close()


def test_who_has_no_right_is_told_which(plane: Plane, chat: str) -> None:
    one = backend(plane, NOBODY)
    with pytest.raises(BackendError, match=r"lacks verb 'get'.*deployments/scale"):
        one.fleet()
    one.close()


def test_a_wrong_token_is_refused_and_not_shown(plane: Plane, chat: str) -> None:
    one = backend(plane, "token-of-a-stranger")
    with pytest.raises(BackendError, match="credentials were refused") as refused:
        one.fleet()
    assert "stranger" not in str(refused.value)
    one.close()


def test_one_leads_and_hands_over_with_the_shipped_role(plane: Plane, chat: str) -> None:
    config = LeaseConfig(name="rlscale-chat", namespace="llm", access=plane.access(LOOP), lease_duration_s=3,
                         renew_deadline_s=2.0, retry_s=0.2)  # fmt: skip
    first = LeaseLeader(config, rng=random.Random(0))
    wait_for(first)
    second = LeaseLeader(config, rng=random.Random(1))
    time.sleep(1.0)
    assert first.leads()
    assert not second.leads()
    first.close()
    wait_for(second)
    second.close()


def wait_for(leader: LeaseLeader) -> None:
    give_up_s = time.monotonic() + 20.0
    while not leader.leads():
        assert time.monotonic() < give_up_s, leader.problem
        time.sleep(0.01)


@pytest.mark.parametrize("folder", ["base", "keda"])
def test_the_shipped_manifests_are_accepted(plane: Plane, folder: str) -> None:
    """As kustomize puts them together, by a dry run of the server. What it does not serve is left out: KEDA's and the
    operator's kinds, and kinds of newer versions."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    built = subprocess.run(["kubectl", "kustomize", str(ROLE.parents[1] / folder)], capture_output=True, text=True,
                           timeout=60, check=True).stdout  # fmt: skip
    accepted = []
    for thing in yaml.safe_load_all(built):
        version, kind = thing["apiVersion"], thing["kind"]
        group = f"/apis/{version}" if "/" in version else f"/api/{version}"
        names = plane.kinds(group)
        if kind not in names:
            continue
        path = f"{group}/namespaces/llm/{names[kind]}?dryRun=All"
        status, answer = plane.send("POST", path, thing | {"metadata": thing["metadata"] | {"name": f"dry-{folder}"}})
        assert status == 201, answer
        accepted.append(kind)
    wanted = {"ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Service", "Deployment", "NetworkPolicy"}
    assert wanted <= set(accepted)
