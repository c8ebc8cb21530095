"""A Kubernetes API server as far as scaling and leases go: its paths, versions, conflicts, refusals and Status objects.

`Cluster` answers requests and keeps a log of them in the words of RBAC; tests/kube_server.py puts it behind HTTP.
tests/live/test_kubernetes.py asks the same of a real one.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]
Reply = tuple[int, dict[str, str], Json]

PATH = re.compile(
    r"^/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)/namespaces/(?P<namespace>[^/]+)"
    r"/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[a-z]+))?)?$"
)
MICRO_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed",
           409: "Conflict", 415: "UnsupportedMediaType", 422: "Invalid", 429: "TooManyRequests",
           500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One authenticated request, as RBAC names it."""

    verb: str
    group: str
    resource: str
    name: str


@dataclass
class Workload:
    """A Deployment or the like; `pods` are its replicas."""

    replicas: int
    version: int
    selector: str
    pods: list[Json] = field(default_factory=list)


class Refusal(Exception):
    """Ends in a Status object."""

    def __init__(self, code: int, message: str, reason: str = "", **headers: str) -> None:
        super().__init__(message)
        self.code, self.message, self.reason = code, message, reason or REASONS[code]
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Cluster:
    """What etcd and the API server hold. One lock: requests take effect one after the other."""

    def __init__(self, namespace: str = "llm", token: str = "") -> None:
        self.namespace, self.token = namespace, token
        self.workloads: dict[tuple[str, str, str], Workload] = {}  # group, plural, name
        self.leases: dict[str, Json] = {}
        self.calls: list[Call] = []
        self.denied: set[tuple[str, str]] = set()  # verb, resource with subresource
        self.before: Callable[[Call], None] = lambda call: None
        self._version, self._lock = 100, threading.RLock()

    def add(self, name: str, replicas: int, plural: str = "deployments", group: str = "apps") -> Workload:
        one = Workload(replicas, self.next_version(), f"app={name}")
        self.workloads[(group, plural, name)] = one
        return one

    def touch(self, one: Workload, replicas: int | None = None) -> None:
        """Somebody else changes it."""
        one.version = self.next_version()
        one.replicas = one.replicas if replicas is None else replicas

    def next_version(self) -> int:
        with self._lock:
            self._version += 1
            return self._version

    def handle(self, method: str, target: str, headers: dict[str, str], body: bytes | None) -> Reply:
        """Status, headers and object of an answer; `headers` by lower-case names."""
        try:
            with self._lock:
                return self._handle(method, target, headers, body)
        except Refusal as no:
            status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                      "message": no.message, "reason": no.reason, "code": no.code}  # fmt: skip
            return no.code, no.headers, status

    def _handle(self, method: str, target: str, headers: dict[str, str], body: bytes | None) -> Reply:
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            raise Refusal(401, "Unauthorized")
        url = urlsplit(target)
        where = PATH.match(url.path)
        if where is None:
            raise Refusal(404, "the server could not find the requested resource")
        name, group = where["name"] or "", where["group"] or ""
        resource = where["resource"] + (f"/{where['sub']}" if where["sub"] else "")
        verb = {"GET": "get" if name else "list", "PATCH": "patch", "POST": "create", "PUT": "update"}.get(method, "")
        call = Call(verb, group, resource, name)
        self.calls.append(call)
        self._authorise(call, where["namespace"])
        self.before(call)
        sent = self._sent(method, headers, body)
        if where["sub"] == "scale":
            return self._scale(call, sent)
        if resource == "pods" and not group and verb == "list":
            return self._pods({key: values[0] for key, values in parse_qs(url.query).items()})
        if resource == "leases" and group == "coordination.k8s.io":
            return self._lease(call, where["namespace"], sent)
        raise Refusal(404, "the server could not find the requested resource")

    def _authorise(self, call: Call, namespace: str) -> None:
        if (call.verb, call.resource) in self.denied or namespace != self.namespace:
            quoted = f'"{call.name}" ' if call.name else ""
            raise Refusal(403, f'{call.resource.split("/")[0]}.{call.group} {quoted}is forbidden: User '
                          f'"system:serviceaccount:{self.namespace}:rlscale" cannot {call.verb} resource '
                          f'"{call.resource}" in API group "{call.group}" in the namespace "{namespace}"')  # fmt: skip

    def _sent(self, method: str, headers: dict[str, str], body: bytes | None) -> Json:
        if method == "GET":
            return {}
        expected = "application/merge-patch+json" if method == "PATCH" else "application/json"
        if headers.get("content-type") != expected:
            raise Refusal(415, "the body of the request was in an unknown format")
        try:
            found: Json = json.loads(body or b"")
        except ValueError:
            raise Refusal(400, "the request body is not valid JSON") from None
        return found

    def _scale(self, call: Call, sent: Json) -> Reply:
        plural = call.resource.split("/")[0]
        one = self.workloads.get((call.group, plural, call.name))
        if one is None:
            raise Refusal(404, f'{plural}.{call.group} "{call.name}" not found')
        if call.verb == "patch":
            self._check_version(sent, one.version, f'{plural}.{call.group} "{call.name}"', needed=False)
            wanted = sent.get("spec", {}).get("replicas", one.replicas)
            if not isinstance(wanted, int):
                raise Refusal(400, "json: cannot unmarshal into Go struct field ScaleSpec.spec.replicas of type int32")
            if wanted < 0:
                raise Refusal(422, f'Scale.autoscaling "{call.name}" is invalid: spec.replicas: Invalid value: '
                              f"{wanted}: must be greater than or equal to 0")  # fmt: skip
            if wanted != one.replicas:  # a write that changes nothing gets no version
                self.touch(one, wanted)
        elif call.verb != "get":
            raise Refusal(405, "the server does not allow this method on the requested resource")
        spec = {"replicas": one.replicas} if one.replicas else {}  # omitempty
        metadata = {"name": call.name, "namespace": self.namespace, "resourceVersion": str(one.version)}
        status = {"replicas": len(one.pods), "selector": one.selector}
        return 200, {}, {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec,
                         "status": status}  # fmt: skip

    def _pods(self, query: dict[str, str]) -> Reply:
        labels = dict(term.split("=") for term in query.get("labelSelector", "").split(",") if term)
        dropped = [term.split("!=")[1] for term in query.get("fieldSelector", "").split(",") if term]
        chosen = [
            pod
            for one in self.workloads.values()
            for pod in one.pods
            if labels.items() <= pod["metadata"]["labels"].items() and pod["status"]["phase"] not in dropped
        ]
        first, limit = int(query.get("continue", "0")), int(query.get("limit", "0")) or len(chosen)
        more = {"continue": str(first + limit)} if first + limit < len(chosen) else {}
        return 200, {}, {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1", **more},
                         "items": chosen[first : first + limit]}  # fmt: skip

    def _lease(self, call: Call, namespace: str, sent: Json) -> Reply:
        what = f'leases.coordination.k8s.io "{call.name}"'
        if call.verb == "create":
            name = sent["metadata"]["name"]
            if name in self.leases:
                raise Refusal(409, f'leases.coordination.k8s.io "{name}" already exists', "AlreadyExists")
            return 201, {}, self._keep(name, {"name": name, "namespace": namespace}, sent)
        if call.name not in self.leases:
            raise Refusal(404, f"{what} not found")
        old = self.leases[call.name]
        if call.verb == "update":
            self._check_version(sent, int(old["metadata"]["resourceVersion"]), what, needed=True)
            if sent["spec"] != old["spec"]:
                return 200, {}, self._keep(call.name, old["metadata"], sent)
        return 200, {}, old

    def _keep(self, name: str, metadata: Json, sent: Json) -> Json:
        spec = sent["spec"]
        for moment in ("acquireTime", "renewTime"):
            if not MICRO_TIME.match(spec.get(moment, "")):
                raise Refusal(400, f"parsing time {spec.get(moment)!r} as MicroTime")
        if spec["leaseDurationSeconds"] <= 0 or spec["leaseTransitions"] < 0:
            raise Refusal(422, f'Lease.coordination.k8s.io "{name}" is invalid: spec: must be greater than 0')
        lease = {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "spec": spec,
                 "metadata": metadata | {"resourceVersion": str(self.next_version())}}  # fmt: skip
        self.leases[name] = lease
        return lease

    def _check_version(self, sent: Json, version: int, what: str, needed: bool) -> None:
        given = sent.get("metadata", {}).get("resourceVersion", "")
        if not given and needed:
            raise Refusal(422, f"{what} is invalid: metadata.resourceVersion: must be specified for an update")
        if given and given != str(version):
            raise Refusal(409, f"Operation cannot be fulfilled on {what}: the object has been modified; please apply "
                          "your changes to the latest version and try again")  # fmt: skip


def pod(app: str, ready: bool, phase: str = "Running", leaving: bool = False) -> Json:
    """A pod as the list of pods shows it."""
    leave = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {}
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": {"labels": {"app": app}, **leave}, "status": {"phase": phase, "conditions": conditions}}
