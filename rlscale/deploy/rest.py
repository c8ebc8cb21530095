"""A fleet behind two HTTP calls, for a control plane of one's own.

GET url answers {"ready": [..], "pending": [..], "target": [..]}, replicas per pool, and "draining" if it knows; PUT
url {"target": [..]} orders. Doing it twice must be doing it once.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from rlscale.deploy.base import BackendError, Fleet
from rlscale.deploy.http_link import Link, Place, Unanswered
from rlscale.deploy.kinds import Kind, Site
from rlscale.strict import Strict

COUNTS = ("ready", "pending", "target")


class RestConfig(Strict):
    """`backend: {kind: rest, url: http://HOST:PORT/PATH}`."""

    url: str = Field(description="http://HOST:PORT/PATH, in a network that is trusted: nothing is encrypted")
    timeout_s: float = Field(5.0, gt=0, le=60, description="of one call")

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.username or parts.query:
            raise ValueError("expected http://HOST:PORT/PATH")
        return url


class Rest:
    """See the head of the file."""

    tolerance = 0.0

    def __init__(self, url: str, timeout_s: float, pools: int) -> None:
        parts = urlsplit(url)
        self._url, self._timeout_s, self._pools = url, timeout_s, pools
        self._place, self._path = Place(str(parts.hostname), parts.port or 80), parts.path or "/"
        self._host = parts.netloc
        self._link = Link()

    def fleet(self) -> Fleet:
        """The fleet now."""
        told = self._asked("GET", None)
        ready, pending, target = (self._counts(told, name) for name in COUNTS)
        return Fleet(ready, pending, target, self._counts(told, "draining") if "draining" in told else ())

    def order(self, target: tuple[int, ...]) -> None:
        """Have so many replicas."""
        self._asked("PUT", json.dumps({"target": list(target)}).encode())

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def _asked(self, method: str, body: bytes | None) -> dict[str, Any]:
        headers = {"Host": self._host, "Content-Type": "application/json", "Accept": "application/json"}
        try:
            answer = self._link.exchange(self._place, method, self._path, headers, body, self._timeout_s)
            if answer.status != 200:
                raise BackendError(f"{method} {self._url}: answered HTTP {answer.status}; expected 200")
            told = json.loads(answer.body)
        except Unanswered as error:
            raise BackendError(f"{method} {self._url}: {error}") from None
        except (ValueError, RecursionError):
            raise BackendError(f"{method} {self._url}: answered no JSON") from None
        if not isinstance(told, dict):
            raise BackendError(f"{method} {self._url}: answered {type(told).__name__}; expected an object")
        return told

    def _counts(self, told: dict[str, Any], name: str) -> tuple[int, ...]:
        value: Any = told.get(name)
        plain = isinstance(value, list) and all(type(count) is int and count >= 0 for count in value)
        if not plain or len(value) != self._pools:
            raise BackendError(f"{self._url}: answered {name} {value!r:.80}; expected {self._pools} counts")
        return tuple(value)


def _build(options: RestConfig, site: Site) -> Rest:
    return Rest(options.url, options.timeout_s, len(site.limits.min_replicas))


KIND = Kind(RestConfig, _build)
