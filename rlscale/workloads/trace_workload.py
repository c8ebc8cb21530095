"""A recorded load as a workload: which part of which file, how scaled, where to begin."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlscale.errors import TraceError
from rlscale.types import Load
from rlscale.workloads.family import HISTORY_STEP_S, WEEK_S, NotNegative, Positive, TokenChoice, token_law
from rlscale.workloads.playback import Episode, Split, circle, cut, in_place, split_of
from rlscale.workloads.readers import read
from rlscale.workloads.scaling import Dispersion, Way, dispersion, scaled
from rlscale.workloads.tokens import TOKEN_LAWS
from rlscale.workloads.trace import Trace
from rlscale.workloads.trace_tokens import TokenBlocks, token_blocks


class TraceWorkload(BaseModel):
    """Plays a recorded load. Times are seconds of the trace; the file is read when it is first needed.

    Before the scored part lies up to a day of history: of the trace before `start_s`, or, when there are less than
    ten minutes of it, the first ten minutes of the split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["trace"] = "trace"
    path: str = Field(description="trace file, from the current folder")
    format: str = Field("auto", description="format of the file; auto goes by its header")
    series_step_s: Positive | None = Field(None, description="step of a series without time column, seconds")
    scaling: Literal["superpose", "amplify"] = Field("amplify", description="how the load is made larger")
    factor: Positive | None = Field(None, description="times the recorded load; by default as it is")
    rate_per_s: Positive | None = Field(None, description="mean requests per second of the whole file, instead")
    start_s: NotNegative = Field(0.0, description="begin of the split, seconds of the trace")
    end_s: Positive | None = Field(None, description="its end; by default that of the trace")
    time_scale: Positive = Field(1.0, description="2 plays the trace in half the time (at twice the rate)")
    tokens: TokenChoice | None = Field(None, description="lengths; by default the trace's own")
    week_s: NotNegative | None = Field(None, description="seconds since Monday 00:00 at the trace's start")
    randomise_phase: bool = Field(False, description="begin at a random moment of the split (training)")

    @model_validator(mode="after")
    def _consistent(self) -> TraceWorkload:
        if self.factor is not None and self.rate_per_s is not None:
            raise ValueError("factor and rate_per_s both given; keep one")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"end_s={self.end_s:g} is not after start_s={self.start_s:g}; swap them")
        return self

    @property
    def trace(self) -> Trace:
        """The whole file."""
        path = Path(self.path)
        stamp = path.stat().st_mtime_ns if path.exists() else 0
        return _read(str(path), self.format, self.series_step_s, stamp)

    @property
    def available_s(self) -> float:
        """Seconds of load that can be scored."""
        split = self.split
        return (split.end_s - split.scored_s) / self.time_scale

    @property
    def split(self) -> Split:
        """What is scored, and what is known before."""
        return split_of(self.trace, self.start_s, self.end_s)

    @property
    def scale_factor(self) -> float:
        """Times the recorded load. From the mean of the whole file, so that all splits share it."""
        if self.rate_per_s is None:
            return self.factor or 1.0
        return self.rate_per_s / (self.trace.mean_per_s * self.time_scale)

    @property
    def way(self) -> Way:
        """How it is really scaled: client traces by their rates, and not at all without a factor."""
        if self.trace.clients is not None:
            return "rate"
        return "recorded" if self.factor is None and self.rate_per_s is None else self.scaling

    def sample(self, rng: np.random.Generator, duration_s: float, step_s: float) -> Load:
        """See `Workload`; `duration_s` may be infinite for all there is."""
        cells = self._cells(duration_s, step_s)
        episode = self._episode(self._begin(cells * step_s, step_s, rng), cells, rng, step_s)
        first_s = self.split.scored_s + episode.begin_s * self.time_scale
        blocks = self._tokens(first_s, first_s + cells * step_s * self.time_scale)
        monday_s = self.trace.week_s if self.week_s is None else self.week_s
        return Load(
            name=f"{self.trace.source} {self.way} x{self.scale_factor:.3g}",
            step_s=step_s,
            values=episode.cells.values.astype(np.float32),
            law=episode.cells.law,
            tokens=blocks.laws,
            token_block=blocks.block,
            token_block_s=blocks.block_s,
            burstiness=episode.cells.burstiness,
            history_per_s=episode.history_per_s,
            history_step_s=HISTORY_STEP_S,
            week_s=(monday_s + first_s) % WEEK_S,
            requests=None if self.tokens is not None else episode.cells.requests,
        )

    def dispersion(self, rng: np.random.Generator, step_s: float = 1.0) -> Dispersion:
        """Factor and index of dispersion of the scored part before and after scaling."""
        part = self.trace.between(self.split.scored_s, self.split.end_s)
        before = dispersion(scaled(part, "recorded", 1.0, rng, step_s))
        after = dispersion(scaled(part.faster(self.time_scale), self.way, self.scale_factor, rng, step_s))
        return Dispersion(self.way, self.scale_factor, before, after)

    def _cells(self, duration_s: float, step_s: float) -> int:
        available = int(self.available_s / step_s + 1e-9)
        cells = available if math.isinf(duration_s) else math.ceil(duration_s / step_s - 1e-9)
        if not 0 < cells <= available:
            raise TraceError(
                f"{self.trace.source}: {duration_s:g} s of load in cells of {step_s:g} s asked for; this split has"
                f" {self.available_s:g} s to score; shorten the run or widen start_s and end_s"
            )
        return cells

    def _begin(self, duration_s: float, step_s: float, rng: np.random.Generator) -> float:
        """Seconds after the begin of the scored part; on the grid of the trace and of the cells."""
        if not self.randomise_phase:
            return 0.0
        grid = max(self.trace.grid_s / self.time_scale, step_s)
        places = int((self.available_s - duration_s) / grid + 1e-9) + 1
        return float(rng.integers(places)) * grid

    def _episode(self, begin_s: float, cells: int, rng: np.random.Generator, step_s: float) -> Episode:
        split, factor, times = self.split, self.scale_factor, self.time_scale
        if self.way == "superpose":
            return cut(circle(self.trace, split, factor, rng, step_s, times), begin_s, cells)
        return in_place(self.trace, split, begin_s, cells, self.way, factor, rng, step_s, times)

    def _tokens(self, first_s: float, last_s: float) -> TokenBlocks:
        """The lengths asked for; else the trace's own: of the time played, or of the whole split where it is mixed."""
        if self.tokens is not None:
            return TokenBlocks((token_law(self.tokens),))
        if self.way == "superpose":
            whole = token_blocks(self.trace.between(self.split.scored_s, self.split.end_s), mixed=True)
            return self._there(whole)
        grid = self.trace.grid_s
        if grid:
            last_s = min(first_s + math.ceil((last_s - first_s) / grid - 1e-9) * grid, self.trace.span_s)
        return self._there(token_blocks(self.trace.between(first_s, last_s).faster(self.time_scale)))

    def _there(self, blocks: TokenBlocks) -> TokenBlocks:
        if not blocks.laws:
            todo = f"set tokens to one of {', '.join(TOKEN_LAWS)}, or to knots"
            raise TraceError(f"{self.path}: holds no lengths of prompts and answers; {todo}")
        return blocks


@lru_cache(maxsize=8)
def _read(path: str, format: str, step_s: float | None, stamp: int) -> Trace:
    """One reading per state of the file (`stamp`: when it was last changed)."""
    return read(path, format, step_s)


WORKLOADS = {"trace": TraceWorkload}
