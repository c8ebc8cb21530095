"""The ServeGen repository as tables: per service the rates of all clients, and the quantiles of their lengths."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.convert import Table, members
from experiments.datasets import DataSet
from rlscale.workloads.read_servegen import OUTPUT_FIELD, PROMPT_FIELDS

MEMBER = re.compile(r"[^/]+/data/(?:language|reason|multimodal)/([\w.-]+)/chunk-(\d+)-(trace\.csv|dataset\.json)")
QUANTILES = (0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100)


def servegen(entry: DataSet, path: Path) -> Iterator[Table]:
    """`servegen_SERVICE_rates.csv.gz` and, with it, `servegen_SERVICE_tokens.csv.gz`."""
    rates: dict[str, list[tuple[int, str]]] = defaultdict(list)
    tokens: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name, data in members(path, lambda name: MEMBER.fullmatch(name) is not None):
        match = MEMBER.fullmatch(name)
        assert match is not None, "only these members were asked for"
        service, client = match[1], int(match[2])
        if match[3] == "trace.csv":
            rates[service] += ((client, row) for row in _rates(client, data.decode()))
        else:
            tokens[service] += ((client, row) for row in _lengths(client, json.loads(data)))
    for service in sorted(rates):
        yield f"{entry.name}_{service}_rates.csv.gz", ["client,t_s,rate_rps,ia_cv", *_by_client(rates[service])]
        if tokens[service]:
            header = ",".join(["client", "t_s", "field", *(f"q{p}" for p in QUANTILES)])
            yield f"{entry.name}_{service}_tokens.csv.gz", [header, *_by_client(tokens[service])]


def _by_client(rows: list[tuple[int, str]]) -> Iterator[str]:
    """The archive lists clients as text: 1, 10, 11, 2."""
    yield from (row for _, row in sorted(rows, key=lambda row: row[0]))


def _rates(client: int, text: str) -> Iterator[str]:
    """Windows with requests. Columns: start, rate, variation, law (empty: too few requests to fit), two numbers."""
    for line in text.splitlines():
        start_s, rate_per_s, variation, law, *_ = line.split(",")
        if float(rate_per_s) > 0:
            yield f"{client},{int(start_s)},{rate_per_s},{variation if law else ''}"


def _lengths(client: int, blocks: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A histogram per block and field: the text of a mapping from length to share. Empty ones are left out."""
    for start_s, fields in blocks.items():
        for field in (*PROMPT_FIELDS, OUTPUT_FIELD):
            text = str(fields.get(field, "")).strip("{} \n")
            if text:
                pairs = np.array(text.replace(":", ",").split(","), float).reshape(-1, 2)
                yield f"{client},{int(start_s)},{field}," + ",".join(f"{q:g}" for q in _quantiles(pairs))


def _quantiles(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shortest length that at least this share of the requests does not exceed."""
    pairs = pairs[pairs[:, 1] > 0]
    lengths, shares = pairs[np.argsort(pairs[:, 0])].T
    below = np.cumsum(shares) / shares.sum()
    # A hair less, so that a share that rounding put just below its quantile still counts.
    index = np.searchsorted(below, np.array(QUANTILES) / 100.0 - 1e-9)
    return np.asarray(lengths[np.minimum(index, len(lengths) - 1)], np.float64)
