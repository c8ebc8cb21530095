"""A download arrives whole or not at all, from a real server that stalls, breaks off, lies and forgets."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import odd_server as odd
import pytest

from experiments import partial
from experiments.download import Patience, Wanted, download
from experiments.partial import DownloadError, Partial

BODY = b"timestamp,count\n" + b"".join(b"%d,%d\n" % (i * 60, i % 7) for i in range(20_000))
SHA = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
BLOB = f"git-blob:{hashlib.sha1(b'blob %d' % len(BODY) + bytes(1) + BODY).hexdigest()}"
QUICK = Patience(attempts=3, timeout_s=5.0, pause_s=0.01, longest_pause_s=0.02)
HASTY = replace(QUICK, timeout_s=0.15)  # where the server keeps silent; a busy machine may let it expire once more


class Listener:
    """Keeps what it is told; may press Ctrl-C."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.news: list[str] = []
        self.sizes: list[int] = []
        self.interrupt_at = interrupt_at

    def at(self, size: int, total: int | None) -> None:
        self.sizes.append(size)
        if self.interrupt_at is not None and size >= self.interrupt_at:
            raise KeyboardInterrupt

    def say(self, text: str) -> None:
        self.news.append(text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[odd.OddServer]:
    odd.forget_proxies(monkeypatch)
    with odd.running(BODY) as site:
        yield site


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "traces" / "file.csv"


def get(
    server: odd.OddServer,
    target: Path,
    *script: odd.Act,
    checks: tuple[str, ...] = (SHA,),
    size: int | None = None,
    patience: Patience = QUICK,
) -> Listener:
    """Download with the server acting like this; what was said meanwhile."""
    server.script = list(script)
    listener = Listener()
    download(Wanted((server.url(),), target, size, checks), patience, listener)
    return listener


def left(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


def ranges(server: odd.OddServer) -> list[str]:
    return [asked for _, asked in server.seen]


@pytest.mark.parametrize("check", [SHA, BLOB, "rows:20000"])
def test_a_file_arrives_and_is_checked(server: odd.OddServer, target: Path, check: str) -> None:
    listener = get(server, target, checks=(check,), size=len(BODY))
    assert target.read_bytes() == BODY
    assert left(target) == {"file.csv"}
    assert listener.sizes[-1] == len(BODY)


@pytest.mark.parametrize("act", [odd.chunked, odd.without_ranges])
def test_it_also_arrives_from_servers_without_length_or_ranges(
    server: odd.OddServer, target: Path, act: odd.Act
) -> None:
    get(server, target, act)
    assert target.read_bytes() == BODY


def test_after_an_early_end_it_goes_on_where_it_was(server: odd.OddServer, target: Path) -> None:
    listener = get(server, target, odd.truncated(5000))
    assert target.read_bytes() == BODY
    assert ranges(server) == ["", "bytes=5000-"]
    assert listener.news == ["the connection broke off; 5,000 bytes are here, next attempt in 0.01 s"]


def test_after_a_stall_it_goes_on_where_it_was(server: odd.OddServer, target: Path) -> None:
    listener = get(server, target, odd.stalled(5000), patience=HASTY)
    assert target.read_bytes() == BODY
    assert ranges(server)[:2] == ["", "bytes=5000-"]
    assert listener.news[0] == "stalled; 5,000 bytes are here, next attempt in 0.01 s"


def test_after_a_connection_reset_it_goes_on(server: odd.OddServer, target: Path) -> None:
    get(server, target, odd.reset(5000))  # how many of the bytes arrive is up to the kernel
    assert target.read_bytes() == BODY
    assert len(server.seen) == 2


def test_attempts_that_bring_something_do_not_use_up_the_patience(server: odd.OddServer, target: Path) -> None:
    get(server, target, *[odd.truncated(1000)] * 10)
    assert target.read_bytes() == BODY
    assert len(server.seen) == 11


def test_a_server_that_ignores_ranges_starts_again_and_is_given_up_when_it_never_gets_further(
    server: odd.OddServer, target: Path
) -> None:
    get(server, target, odd.truncated(5000), odd.without_ranges)
    assert target.read_bytes() == BODY
    target.unlink()
    with pytest.raises(DownloadError, match=r"the connection broke off; given up after 3 attempts"):
        get(server, target, *[odd.without_ranges_truncated(5000)] * 9)
    assert len(server.seen) == 2 + 4
    assert not target.exists()


def test_a_busy_server_is_asked_again(server: odd.OddServer, target: Path) -> None:
    listener = get(server, target, odd.status(503, Retry_After="1"), odd.status(429))
    assert target.read_bytes() == BODY
    assert [news[:8] for news in listener.news] == ["HTTP 503", "HTTP 429"]


def test_a_server_that_accepts_and_says_nothing_is_asked_again(server: odd.OddServer, target: Path) -> None:
    listener = get(server, target, odd.silent, patience=HASTY)
    assert target.read_bytes() == BODY
    assert listener.news[0] == "no answer for 0.15 s; 0 bytes are here, next attempt in 0.01 s"


def test_a_server_that_stays_busy_is_given_up(server: odd.OddServer, target: Path) -> None:
    with pytest.raises(DownloadError, match=r"HTTP 503 .*given up after 3 attempts.*--url"):
        get(server, target, *[odd.status(503)] * 3)
    assert left(target) == set()


def test_a_file_that_changed_between_attempts_is_taken_from_the_start(server: odd.OddServer, target: Path) -> None:
    def changed(handler: odd.Handler) -> None:
        handler.server.etag, handler.server.body = '"two"', BODY
        odd.well(handler)

    server.body = BODY.replace(b"6", b"5")
    get(server, target, odd.truncated(9000), changed)
    assert target.read_bytes() == BODY
    assert ranges(server) == ["", "bytes=9000-"]


def test_parts_that_do_not_fit_together_get_a_second_chance_as_a_whole(server: odd.OddServer, target: Path) -> None:
    def other(handler: odd.Handler) -> None:
        handler.start(len(BODY))
        handler.wfile.write(bytes(5000))  # the same ETag, another content

    listener = get(server, target, other)
    assert target.read_bytes() == BODY
    assert ranges(server) == ["", "bytes=5000-", ""]
    assert "do not fit together" in listener.news[-1]


def test_without_digest_and_without_etag_nothing_is_pieced_together(server: odd.OddServer, target: Path) -> None:
    server.etag = ""
    get(server, target, odd.truncated(5000), checks=())
    assert target.read_bytes() == BODY
    assert ranges(server) == ["", ""]


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (odd.status(404), "HTTP 404 Not Found"),
        (odd.status(403), "HTTP 403 Forbidden"),
        (odd.instead(b""), "0 bytes"),
        (odd.instead(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"), "Git LFS pointer"),
        (odd.instead(b"\n<!DOCTYPE html><title>Sign in</title>"), "web page"),
        (odd.instead(BODY[:-9]), f"offers {len(BODY) - 9:,} bytes, the published file has {len(BODY):,}"),
        (odd.endless, "sends more than"),
        (odd.corrupt, r"thrown away: sha256 is [0-9a-f]{64}, expected " + SHA[7:]),
    ],
)
def test_what_is_not_the_file_is_refused_and_nothing_is_left(
    server: odd.OddServer, target: Path, act: odd.Act, says: str
) -> None:
    with pytest.raises(DownloadError, match=says):
        get(server, target, act, size=len(BODY))
    assert left(target) == set()
    assert len(server.seen) == 1


def test_the_next_source_is_tried(server: odd.OddServer, target: Path) -> None:
    server.script = [odd.corrupt]
    urls = (server.url("/broken.csv"), server.url("/good.csv"))
    listener = Listener()
    url, result = download(Wanted(urls, target, None, (SHA,)), QUICK, listener)
    assert (url, result.words) == (urls[1], "sha256 as published")
    assert "trying the next source" in listener.news[0]


def test_ctrl_c_keeps_what_arrived_and_the_same_command_goes_on(server: odd.OddServer, target: Path) -> None:
    wanted = Wanted((server.url(),), target, None, (SHA,))
    server.script = [odd.stalled(5000)]
    with pytest.raises(KeyboardInterrupt, match=r"5,000 bytes are kept in .*file\.csv\.part; the same command goes on"):
        download(wanted, QUICK, Listener(interrupt_at=5000))
    assert left(target) == {"file.csv.part", "file.csv.part.json"}
    download(wanted, QUICK, Listener())
    assert target.read_bytes() == BODY
    assert ranges(server) == ["", "bytes=5000-"]
    assert left(target) == {"file.csv"}


def test_a_complete_part_is_only_checked(server: odd.OddServer, target: Path) -> None:
    wanted = Wanted((server.url(),), target, None, (SHA,))
    with pytest.raises(KeyboardInterrupt):
        download(wanted, QUICK, Listener(interrupt_at=len(BODY)))
    download(wanted, QUICK, Listener())
    assert target.read_bytes() == BODY
    assert len(server.seen) == 1


def test_a_part_longer_than_the_file_is_thrown_away(server: odd.OddServer, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("file.csv.part").write_bytes(BODY + b"more")
    target.with_name("file.csv.part.json").write_text('{"url": "http://elsewhere/"}')
    get(server, target)
    assert target.read_bytes() == BODY
    assert ranges(server) == [f"bytes={len(BODY) + 4}-", ""]


def test_a_host_that_is_not_there_is_named(target: Path, server: odd.OddServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 cannot be reached \(.*refused\).*--url"):
        download(Wanted((f"http://127.0.0.1:{port}/file.csv",), target), QUICK, Listener())
    with pytest.raises(DownloadError, match=r"nowhere\.invalid cannot be reached"):
        download(Wanted(("http://nowhere.invalid/file.csv",), target), QUICK, Listener())


def test_a_proxy_of_the_environment_is_used(
    server: odd.OddServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url(""))
    download(Wanted(("http://data.invalid/file.csv",), target, None, (SHA,)), QUICK, Listener())
    assert server.seen == [("http://data.invalid/file.csv", "")]


def test_no_space_is_seen_before_the_download(
    server: odd.OddServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(DownloadError, match=r"no space: 1\d\d kB more are needed in .*, 1 kB are free"):
        get(server, target)
    assert left(target) == set()


def test_a_disk_that_fills_up_is_told_and_the_rest_comes_later(
    server: odd.OddServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, data: memoryview) -> int:
        if os.fstat(file).st_size >= 5000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(file, data[:1250])

    with monkeypatch.context() as patch:
        patch.setattr(partial, "_write", full)
        with pytest.raises(DownloadError, match=r"no space left in .*; make room and run the same command again"):
            get(server, target)
    assert target.with_name("file.csv.part").stat().st_size == 5000
    get(server, target)
    assert target.read_bytes() == BODY
    assert ranges(server) == ["", "bytes=5000-"]


def test_a_folder_that_cannot_be_written_is_named(server: odd.OddServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match=r"cannot be written \(Not a directory\); give --to"):
        get(server, tmp_path / "file" / "traces" / "file.csv")
    assert not server.seen


def test_two_downloads_of_one_file_do_not_mix(server: odd.OddServer, target: Path) -> None:
    other = Partial(target)
    with pytest.raises(DownloadError, match=r"another process is writing .*file\.csv\.part"):
        get(server, target)
    other.close()
    get(server, target)
    assert target.read_bytes() == BODY


def test_a_file_that_appears_meanwhile_is_not_overwritten(server: odd.OddServer, target: Path) -> None:
    def rival(handler: odd.Handler) -> None:
        target.write_text("mine")
        odd.well(handler)

    with pytest.raises(DownloadError, match="is not overwritten"):
        get(server, target, rival)
    assert target.read_text() == "mine"
