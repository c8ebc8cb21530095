"""Reads a recorded load of any known format: finds out which it is and hands it to its reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlscale.errors import TraceError, nearest
from rlscale.workloads import read_requests, read_series, read_servegen
from rlscale.workloads.faults import fault
from rlscale.workloads.table import GZIP, PARQUET, content, header, read_csv, read_parquet
from rlscale.workloads.trace import Trace

AUTO = "auto"
FORMATS: dict[str, str] = {
    "azure": "Azure LLM inference: TIMESTAMP, ContextTokens, GeneratedTokens",
    "burstgpt": "BurstGPT: Timestamp, Request tokens, Response tokens",
    "mooncake": "Mooncake: one JSON object per line with timestamp (ms), input_length, output_length",
    "servegen": "ServeGen: client, t_s, rate_rps, ia_cv; lengths in the file ending in _tokens beside it",
    "requests": "requests: timestamp (seconds or date), prompt_tokens, output_tokens; CSV or Parquet",
    "series": "rate series: a column count, value or rate_per_s, with timestamp or a fixed step",
}


def read(path: str | Path, format: str = "auto", step_s: float | None = None) -> Trace:
    """The trace in a file; `format` overrides what its header suggests, `step_s` the step of a series without times.

    Raises TraceError naming file, line and column.
    """
    path = Path(path)
    if format not in (AUTO, *FORMATS):
        raise TraceError(f"unknown trace format '{format}' for {path}; {nearest(format, (AUTO, *FORMATS))}")
    raw = content(path)
    return _reader(path, raw, _recognise(path, raw) if format == AUTO else format, step_s)()


def detect(path: str | Path) -> str:
    """Name of the format of a file, from its first kilobytes; raises TraceError when it is none."""
    path = Path(path)
    return _recognise(path, _head(path))


def _reader(path: Path, raw: bytes, format: str, step_s: float | None) -> Callable[[], Trace]:
    if format == "mooncake":
        return lambda: read_requests.mooncake(path, raw)
    table = read_parquet(path, raw) if raw[:4] == PARQUET else read_csv(path, raw)
    if format == "servegen":
        return lambda: read_servegen.servegen(table)
    if format == "series":
        return lambda: read_series.series(table, step_s)
    return lambda: read_requests.request_table(table, format)


def _recognise(path: Path, raw: bytes) -> str:
    """Format by the first bytes: a brace, the Parquet mark, or the columns of the header."""
    if raw[:4] == PARQUET:
        names = read_parquet(path, raw).names
    elif raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        if b'"chat_id"' in raw.splitlines()[0]:
            todo = "`python -m experiments traces fetch` makes tables of the published ones"
            raise fault(path, "chats with times in seconds (Qwen-Bailian)", f"one of {_KNOWN}", todo, line=1)
        return "mooncake"
    else:
        names = header(raw)
    for format, columns in read_requests.COLUMNS.items():
        if set(columns) <= set(names):
            return format
    if set(read_servegen.COLUMNS) <= set(names):
        return "servegen"
    if set(read_servegen.TOKEN_COLUMNS) <= set(names):
        raise TraceError(f"{path}: is the table of lengths of a ServeGen trace; read the file ending in _rates instead")
    if len(read_series.value_columns(names)) == 1:
        return "series"
    raise fault(path, f"columns {', '.join(names)[:120]}", f"those of one format: {_KNOWN}", "give --format", line=1)


_KNOWN = ", ".join(FORMATS)


def _head(path: Path) -> bytes:
    """Enough of a file to know its format; all of it for Parquet, whose columns are named at the end."""
    import gzip

    try:
        with path.open("rb") as file:
            first = file.read(4)
        if first[:2] != GZIP or path.is_dir():
            return content(path) if first == PARQUET else path.read_bytes()[: 1 << 16] or content(path)
        with gzip.open(path) as packed:
            return packed.read(1 << 16) or content(path)
    except (OSError, EOFError):
        return content(path)
