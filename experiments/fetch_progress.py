"""Progress of a download: a bar on a terminal, a few lines otherwise."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from experiments.datasets import megabytes

TENTH_FROM = 20_000_000  # bytes; smaller files are not worth a line per tenth


class Bar:
    """Bytes, speed and time left of one file."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as SpeedColumn

        self._bar: Any = None
        self._tenth = 0
        console = Console(file=sys.stdout, soft_wrap=True)
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), DownloadColumn(), SpeedColumn(), TimeRemainingColumn(),
                console=console,
            )  # fmt: skip
            self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> Bar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def at(self, size: int, total: int | None) -> None:
        """Bytes here, out of how many."""
        if self._bar is not None:
            self._bar.update(self._task, completed=size, total=total)
        elif total is not None and total >= TENTH_FROM and 10 * size // total > self._tenth:
            self._tenth = 10 * size // total
            print(f"{megabytes(size)} of {megabytes(total)}", flush=True)

    def say(self, text: str) -> None:
        """News in one line."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)
