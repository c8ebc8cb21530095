"""Who of several instances orders: leader election by a Kubernetes Lease. Knows nothing of fleets.

The algorithm is the usual one of client-go. The Lease holds who leads; a leader renews it, and whoever has seen it
unchanged for its duration may take it, both by compare and swap on its version. Times written into it are for people:
only one's own clock, from when a change was *seen*, decides whether it has run out, so wall clocks may jump.

A leader counts from before it *sent* the renewal that was confirmed, others from after they saw it, and a leader stops
earlier than others may begin: two never lead at once, as long as their clocks run less than a tenth apart and nobody
deletes the Lease.
"""

from __future__ import annotations

import datetime
import logging
import math
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.kinds import Kind, Site
from rlscale.deploy.kubernetes_access import Caller, caller
from rlscale.deploy.kubernetes_api import Api, ApiError, Ask, Verb
from rlscale.deploy.kubernetes_config import LeaseConfig
from rlscale.strict import Strict

LOG = logging.getLogger(__name__)
GROUP, VERSION, RESOURCE = "coordination.k8s.io", "v1", "leases"
MICRO_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
NOT_FOUND, CONFLICT = 404, 409


@runtime_checkable
class Leader(Protocol):
    """Whether this instance may order. Asked from any thread, answered at once."""

    def leads(self) -> bool:
        """True as long as no other instance can lead."""
        ...

    def close(self) -> None:
        """Stop leading and let another instance begin at once."""
        ...


class Always:
    """A single instance: leads until it is closed."""

    def __init__(self) -> None:
        self._open = True

    def leads(self) -> bool:
        """True until closed."""
        return self._open

    def close(self) -> None:
        """Lead no longer."""
        self._open = False


def awake_s() -> float:
    """Steady time that goes on while the machine sleeps: a leader that slept must not believe it still leads."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Elector:
    """One instance's part of the election, one try at a time."""

    def __init__(
        self,
        api: Api,
        config: LeaseConfig,
        namespace: str,
        identity: str,
        *,
        steady_s: Callable[[], float] = awake_s,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._api, self._config, self._namespace, self.identity = api, config, namespace, identity
        self._steady_s, self._unix_s = steady_s, unix_s
        self._lease: dict[str, Any] = {}
        self._seen_s = -math.inf  # when the lease was seen to have changed
        self._leads_until_s = -math.inf

    def leads(self) -> bool:
        """Whether this instance leads now."""
        return self._steady_s() < self._leads_until_s

    def step(self) -> bool:
        """Read the Lease, and take or renew it where that is allowed. Raises ApiError."""
        try:
            self._try()
        except ApiError as error:
            if error.status != CONFLICT:  # another instance was faster, which is how it should be
                raise
        return self.leads()

    def release(self) -> None:
        """Stop leading, and write so where it was true until now. Raises ApiError."""
        led, self._leads_until_s = self.leads(), -math.inf
        if led:
            now, spec = self._now(), self._spec()
            empty = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now, "acquireTime": now,
                     "leaseTransitions": _whole(spec.get("leaseTransitions"))}  # fmt: skip
            self._call("update", self._lease | {"spec": empty})

    def _try(self) -> None:
        try:
            self._see(self._call("get"))
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            self._write("create", {"metadata": {"name": self._config.name, "namespace": self._namespace}}, 0)
            return
        spec = self._spec()
        holder, changes = spec.get("holderIdentity"), _whole(spec.get("leaseTransitions"))
        if holder == self.identity:
            self._write("update", self._lease, changes, spec.get("acquireTime"))
        elif not holder or self._steady_s() >= self._seen_s + self._lasts_s(spec):
            self._leads_until_s = -math.inf
            self._write("update", self._lease, changes + 1)
        else:
            self._leads_until_s = -math.inf

    def _write(self, verb: Verb, lease: dict[str, Any], changes: int, acquired: object = None) -> None:
        sent_s, now = self._steady_s(), self._now()
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._config.lease_duration_s,
            "acquireTime": acquired if isinstance(acquired, str) else now,
            "renewTime": now,
            "leaseTransitions": changes,
        }
        answer = self._call(verb, lease | {"spec": spec})
        self._see(answer)
        if self._spec().get("holderIdentity") == self.identity:
            self._leads_until_s = sent_s + self._config.renew_deadline_s

    def _see(self, lease: dict[str, Any]) -> None:
        if not self._lease or _meta(lease, "resourceVersion") != _meta(self._lease, "resourceVersion"):
            self._seen_s = self._steady_s()
        self._lease = lease

    def _spec(self) -> dict[str, Any]:
        spec = self._lease.get("spec")
        return spec if isinstance(spec, dict) else {}

    def _lasts_s(self, spec: dict[str, Any]) -> float:
        """The longer of what the holder said and what is configured here, should the two differ."""
        return float(max(_whole(spec.get("leaseDurationSeconds")), self._config.lease_duration_s))

    def _call(self, verb: Verb, body: dict[str, Any] | None = None) -> dict[str, Any]:
        ask = Ask(verb, GROUP, VERSION, self._namespace, RESOURCE, self._config.name, body=body and {
            "apiVersion": f"{GROUP}/{VERSION}", "kind": "Lease", **body})  # fmt: skip
        return self._api.call(ask, self._config.renew_deadline_s / 2.0)

    def _now(self) -> str:
        """Wall time, never the one that is there: a write that changes nothing is none, and no renewal to others."""
        moment = datetime.datetime.fromtimestamp(self._unix_s(), datetime.UTC)
        text = moment.strftime(MICRO_TIME)
        if text == self._spec().get("renewTime"):
            text = (moment + datetime.timedelta(microseconds=1)).strftime(MICRO_TIME)
        return text


class LeaseLeader:
    """Keeps trying in a thread of its own. `problem` says what went wrong last, "" while all is well."""

    def __init__(
        self,
        config: LeaseConfig,
        *,
        who: Caller | None = None,
        rng: random.Random | None = None,
        steady_s: Callable[[], float] = awake_s,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        who = who or caller(config.access)
        namespace = config.namespace or who.namespace
        if not namespace:
            raise LiveConfigError("no namespace: neither the lease nor its credentials name one; give namespace")
        # Two instances of one name would each take the Lease for their own.
        identity = f"{config.identity or socket.gethostname()}_{uuid.uuid4().hex[:12]}"
        self._api = Api(who, request_s=config.renew_deadline_s / 2.0)
        self._elector = Elector(self._api, config, namespace, identity, steady_s=steady_s, unix_s=unix_s)
        self._retry_s, self._rng = config.retry_s, rng or random.Random()
        self.last_order_s = config.margin_s
        self._patience_s = 2.0 * config.renew_deadline_s
        self._stop, self.problem = threading.Event(), ""
        self._thread = threading.Thread(target=self._run, daemon=True, name="lease")
        self._thread.start()

    @property
    def identity(self) -> str:
        """What the Lease holds while this instance leads."""
        return self._elector.identity

    def leads(self) -> bool:
        """Whether this instance may order now."""
        return not self._stop.is_set() and self._elector.leads()

    def close(self) -> None:
        """Stop leading at once, then give the Lease back. Call it when no order is on its way any more."""
        self._stop.set()
        self._thread.join(self._patience_s)
        if self._thread.is_alive():
            return  # it runs out by itself
        try:
            self._elector.release()
        except ApiError as error:
            LOG.warning("the lease is not given back and runs out by itself: %s", error)
        self._api.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            led, problem = self._elector.leads(), ""
            try:
                self._elector.step()
            except Exception as error:  # nothing may end this thread: an instance that never leads again is lost
                problem = str(error) or type(error).__name__
            if problem and problem != self.problem:
                LOG.warning("leader election: %s", problem)
            if led != self._elector.leads():
                LOG.log(
                    logging.WARNING if led else logging.INFO,
                    "%s %s",
                    self.identity,
                    "leads no more" if led else "leads",
                )
            self.problem = problem
            self._stop.wait(self._retry_s * self._rng.uniform(1.0, 1.2))


def _meta(lease: dict[str, Any], name: str) -> object:
    metadata = lease.get("metadata")
    return metadata.get(name) if isinstance(metadata, dict) else None


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


class AlwaysConfig(Strict):
    """`leader: {kind: none}`."""


def _always(options: AlwaysConfig, site: Site) -> Always:
    return Always()


def _build(options: LeaseConfig, site: Site) -> LeaseLeader:
    return LeaseLeader(options)


ALWAYS, KIND = Kind(AlwaysConfig, _always), Kind(LeaseConfig, _build)
