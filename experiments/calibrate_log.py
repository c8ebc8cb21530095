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
from rlscale.types import Floats, Ints
from rlscale.workloads.faults import fault
from rlscale.workloads.table import Table, content, header, read_csv

SWEEPS = 60  # three times as many move no coefficient of 3 000 requests by more than 4 %


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
    begin, end = iterations_by(log, several)
    base = np.array([_beside(log, begin, end, int(i)) for i in several]).reshape(len(several), len(LAW))
    spans = log.last_s[several] - log.first_s[several]
    zero = np.zeros(len(several))
    return Rows(LAW, base, np.zeros_like(base), zero, spans, np.full(len(several), TPOT), np.arange(len(several)),
                float(log.prompt.max(initial=0.0)))  # fmt: skip


def iterations_by(log: Log, several: Ints) -> tuple[Floats, Floats]:
    """How many iterations the engine had made at the first and at the last token of every request.

    Between two moments at which somebody began or ended there is an unknown number of iterations; that every request
    of m tokens spans m - 1 of them determines the numbers. They begin in proportion to time and are scaled, request
    by request, until all agree.
    """
    moments = np.unique(np.concatenate([log.first_s, log.last_s]))
    first, last = np.searchsorted(moments, log.first_s), np.searchsorted(moments, log.last_s)
    made = np.diff(moments)  # iterations between neighbours, at first in seconds
    spans = [(int(first[i]), int(last[i]), float(log.output[i]) - 1.0) for i in several]
    for _ in range(SWEEPS):
        for a, b, steps in spans:
            made[a:b] *= steps / made[a:b].sum()
    clock = np.append(0.0, np.cumsum(made))
    return clock[first], clock[last]


def _beside(log: Log, begin: Floats, end: Floats, i: int) -> Floats:
    """(5,) what the coefficients are multiplied by between the first and the last token of request i."""
    there = (log.first_s <= log.last_s[i]) & (log.last_s > log.first_s[i])
    first, last, prompt = log.first_s[there], end[there], log.prompt[there]
    came = first > log.first_s[i]
    # The first token comes out of the iteration that read the prompt; those after it, one by one, of decode passes.
    before = np.maximum(begin[i] - begin[there], 0.0)
    after = np.minimum(end[i], last) - begin[there]
    decodes = np.maximum(after - before, 0.0)
    context = decodes * (prompt + before + (decodes + 1.0) / 2.0)
    tokens = prompt[came]
    return np.array([log.output[i] - 1.0, decodes.sum() + came.sum(), tokens.sum(), context.sum(), (tokens**2).sum()])


def _needed(table: Table, stem: str) -> Floats:
    values = time_s(table, (stem,), blank=False)
    if values is None:
        got = f"the columns {', '.join(table.names)}"
        raise fault(table.path, got, f"a column '{stem}_ms' or '{stem}_s'", "add it", 1, f"{stem}_ms")
    return values
