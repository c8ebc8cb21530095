"""The result folder: nothing in it is ever overwritten, and nothing half-written bears a final name.

Knows neither scalers nor statistics.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import gzip
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rlscale.errors import ResultError

RESULTS, STARTED, CELLS = "results.json", "started.json", "cells"
SPAN_S = 300.0  # longer than one cell takes, shorter than a pause
PACKAGES = ("numpy", "numba", "scipy", "torch", "rlscale")
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class ResultFolder:
    """A folder that holds finished cells while a comparison runs, and its results once it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells = path / CELLS

    def open(self, started: Mapping[str, Any], resume: bool) -> None:
        """Make the folder, or take up an interrupted comparison of the same study.

        Raises ResultError when there is anything in it that `started` does not explain.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ResultError(f"{self.path} is a file; give --out a new folder")
        there = sorted(item.name for item in self.path.iterdir()) if self.path.is_dir() else []
        if RESULTS in there:
            raise ResultError(
                f"{self.path} holds a finished comparison, which is never overwritten; give --out another name"
                " (to run its failed cells again, copy its cells folder into a new one and use --resume there)"
            )
        if there and not {STARTED, CELLS} & set(there):
            raise ResultError(f"{self.path} is not empty and holds no comparison; give --out a new folder")
        if there and not resume:
            what = f"{self.path} holds an interrupted comparison"
            raise ResultError(f"{what}; --resume goes on with it, or give another --out")
        with clear_disk_errors(self.path):
            self.cells.mkdir(parents=True, exist_ok=True)
            if STARTED in there:
                self._same_study(started)
            else:
                write_text(self.path / STARTED, json.dumps(started, indent=1, sort_keys=True, default=str) + "\n")

    def _same_study(self, started: Mapping[str, Any]) -> None:
        earlier = read_json(self.path / STARTED)
        now = json.loads(json.dumps(started, default=str))
        differ = [key for key in sorted({*earlier, *now}) if earlier.get(key) != now.get(key)]
        if differ == ["code"]:
            raise ResultError(f"the simulator's code has changed since {self.path} was started; give another --out")
        if differ:
            what = f"{self.path} was started with another {', '.join(differ)}"
            raise ResultError(f"{what}; give the same study, or another --out")

    def cell_path(self, key: str) -> Path:
        """File of one cell."""
        return self.cells / f"{key}.json.gz"

    def has(self, key: str) -> bool:
        """Whether a cell is finished."""
        return self.cell_path(key).exists()

    def read_cell(self, key: str) -> dict[str, Any]:
        """A finished cell."""
        return read_json(self.cell_path(key))

    def busy_h(self) -> float:
        """Hours of all runs of an interrupted study: five-minute spans in which a file below the folder was written."""
        written = {int(path.stat().st_mtime // SPAN_S) for path in self.path.rglob("*") if path.is_file()}
        return len(written) * SPAN_S / 3600.0


class Finished:
    """The finished cells of a folder. Totals and blocks stay in memory, histograms and series are read on demand."""

    def __init__(self, folder: ResultFolder) -> None:
        self.folder = folder
        self._light: dict[str, dict[str, Any]] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        """Summary and blocks of a cell; None when it failed."""
        if key not in self._light:
            cell = self.full(key)
            if cell is None:
                return None
            self._light[key] = {name: cell[name] for name in ("summary", "blocks", "load")}
        return self._light[key]

    def full(self, key: str) -> dict[str, Any] | None:
        """Everything that was kept of a cell."""
        return self.folder.read_cell(key) if self.folder.has(key) else None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file, gzip or not."""
    try:
        raw = path.read_bytes()
        data = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, ValueError, EOFError) as error:
        raise ResultError(f"{path} cannot be read ({error}); remove it and run with --resume") from None
    assert isinstance(data, dict), f"{path} holds no mapping"
    return data


def write_json(path: Path, data: Any) -> None:
    """JSON under its final name only when complete; gzip by suffix. NaN and infinities become null."""
    text = json.dumps(plain(data), separators=(",", ":"), allow_nan=False)
    _write(path, gzip.compress(text.encode(), 6, mtime=0) if path.suffix == ".gz" else (text + "\n").encode())


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A table; with no rows there is still its header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell_text(value) for key, value in row.items()} for row in rows)
    _write(path, text.getvalue().encode())


def write_text(path: Path, text: str) -> None:
    """Text under its final name only when complete."""
    _write(path, text.encode())


@contextlib.contextmanager
def clear_disk_errors(where: Path) -> Iterator[None]:
    """A full or read-only disk as one line instead of a traceback."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise ResultError(f"the disk is full while writing {where}; free some space, then use --resume") from None
        raise ResultError(f"{where} cannot be written ({error.strerror}); give another --out") from None


def plain(value: Any) -> Any:
    """Numpy to Python, and what JSON cannot say (NaN, infinity) to None."""
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if kind in (int, str, bool, type(None)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return plain(value.tolist()) if hasattr(value, "tolist") else value


def provenance(started: datetime, seeds: Mapping[str, int]) -> dict[str, Any]:
    """What made a result: command, commit, versions, seeds, machine, time."""
    return {
        "command": " ".join(["python -m experiments", *map(_quoted, sys.argv[1:])]),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "versions": {"python": sys.version.split()[0], **{name: _version(name) for name in PACKAGES}},
        "seeds": dict(seeds),
        "started": started.isoformat(timespec="seconds"),
        "duration_s": round((datetime.now(UTC) - started).total_seconds(), 1),
        "cores": os.cpu_count(),
    }


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _cell_text(value: Any) -> Any:
    """Nine digits: enough to recompute with, short enough to read."""
    if isinstance(value, float):
        return f"{value:.9g}" if math.isfinite(value) else str(value)
    return "" if value is None else value


def _quoted(text: str) -> str:
    return f"'{text}'" if any(c in text for c in " *?'\"()") else text


def _git(*args: str) -> str | None:
    """Output of a git command about the source tree; None without git or outside a checkout."""
    try:
        done = subprocess.run(
            ["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
