"""The pages of a live service: health, readiness, metrics, the last turn. A WSGI application, served by waitress.

Reading only; `/decide` is added by the backend `http`. Answers to what is no request are waitress's own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rlscale.deploy.base import LiveConfigError

if TYPE_CHECKING:
    from rlscale.deploy.live import Live

TEXT, JSON = "text/plain; charset=utf-8", "application/json"
MAX_BODY_BYTES = 1_000_000
THREADS = 4

Answer = tuple[int, str, bytes]  # status, content type, body
Page = Callable[[bytes], Answer]
PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 413: "Content Too Large",
           422: "Unprocessable Content", 500: "Internal Server Error", 503: "Service Unavailable"}  # fmt: skip


def pages(live: Live) -> dict[tuple[str, str], Page]:
    """By method and path."""
    return {
        ("GET", "/healthz"): lambda _: _well(live.health()),
        ("GET", "/readyz"): lambda _: _well(live.readiness()),
        ("GET", "/metrics"): lambda _: (200, "text/plain; version=0.0.4; charset=utf-8", live.exporter.text()),
        ("GET", "/state"): lambda _: json_answer(200, _state(live)),
    }


class Application:
    """Looks pages up; what a page raises is a 500 without its text, which could hold anything."""

    def __init__(self, table: Mapping[tuple[str, str], Page], on_error: Callable[[str, Exception], None]) -> None:
        self._table, self._on_error = dict(table), on_error

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, kind, body = self._answer(environ)
        start_response(f"{status} {PHRASES[status]}", [("Content-Type", kind), ("Content-Length", str(len(body))),
                                                       ("X-Content-Type-Options", "nosniff")])  # fmt: skip
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _answer(self, environ: Mapping[str, Any]) -> Answer:
        method, path = str(environ["REQUEST_METHOD"]), str(environ.get("PATH_INFO", "/"))
        page = self._table.get(("GET" if method == "HEAD" else method, path))
        if page is None:
            known = sorted({name for _, name in self._table})
            if path in known:
                return text_answer(405, f"{method} is not for {path}")
            return text_answer(404, f"known: {' '.join(known)}")
        try:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            if length > MAX_BODY_BYTES:
                return text_answer(413, f"{length} bytes; expected at most {MAX_BODY_BYTES}")
            return page(environ["wsgi.input"].read(length) if length else b"")
        except Exception as error:
            self._on_error("pages", error)
            return text_answer(500, "failed; see the log of the service")


class PageServer:
    """Serves an application from threads of its own until closed."""

    def __init__(self, application: Application, address: str, port: int) -> None:
        try:
            from waitress.server import create_server
        except ImportError:
            raise LiveConfigError(
                "pages need waitress: pip install 'rlscale[live]', or leave them out with --no-pages"
            ) from None
        self._open: dict[int, Any] = {}  # the listening socket and all connections
        try:
            self._server = create_server(
                application, map=self._open, host=address, port=port, threads=THREADS, ident="rlscale",
                channel_timeout=30, max_request_body_size=MAX_BODY_BYTES, max_request_header_size=16_384,
                connection_limit=200,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            self._close_open()
            reason = getattr(error, "strerror", None) or error
            raise LiveConfigError(f"pages: cannot listen on {address}:{port} ({reason}); choose another port") from None
        self.port = int(self._server.effective_port)
        self._thread = threading.Thread(target=self._server.run, name="pages", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.trigger.pull_trigger(self._close_all)
        self._thread.join(timeout=5.0)

    def _close_all(self) -> None:
        """In the thread that serves: its loop ends when nothing is open."""
        self._server.close()
        self._close_open()

    def _close_open(self) -> None:
        for one in list(self._open.values()):
            one.close()


def json_answer(status: int, value: Any) -> Answer:
    """A page of JSON."""
    return status, JSON, json.dumps(value, allow_nan=False).encode() + b"\n"


def text_answer(status: int, text: str) -> Answer:
    """A line of text."""
    return status, TEXT, text.encode() + b"\n"


def _well(why: str) -> Answer:
    return text_answer(503 if why else 200, why or "ok")


def _state(live: Live) -> dict[str, Any]:
    from rlscale.deploy.observed import to_json

    current, last = live.current, live.last
    state = {"service": live.service, "scaler": current.name, "turns": live.turned, "leads": live.leads(),
             "fallback": current.by_fallback, "counts": dict(current.decider.counts)}  # fmt: skip
    if last is not None:
        state |= {"target": list(last.bounded.target), "reason": last.bounded.reason, "observation": to_json(last.seen)}
    return state
