"""A request log of one replica as rows of a fit: what ran beside each request while it decoded. Knows no benchmark.

Between two tokens of one sequence lies exactly one iteration, so a request of m tokens spans m - 1 of them, and the
tokens that others made meanwhile are the sequences of those iterations. Times between first and last token are used;
waits are not, they belong to the queue. Columns: `arrival_s`, `prompt_tokens`, `output_tokens`, `ttft_ms` and `tpot_ms`
or `e2e_ms` (or `_s`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.calibrate_fit import LAW, TPOT, Rows
from experiments.calibrate_read import time_s
from rlscale.types import Floats
from rlscale.workloads.faults import fault
from rlscale.workloads.table import Table, content, header, read_csv


@dataclass(frozen=True, slots=True)
class Log:
    """Finished requests of one replica in order of their first token."""

    prompt: Floats  # (requests,) tokens
    output: Floats  # (requests,) tokens
    first_s: Floats  # (requests,) first token
    last_s: Floats  # (requests,) last token


def is_log(path: Path) -> bool:
    """Whether a file is a request log: it has arrivals."""
    return "arrival_s" in header(content(path))


def read_log(path: Path) -> Log:
    """A request log; raises TraceError naming file, line and column."""
    table = read_csv(path, content(path))
    for name in table.names:
        table.column(name)
    arrival = table.times("arrival_s").since_first_s
    prompt, output = (table.numbers(name, "a number of tokens", minimum=1.0) for name in
                      ("prompt_tokens", "output_tokens"))  # fmt: skip
    ttft = _needed(table, "ttft")
    e2e = time_s(table, ("e2e",), blank=False)
    if e2e is None:
        tpot = time_s(table, ("tpot",), blank=True)
        if tpot is None:
            got = f"the columns {', '.join(table.names)}"
            raise fault(path, got, "a column 'tpot_ms' or 'e2e_ms' (or _s)", "add one of them", 1, "tpot_ms")
        e2e = ttft + np.nan_to_num(tpot) * (output - 1.0)
    if (e2e < ttft).any():
        row = int(np.argmax(e2e < ttft))
        got = f"a last token {ttft[row] - e2e[row]:g} s before the first"
        raise fault(path, got, "E2E of at least TTFT", "correct or remove the row", table.line(row))
    order = np.argsort(arrival + ttft, kind="stable")
    return Log(prompt[order], output[order], (arrival + ttft)[order], (arrival + e2e)[order])


def rows_of_log(log: Log) -> Rows:
    """One row per request with two tokens or more: iterations, sequences, prompts and context while it decoded."""
    several = np.flatnonzero((log.output > 1.0) & (log.last_s > log.first_s))
    base = np.array([_beside(log, int(i)) for i in several]).reshape(len(several), len(LAW))
    spans = log.last_s[several] - log.first_s[several]
    zero = np.zeros(len(several))
    longest = float(log.prompt.max(initial=0.0))
    return Rows(LAW, base, np.zeros_like(base), zero, spans, np.full(len(several), TPOT), np.arange(len(several)),
                longest)  # fmt: skip


def _beside(log: Log, i: int) -> Floats:
    """(5,) what the coefficients are multiplied by between the first and the last token of request i."""
    begin, end = log.first_s[i], log.last_s[i]
    there = (log.first_s <= end) & (log.last_s > begin)
    first, last, output, prompt = log.first_s[there], log.last_s[there], log.output[there], log.prompt[there]
    made_before, made_after = (_made(moment, first, last, output) for moment in (begin, end))
    own = np.flatnonzero(there) == i
    made_before[own], made_after[own] = 1.0, output[own]
    came = (first > begin) & ~own
    # A first token comes out of the iteration that read the prompt: it is a sequence of that iteration, not of a decode.
    decodes = made_after - made_before - came
    at_first = np.where(came, 1.0, made_before)
    context = decodes * (prompt + at_first + (decodes - 1.0) / 2.0)
    tokens = prompt[came]
    return np.array([log.output[i] - 1.0, (made_after - made_before).sum(), tokens.sum(), context.sum(),
                     (tokens**2).sum()])  # fmt: skip


def _made(moment: float, first: Floats, last: Floats, output: Floats) -> Floats:
    """Tokens of each request by a moment: none before its first, then evenly until its last."""
    share = (moment - first) / np.maximum(last - first, 1e-12)
    made: Floats = np.where(moment < first, 0.0, 1.0 + np.clip(share, 0.0, 1.0) * (output - 1.0))
    return made


def _needed(table: Table, stem: str) -> Floats:
    values = time_s(table, (stem,), blank=False)
    if values is None:
        got = f"the columns {', '.join(table.names)}"
        raise fault(table.path, got, f"a column '{stem}_ms' or '{stem}_s'", "add it", 1, f"{stem}_ms")
    return values
