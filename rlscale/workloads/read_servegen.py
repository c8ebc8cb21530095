"""Reader of ServeGen services: rate and burstiness per client and ten minutes, lengths per client and six hours."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from rlscale.types import Floats, Ints
from rlscale.workloads.faults import fault
from rlscale.workloads.table import Table, content, read_csv
from rlscale.workloads.trace import Clients, ClientTokens, Trace

COLUMNS = ("client", "t_s", "rate_rps", "ia_cv")
TOKEN_COLUMNS = ("client", "t_s", "field")
WINDOW_S, BLOCK_S = 600.0, 21_600.0
# Parts of a prompt; a multimodal request holds several of them.
PROMPT_FIELDS = ("input_tokens", "text_tokens", "image_tokens", "audio_tokens", "video_tokens")
OUTPUT_FIELD = "output_tokens"


def servegen(table: Table) -> Trace:
    """Rates of all clients, and the lengths if `..._tokens.csv[.gz]` lies beside `..._rates.csv[.gz]`."""
    client = table.numbers("client", "a client number").astype(np.int64)
    start_s = table.numbers("t_s", "the start of a window in seconds")
    off = np.mod(start_s, WINDOW_S) != 0
    if off.any():
        row = int(np.argmax(off))
        expected = f"a multiple of {WINDOW_S:g} s"
        raise fault(table.path, f"{start_s[row]:g}", expected, "correct the row", table.line(row), "t_s")
    _refuse_twice(table, client, start_s)
    tokens, notes = _tokens_beside(table.path)
    clients = Clients(
        WINDOW_S,
        client,
        start_s,
        table.numbers("rate_rps", "requests per second"),
        table.numbers("ia_cv", "a coefficient of variation", blank=1.0),  # blank: too few requests to tell
        tokens,
    )
    return Trace(table.path.name, "servegen", float(start_s.max()) + WINDOW_S, clients=clients, notes=notes)


def _refuse_twice(table: Table, client: Ints, start_s: Floats) -> None:
    order = np.lexsort((np.arange(len(client)), start_s, client))
    twice = (np.diff(client[order]) == 0) & (np.diff(start_s[order]) == 0)
    if twice.any():
        row = int(order[int(np.argmax(twice)) + 1])
        got = f"client {client[row]} at {start_s[row]:g} s a second time"
        raise fault(table.path, got, "one row per client and window", "remove one", table.line(row), "t_s")


def _tokens_beside(path: Path) -> tuple[ClientTokens | None, tuple[str, ...]]:
    name = re.sub(r"_rates(?=\.csv(\.gz)?$)", "_tokens", path.name)
    beside = path.with_name(name)
    if name == path.name or not beside.exists():
        return None, ("no table of lengths beside the rates",)
    tokens = _tokens(read_csv(beside, content(beside)))
    return tokens, (f"lengths from {name}, {len(np.unique(tokens.client))} clients",)


def _tokens(table: Table) -> ClientTokens:
    p, names = _knots(table)
    client = table.numbers("client", "a client number").astype(np.int64)
    start_s = table.numbers("t_s", "the start of a block in seconds")
    field = np.array(table.column("field").to_pylist(), dtype=object)
    quantiles = np.column_stack([table.numbers(name, "tokens") for name in names])
    falls = (np.diff(quantiles, axis=1) < 0).any(axis=1)
    if falls.any():
        row = int(np.argmax(falls))
        raise fault(
            table.path, "quantiles that fall", "quantiles that rise", "correct the row", table.line(row), names[0]
        )
    output = dict(_rows(client, start_s, field, (OUTPUT_FIELD,)))
    prompt: dict[tuple[int, float], Floats] = {}
    for key, row in _rows(client, start_s, field, PROMPT_FIELDS):
        # Parts of one prompt are taken to grow together: their quantiles add up.
        prompt[key] = prompt.get(key, 0.0) + quantiles[row]
    keys = sorted(prompt.keys() & output.keys())
    if not keys:
        expected = f"rows '{OUTPUT_FIELD}' and one of {', '.join(PROMPT_FIELDS)}"
        raise fault(
            table.path, f"fields {', '.join(sorted(set(field)))}", expected, "use the published file", column="field"
        )
    return ClientTokens(
        BLOCK_S,
        np.array([key[0] for key in keys]),
        np.array([key[1] for key in keys]),
        p,
        np.stack([prompt[key] for key in keys]),
        np.stack([quantiles[output[key]] for key in keys]),
    )


def _rows(
    client: Ints, start_s: Floats, field: np.ndarray, wanted: tuple[str, ...]
) -> list[tuple[tuple[int, float], int]]:
    return [((int(client[i]), float(start_s[i])), int(i)) for i in np.flatnonzero(np.isin(field, wanted))]


def _knots(table: Table) -> tuple[Floats, list[str]]:
    """Probabilities and names of the columns q0 ... q100."""
    names = [name for name in table.names if re.fullmatch(r"q\d+(\.\d+)?", name)]
    if len(names) < 2 or names[0] != "q0" or names[-1] != "q100":
        raise fault(
            table.path, f"columns {', '.join(table.names)}", "quantiles q0 to q100", "use the published file", line=1
        )
    return np.array([float(name[1:]) for name in names]) / 100.0, names
