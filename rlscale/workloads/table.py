"""Tables of recorded loads as columns of checked numbers: CSV or Parquet, gzip or not. Knows no trace format."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlscale.errors import TraceError, nearest
from rlscale.types import Floats, Ints
from rlscale.workloads.faults import fault

GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
MILLISECONDS = 1e11  # as seconds this would be the year 5138
UNIX_2001 = 1e9  # seconds above this are taken as a date


@dataclass(frozen=True, slots=True)
class Times:
    """A column of time stamps."""

    since_first_s: Floats
    first_s: float  # the first stamp; since 1970-01-01 when dated
    dated: bool

    @property
    def week_s(self) -> float:
        """Seconds since Monday 00:00 at the first stamp; an undated file is taken to begin on a Monday."""
        thursday = 3 * 86_400.0 if self.dated else 0.0  # 1970-01-01 was a Thursday
        return float((self.first_s + thursday) % (7 * 86_400.0))


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of a file. `first_line` is the line of the first row, so that a fault can be found in an editor."""

    path: Path
    names: tuple[str, ...]
    columns: tuple[Any, ...]  # pyarrow arrays, text where the file is text
    first_line: int

    def __len__(self) -> int:
        return len(self.columns[0])

    def line(self, row: int) -> int:
        """Line of a row."""
        return self.first_line + int(row)

    def column(self, name: str) -> Any:
        """The column, or an error that names those there are."""
        if self.names.count(name) != 1:
            got = f"the columns {', '.join(self.names)}"
            todo = "the column is there twice; remove one" if name in self.names else nearest(name, self.names)
            raise fault(self.path, got, f"a column '{name}'", todo, line=1, column=name)
        return self.columns[self.names.index(name)]

    def numbers(self, name: str, what: str, minimum: float = 0.0, blank: float | None = None) -> Floats:
        """A column of finite numbers, none below `minimum`; empty cells become `blank`, if given."""
        values = self._cast(name, what, blank)
        bad = ~(np.isfinite(values) & (values >= minimum))
        if bad.any():
            row = int(np.argmax(bad))
            expected = f"{what}, a finite number of at least {minimum:g}"
            raise fault(self.path, f"{values[row]:g}", expected, _MEND, self.line(row), name)
        return values

    def _cast(self, name: str, what: str, blank: float | None) -> Floats:
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self.column(name)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pc.utf8_trim_whitespace(column)
            if blank is not None:
                column = pc.if_else(pc.equal(column, ""), str(blank), column)
        try:
            values = pc.cast(column, pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            row = _first_refused(column, pa.float64())
            got = f"{column[row].as_py()!r}"
            raise fault(self.path, got, f"{what}, a number", _MEND, self.line(row), name) from None
        # A null of Parquet becomes NaN and is refused as such.
        return np.array(values.to_numpy(zero_copy_only=False), np.float64)

    def times(self, name: str) -> Times:
        """Rising time stamps, in seconds or as dates."""
        import pyarrow as pa

        column = self.column(name)
        text = pa.types.is_string(column.type)
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type) or (text and not _numeric(column)):
            nanoseconds = self._dates(column, name)
            # Differences of whole nanoseconds: a float64 holds seconds since 1970 only to a quarter of a microsecond.
            times = Times((nanoseconds - nanoseconds[0]) / 1e9, float(nanoseconds[0] // 10**9), dated=True)
        else:
            seconds = self.numbers(name, "a time in seconds", minimum=-np.inf)
            if abs(seconds[0]) > MILLISECONDS:
                todo = "divide milliseconds by 1000"
                raise fault(self.path, f"{seconds[0]:.0f}", "a time in seconds", todo, self.first_line, name)
            times = Times(seconds - seconds[0], float(seconds[0]), dated=bool(seconds[0] > UNIX_2001))
        back = np.diff(times.since_first_s)
        if (back < 0).any():
            row = int(np.argmax(back < 0)) + 1
            got = f"a time {-back[row - 1]:g} s before the row above"
            raise fault(self.path, got, "times that never fall", "sort the file by time", self.line(row), name)
        return times

    def _dates(self, column: Any, name: str) -> Ints:
        """Nanoseconds since 1970-01-01, UTC where the file says so."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = pa.timestamp("ns")
        if pa.types.is_string(column.type):
            column = pc.utf8_trim_whitespace(column)
            zoned = any(mark in column[0].as_py()[10:] for mark in "Zz+-")
            kind = pa.timestamp("ns", "UTC") if zoned else kind
        elif pa.types.is_timestamp(column.type):
            kind = pa.timestamp("ns", column.type.tz)
        try:
            parsed = pc.cast(column, kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            row = _first_refused(column, kind)
            expected = "seconds, or a date such as 2023-11-16 18:17:03.5 (time zones in all rows or in none)"
            raise fault(self.path, f"{column[row].as_py()!r}", expected, _MEND, self.line(row), name) from None
        if parsed.null_count:
            row = int(np.argmax(parsed.is_null().to_numpy(zero_copy_only=False)))
            raise fault(self.path, "nothing", "a date", _MEND, self.line(row), name)
        return np.asarray(pc.cast(parsed, pa.int64()).to_numpy(), np.int64)


_MEND = "correct or remove the row"


def content(path: Path) -> bytes:
    """All bytes of a file, unpacked; every way in which that can fail is one error."""
    if not path.exists():
        raise TraceError(f"{path}: no such file; paths are taken from the current folder")
    if path.is_dir():
        raise TraceError(f"{path}: is a folder; expected a trace file ('traces list {path}' shows what is in it)")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}") from None
    if raw[:2] == GZIP:
        raw = _unpack(path, raw)
    if not raw.strip():
        raise TraceError(f"{path}: the file is empty; expected a table with a header and rows")
    return raw


def _unpack(path: Path, raw: bytes) -> bytes:
    parts: list[bytes] = []
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
            while part := stream.read(1 << 16):
                parts.append(part)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        line = b"".join(parts).count(b"\n") + 1
        raise fault(path, f"a gzip file that breaks off ({error})", "a whole one", "copy it again", line) from None
    return b"".join(parts)


def header(raw: bytes) -> tuple[str, ...]:
    """Column names of a CSV."""
    first = raw.lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode("utf-8", "replace")
    return tuple(name.strip() for name in next(csv.reader([first.strip("\r")]), []))


def read_csv(path: Path, raw: bytes) -> Table:
    """Text columns of a CSV; rows with too few or too many cells are refused."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    names = header(raw)
    odd: list[Any] = []

    def keep(row: Any) -> str:
        odd.append(row)
        return "error"

    unique = [str(i) for i in range(len(names))]  # names of the file may repeat
    try:
        table = pa_csv.read_csv(
            io.BytesIO(raw.lstrip(b"\xef\xbb\xbf").rstrip(b"\r\n") + b"\n"),
            read_options=pa_csv.ReadOptions(use_threads=False, column_names=unique, skip_rows=1),
            parse_options=pa_csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=keep),
            convert_options=pa_csv.ConvertOptions(column_types={name: pa.string() for name in unique}),
        )
    except pa.ArrowInvalid as error:
        if not odd:
            raise TraceError(f"{path}: not a CSV table: {error}") from None
        got = f"{odd[0].actual_columns} cells ({odd[0].text[:60]!r})"
        expected = f"{odd[0].expected_columns} as in the header"
        raise fault(path, got, expected, "complete or remove the row (was the file cut off?)", odd[0].number) from None
    if table.num_rows == 0:
        raise TraceError(f"{path}: a header without rows; expected at least two")
    return Table(path, names, tuple(column.combine_chunks() for column in table.columns), first_line=2)


def read_parquet(path: Path, raw: bytes) -> Table:
    """Columns of a Parquet file; rows are counted from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pa_parquet

    try:
        table = pa_parquet.read_table(io.BytesIO(raw))
    except (pa.ArrowInvalid, OSError) as error:
        raise TraceError(f"{path}: not a readable Parquet file: {error}") from None
    if table.num_rows == 0:
        raise TraceError(f"{path}: a table without rows; expected at least two")
    return Table(path, tuple(table.column_names), tuple(c.combine_chunks() for c in table.columns), first_line=1)


def _first_refused(column: Any, kind: Any) -> int:
    """Row of the first cell that cannot be read as `kind`: by blocks, then cell by cell."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def refused(first: int, length: int) -> bool:
        try:
            pc.cast(column.slice(first, length), kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return True
        return False

    block = next((first for first in range(0, len(column), 4096) if refused(first, 4096)), 0)
    return next((row for row in range(block, min(block + 4096, len(column))) if refused(row, 1)), block)


def _numeric(column: Any) -> bool:
    """Whether the first cell of a text column is a number."""
    try:
        float(column[0].as_py())
    except (ValueError, TypeError):
        return False
    return True
