"""What is shipped for Kubernetes, Docker and Grafana fits what the code does, and fits together."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kube_server as kube
import pytest
import yaml
from kube_cluster import Cluster, pod
from packaging.utils import canonicalize_name

from envs import get_scenario
from experiments.serve_limits import known_of
from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.config import load_config
from rlscale.deploy.exporter import Exporter
from rlscale.deploy.kinds import TABLES, _kind
from rlscale.deploy.kubernetes import KubernetesScale
from rlscale.deploy.kubernetes_config import Access, KubernetesConfig, LeaseConfig
from rlscale.deploy.lease import LeaseLeader
from rlscale.yaml_file import checked

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "rlscale" / "deploy" / "packaging"
BASE, KEDA = SHIPPED / "kustomize" / "base", SHIPPED / "kustomize" / "keda"
PORT = 9108
SUFFIXES = {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
Rights = set[tuple[str, str, str, str]]  # verb, API group, resource, name or "*"


def documents(path: Path) -> list[Any]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


def only(path: Path, kind: str) -> Any:
    [found] = [one for one in documents(path) if one["kind"] == kind]
    return found


def rights(rules: list[Any]) -> Rights:
    return {
        (verb, group, resource, name)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", ["*"])
    }


def used(cluster: Cluster) -> Rights:
    return {(call.verb, call.group, call.resource, call.name or "*") for call in cluster.calls}


@pytest.fixture
def server() -> Iterator[kube.KubeServer]:
    cluster = Cluster()
    cluster.add("chat", 3).pods = [pod("chat", True)] * 3
    with kube.running(cluster) as server:
        yield server


def lead_and_order(server: kube.KubeServer, live: Any) -> None:
    """A whole session as live.yaml describes it: take the Lease, read, order, renew, give it back."""
    access = Access(server=server.url)
    backend = {key: value for key, value in live["backend"].items() if key != "kind"}
    lease = {key: value for key, value in live["leader"].items() if key != "kind"}
    times = {"lease_duration_s": 5, "renew_deadline_s": 1.0, "retry_s": 0.05}
    leader = LeaseLeader(LeaseConfig(**lease, **times, namespace="llm", access=access), rng=random.Random(0))
    scale = KubernetesScale(KubernetesConfig(**backend, namespace="llm", access=access), leads=leader.leads)
    give_up_s = time.monotonic() + 10.0
    while not leader.leads() or sum(call.verb == "update" for call in server.cluster.calls) < 2:
        assert time.monotonic() < give_up_s
        time.sleep(0.005)
    scale.fleet()
    scale.order((4,))
    leader.close()
    scale.close()


def test_the_role_allows_what_a_session_does_and_nothing_else(server: kube.KubeServer) -> None:
    lead_and_order(server, documents(BASE / "live.yaml")[0])
    assert rights(only(BASE / "role.yaml", "Role")["rules"]) == used(server.cluster)


def test_through_keda_the_role_allows_only_to_look(server: kube.KubeServer) -> None:
    options = documents(KEDA / "live.yaml")[0]["backend"]["fleet_kubernetes"]
    scale = KubernetesScale(KubernetesConfig(**options, namespace="llm", access=Access(server=server.url)))
    scale.fleet()
    scale.close()
    [patch] = documents(KEDA / "role.yaml")[0]
    assert (patch["op"], patch["path"]) == ("replace", "/rules")
    assert rights(patch["value"]) == used(server.cluster)


@pytest.mark.parametrize("folder", [BASE, KEDA, SHIPPED / "compose"], ids=lambda folder: folder.name)
def test_the_loop_takes_the_shipped_configuration(folder: Path) -> None:
    config = load_config(folder / "live.yaml")
    assert config.limits == Path("limits.json")
    lies_in = BASE if folder == KEDA else folder
    _, interval_s = known_of(config.model_copy(update={"limits": lies_in / "limits.json"}), folder / "live.yaml")
    assert interval_s == 15.0
    for field in ("metrics", "backend", "leader"):
        entry = getattr(config, field)
        if entry["kind"] == "keda":
            pytest.importorskip("rlscale.deploy.keda", reason="needs the KEDA scaler")
        table, group = TABLES[field]
        kind = _kind(field, entry["kind"], table, group, str(folder))
        checked(kind.options, {key: value for key, value in entry.items() if key != "kind"}, field, LiveConfigError)


@pytest.mark.parametrize("path", sorted(SHIPPED.rglob("*.yaml")), ids=lambda path: str(path.relative_to(SHIPPED)))
def test_every_file_is_yaml_that_says_something(path: Path) -> None:
    assert documents(path)


@pytest.mark.parametrize("folder", [BASE, KEDA], ids=["base", "keda"])
def test_every_file_of_a_folder_is_referred_to_and_exists(folder: Path) -> None:
    [top] = documents(folder / "kustomization.yaml")
    named = [*top["resources"], *(patch["path"] for patch in top.get("patches", []))]
    named += [name for maker in top["configMapGenerator"] for name in maker["files"]]
    assert all((folder / name).exists() for name in named)
    own = {name for name in named if not name.startswith("..")}
    assert own == {path.name for path in folder.iterdir()} - {"kustomization.yaml"}


def test_names_of_one_file_are_names_of_another() -> None:
    deployment, binding = only(BASE / "deployment.yaml", "Deployment"), only(BASE / "role.yaml", "RoleBinding")
    pod_spec, [maker] = (
        deployment["spec"]["template"]["spec"],
        documents(BASE / "kustomization.yaml")[0]["configMapGenerator"],
    )
    account = only(BASE / "serviceaccount.yaml", "ServiceAccount")["metadata"]["name"]
    assert account == pod_spec["serviceAccountName"] == binding["subjects"][0]["name"]
    assert binding["roleRef"]["name"] == only(BASE / "role.yaml", "Role")["metadata"]["name"]
    assert {"name": maker["name"]} in [volume.get("configMap") for volume in pod_spec["volumes"]]
    [container] = pod_spec["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod_spec["volumes"]}
    config = next(mount for mount in container["volumeMounts"] if mount["name"] == "config")
    assert container["args"] == ["serve", "--config", f"{config['mountPath']}/{maker['files'][0]}"]
    [port] = container["ports"]
    [shown] = only(BASE / "service.yaml", "Service")["spec"]["ports"]
    assert (port["containerPort"], port["name"]) == (shown["port"], shown["targetPort"]) == (PORT, "pages")
    assert only(BASE / "servicemonitor.yaml", "ServiceMonitor")["spec"]["endpoints"][0]["port"] == shown["name"]


@pytest.mark.parametrize("kind", ["NetworkPolicy", "ServiceMonitor", "PodDisruptionBudget"])
def test_what_selects_selects_our_pods_only(kind: str) -> None:
    """An empty selector would take in every pod of the namespace."""
    labels = documents(BASE / "kustomization.yaml")[0]["labels"][0]
    spec = only(BASE / f"{kind.lower()}.yaml", kind)["spec"]
    assert (spec.get("podSelector") or spec["selector"])["matchLabels"] == labels["pairs"]
    assert labels["includeSelectors"]


def test_the_pod_can_do_no_harm() -> None:
    spec = only(BASE / "deployment.yaml", "Deployment")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] >= 10_000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert not security["privileged"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["limits"]) >= {"cpu", "memory"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


def test_probes_ask_what_the_service_answers() -> None:
    [container] = only(BASE / "deployment.yaml", "Deployment")["spec"]["template"]["spec"]["containers"]
    paths = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in paths.values()} == {PORT}
    assert [probe["path"] for probe in paths.values()] == ["/healthz", "/healthz", "/readyz"]
    for live in (BASE / "live.yaml", KEDA / "live.yaml", SHIPPED / "compose" / "live.yaml"):
        assert documents(live)[0]["pages"] == {"address": "0.0.0.0", "port": PORT}


def test_network_policy_opens_the_ports_that_are_used() -> None:
    spec = only(BASE / "networkpolicy.yaml", "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in spec["ingress"] for port in rule["ports"]] == [PORT]
    assert all(rule["from"] for rule in spec["ingress"])
    assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == {53, 9090, 443, 6443}


def test_keda_finds_the_scaler_with_certificates_on_both_sides() -> None:
    scaled, [live] = only(KEDA / "scaledobject.yaml", "ScaledObject"), documents(KEDA / "live.yaml")
    secrets = only(KEDA / "scaledobject.yaml", "TriggerAuthentication")
    [trigger] = scaled["spec"]["triggers"]
    assert trigger["metadata"]["scalerAddress"] == f"rlscale.llm.svc:{live['backend']['port']}"
    assert (trigger["metadata"]["enableTLS"], trigger["metadata"]["unsafeSsl"]) == ("true", "false")
    assert (trigger["metadata"]["service"], trigger["metricType"]) == (live["service"], "AverageValue")
    assert trigger["authenticationRef"]["name"] == secrets["metadata"]["name"]
    assert {one["parameter"] for one in secrets["spec"]["secretTargetRef"]} == {
        "caCert",
        "tlsClientCert",
        "tlsClientKey",
    }
    [target] = live["backend"]["fleet_kubernetes"]["targets"]
    reference = scaled["spec"]["scaleTargetRef"]
    assert (reference["kind"], reference["name"]) == (target["kind"], target["name"])
    [pool] = json.loads((BASE / "limits.json").read_text())["pools"]
    bounds = scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]
    assert bounds == (pool["min_replicas"], pool["max_replicas"])
    deployment = only(KEDA / "deployment.yaml", "Deployment")["spec"]
    assert deployment["replicas"] == 1
    mount = deployment["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"]
    assert all(file.startswith(f"{mount}/") for file in live["backend"]["tls"].values())


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which brings kustomize")
@pytest.mark.parametrize(("folder", "replicas"), [(BASE, 2), (KEDA, 1)], ids=["base", "keda"])
def test_kustomize_puts_it_together(folder: Path, replicas: int) -> None:
    made = subprocess.run(
        ["kubectl", "kustomize", str(folder)], check=False, capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stderr
    objects = {one["kind"]: one for one in yaml.safe_load_all(made.stdout)}
    assert {one["metadata"]["namespace"] for one in objects.values()} == {"llm"}
    assert objects["Deployment"]["spec"]["replicas"] == replicas
    assert set(objects["ConfigMap"]["data"]) == {"live.yaml", "limits.json"}
    assert ("ScaledObject" in objects) == ("PodDisruptionBudget" not in objects) == (folder == KEDA)


def test_the_image_holds_pinned_packages_and_no_training() -> None:
    pins = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line and line[0] != "#"}
    wanted = [line for line in (SHIPPED / "serve-requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert set(wanted) <= pins
    names = {canonicalize_name(line.partition("==")[0]) for line in wanted}
    assert {"numpy", "pydantic", "pyyaml", "safetensors"} <= names
    assert not names & {
        "torch",
        "gymnasium",
        "numba",
        "llvmlite",
        "stable-baselines3",
        "scipy",
        "requests",
        "pip",
        "setuptools",
    }


def test_the_image_runs_as_nobody_and_copies_what_exists() -> None:
    lines = (SHIPPED / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    user = [line for line in lines if line.startswith("USER")]
    assert user == ["USER 10001:10001"]
    assert lines.index(user[0]) > max(i for i, line in enumerate(lines) if line.startswith("RUN"))
    copied = [
        name for line in lines if line.startswith("COPY ") and "--from" not in line for name in line.split()[1:-1]
    ]
    assert all((ROOT / name).exists() for name in copied)
    assert {"rlscale", "envs", "agents", "experiments"} <= set(copied)
    kept = [line[1:] for line in (SHIPPED / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    assert {Path(name).parts[0] for name in copied} == set(kept)
    assert f"http://127.0.0.1:{PORT}/healthz" in "\n".join(lines)


def test_the_compose_file_publishes_on_loopback_only_and_mounts_what_exists() -> None:
    folder = SHIPPED / "compose"
    [top] = documents(folder / "docker-compose.yaml")
    jobs = {
        one["job_name"]: one["static_configs"][0]["targets"]
        for one in documents(folder / "prometheus.yaml")[0]["scrape_configs"]
    }
    assert {target.split(":")[0] for targets in jobs.values() for target in targets} <= set(top["services"])
    for service in top["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in top["volumes"] or (folder / source).is_file()
        if "build" in service:
            assert (folder / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_the_dashboard_asks_for_metrics_that_are_exported() -> None:
    board = json.loads((SHIPPED / "grafana" / "rlscale.json").read_text())
    texts = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    texts += [str(one["query"]) for one in board["templating"]["list"]]
    asked = set(re.findall(r"rlscale_\w+", " ".join(texts)))
    known = {
        family.name + suffix: family.name
        for family in Exporter("chat", get_scenario("chat").limits).registry.collect()
        for suffix in SUFFIXES[family.type]
    }
    assert asked <= set(known)
    assert len({known[name] for name in asked}) >= 16, "the dashboard shows what matters"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
