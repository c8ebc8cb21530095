"""Readers of single requests: Azure, BurstGPT, Mooncake, and the plain table. Know nothing of scaling."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from rlscale.errors import nearest
from rlscale.types import PromptBlocks, Requests
from rlscale.workloads.faults import fault
from rlscale.workloads.table import Table
from rlscale.workloads.trace import Trace

# format -> columns of time, prompt tokens, output tokens
COLUMNS: dict[str, tuple[str, str, str]] = {
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "burstgpt": ("Timestamp", "Request tokens", "Response tokens"),
    "requests": ("timestamp", "prompt_tokens", "output_tokens"),
}
MOONCAKE_GRID_S = 3.0
GRID_SLACK_S = 0.01  # the published stamps miss the grid by up to 3 ms
MOONCAKE_BLOCK_TOKENS = 512
MOONCAKE_SEED = 0  # of the spread inside the grid; with it `describe` gives the published figures


def request_table(table: Table, format: str) -> Trace:
    """A table with a time and two lengths per row."""
    time, prompt, output = COLUMNS[format]
    times = table.times(time)
    lengths = (table.numbers(prompt, "prompt tokens"), table.numbers(output, "output tokens"))
    span_s = float(times.since_first_s[-1])
    if span_s <= 0:
        got = f"{len(table)} request{'s' * (len(table) > 1)} at one moment"
        raise fault(table.path, got, "requests over a span of time", "use a longer trace", column=time)
    return Trace(
        str(table.path.name), format, span_s, requests=Requests(times.since_first_s, *lengths), week_s=times.week_s
    )


def mooncake(path: Path, raw: bytes) -> Trace:
    """JSON lines with `timestamp` in milliseconds.

    The published stamps sit on a grid of three seconds. They are spread evenly inside it (with a fixed seed): taken
    as they are, they look like bursts (variation 3.0 instead of 1.0). `hash_ids`, where every line has them, are the
    blocks of the prompts.
    """
    records = [_record(path, number, line) for number, line in enumerate(raw.splitlines(), start=1)]
    rows = np.array([_row(path, number, record) for number, record in enumerate(records, start=1)])
    time_s = rows[:, 0] / 1000.0
    back = np.diff(time_s) < 0
    if back.any():
        line = int(np.argmax(back)) + 2
        got = f"{rows[line - 1, 0]:g} after {rows[line - 2, 0]:g}"
        raise fault(path, got, "times that never fall", "sort the file by time", line, "timestamp")
    time_s -= time_s[0]
    span_s = float(time_s[-1])
    notes: tuple[str, ...] = ()
    if span_s <= 0:
        raise fault(path, "requests at one moment", "requests over a span of time", "use a longer trace")
    nearest_cell = np.rint(time_s / MOONCAKE_GRID_S)
    if np.abs(time_s - MOONCAKE_GRID_S * nearest_cell).max() < GRID_SLACK_S:
        time_s = time_s + np.random.default_rng(MOONCAKE_SEED).uniform(0.0, MOONCAKE_GRID_S, len(time_s))
        span_s = MOONCAKE_GRID_S * (float(nearest_cell[-1]) + 1.0)
        notes = (f"time stamps spread inside their {MOONCAKE_GRID_S:g} s grid, seed {MOONCAKE_SEED}",)
    order = np.argsort(time_s, kind="stable")
    blocks = _blocks(path, records) if all("hash_ids" in record for record in records) else None
    if blocks is not None:
        blocks = blocks.rows(order)
    requests = Requests(time_s[order], rows[order, 1], rows[order, 2], blocks)
    return Trace(path.name, "mooncake", span_s, requests=requests, notes=notes)


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        todo = "complete or remove the line (was the file cut off?)"
        raise fault(
            path, f"{line[:60].decode('utf-8', 'replace')!r}", f"a JSON object ({error})", todo, number
        ) from None
    if not isinstance(record, dict):
        raise fault(path, f"{record!r}"[:60], "a JSON object", "correct or remove the line", number)
    return record


def _blocks(path: Path, records: list[dict[str, Any]]) -> PromptBlocks:
    """Which prompts begin alike."""
    for number, record in enumerate(records, start=1):
        ids, wanted = record["hash_ids"], math.ceil(record["input_length"] / MOONCAKE_BLOCK_TOKENS)
        if not isinstance(ids, list) or not all(type(one) is int and one >= 0 for one in ids) or len(ids) != wanted:
            got = f"{f'{ids!r}'[:40]} for a prompt of {record['input_length']:g} tokens"
            expected = f"a list of {wanted} whole numbers, one per {MOONCAKE_BLOCK_TOKENS} tokens"
            raise fault(path, got, expected, "correct or remove the line", number, "hash_ids")
    count = np.array([len(record["hash_ids"]) for record in records])
    ids = np.array([one for record in records for one in record["hash_ids"]], np.int64)
    return PromptBlocks(ids, np.cumsum(count) - count, count, np.zeros_like(count), MOONCAKE_BLOCK_TOKENS)


def _row(path: Path, number: int, record: dict[str, Any]) -> tuple[float, float, float]:
    return (
        _number(path, number, record, "timestamp", "a time in milliseconds"),
        _number(path, number, record, "input_length", "prompt tokens"),
        _number(path, number, record, "output_length", "output tokens"),
    )


def _number(path: Path, line: int, record: dict[str, Any], key: str, what: str) -> float:
    if key not in record:
        raise fault(path, f"the keys {', '.join(record)}", f"a key '{key}'", nearest(key, record), line, key)
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        expected = f"{what}, a finite number of at least 0"
        raise fault(path, f"{value!r}", expected, "correct or remove the line", line, key)
    return float(value)
