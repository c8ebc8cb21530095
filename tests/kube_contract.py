"""What an API server answers to what the loop asks, request by request. For the one of the tests and for a real one.

The namespace is `llm`; there is a Deployment `chat` of 3 replicas, and no Lease.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Send = Callable[[str, str, dict[str, Any] | None, str], tuple[int, dict[str, Any]]]  # method, path, body, content type

SCALE = "/apis/apps/v1/namespaces/llm/deployments/chat/scale"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/llm/leases"
JSON, MERGE = "application/json", "application/merge-patch+json"
MOMENT = "2026-01-01T00:00:00.000000Z"


def lease(version: str = "", **changes: Any) -> dict[str, Any]:
    spec = {"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0, "acquireTime": MOMENT,
            "renewTime": MOMENT} | changes  # fmt: skip
    metadata = {"name": "chat", "namespace": "llm"} | ({"resourceVersion": version} if version else {})
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def patch(replicas: Any, version: str) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}


def check(send: Send) -> None:
    """Every answer that the loop relies on."""
    check_scale(send)
    check_lease(send)


def check_scale(send: Send) -> None:
    status, scale = send("GET", SCALE, None, "")
    old = scale["metadata"]["resourceVersion"]
    assert (status, scale["spec"]["replicas"], scale["status"]["selector"]) == (200, 3, "app=chat")
    status, scale = send("PATCH", SCALE, patch(4, old), MERGE)
    new = scale["metadata"]["resourceVersion"]
    assert (status, scale["spec"]["replicas"]) == (200, 4)
    assert new != old
    refused(send("PATCH", SCALE, patch(5, old), MERGE), 409, "Conflict")
    refused(send("PATCH", SCALE, patch(-1, new), MERGE), 422, "Invalid")
    refused(send("PATCH", SCALE, patch(5, new), "text/plain"), 415, "UnsupportedMediaType")
    status, scale = send("PATCH", SCALE, patch(0, new), MERGE)
    assert (status, scale["spec"].get("replicas", 0)) == (200, 0)
    refused(send("GET", SCALE.replace("chat", "none"), None, ""), 404, "NotFound")


def check_lease(send: Send) -> None:
    refused(send("GET", f"{LEASES}/chat", None, ""), 404, "NotFound")
    status, made = send("POST", LEASES, lease(), JSON)
    assert (status, made["spec"]) == (201, lease()["spec"])
    refused(send("POST", LEASES, lease(), JSON), 409, "AlreadyExists")
    old = made["metadata"]["resourceVersion"]
    status, same = send("PUT", f"{LEASES}/chat", lease(old), JSON)
    assert (status, same["metadata"]["resourceVersion"]) == (200, old), "a write that changes nothing is none"
    status, taken = send("PUT", f"{LEASES}/chat", lease(old, holderIdentity="b"), JSON)
    assert (status, taken["spec"]["holderIdentity"]) == (200, "b")
    refused(send("PUT", f"{LEASES}/chat", lease(old, holderIdentity="a"), JSON), 409, "Conflict")
    refused(send("PUT", f"{LEASES}/chat", lease(holderIdentity="a"), JSON), 422, "Invalid")
    new = taken["metadata"]["resourceVersion"]
    refused(send("PUT", f"{LEASES}/chat", lease(new, renewTime="today"), JSON), 400, "BadRequest")
    refused(send("PUT", f"{LEASES}/chat", lease(new, leaseDurationSeconds=0), JSON), 422, "Invalid")
    status, free = send("PUT", f"{LEASES}/chat", lease(new, holderIdentity=""), JSON)
    assert (status, free["spec"].get("holderIdentity", "")) == (200, "")


def refused(answer: tuple[int, dict[str, Any]], status: int, reason: str) -> None:
    assert (answer[0], answer[1].get("kind"), answer[1].get("reason")) == (status, "Status", reason)
