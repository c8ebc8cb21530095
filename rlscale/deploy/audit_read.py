"""Reads audit logs: JSON lines, of which some may be cut off, foreign or from another version. Writes nothing.

A decision record: {"kind": "decision", "t_s", "unix_s", "week_s", "observation": {every field of an Observation, arrays
as lists, NaN as null}, "target": [..], "reason", "scaler", "shadow": {"scaler", "target": [..], "reason"}}. Keys that
are not named here are left alone; a record without observation or target is none.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rlscale.errors import RlscaleError
from rlscale.types import Floats, Ints

LONGEST = 1_000_000  # characters of a line; a record has a few thousand
NAMED = 5  # skipped lines that are named


class AuditError(RlscaleError):
    """An audit log cannot be read, or holds no decision."""


@dataclass(frozen=True, slots=True)
class AuditDecision:
    """One decision as it was logged. Numbers that were null are NaN."""

    t_s: float
    unix_s: float  # NaN where it was not logged
    week_s: float
    observation: Mapping[str, Any] = field(repr=False)
    target: tuple[int, ...]
    reason: str = ""
    scaler: str = ""
    service: str = ""
    shadow: str = ""  # name
    shadow_target: tuple[int, ...] | None = None
    shadow_reason: str = ""

    def number(self, name: str) -> float:
        """A metric of the observation; NaN where there is none."""
        return _number(self.observation.get(name))


@dataclass(frozen=True, slots=True)
class Audit:
    """The decisions of one log or several, in the order of time, and what was left out."""

    decisions: tuple[AuditDecision, ...]
    skipped: int = 0  # lines that could not be read
    named: tuple[str, ...] = ()  # the first of them: file, line, why


def read_audit(paths: Iterable[Path], service: str = "") -> Audit:
    """The decisions for a service in these files, gzip or not; without a name, there must be one service only.

    Raises AuditError where a file cannot be opened, or none of the decisions is in them.
    """
    paths = list(paths)
    found: list[AuditDecision] = []
    named: list[str] = []
    skipped = 0
    for path in paths:
        for number, line in _lines(path):
            try:
                decision = decision_of(line)
            except ValueError as error:
                skipped += 1
                named += [f"{path}, line {number}: {error}"][: NAMED - len(named)]
                continue
            if decision is not None:
                found.append(decision)
    services = sorted({decision.service for decision in found})
    if not service and len(services) > 1:
        raise AuditError(f"decisions for {', '.join(services)}; say for which service")
    found = [decision for decision in found if service in ("", decision.service)]
    if not found:
        what = ", ".join(str(path) for path in paths) + (f": service '{service}'" if service else "")
        why = f" among those for {', '.join(services)}" if services else ""
        why += f"; {skipped} lines could not be read, such as {named[0]}" if named else ""
        raise AuditError(f"{what}: no decision record{why}; expected JSON lines with kind 'decision'")
    if all(math.isfinite(decision.unix_s) for decision in found):
        found.sort(key=lambda decision: decision.unix_s)
    return Audit(tuple(found), skipped, tuple(named))


def decision_of(line: str) -> AuditDecision | None:
    """One line of a log; None for a record of another kind. Raises ValueError for what is no record."""
    if len(line) > LONGEST:
        raise ValueError(f"{len(line)} characters, the limit is {LONGEST}")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(record, dict):
        raise ValueError(f"a {type(record).__name__}, expected a mapping")
    if record.get("kind") != "decision":
        return None
    observation = record.get("observation")
    if not isinstance(observation, dict):
        raise ValueError("a decision without an observation")
    target = _target(record.get("target"))
    if target is None:
        raise ValueError(f"target {record.get('target')!r}, expected a list of whole numbers")
    t_s = _number(record.get("t_s", observation.get("t_s")))
    if not math.isfinite(t_s):
        raise ValueError("a decision without t_s")
    shadow = record.get("shadow")
    shadow = shadow if isinstance(shadow, dict) else {}
    return AuditDecision(
        t_s, _number(record.get("unix_s")), _number(record.get("week_s", observation.get("week_s"))), observation,
        target, str(record.get("reason", "")), str(record.get("scaler", "")), str(record.get("service", "")),
        str(shadow.get("scaler", "")), _target(shadow.get("target")), str(shadow.get("reason", "")),
    )  # fmt: skip


def targets(decisions: Iterable[AuditDecision]) -> Ints:
    """(decisions, P) what was in force."""
    import numpy as np

    return np.array([decision.target for decision in decisions], np.int64)


def series(decisions: Iterable[AuditDecision], name: str) -> Floats:
    """(decisions,) one metric."""
    import numpy as np

    return np.array([decision.number(name) for decision in decisions])


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError) as error:
        if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError):
            raise AuditError(f"{path}: {error.strerror}; expected an audit log, JSON lines") from None
        # A compressed log that was cut off: what came before the cut is good.


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _target(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list) or not value:
        return None
    whole = all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in value)
    return tuple(value) if whole else None
