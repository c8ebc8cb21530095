"""Brings one file here over HTTP, from servers that stall, break off, lie or are gone. Knows nothing of data sets.

Goes on where an earlier attempt ended, by range requests where the server takes them. Proxies and certificates are
those of the environment (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE).
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from experiments.checksums import Verdict, verdict
from experiments.partial import DownloadError, Origin, Partial

if TYPE_CHECKING:
    import requests

BLOCK = 1 << 16
LATER = (408, 425, 429)  # and every 5xx: worth another attempt
WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head)\b", re.IGNORECASE)
LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file: where it is, its final place, and what it must be."""

    urls: tuple[str, ...]  # the same file, tried in turn
    target: Path
    size: int | None = None
    checks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to put up with a server."""

    attempts: int = 5  # in a row that bring nothing new
    timeout_s: float = 30.0  # without a single byte
    pause_s: float = 1.0  # after the first failure; doubled after each further one
    longest_pause_s: float = 30.0


class Watcher(Protocol):
    """Is told how it goes."""

    def at(self, size: int, total: int | None) -> None:
        """Bytes here, out of how many."""

    def say(self, text: str) -> None:
        """News in one line."""


class _Refused(Exception):
    """This URL does not give the file."""


class _Broken(Exception):
    """An attempt failed in a way that another one may not."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s  # as the server asked


def download(wanted: Wanted, patience: Patience, watch: Watcher) -> tuple[str, Verdict]:
    """Bring the file to its place; the URL that gave it, and what its checks said.

    Raises DownloadError. After an error or Ctrl-C there is no file under the final name; what arrived and may still
    be of use is in NAME.part.
    """
    part = Partial(wanted.target)
    try:
        faults = []
        for url in wanted.urls:
            try:
                return url, _fetch(url, wanted, part, patience, watch)
            except _Refused as why:
                faults.append(f"{url}: {why}")
                if url != wanted.urls[-1]:
                    watch.say(f"{faults[-1]}; trying the next source")
        raise DownloadError(f"{'; '.join(faults)}. {_left(part)}Try again later, or give a mirror with --url")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_left(part).strip() or "nothing had arrived") from None
    finally:
        part.close()


def _left(part: Partial) -> str:
    if part.size == 0:
        return ""
    return f"{part.size:,} bytes are kept in {part.path}; the same command goes on from there. "


def _fetch(url: str, wanted: Wanted, part: Partial, patience: Patience, watch: Watcher) -> Verdict:
    """All bytes from one URL, checked. A file put together from several answers gets a second chance as a whole."""
    while True:
        with _session() as session:
            _fill(session, url, wanted, part, patience, watch)
        result = verdict(part.path, wanted.checks)
        watch.at(part.size, part.size)
        if result.good:
            part.finish()
            return result
        answers = part.origin.answers if part.origin else 1
        part.clear()
        if answers == 1:
            raise _Refused(f"not the published file, thrown away: {result.words}")
        watch.say("the parts of several attempts do not fit together; starting again")


def _may_go_on(url: str, wanted: Wanted, part: Partial) -> bool:
    """Whether bytes from before are worth keeping: a digest will tell, or the server says the file is the same."""
    if part.origin is None or (wanted.size is not None and part.size > wanted.size):
        return False
    return bool(wanted.checks) or (part.origin.url == url and bool(part.origin.validator))


def _fill(
    session: requests.Session, url: str, wanted: Wanted, part: Partial, patience: Patience, watch: Watcher
) -> None:
    """Attempts until the file is complete. Only those that bring nothing new are counted."""
    failures, most = 0, part.size
    while True:
        if not _may_go_on(url, wanted, part):
            part.clear()
        if part.complete:
            return
        try:
            _attempt(session, url, wanted, part, patience, watch)
            return
        except _Broken as why:
            failures = 0 if part.size > most else failures + 1
            most = max(most, part.size)
            if failures >= patience.attempts:
                raise _Refused(f"{why}; given up after {failures} attempts that brought nothing new") from None
            pause_s = min(max(patience.pause_s * 2 ** max(failures - 1, 0), why.wait_s), patience.longest_pause_s)
            watch.say(f"{why}; {part.size:,} bytes are here, next attempt in {pause_s:g} s")
            time.sleep(pause_s)


def _attempt(
    session: requests.Session, url: str, wanted: Wanted, part: Partial, patience: Patience, watch: Watcher
) -> None:
    """One request. Leaves the whole file in `part`, or raises with what has arrived in it."""
    with _answer(session, url, part, patience.timeout_s) as answer:
        _take_up(answer, url, part)
        total = part.origin.total if part.origin else None
        blocks = _blocks(answer)
        first = next(blocks, b"")
        if part.size == 0:
            _refuse_impostor(first, part)
        if total is not None and wanted.size is not None and total != wanted.size:
            part.clear()
            raise _Refused(f"offers {total:,} bytes, the published file has {wanted.size:,}")
        part.need(wanted.size or total or 0)
        expected = wanted.size or total
        for block in itertools.chain((first,), blocks):
            part.write(block)
            watch.at(part.size, expected)
            if expected is not None and part.size > expected:
                part.clear()
                raise _Refused(f"sends more than the {expected:,} bytes of the published file")
    _refuse_impostor(part.head, part)
    if expected is not None and part.size < expected:
        raise _Broken(f"ended after {part.size:,} of {expected:,} bytes")


def _answer(session: requests.Session, url: str, part: Partial, timeout_s: float) -> requests.Response:
    """The server's answer, its headers read; every way in which there is none is told in words."""
    import requests
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    headers = {"Accept-Encoding": "identity", "User-Agent": "rlscale"}
    if part.size and part.origin:
        headers["Range"] = f"bytes={part.size}-"
        if part.origin.validator and part.origin.url == url:
            headers["If-Range"] = part.origin.validator
    try:
        return session.get(url, headers=headers, stream=True, timeout=timeout_s)
    except requests.exceptions.SSLError as error:
        raise _Refused(f"no trusted connection ({_last(error)}); REQUESTS_CA_BUNDLE names own certificates") from None
    except requests.exceptions.ProxyError as error:
        raise _Refused(f"the proxy of the environment does not work ({_last(error)})") from None
    except requests.exceptions.ReadTimeout:
        raise _Broken(f"no answer for {timeout_s:g} s") from None
    except requests.exceptions.ConnectionError as error:
        reason = getattr(error.args[0] if error.args else None, "reason", None)
        if part.size == 0 and isinstance(reason, NewConnectionError | ConnectTimeoutError):
            raise _Refused(f"{urlsplit(url).hostname} cannot be reached ({_last(error)})") from None
        raise _Broken(f"the connection broke off ({_last(error)})") from None
    except (requests.exceptions.RequestException, ImportError) as error:  # ImportError: a SOCKS proxy without PySocks
        raise _Refused(_last(error)) from None


def _take_up(answer: requests.Response, url: str, part: Partial) -> None:
    """Read status and headers: from here on the body continues `part`, or `part` is empty and the body begins it."""
    status = answer.status_code
    if status in LATER or status >= 500:
        asked = answer.headers.get("Retry-After", "")
        raise _Broken(f"HTTP {status} {answer.reason}", float(asked) if asked.isdigit() else 0.0)
    if status == 416:
        part.clear()
        raise _Broken("the server's file ends before ours goes on; starting again")
    if status not in (200, 206) or (status == 206 and not part.size):
        raise _Refused(f"HTTP {status} {answer.reason}")
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    validator = _validator(answer)
    if status == 206 and part.origin:
        total = _continued(answer, url, part.size, validator, part.origin)
        if total is None:
            part.clear()
            raise _Broken("the file at the server has changed; starting again")
        part.begin(Origin(url, validator, total, part.origin.answers + 1))
    else:
        part.clear()
        part.begin(Origin(url, validator, total))


def _continued(answer: requests.Response, url: str, size: int, validator: str, origin: Origin) -> int | None:
    """Total size if a partial answer goes on exactly where we are, in the same file; else None."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != size or (origin.total is not None and int(match[3]) != origin.total):
        return None
    changed = origin.url == url and origin.validator and validator and origin.validator != validator
    return None if changed else int(match[3])


def _validator(answer: requests.Response) -> str:
    tag = answer.headers.get("ETag", "")
    return answer.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag


def _blocks(answer: requests.Response) -> Iterator[bytes]:
    """The body as it arrives and as it is: what a server declares as compressed is kept so."""
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    try:
        while block := answer.raw.read1(BLOCK, decode_content=False):
            yield block
    except ReadTimeoutError:
        raise _Broken("stalled") from None
    except (HTTPError, OSError) as error:
        raise _Broken("the connection broke off") from error


def _refuse_impostor(head: bytes, part: Partial) -> None:
    """What servers send with status 200 in place of data."""
    fault = ""
    if not head:
        fault = "0 bytes came"
    elif head.startswith(LFS_POINTER):
        fault = "a Git LFS pointer came instead of the data; the file itself is kept elsewhere"
    elif WEB_PAGE.match(head):
        fault = "a web page came instead of the data (a login, a proxy, or a moved file?)"
    if fault:
        part.clear()
        raise _Refused(fault)


def _session() -> requests.Session:
    import requests

    return requests.Session()


def _last(error: BaseException) -> str:
    """The innermost reason of a nested network error, without names of objects."""
    inner = error
    for _ in range(5):
        deeper = getattr(inner, "reason", None) or next((a for a in inner.args if isinstance(a, BaseException)), None)
        if not isinstance(deeper, BaseException):
            break
        inner = deeper
    return str(inner).rpartition("): ")[2] or type(inner).__name__
