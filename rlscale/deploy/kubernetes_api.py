"""Calls of a Kubernetes API server: within a deadline, with bounded retries, and errors that say what to do."""

from __future__ import annotations

import email.utils
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from rlscale.deploy.base import BackendError
from rlscale.deploy.http_link import Answer, Link, Place, Unanswered
from rlscale.deploy.kubernetes_access import Caller

Verb = Literal["get", "list", "patch", "create", "update"]
METHODS: dict[Verb, str] = {"get": "GET", "list": "GET", "patch": "PATCH", "create": "POST", "update": "PUT"}
TRY_AGAIN = (429, 500, 502, 503, 504)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
MAX_MESSAGE = 300  # characters of the server's own words in an error


class ApiError(BackendError):
    """The API server refused, or did not answer; `status` is 0 then."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Exchange(Protocol):
    """What `Link` does; tests bring others."""

    def exchange(
        self, place: Place, method: str, path: str, headers: Mapping[str, str], body: bytes | None, within_s: float
    ) -> Answer:
        """One request and its whole answer; raises Unanswered."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, in the words of RBAC: verb, API group, resource with its subresource, name."""

    verb: Verb
    group: str
    version: str
    namespace: str
    resource: str  # "deployments/scale" for a subresource
    name: str = ""
    query: str = ""
    body: Mapping[str, Any] | None = None

    @property
    def path(self) -> str:
        """Path and query on the server."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        plural, _, subresource = self.resource.partition("/")
        parts = [root, "namespaces", self.namespace, plural]
        parts += [self.name] if self.name and self.verb != "create" else []
        parts += [subresource] if subresource else []
        return "/".join(parts) + (f"?{self.query}" if self.query else "")

    def __str__(self) -> str:
        name = f" '{self.name}'" if self.name else ""
        return f"{self.verb} {self.resource}{name} in namespace '{self.namespace}'"


class Api:
    """One caller's way to one API server. Not for several threads at once."""

    def __init__(
        self,
        caller: Caller,
        *,
        request_s: float,
        attempts: int = 1,
        link: Exchange | None = None,
        steady_s: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._caller, self._link = caller, link or Link(steady_s)
        self._request_s, self._attempts = request_s, attempts
        self._steady_s, self._pause = steady_s, pause
        self._rng = rng or random.Random()

    def call(self, ask: Ask, within_s: float) -> dict[str, Any]:
        """The object the server answers with. Raises ApiError, after `within_s` seconds at the latest."""
        until_s = self._steady_s() + within_s
        for attempt in range(1, self._attempts + 1):
            left_s = until_s - self._steady_s()
            if left_s <= 0.0:
                raise self._error(ask, f"no time was left of {within_s:.3g} s")
            answer, problem = self._once(ask, min(left_s, self._request_s))
            if answer is not None and problem is None:
                return answer
            assert problem is not None, "either an answer or a problem"
            wait_s = self._wait_s(problem, attempt)
            if problem.final or attempt == self._attempts or wait_s >= until_s - self._steady_s():
                raise problem.error
            self._pause(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def _once(self, ask: Ask, within_s: float) -> tuple[dict[str, Any] | None, _Problem | None]:
        token = self._caller.token()
        headers = {"Accept": "application/json", "User-Agent": "rlscale"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        body = None
        if ask.body is not None:
            body = json.dumps(ask.body).encode()
            headers["Content-Type"] = "application/merge-patch+json" if ask.verb == "patch" else "application/json"
        path = self._caller.prefix + ask.path
        try:
            answer = self._link.exchange(self._caller.place(), METHODS[ask.verb], path, headers, body, within_s)
        except Unanswered as why:
            return None, _Problem(self._error(ask, str(why)), final=False)
        if 200 <= answer.status < 300:
            found = _object(answer.body)
            if found is not None:
                return found, None
            return None, _Problem(self._error(ask, "the answer is no JSON object"), final=False)
        return None, self._problem(ask, answer, token)

    def _problem(self, ask: Ask, answer: Answer, token: str) -> _Problem:
        said = str((_object(answer.body) or {}).get("message", ""))
        said = re.sub(r"\s+", " ", said.replace(token, "***") if token else said).strip()[:MAX_MESSAGE]
        words = f"status {answer.status}" + (f" ({said})" if said else "")
        error = self._error(ask, f"{words}; {_advice(ask, answer.status)}", answer.status)
        # A token is read anew for every request: one that was replaced a moment ago deserves a second look.
        return _Problem(error, answer.status not in (*TRY_AGAIN, 401), _retry_after_s(answer.headers))

    def _wait_s(self, problem: _Problem, attempt: int) -> float:
        backoff_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))
        return max(problem.retry_after_s, backoff_s * self._rng.uniform(0.5, 1.0))

    def _error(self, ask: Ask, what: str, status: int = 0) -> ApiError:
        return ApiError(f"{ask}, {self._caller.server}: {what}", status)


@dataclass(frozen=True, slots=True)
class _Problem:
    error: ApiError
    final: bool  # asking again would not help
    retry_after_s: float = 0.0


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _retry_after_s(headers: Mapping[str, str]) -> float:
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,6}", text):
        return float(text)
    try:  # a date, told from the server's own clock
        wait = email.utils.parsedate_to_datetime(text) - email.utils.parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, wait.total_seconds())


def _advice(ask: Ask, status: int) -> str:
    plural, _, subresource = ask.resource.partition("/")
    if status == 401:
        return "the credentials were refused: check the token, its expiry and the client certificate"
    if status == 403:
        only = f", resourceNames ['{ask.name}']" if ask.name and ask.verb not in ("create", "list") else ""
        return (
            f"the Role of this service account lacks verb '{ask.verb}': "
            f"add apiGroups ['{ask.group}'], resources ['{ask.resource}'], verbs ['{ask.verb}']{only}"
        )
    if status == 404:
        what = f"no {plural} '{ask.name}' in namespace '{ask.namespace}'" if ask.name else f"no resource {plural}"
        kind = f", or {plural} of {ask.group or 'the core group'} have no /{subresource}" if subresource else ""
        return f"{what}{kind}; check name, namespace, kind and api_version"
    if status == 409:
        return "somebody else changed it meanwhile"
    if 300 <= status < 400:
        return "a redirection, which credentials do not follow; give the address of the API server itself"
    if status in TRY_AGAIN:
        return "the API server is overloaded or failing; nothing to change here"
    return "the API server does not take this request"
