"""What Prometheus recorded of a service, on one grid of time: asked for in pieces, kept as a file, read again.

A cell is NaN where Prometheus has nothing; nothing is filled here.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from experiments.results import write_text
from rlscale.deploy.base import MetricsError
from rlscale.deploy.buckets import Buckets, of_pairs
from rlscale.deploy.prometheus_answer import Series, by_edge
from rlscale.deploy.prometheus_http import Api
from rlscale.deploy.templates import Filling, Template
from rlscale.strict import Strict
from rlscale.types import Floats

MOST_POINTS = 10_000  # per query; the server allows 11 000
STEPS_S = (60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)  # each divides an hour, so days are whole cells
SCRAPES_PER_STEP = 3.0  # a rate needs two, and a step may miss one
HOUR_S, DAY_S = 3600.0, 86_400.0
WANTED = ("arrival_per_s", "waiting", "running", "dropped_per_s", "prompt_tokens", "answer_tokens", "replicas")
LENGTHS = ("prompt_tokens", "answer_tokens")
VERSION = 1
MAX_FILE_BYTES = 500_000_000

Ask = Callable[[str, float, float, float], list[Series]]  # expression, first and last time, step


@dataclass(frozen=True, slots=True)
class Ranges:
    """Values by name, one per cell: cell i is what was between `start_s + i * step_s` and one step later."""

    source: str
    start_s: float  # unix time
    step_s: float
    values: dict[str, Floats]  # (cells,) arrival_per_s, waiting, ..., ttft_s, tpot_s; NaN where there is nothing
    histograms: dict[str, Buckets] = field(default_factory=dict)  # of the whole range
    scrape_s: float = math.nan

    @property
    def cells(self) -> int:
        """Cells of the grid."""
        return len(self.values["arrival_per_s"])

    @property
    def end_s(self) -> float:
        """Unix time of its end."""
        return self.start_s + self.cells * self.step_s


def fetch(api: Api, template: Template, labels: Mapping[str, str], end_s: float, range_s: float,
          step_s: float | None) -> Ranges:  # fmt: skip
    """The recorded range before `end_s`. Raises MetricsError where there is nothing to calibrate with."""
    ask: Ask = api.query_range
    scrape_s = _scrape_s(ask, template, labels, end_s, range_s)
    if step_s is None:
        step_s = next((step for step in STEPS_S if step >= SCRAPES_PER_STEP * scrape_s), STEPS_S[-1])
    if step_s < 2.0 * scrape_s:
        raise MetricsError(f"--step {step_s:g} s: samples are {scrape_s:g} s apart; expected at least two per step")
    cells = int(range_s / step_s + 1e-9)
    if cells < 2:
        raise MetricsError(f"--range {range_s:g} s: holds {cells} steps of {step_s:g} s; give a longer one")
    start_s = math.floor(end_s / step_s) * step_s - cells * step_s
    filling = Filling(labels, step_s)
    values = {}
    for name in WANTED:
        text = template.queries.get(name)  # type: ignore[call-overload]
        values[name] = _column(ask, filling.fill(text, name) if text else "", start_s, step_s, cells)
    for kind in ("ttft", "tpot"):
        values[f"{kind}_s"] = _mean(ask, template, filling, kind, start_s, step_s, cells)
    kinds = ("ttft", "tpot", *LENGTHS)
    whole = {kind: _histogram(ask, template, labels, kind, start_s, cells * step_s) for kind in kinds}
    histograms = {kind: held for kind, held in whole.items() if held is not None}
    return Ranges(api.url, start_s, step_s, values, histograms, scrape_s)


def save(path: Path, ranges: Ranges) -> None:
    """As a file that `read_ranges` takes, so that a calibration can be repeated without the server."""
    told = {
        "version": VERSION, "source": ranges.source, "start_s": ranges.start_s, "step_s": ranges.step_s,
        "scrape_s": _plain(ranges.scrape_s),
        "values": {name: [_plain(value) for value in column] for name, column in ranges.values.items()},
        "histograms": {name: {"edge": [_plain(edge) for edge in held.edge[:-1]], "count": held.count.tolist()}
                       for name, held in ranges.histograms.items()},
    }  # fmt: skip
    write_text(path, json.dumps(told))


Count = Annotated[float, Field(ge=0.0)]


class _Histogram(Strict):
    edge: list[Count] = Field(min_length=1)  # without the last, which is +inf
    count: list[Count]


class _File(Strict):
    version: Literal[1]
    source: str
    start_s: Count
    step_s: Annotated[float, Field(gt=0.0)]
    scrape_s: Count | None
    values: dict[str, list[float | None]]
    histograms: dict[str, _Histogram]


def read_ranges(path: Path) -> Ranges:
    """A file that a calibration wrote, plain or gzipped. Raises MetricsError naming file and field."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError) as error:
        raise MetricsError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(raw) > MAX_FILE_BYTES:
        raise MetricsError(f"{path}: has more than {MAX_FILE_BYTES} bytes; expected what `calibrate` wrote")
    try:
        told = _File.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise MetricsError(f"{path}: {place}: {first['msg']}; expected what `calibrate` wrote") from None
    values = {name: np.array([math.nan if v is None else v for v in column]) for name, column in told.values.items()}
    lengths = {len(column) for column in values.values()}
    if "arrival_per_s" not in values or len(lengths) != 1 or lengths == {0}:
        raise MetricsError(f"{path}: values: expected arrival_per_s and columns of one length, got {sorted(lengths)}")
    empty = np.full(lengths.pop(), math.nan)
    values = {name: values.get(name, empty) for name in (*WANTED, "ttft_s", "tpot_s")}
    histograms = {}
    for name, held in told.histograms.items():
        found = of_pairs(dict(zip([*held.edge, math.inf], held.count, strict=False)))
        if found is None or len(held.count) != len(held.edge) + 1:
            raise MetricsError(f"{path}: histograms.{name}: expected one count more than edges")
        histograms[name] = found
    scrape_s = math.nan if told.scrape_s is None else told.scrape_s
    return Ranges(told.source, told.start_s, told.step_s, values, histograms, scrape_s)


def _scrape_s(ask: Ask, template: Template, labels: Mapping[str, str], end_s: float, range_s: float) -> float:
    """Seconds between two samples: those of the busiest series in every window of an hour, the median."""
    window_s = min(HOUR_S, range_s)
    selector = Filling(labels, window_s).fill(f"max(count_over_time({template.fresh}[$window]))", "fresh")
    step_s = max(window_s, range_s / MOST_POINTS)
    series = ask(selector, end_s - range_s + window_s, end_s, step_s)
    counts = [value for one in series for _, value in one.samples if value > 1.0]
    if not counts:
        raise MetricsError(f"no series of {selector} in the range; is the service scraped, and do --labels fit?")
    return float(f"{window_s / float(np.median(counts)):.3g}")


def _column(ask: Ask, expression: str, start_s: float, step_s: float, cells: int) -> Floats:
    """(cells,) values of an expression that gives one series; NaN where it gives nothing."""
    found = np.full(cells, math.nan)
    for first in range(0, cells if expression else 0, MOST_POINTS):
        last = min(first + MOST_POINTS, cells) - 1
        # What a cell holds is known at its end.
        series = ask(expression, start_s + (first + 1) * step_s, start_s + (last + 1) * step_s, step_s)
        if len(series) > 1:
            raise MetricsError(f"{len(series)} series of {expression}; expected one: sum(...) makes one of them")
        for when, value in series[0].samples if series else ():
            cell = round((when - start_s) / step_s) - 1
            if first <= cell <= last and math.isfinite(value):
                found[cell] = value
    return found


def _mean(ask: Ask, template: Template, filling: Filling, kind: Literal["ttft", "tpot"], start_s: float,
          step_s: float, cells: int) -> Floats:  # fmt: skip
    """(cells,) mean latency in seconds, from the first histogram that is there, or a query of the template."""
    entry = template.histograms.get(kind)
    for name in entry.names if entry is not None else ():
        found = _column(ask, f"{filling.total(name, kind)} / {filling.number(name, kind)}", start_s, step_s, cells)
        if np.isfinite(found).any() and entry is not None:
            return found * entry.scale
    own: str | None = template.queries.get("ttft_s" if kind == "ttft" else "tpot_s")
    return _column(ask, filling.fill(own, kind) if own else "", start_s, step_s, cells)


def _histogram(ask: Ask, template: Template, labels: Mapping[str, str], kind: Any, start_s: float,
               range_s: float) -> Buckets | None:  # fmt: skip
    """What was observed in the whole range, asked for by days."""
    window_s = min(DAY_S, range_s)
    last_s = start_s + int(range_s / window_s + 1e-9) * window_s
    entry = template.histograms.get(kind)
    for name in entry.names if entry is not None else ():
        series = ask(Filling(labels, window_s).buckets(name, kind), start_s + window_s, last_s, window_s)
        held = of_pairs(by_edge(series, _whole), 1.0 if kind in LENGTHS or entry is None else entry.scale)
        if held is not None and held.total > 0.0:
            return held
    return None


def _whole(one: Series) -> float:
    return sum(value for _, value in one.samples if math.isfinite(value))


def _plain(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if math.isfinite(value) else None
