"""Where fetched data sets lie: files, what is known of them, and which licences were accepted."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.checksums import Verdict, digests, verdict
from experiments.datasets import DataSet
from experiments.partial import clear_errors
from experiments.results import write_text
from rlscale.errors import TraceError

ACCEPTED = "accepted-licences.json"


def default_folder() -> Path:
    """`rlscale/traces` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlscale" / "traces"


class TraceCache:
    """A folder of data sets. A data set is in it when its file has its record beside it, NAME.fetched.json."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, entry: DataSet) -> Path:
        """Place of the file as published."""
        return self.folder / entry.file_name

    def has(self, entry: DataSet) -> bool:
        """Whether it was fetched; does not look into it."""
        return self.path(entry).is_file() and bool(self._record(entry))

    def intact(self, entry: DataSet) -> bool:
        """Whether it is here as it was fetched. By size and time of change, and where these differ by digest.

        Raises TraceError when another file is in its place.
        """
        path, record = self.path(entry), self._record(entry)
        if not path.exists():
            return False
        if not path.is_file():
            raise TraceError(f"{path} is in the way and no file; move it, or give --to another folder")
        if not record:
            return self._adopt(entry)
        stat = path.stat()
        if (stat.st_size, stat.st_mtime_ns) == (record["bytes"], record["mtime_ns"]):
            return True
        found = digests(path)
        if found.sha256 != record["sha256"]:
            got = f"sha256 {found.sha256}, was {record['sha256']}"
            raise TraceError(f"{path} has changed since it was fetched ({got}); remove it and fetch it again")
        self._write(entry, {**record, "mtime_ns": stat.st_mtime_ns})
        return True

    def record(self, entry: DataSet, url: str, result: Verdict) -> None:
        """Note what was fetched."""
        stat = self.path(entry).stat()
        found = {"url": url, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": result.digests.sha256}
        when = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(entry, {"file": entry.file_name, **found, "check": result.words, "fetched": when})

    def ready(self, entry: DataSet) -> list[Path] | None:
        """Files that were made of it for rlscale to read; None when they still have to be made."""
        names = self._record(entry).get("ready")
        paths = [self.folder / name for name in names or ()]
        return paths if names is not None and all(path.is_file() for path in paths) else None

    def note_ready(self, entry: DataSet, paths: list[Path]) -> None:
        """Remember what was made of it."""
        self._write(entry, {**self._record(entry), "ready": [path.name for path in paths]})

    def check_words(self, entry: DataSet) -> str:
        """What the checks said when it was fetched."""
        return str(self._record(entry).get("check", ""))

    def accepted(self, entry: DataSet) -> bool:
        """Whether the user has accepted this licence for this data set."""
        known = _read(self.folder / ACCEPTED).get(entry.name, {})
        return isinstance(known, dict) and known.get("licence") == entry.licence

    def accept(self, entry: DataSet) -> None:
        """Remember it."""
        known = _read(self.folder / ACCEPTED)
        known[entry.name] = {"licence": entry.licence, "accepted": datetime.now(UTC).isoformat(timespec="seconds")}
        with clear_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / ACCEPTED, json.dumps(known, indent=1, sort_keys=True) + "\n")

    def _adopt(self, entry: DataSet) -> bool:
        """A file without a record, brought by hand: taken over if its digest is the published one."""
        path = self.path(entry)
        result = verdict(path, entry.checks)
        if not entry.checks or not result.good:
            why = result.words if entry.checks else "no digest is published, so it cannot be told whether it is"
            raise TraceError(f"{path} was not fetched by this command and is not {entry.name} ({why}); move it away")
        self.record(entry, "brought by hand", result)
        return True

    def _record(self, entry: DataSet) -> dict[str, Any]:
        return _read(self.folder / f"{entry.name}.fetched.json")

    def _write(self, entry: DataSet, record: dict[str, Any]) -> None:
        with clear_errors(self.folder):
            write_text(self.folder / f"{entry.name}.fetched.json", json.dumps(record, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
