"""From published files that rlscale cannot read to tables that it can. Nothing is unpacked to the disk but these.

Members of archives are read as streams and never by their own path, so that no archive can write where it likes.
"""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from experiments.datasets import DataSet, megabytes
from experiments.partial import clear_errors
from rlscale.errors import TraceError

MOST_BYTES = 4 << 30  # of an archive, unpacked; the largest known one has a quarter of a gigabyte
MOST_IN_ONE = 512 << 20  # of one member, which is held in memory
Table = tuple[str, Iterable[str]]  # name of the file, lines


def convert(entry: DataSet, path: Path) -> list[Path]:
    """Write the tables beside the published file; those to read, best first. All of them or none.

    Raises TraceError when the file is not what it should be; it stays where it is.
    """
    from experiments.convert_servegen import servegen

    ways: dict[str, Callable[[DataSet, Path], Iterator[Table]]] = {
        "counts": counts,
        "bailian": bailian,
        "servegen": servegen,
    }
    try:
        return _write(path.parent, ways[str(entry.convert)](entry, path))
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TraceError(f"{path} is kept, but cannot be turned into tables: {error}") from None


def counts(entry: DataSet, path: Path) -> Iterator[Table]:
    """An archive with one text of requests per second, separated by blanks. Long runs of zeros are missing data."""
    texts = [data for _, data in members(path, lambda name: name.endswith("workload.txt"))]
    if len(texts) != 1:
        raise ValueError(f"{len(texts)} members are called workload.txt, expected one")
    values = np.array(texts[0].split(), dtype=np.int64)
    if values.size == 0 or values.min() < 0:
        raise ValueError("workload.txt holds no counts of at least 0")
    missing = _in_long_runs(values == 0, entry.gap_s)
    rows = (f"{count},{int(gap)}" for count, gap in zip(values, missing))
    yield f"{entry.name}_1s.csv.gz", _lines("count,missing", rows)


def bailian(entry: DataSet, path: Path) -> Iterator[Table]:
    """JSON lines with times in seconds. (The reader of JSON lines takes them for milliseconds.)"""
    found = []
    with path.open("rb") as file:
        for line in file:
            record = json.loads(line)
            found.append((float(record["timestamp"]), int(record["input_length"]), int(record["output_length"])))
    found.sort(key=lambda request: request[0])
    rows = (f"{time_s:.6f},{prompt},{output}" for time_s, prompt, output in found)
    yield f"{entry.name}_requests.csv.gz", _lines("timestamp,prompt_tokens,output_tokens", rows)


def members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of some files of an archive, as a stream: links and devices are passed over."""
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.offset + member.size > MOST_BYTES:
                raise ValueError(f"the archive unpacks to more than {megabytes(MOST_BYTES)}")
            if not member.isfile() or not wanted(member.name):
                continue
            if member.size > MOST_IN_ONE:
                raise ValueError(f"{member.name} has {megabytes(member.size)}, expected less")
            file = archive.extractfile(member)
            assert file is not None, "a regular file can be read"
            yield member.name, file.read()


def _in_long_runs(zero: np.ndarray, longest: int) -> np.ndarray:
    """Which cells lie in a run of more than `longest` zeros."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], zero, [False]]).astype(np.int8)))
    found = np.zeros(len(zero), bool)
    for first, end in zip(edges[::2], edges[1::2]):
        found[first:end] = end - first > longest
    return found


def _lines(header: str, rows: Iterable[str]) -> Iterator[str]:
    yield header
    yield from rows


def _write(folder: Path, tables: Iterator[Table]) -> list[Path]:
    """Gzip tables, under their names only when all are complete."""
    written: list[tuple[Path, Path]] = []
    try:
        with clear_errors(folder):
            for name, lines in tables:
                partial = folder / f"{name}.{os.getpid()}.partial"
                written.append((partial, folder / name))
                with partial.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
                    file.writelines(f"{line}\n".encode() for line in lines)
            if not written:
                raise ValueError("nothing in it is known")
            for partial, final in written:
                partial.replace(final)
    finally:
        for partial, _ in written:
            partial.unlink(missing_ok=True)
    return [final for _, final in written if "_tokens" not in final.name]
