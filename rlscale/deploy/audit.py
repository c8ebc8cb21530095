"""The audit log: a line of JSON for every decision with all that it was made of, and the memory over a restart.

A line is written whole or, when the process is killed in the middle of it, is the last one and is ignored. The file
is closed at `max_bytes` and goes on in a new one; the oldest of `keep` files is removed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from rlscale.deploy.base import LiveConfigError

SCHEMA = 1


class Audit:
    """Appends records, alone: LiveConfigError when another process does. Raises OSError when the disk does."""

    def __init__(self, path: Path, max_bytes: int = 64_000_000, keep: int = 8) -> None:
        self.path, self._max_bytes, self._keep = path, max_bytes, keep
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path)
        self._file: FileIO
        self._bytes, self._torn = 0, False
        self._begin()

    def write(self, kind: str, unix_s: float, record: Mapping[str, Any]) -> None:
        """One record, on its way to the disk when this returns."""
        line = json.dumps({"kind": kind, "schema": SCHEMA, "unix_s": unix_s, **record}, separators=(",", ":"),
                          allow_nan=False).encode() + b"\n"  # fmt: skip
        if self._bytes and self._bytes + len(line) > self._max_bytes:
            self._rotate()
        if self._torn:
            line = b"\n" + line
        self._torn = True  # until all of it is written
        written = self._file.write(line)
        self._bytes += written
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._torn = False

    def close(self) -> None:
        """Everything is on the disk afterwards, as far as the disk takes it."""
        self._end()
        self._lock.close()

    def _begin(self) -> None:
        self._file = self.path.open("ab", buffering=0)
        self._bytes = self.path.stat().st_size
        self._torn = self._bytes > 0 and _last_byte(self.path) != b"\n"

    def _end(self) -> None:
        with suppress(OSError):
            os.fsync(self._file.fileno())
        self._file.close()

    def _rotate(self) -> None:
        self._end()
        for number in range(self._keep - 1, 0, -1):
            older = _numbered(self.path, number)
            if older.exists():
                if number + 1 >= self._keep:
                    older.unlink()
                else:
                    older.rename(_numbered(self.path, number + 1))
        if self._keep > 1:
            self.path.rename(_numbered(self.path, 1))
        else:
            self.path.unlink()
        self._begin()


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole record, oldest first, those of closed files included; what is no record is passed over."""
    for file in files(path):
        yield from _of_file(file)


def files(path: Path) -> list[Path]:
    """A log that is there and the files that were closed before it, oldest first."""
    numbers = sorted((int(found.name.rpartition(".")[2]) for found in path.parent.glob(f"{path.name}.*")
                      if found.name.rpartition(".")[2].isdigit()), reverse=True)  # fmt: skip
    return [file for file in [*(_numbered(path, number) for number in numbers), path] if file.exists()]


def memory(path: Path, service: str, since_s: float) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The decisions of a service since that unix time, oldest first, and the state that the last one left behind."""
    decisions: list[dict[str, Any]] = []
    state: dict[str, Any] | None = None
    for record in records(path):
        if record.get("kind") == "decision" and record.get("service") == service:
            state = record.get("state", state)
            if float(record["unix_s"]) >= since_s:
                decisions.append(record)
    return decisions, state


def _of_file(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("rb") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.get("schema") == SCHEMA:
                yield record


def _locked(path: Path) -> BinaryIO:
    """Held as long as this process lives, however it ends: two services with one log would mix their memories."""
    lock = path.with_name(f"{path.name}.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise LiveConfigError(
            f"{path}: another instance writes it; stop that one or give audit.path of its own"
        ) from None
    return lock


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
