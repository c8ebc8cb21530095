"""How a fault in a trace file is told: file, line, column, what was got, what was expected, what to do."""

from __future__ import annotations

from rlscale.errors import TraceError


def fault(path: object, got: str, expected: str, todo: str, line: int | None = None, column: str = "") -> TraceError:
    """The error to raise. `line` counts from 1 with the header."""
    place = "".join([f", line {line}" if line else "", f", column '{column}'" if column else ""])
    return TraceError(f"{path}{place}: got {got}; expected {expected}; {todo}")
