"""One HTTP exchange within a total deadline, however slowly the other side dribbles. Knows no service.

A read timeout, which is what HTTP libraries offer, starts anew with every byte that comes; a server that sends a byte a
second would hold a caller for hours.
"""

from __future__ import annotations

import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_BODY_BYTES = 64 * 2**20
CHUNK_BYTES = 65_536


class Unanswered(Exception):
    """No complete answer came; the text says why and holds nothing of what was sent."""


class TooLong(Unanswered):
    """The answer is longer than was allowed."""


class _Broken(ValueError):
    """An answer that is none, in words of our own. Other errors' words may quote a header that holds a secret."""


class _Long(_Broken):
    """An answer without an end, or nearly so."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers by lower-case name, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens; `tls` None for a connection without encryption."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""  # on the certificate; empty: the host


class Link:
    """A connection that is kept between exchanges. Not for several threads at once."""

    def __init__(self, steady_s: Callable[[], float] = time.monotonic, most_bytes: int = MAX_BODY_BYTES) -> None:
        self._steady_s, self._most_bytes = steady_s, most_bytes
        self._place: Place | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._until_s = 0.0

    def exchange(
        self, place: Place, method: str, path: str, headers: Mapping[str, str], body: bytes | None, within_s: float
    ) -> Answer:
        """Send a request and read the whole answer; raises Unanswered after `within_s` seconds at the latest."""
        self._until_s = self._steady_s() + within_s
        try:
            return self._exchange(place, method, path, headers, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            kind = TooLong if isinstance(error, _Long) else Unanswered
            raise kind(_why(error, within_s)) from None

    def close(self) -> None:
        """Hang up; the next exchange connects anew."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def __del__(self) -> None:
        """Whoever forgets a link hangs up."""
        if getattr(self, "_connection", None) is not None:
            self.close()

    def _exchange(self, place: Place, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        kept = self._connection is not None and self._place == place
        if kept:
            try:
                return self._ask(method, path, headers, body)
            except (ConnectionError, ssl.SSLEOFError, http.client.BadStatusLine, http.client.NotConnected):
                pass  # it was closed while idle, as servers do; what follows asks once more on a new one
        self.close()
        self._connect(place)
        return self._ask(method, path, headers, body)

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        connection = self._connection
        assert connection is not None, "connected before asking"
        if connection.sock is None:
            raise http.client.NotConnected
        connection.sock.settimeout(self._left_s())  # Python takes it as the total of sending
        connection.request(method, path, body=body, headers=dict(headers))
        response = connection.getresponse()
        text = self._read(response)
        named = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close:
            self.close()
        return Answer(response.status, named, text)

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        parts, size = [], 0
        while part := response.read(CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > self._most_bytes:
                raise _Long(f"the answer is longer than {self._most_bytes / 1e6:.3g} MB")
        if response.length:
            raise _Broken(f"the answer ended {response.length} bytes early")
        return b"".join(parts)

    def _connect(self, place: Place) -> None:
        sock = self._reach(place)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if place.tls is not None:
                sock.settimeout(self._left_s())
                sock = place.tls.wrap_socket(sock, server_hostname=place.server_name or place.host)
        except BaseException:
            sock.close()
            raise
        connection = http.client.HTTPConnection(place.host, place.port)
        connection.sock = sock
        connection.auto_open = 0
        connection.response_class = self._response  # type: ignore[assignment]
        self._connection, self._place = connection, place

    def _reach(self, place: Place) -> socket.socket:
        last: OSError = OSError(f"{place.host} has no address")
        for family, kind, protocol, _, address in _addresses(place, self._left_s()):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self._left_s())
                sock.connect(address)
                return sock
            except OSError as error:
                sock.close()
                last = error
        raise last

    def _response(self, sock: socket.socket, *args: Any, **named: Any) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(sock, *args, **named)
        response.fp.close()
        response.fp = io.BufferedReader(_Paced(sock, self._left_s))
        return response

    def _left_s(self) -> float:
        left = self._until_s - self._steady_s()
        if left <= 0.0:
            raise TimeoutError
        return left


class _Paced(io.RawIOBase):
    """Bytes of a socket; every read gets what is left of the deadline."""

    def __init__(self, sock: socket.socket, left_s: Callable[[], float]) -> None:
        self._sock, self._left_s = sock, left_s
        self._bytes = sock.makefile("rb", buffering=0)  # holds the socket open after the connection let go of it

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._left_s())
        return self._bytes.readinto(buffer)

    def close(self) -> None:
        self._bytes.close()
        super().close()


def _addresses(place: Place, within_s: float) -> list[Any]:
    """Looked up in a thread of its own: a resolver knows no deadline."""
    found: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def look() -> None:
        try:
            found.put(list(socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)))
        except OSError as error:
            found.put(error)

    threading.Thread(target=look, daemon=True, name="resolver").start()
    try:
        answer = found.get(timeout=within_s)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _why(error: Exception, within_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no complete answer within {within_s:.3g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or type(error).__name__}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, http.client.HTTPException):
        return f"what came is no HTTP answer ({type(error).__name__})"
    return str(error) if isinstance(error, _Broken) else type(error).__name__
