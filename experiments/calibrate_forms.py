"""How benchmarks measure: from lengths, batch and times to what every coefficient of the law is multiplied by.

A *closed loop* keeps B requests in flight: whoever finishes is replaced by a new prompt, so that B/m prompts come with
every iteration when answers have m tokens, and TPOT holds their share. A *static batch* starts B prompts together and
decodes them to the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from experiments.calibrate_fit import LAW, TPOT, TTFT, Rows
from rlscale.types import Floats, Ints

Form = Literal["closed-loop", "static", "prompts-apart", "no-bursts"]
SATURATION = 32.0  # sequences; where each token takes 8 of 256 experts, one is idle with probability exp(-B/32)


@dataclass(frozen=True, slots=True)
class Measurements:
    """Rows of one group: one GPU, model, engine, precision and parallelism."""

    group: str
    prompt: Floats  # (rows,) tokens; NaN where the table does not say
    output: Floats  # (rows,) tokens
    batch: Floats  # (rows,) sequences in flight
    ttft_s: Floats  # (rows,) NaN where not measured
    tpot_s: Floats  # (rows,) NaN where not measured
    gpu: str = "any"
    model: str = "unknown"
    gpus: int = 1
    label: str = ""  # the group in words
    decoded: Floats = field(default_factory=lambda: np.zeros(0))  # tokens really made; empty: `output`
    nominal: Floats = field(default_factory=lambda: np.zeros(0))  # batch asked for; empty: `batch`

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def configurations(self) -> list[tuple[float, ...]]:
        """(prompt tokens, output tokens, batch) of every row as the benchmark was asked for them; 1: not known."""
        batch = self.nominal if len(self.nominal) else self.batch
        output = self.output if len(self.nominal) == 0 else np.ones(len(self))
        rows = np.column_stack([np.nan_to_num(self.prompt, nan=1.0), output, batch])
        return [tuple(float(value) for value in row) for row in rows]


def rows_of(seen: Measurements, form: Form, saturating: bool = False) -> Rows:
    """TPOT rows, then TTFT rows; measurements without the one or the other have fewer.

    `prompts-apart` and `no-bursts` are a closed loop without the prompts in TPOT, and without overhead and bursts in
    TTFT: they exist to be compared. `saturating` adds a term that the engines do not have: 1 - exp(-B/32).
    """
    decode, prompt = _decode(seen), _prompt(seen)
    per_iteration = (seen.batch / seen.output)[:, None] * prompt
    tpot = decode if form in ("static", "prompts-apart") else decode + per_iteration
    burst = np.zeros_like(prompt)
    if form == "static":  # one iteration with all prompts in it
        ttft = _iteration(seen) + seen.batch[:, None] * prompt
    else:  # half of the iteration in flight, then one with the prompt and everybody else in it
        ttft = 0.5 * tpot + decode + prompt
        burst = prompt * (seen.batch - 1.0)[:, None] if form != "no-bursts" else burst
    if saturating:
        fills = (1.0 - np.exp(-seen.batch / SATURATION))[:, None]
        tpot, ttft = np.hstack([tpot, fills]), np.hstack([ttft, (1.0 if form == "static" else 1.5) * fills])
        burst = np.hstack([burst, np.zeros_like(fills)])
    first = np.ones(len(seen)) if form in ("closed-loop", "prompts-apart") else np.zeros(len(seen))
    return _stack(seen, tpot, ttft, burst, first, (*LAW, "saturating_s") if saturating else LAW)


def take(seen: Measurements, rows: Ints) -> Measurements:
    """Some rows of a group."""
    arrays = {name: getattr(seen, name)[rows]
              for name in ("prompt", "output", "batch", "ttft_s", "tpot_s", "decoded", "nominal")
              if len(getattr(seen, name))}  # fmt: skip
    return replace(seen, **arrays)


def merged(seen: Measurements) -> Measurements:
    """One row per configuration: the median of repeated runs."""
    where: dict[tuple[float, ...], list[int]] = {}
    for row, configuration in enumerate(seen.configurations):
        where.setdefault(configuration, []).append(row)
    first = take(seen, np.array([rows[0] for rows in where.values()]))
    ttft, tpot = (np.array([_median(times[rows]) for rows in where.values()]) for times in (seen.ttft_s, seen.tpot_s))
    return replace(first, ttft_s=ttft, tpot_s=tpot)


def _stack(seen: Measurements, tpot: Floats, ttft: Floats, burst: Floats, first: Floats,
           names: tuple[str, ...]) -> Rows:  # fmt: skip
    with_tpot, with_ttft = np.isfinite(seen.tpot_s), np.isfinite(seen.ttft_s)
    number = {configuration: i for i, configuration in enumerate(dict.fromkeys(seen.configurations))}
    cell: Ints = np.array([number[configuration] for configuration in seen.configurations])
    count, others = int(with_tpot.sum()), int(with_ttft.sum())
    return Rows(
        names,
        np.vstack([tpot[with_tpot], ttft[with_ttft]]),
        np.vstack([np.zeros((count, burst.shape[1])), burst[with_ttft]]),
        np.append(np.zeros(count), first[with_ttft]),
        np.append(seen.tpot_s[with_tpot], seen.ttft_s[with_ttft]),
        np.repeat([TPOT, TTFT], [count, others]),
        np.append(cell[with_tpot], cell[with_ttft]),
        float(np.nan_to_num(seen.prompt).max()),
    )


def _iteration(seen: Measurements) -> Floats:
    """(rows, 5) c0 + c1*B."""
    zero = np.zeros(len(seen))
    return np.column_stack([np.ones(len(seen)), seen.batch, zero, zero, zero])


def _decode(seen: Measurements) -> Floats:
    """(rows, 5) a decode pass, sequences halfway through their answers; unknown prompts leave c3 without a column."""
    made = seen.decoded if len(seen.decoded) else seen.output
    columns = _iteration(seen)
    columns[:, 3] = np.nan_to_num(seen.batch * (seen.prompt + made / 2.0))
    return columns


def _prompt(seen: Measurements) -> Floats:
    """(rows, 5) the work of one prompt, processed at once: c2*n + c4*n^2."""
    tokens = np.nan_to_num(seen.prompt)
    zero = np.zeros(len(seen))
    return np.column_stack([zero, zero, tokens, zero, tokens**2])


def _median(values: Floats) -> float:
    there = values[np.isfinite(values)]
    return float(np.median(there)) if len(there) else float("nan")
