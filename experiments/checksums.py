"""Is a file what its publisher put there? Digests of a file, and what they say about it."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Digests:
    """What can be said of a file by reading it once."""

    size: int
    sha256: str
    git_blob: str  # SHA-1 of "blob <size>\0" and the content: the name git gives a file
    rows: int  # lines after the header

    def of(self, kind: str) -> str:
        """The digest of one kind of check, as text."""
        return {"sha256": self.sha256, "git-blob": self.git_blob, "rows": str(self.rows)}[kind]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a file passed its checks. `words` says which one it passed, or what is wrong."""

    good: bool
    words: str
    digests: Digests


def digests(path: Path) -> Digests:
    """Read a file once."""
    size = path.stat().st_size
    sha256, blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            sha256.update(block)
            blob.update(block)
            lines, last = lines + block.count(b"\n"), block[-1:]
    return Digests(size, sha256.hexdigest(), blob.hexdigest(), max(lines + (last != b"\n") - 1, 0))


def verdict(path: Path, checks: Sequence[str]) -> Verdict:
    """A file has to pass one of its checks: `sha256:`, `git-blob:`, `rows:` or `commit:` and the expected value."""
    found = digests(path)
    if not checks:
        return Verdict(True, f"unchecked, since no digest is published; sha256 {found.sha256}", found)
    faults = []
    for kind, _, expected in (check.partition(":") for check in checks):
        got = archived_commit(path) if kind == "commit" else found.of(kind)
        if got == expected:
            return Verdict(True, _passed(kind, expected, found), found)
        faults.append(f"{kind} is {got or 'missing'}, expected {expected}")
    return Verdict(False, "; ".join(faults), found)


def archived_commit(path: Path) -> str:
    """Commit that a `git archive` says it holds; empty when it is no such archive."""
    try:
        with tarfile.open(path) as archive:
            archive.next()  # the global header comes before the first file
            return archive.pax_headers.get("comment", "")
    except (tarfile.TarError, EOFError, OSError, ValueError):
        return ""


def _passed(kind: str, expected: str, found: Digests) -> str:
    if kind == "commit":
        return f"says it is commit {expected[:12]}, no digest is published; sha256 {found.sha256}"
    if kind == "rows":
        return f"{found.rows:,} rows as expected, no digest is published; sha256 {found.sha256}"
    return f"{kind} as published"
