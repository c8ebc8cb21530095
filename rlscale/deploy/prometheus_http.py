"""Questions to a Prometheus server over HTTP, bounded in time and size. Knows PromQL as text only.

Every question is answered, or ends in a MetricsError, within `timeout_s`, whatever the server does: name look-up,
connection, headers and body share one deadline, since the timeouts of sockets begin anew with every byte.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import requests

from rlscale.deploy.base import LiveConfigError, MetricsError
from rlscale.deploy.prometheus_answer import Series, read_answer, shown

MAX_BYTES = 4_000_000
MAX_TOKEN_BYTES = 65_536
MAX_STUCK = 8  # requests that outlived their deadline and still hang; more would only pile up
CHUNK_BYTES = 1024  # how much is read before the deadline is looked at


class Api:
    """One server. Not for several threads at once."""

    def __init__(self, url: str, timeout_s: float = 5.0, token_file: str | None = None, ca_file: str | None = None,
                 max_bytes: int = MAX_BYTES) -> None:  # fmt: skip
        self.url, self._auth = _split_url(url)  # the URL without credentials: what may be shown
        self._timeout_s, self._max_bytes = timeout_s, max_bytes
        self._token_file, self._ca_file = token_file, ca_file
        self._session: requests.Session | None = None
        self._stuck: list[threading.Thread] = []

    def query(self, expression: str, timeout_s: float | None = None) -> list[Series]:
        """The series of an instant query now; [] for a metric that is not there."""
        return self._ask("query", {"query": expression}, "vector", timeout_s)

    def query_range(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """The series of a range query; unix times, both ends included. The server allows 11 000 points per series."""
        fields = {"query": expression, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:g}"}
        return self._ask("query_range", fields, "matrix", None)

    def close(self) -> None:
        """Let go of the connection; the next question opens another."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def _ask(self, path: str, fields: Mapping[str, str], kind: str, timeout_s: float | None) -> list[Series]:
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            self._refuse_pile()
            # The server gives up in time too, instead of evaluating for nobody. Its durations are whole numbers.
            status, body = self._within(limit_s, path, {**fields, "timeout": f"{max(1, round(1e3 * limit_s))}ms"})
            return read_answer(status, body, kind)
        except MetricsError as error:
            raise type(error)(f"Prometheus {self.url}: {error}") from None

    def _refuse_pile(self) -> None:
        self._stuck = [thread for thread in self._stuck if thread.is_alive()]
        if len(self._stuck) >= MAX_STUCK:
            raise MetricsError(f"{len(self._stuck)} earlier requests still hang; expected the server to end them")

    def _within(self, limit_s: float, path: str, fields: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body. The request runs in a thread, since nothing else bounds a name look-up or slow headers."""
        session = self._session = self._session or _new_session(self._auth)
        deadline_s = time.monotonic() + limit_s
        told: list[tuple[int, bytes] | MetricsError] = []

        def run() -> None:
            try:
                told.append(self._post(session, deadline_s, limit_s, path, fields))
            except MetricsError as error:
                told.append(error)
            except Exception as error:  # whatever a foreign server makes the libraries raise is one failed reading
                told.append(MetricsError(f"cannot be asked ({type(error).__name__}: {shown(_cause(error))})"))

        thread = threading.Thread(target=run, name="prometheus", daemon=True)
        thread.start()
        thread.join(limit_s)
        if not told:
            self._stuck.append(thread)
            self._session = None  # the thread still holds it
            raise MetricsError(_late(limit_s))
        if isinstance(told[0], MetricsError):
            self.close()
            raise told[0]
        return told[0]

    def _post(self, session: requests.Session, deadline_s: float, limit_s: float, path: str,
              fields: Mapping[str, str]) -> tuple[int, bytes]:  # fmt: skip
        left_s = max(0.001, deadline_s - time.monotonic())
        with session.post(
            f"{self.url}/api/v1/{path}", data=dict(fields), headers=self._headers(), timeout=left_s, stream=True,
            allow_redirects=False, verify=self._ca_file or True,
        ) as response:  # fmt: skip
            if 300 <= response.status_code < 400:
                where = shown(_split_url(response.headers.get("Location", ""), check=False)[0])
                raise MetricsError(f"redirects to {where}; none is followed: give the address it leads to")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise MetricsError("answered compressed; expected plain text as asked for")
            body = bytearray()
            for part in response.iter_content(CHUNK_BYTES):
                body += part
                if len(body) > self._max_bytes:
                    raise MetricsError(f"answered more than {self._max_bytes} bytes; narrow the labels")
                if time.monotonic() > deadline_s:
                    raise MetricsError(_late(limit_s))
            return response.status_code, bytes(body)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", "User-Agent": "rlscale"}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {_token(Path(self._token_file))}"
        return headers


def checked_url(url: str) -> str:
    """The URL without credentials. Raises LiveConfigError when it is no address of a server."""
    return _split_url(url)[0]


def _new_session(auth: Callable[[requests.PreparedRequest], requests.PreparedRequest] | None) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # a .netrc would replace the token, a proxy would see it
    session.auth = auth
    return session


def _split_url(
    url: str, check: bool = True
) -> tuple[str, Callable[[requests.PreparedRequest], requests.PreparedRequest] | None]:
    """URL without credentials, query and fragment, and what puts the credentials on a request."""
    try:
        parts = urlsplit(url)
        host, port, user, password = parts.hostname, parts.port, parts.username, parts.password
    except ValueError:
        parts, host, port, user, password = urlsplit(""), None, None, None, None
    if check and (parts.scheme not in ("http", "https") or not host):
        raise LiveConfigError("metrics.url is no address of a server; expected http://HOST:PORT or https://HOST")
    name = f"[{host}]" if host and ":" in host else host or ""
    plain = urlunsplit((parts.scheme, name + (f":{port}" if port else ""), parts.path.rstrip("/"), "", ""))
    auth = requests.auth.HTTPBasicAuth(unquote(user or ""), unquote(password or "")) if user or password else None
    return plain, auth


def _token(path: Path) -> str:
    """The token as it is in the file now: clusters renew it."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise MetricsError(f"token_file {path} cannot be read ({error.strerror})") from None
    token = raw.decode("ascii", "replace").strip()
    if not token or len(raw) > MAX_TOKEN_BYTES or not token.isprintable() or "\N{REPLACEMENT CHARACTER}" in token:
        raise MetricsError(f"token_file {path} holds no token; expected one line of printable ASCII")
    return token


def _late(limit_s: float) -> str:
    return f"no full answer within {limit_s:g} s"


def _cause(error: BaseException) -> str:
    """The innermost reason: outer ones repeat the address and the objects of the library."""
    seen: BaseException = error
    for _ in range(8):
        inner = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None) or seen.__cause__
        if not isinstance(inner, BaseException):
            break
        seen = inner
    text = str(seen)
    return text.rsplit(": ", 1)[-1] if "object at 0x" in text else text
