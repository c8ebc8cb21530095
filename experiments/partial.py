"""A file that is not complete yet: `NAME.part` beside its place, and what is needed to go on with it later.

It gets its final name when somebody has checked it, never before. One process at a time may hold it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.datasets import megabytes
from experiments.results import FULL_DISK
from rlscale.errors import RlscaleError


class DownloadError(RlscaleError):
    """A file could not be brought here; the message says why, what is left, and what to do."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the bytes so far came from."""

    url: str
    validator: str = ""  # strong ETag or date: whether the file at the URL is still the same one
    total: int | None = None  # bytes when complete, as far as the server said
    answers: int = 1  # out of how many answers it was put together


class Partial:
    """The bytes that have arrived."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._notes = target.with_name(target.name + ".part.json")
        self._file = open_locked(self.path)
        self.origin = self._read_origin()
        self.size = os.fstat(self._file).st_size
        if self.size == 0:
            self.origin = None

    @property
    def complete(self) -> bool:
        """Whether everything the server promised is here."""
        return self.origin is not None and self.size == self.origin.total

    @property
    def head(self) -> bytes:
        """The first bytes."""
        return os.pread(self._file, 512, 0)

    def begin(self, origin: Origin) -> None:
        """What follows comes from there; told before the first byte, so that a crash loses nothing."""
        self.origin = origin
        with clear_errors(self.target.parent):
            self._notes.write_text(json.dumps(asdict(origin)) + "\n")

    def write(self, data: bytes) -> None:
        """Append."""
        rest = memoryview(data)
        with clear_errors(self.target.parent, f"; {megabytes(self.size)} are kept in {self.path}"):
            while rest:
                done = _write(self._file, rest)
                self.size, rest = self.size + done, rest[done:]

    def clear(self) -> None:
        """Forget everything: what is here is of no use."""
        os.ftruncate(self._file, 0)
        self.size, self.origin = 0, None
        self._notes.unlink(missing_ok=True)

    def need(self, size: int) -> None:
        """Refuse a download that cannot fit, before it begins."""
        free = shutil.disk_usage(self.target.parent).free
        if size - self.size > free:
            what = f"{megabytes(size - self.size)} more are needed in {self.target.parent}, {megabytes(free)} are free"
            raise DownloadError(f"no space: {what}; make room, or give --to another folder")

    def finish(self) -> None:
        """Give the file its final name."""
        if self.target.exists():
            raise DownloadError(f"{self.target} has appeared in the meantime and is not overwritten; move it away")
        with clear_errors(self.target.parent):
            os.fsync(self._file)
            self.path.replace(self.target)
        self._notes.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it; an empty file is not left behind."""
        if self.size == 0:
            self.path.unlink(missing_ok=True)
            self._notes.unlink(missing_ok=True)
        os.close(self._file)

    def _read_origin(self) -> Origin | None:
        try:
            return Origin(**json.loads(self._notes.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def open_locked(path: Path) -> int:
    """A file descriptor that no other process holds at the same time; makes the folder."""
    with clear_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    if not _is_ours(file, path):
        os.close(file)
        raise DownloadError(f"another process is writing {path}; wait for it, then run the same command again")
    return file


def _is_ours(file: int, path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    # Whoever held it may have given it its final name between our opening and our locking.
    return path.exists() and os.fstat(file).st_ino == path.stat().st_ino


@contextmanager
def clear_errors(folder: Path, kept: str = "") -> Iterator[None]:
    """A full or read-only disk as one line."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            todo = f"make room and run the same command again, or give --to another folder{kept}"
            raise DownloadError(f"no space left in {folder}; {todo}") from None
        raise DownloadError(f"{folder} cannot be written ({error.strerror}); give --to another folder") from None


_write = os.write  # tests put a full disk here
