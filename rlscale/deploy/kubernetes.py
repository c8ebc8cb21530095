"""A fleet in Kubernetes, read and ordered through the scale subresource of its workloads, one workload per pool.

Nothing else of a workload is read or written, so that the Role it needs is small: get and patch of `.../scale`, and
list of pods. Any kind that has /scale will do.

Requests are made by hand, within a deadline over all of them; the official client is used where it is at its best, for
kubeconfig files. It has no such deadline, and importing it takes 16 MB and 0.4 s on top of what a service needs anyway.
"""

from __future__ import annotations

import operator
import random
import time
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import urlencode

from rlscale.deploy.base import BackendError, Fleet, LiveConfigError
from rlscale.deploy.kinds import Kind, Site
from rlscale.deploy.kubernetes_access import Caller, caller
from rlscale.deploy.kubernetes_api import Api, ApiError, Ask, Exchange, Verb
from rlscale.deploy.kubernetes_config import KubernetesConfig, ScaleTarget

PODS_PER_PAGE = 500
MOST_REPLICAS = 2**31 - 1  # the field is an int32
CONFLICT = 409
CONFLICT_PAUSE_S = 0.05  # every change of a workload's status is a conflict for who read it before


class KubernetesScale:
    """Implements `Backend`. `leads` is asked before every single write; one that says no stops the order."""

    tolerance: ClassVar[float] = 0.0  # every change takes effect, however small

    def __init__(
        self,
        config: KubernetesConfig,
        *,
        leads: Callable[[], bool] = lambda: True,
        who: Caller | None = None,
        link: Exchange | None = None,
        steady_s: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        who = who or caller(config.access)
        self._config, self._leads, self._steady_s, self._pause = config, leads, steady_s, pause
        self._namespace = config.namespace or who.namespace
        if not self._namespace:
            raise LiveConfigError("no namespace: neither the backend nor its credentials name one; give namespace")
        self._api = Api(who, request_s=config.request_s, attempts=config.attempts, link=link, steady_s=steady_s,
                        pause=pause, rng=rng)  # fmt: skip

    def fleet(self) -> Fleet:
        """The pods of every target as they are now. Raises BackendError; a part of a fleet is none."""
        until_s = self._steady_s() + self._config.deadline_s
        pools = [self._pool(target, until_s) for target in self._config.targets]
        ready, pending, target, draining = zip(*pools)
        return Fleet(ready, pending, target, draining)

    def order(self, target: tuple[int, ...]) -> None:
        """Set the replicas of every target that has others. Raises BackendError, after trying all of them."""
        counts = self._checked(target)
        until_s, failed = self._steady_s() + self._config.deadline_s, []
        for left, (one, count) in enumerate(zip(self._config.targets, counts), start=-len(counts)):
            now_s = self._steady_s()  # an equal share of what is left: one that hangs does not starve the others
            try:
                self._place(one, count, now_s + (until_s - now_s) / -left)
            except BackendError as error:
                failed.append(str(error))
        if failed:
            placed = len(counts) - len(failed)
            raise BackendError(f"{placed} of {len(counts)} orders placed: " + "; ".join(failed))

    def close(self) -> None:
        """Hang up; the workloads keep their replicas."""
        self._api.close()

    def _pool(self, target: ScaleTarget, until_s: float) -> tuple[int, int, int, int]:
        """Ready, pending, target, draining."""
        scale = self._scale(target, until_s)
        wanted, selector = _replicas(scale, target), target.selector or _text(scale, "status", "selector")
        if not selector:  # an empty one would select every pod of the namespace
            raise BackendError(f"{target.plural} '{target.name}' declares no label selector; give it as selector")
        ready = starting = draining = 0
        for pod in self._pods(selector, until_s):
            if _text(pod, "metadata", "deletionTimestamp"):
                draining += 1
            elif _is_ready(pod):
                ready += 1
            else:
                starting += 1
        # Pods that could not be created yet, for want of quota say, are ordered and not ready all the same.
        return ready, max(starting, wanted - ready), wanted, draining

    def _pods(self, selector: str, until_s: float) -> list[dict[str, Any]]:
        pods: list[dict[str, Any]] = []
        page = ""
        while True:
            terms = {"labelSelector": selector, "fieldSelector": "status.phase!=Failed,status.phase!=Succeeded",
                     "limit": str(PODS_PER_PAGE)}  # fmt: skip
            query = urlencode(terms | ({"continue": page} if page else {}))
            ask = Ask("list", "", "v1", self._namespace, "pods", query=query)
            answer = self._api.call(ask, until_s - self._steady_s())
            items = answer.get("items")
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise BackendError(f"{ask}: the answer is no list of pods")
            pods += items
            page = _text(answer, "metadata", "continue")
            if not page:
                return pods

    def _place(self, target: ScaleTarget, count: int, until_s: float) -> None:
        while True:
            scale = self._scale(target, until_s)
            if _replicas(scale, target) == count:
                return
            if not self._leads():
                raise BackendError(f"{target.plural} '{target.name}' is not set to {count}: another instance may lead")
            # The version makes the write fail when anything changed since it was read.
            body = {"metadata": {"resourceVersion": _text(scale, "metadata", "resourceVersion")},
                    "spec": {"replicas": count}}  # fmt: skip
            try:
                answer = self._api.call(self._ask("patch", target, body), until_s - self._steady_s())
            except ApiError as error:
                if error.status != CONFLICT or self._steady_s() + CONFLICT_PAUSE_S >= until_s:
                    raise
                self._pause(CONFLICT_PAUSE_S)
                continue
            found = _replicas(answer, target)
            if found != count:
                raise BackendError(
                    f"{target.plural} '{target.name}' was set to {found} instead of {count}; "
                    "look for an admission webhook or policy that changes it"
                )
            return

    def _scale(self, target: ScaleTarget, until_s: float) -> dict[str, Any]:
        return self._api.call(self._ask("get", target), until_s - self._steady_s())

    def _ask(self, verb: Verb, target: ScaleTarget, body: dict[str, Any] | None = None) -> Ask:
        return Ask(
            verb, target.group, target.version, self._namespace, f"{target.plural}/scale", target.name, body=body
        )

    def _checked(self, target: tuple[int, ...]) -> list[int]:
        """Whole, bounded replicas per pool; anything else is refused before anything is sent."""
        config, counts = self._config, []
        if len(target) != len(config.targets):
            raise BackendError(f"order {target}: expected {len(config.targets)} numbers, one per target")
        for one, wanted in zip(config.targets, target):
            try:
                count = -1 if isinstance(wanted, bool) else operator.index(wanted)
            except TypeError:
                count = -1
            if not 0 <= count <= MOST_REPLICAS:
                raise BackendError(f"order of {wanted!r} for '{one.name}': expected a whole number of replicas")
            if count == 0 and not config.allow_zero:
                raise BackendError(f"order of 0 for '{one.name}' is refused; allow_zero: true in the backend allows it")
            counts.append(count)
        return counts


def _replicas(scale: dict[str, Any], target: ScaleTarget) -> int:
    """`spec.replicas`; the API server leaves a 0 out."""
    spec = scale.get("spec")
    count = spec.get("replicas", 0) if isinstance(spec, dict) else None
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise BackendError(f"scale of {target.plural} '{target.name}': the answer holds no whole spec.replicas")
    return count


def _text(thing: dict[str, Any], *path: str) -> str:
    """The text at a path, "" where there is none."""
    found: Any = thing
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def _is_ready(pod: dict[str, Any]) -> bool:
    status = pod.get("status")
    conditions = status.get("conditions") if isinstance(status, dict) else None
    return isinstance(conditions, list) and any(
        isinstance(one, dict) and one.get("type") == "Ready" and one.get("status") == "True" for one in conditions
    )


def _build(options: KubernetesConfig, site: Site) -> KubernetesScale:
    if len(options.targets) != len(site.limits.min_replicas):
        raise LiveConfigError(f"backend.targets: got {len(options.targets)} targets, the scenario has "
                              f"{len(site.limits.min_replicas)} pools; expected one target per pool")  # fmt: skip
    if options.request_s > site.last_order_s:
        raise LiveConfigError(
            f"backend.request_s={options.request_s:g} is above {site.last_order_s:g} s, which is what the leader "
            "leaves for a last order (lease_duration_s - renew_deadline_s); lower it, or raise lease_duration_s"
        )
    return KubernetesScale(options, leads=site.leads)


KIND = Kind(KubernetesConfig, _build)
