"""Questions to a Prometheus server over HTTP, bounded in time and size. Knows PromQL as text only.

Every question is answered, or ends in a MetricsError, within `timeout_s`, whatever the server does. Neither proxies nor
`.netrc` are used: a proxy would see the token, the file would replace it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlencode, urlsplit, urlunsplit

from rlscale.deploy.base import LiveConfigError, MetricsError
from rlscale.deploy.bearer import token_of
from rlscale.deploy.http_link import Answer, Link, TooLong, Unanswered
from rlscale.deploy.prometheus_answer import Series, read_answer, shown
from rlscale.deploy.trusted import Trusted

MAX_BYTES = 4_000_000


class Api:
    """One server. Not for several threads at once."""

    def __init__(self, url: str, timeout_s: float = 5.0, token_file: str | None = None, ca_file: str | None = None,
                 max_bytes: int = MAX_BYTES) -> None:  # fmt: skip
        plain, self._credentials = _split_url(url)
        self.url = urlunsplit(plain)  # without credentials: what may be shown
        self._path = plain.path
        self._timeout_s, self._token_file = timeout_s, token_file
        self._trusted = Trusted(plain, MetricsError, ca_file or "")
        self._link = Link(most_bytes=max_bytes)

    def query(self, expression: str, timeout_s: float | None = None) -> list[Series]:
        """The series of an instant query now; [] for a metric that is not there."""
        return self._ask("query", {"query": expression}, "vector", timeout_s)

    def query_range(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """The series of a range query; unix times, both ends included. The server allows 11 000 points per series."""
        fields = {"query": expression, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:g}"}
        return self._ask("query_range", fields, "matrix", None)

    def close(self) -> None:
        """Let go of the connection; the next question opens another."""
        self._link.close()

    def _ask(self, path: str, fields: Mapping[str, str], kind: str, timeout_s: float | None) -> list[Series]:
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        # The server gives up in time too, instead of evaluating for nobody. Its durations are whole numbers.
        body = urlencode({**fields, "timeout": f"{max(1, round(1e3 * limit_s))}ms"}).encode()
        try:
            answer = self._link.exchange(
                self._trusted.place(), "POST", f"{self._path}/api/v1/{path}", self._headers(), body, limit_s
            )
            _check(answer)
            return read_answer(answer.status, answer.body, kind)
        except Unanswered as why:
            advice = "; narrow the labels" if isinstance(why, TooLong) else ""
            raise MetricsError(f"Prometheus {self.url}: {why}{advice}") from None
        except MetricsError as error:
            raise type(error)(f"Prometheus {self.url}: {error}") from None

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", "User-Agent": "rlscale",
                   "Content-Type": "application/x-www-form-urlencoded"}  # fmt: skip
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {token_of(Path(self._token_file), MetricsError)}"
        elif self._credentials:
            headers["Authorization"] = f"Basic {base64.b64encode(self._credentials.encode()).decode()}"
        return headers


def checked_url(url: str) -> str:
    """The URL without credentials. Raises LiveConfigError when it is no address of a server."""
    return urlunsplit(_split_url(url)[0])


def _check(answer: Answer) -> None:
    if 300 <= answer.status < 400:
        where = shown(urlunsplit(_split_url(answer.headers.get("location", ""), check=False)[0]))
        raise MetricsError(f"redirects to {where}; none is followed: give the address it leads to")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise MetricsError("answered compressed; expected plain text as asked for")


def _split_url(url: str, check: bool = True) -> tuple[SplitResult, str]:
    """The URL without credentials, query and fragment, and the credentials, `user:password` or empty."""
    try:
        parts = urlsplit(url)
        host, port, user, password = parts.hostname, parts.port, parts.username, parts.password
    except ValueError:
        parts, host, port, user, password = urlsplit(""), None, None, None, None
    if check and (parts.scheme not in ("http", "https") or not host):
        raise LiveConfigError("metrics.url is no address of a server; expected http://HOST:PORT or https://HOST")
    name = f"[{host}]" if host and ":" in host else host or ""
    plain = SplitResult(parts.scheme, name + (f":{port}" if port else ""), parts.path.rstrip("/"), "", "")
    return plain, f"{unquote(user or '')}:{unquote(password or '')}" if user or password else ""
