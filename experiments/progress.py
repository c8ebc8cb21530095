"""Progress of several trainings: a bar for each on a terminal, lines otherwise."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any


class Bars:
    """Steps, frames per second and the last verdict of every seed."""

    def __init__(self, seeds: Sequence[int], total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.total, self._words = total, dict.fromkeys(seeds, "")
        self._bars: Any = None
        console = Console(file=sys.stdout)
        if console.is_terminal:
            self._bars = Progress(
                TextColumn("seed {task.description}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[fps]}"), TimeRemainingColumn(), TextColumn("{task.fields[words]}"),
                console=console,
            )  # fmt: skip
            self._tasks = {seed: self._bars.add_task(str(seed), total=total, fps="", words="") for seed in seeds}

    def __enter__(self) -> Bars:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def tell(self, seed: int, steps: int, frames_per_s: float, words: str) -> None:
        """A seed stands at `steps`; without a terminal only news of an evaluation is a line."""
        speed = f"{frames_per_s:,.0f} steps/s"
        if self._bars is not None:
            self._bars.update(self._tasks[seed], completed=min(steps, self.total), fps=speed, words=words)
        elif words != self._words[seed]:
            print(f"seed {seed}: {steps:>9} steps, {speed}, {words}", flush=True)
        self._words[seed] = words
