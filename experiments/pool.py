"""Runs many independent cells in worker processes. Knows nothing of what a cell is.

One failing cell does not stop the rest; a worker that dies takes only its own cell with it; Ctrl-C lets running cells
finish and cancels the others; a full disk stops everything, because nothing that follows could be kept.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rlscale.errors import ResultError, RlscaleError

Cell = TypeVar("Cell")
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PLAIN_EVERY_S = 10.0


class _Kept:
    """Workers that outlive one `run_all`."""

    wanted = False
    count = 0
    pool: ProcessPoolExecutor | None = None


@dataclass(frozen=True, slots=True)
class Failure(Generic[Cell]):
    """A cell that could not be run, and why."""

    cell: Cell
    error: str
    trace: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    error: str = ""
    trace: str = ""
    full_disk: bool = False


def run_all(
    work: Callable[[Cell], None], cells: Sequence[Cell], workers: int, title: str = "cells"
) -> list[Failure[Cell]]:
    """Run `work(cell)` for every cell; it stores its own result. Returns the failures.

    One worker runs in this process. Raises ResultError on a full disk, KeyboardInterrupt after Ctrl-C.
    """
    failures: list[Failure[Cell]] = []
    with _progress(title, len(cells)) as advance:
        for cell, outcome in (_serial if workers <= 1 else _parallel)(work, cells, workers):
            if outcome.full_disk:
                raise ResultError(f"{outcome.error}; finished cells are kept: free some space, then run with --resume")
            if outcome.error:
                failures.append(Failure(cell, outcome.error, outcome.trace))
            advance(bool(outcome.error))
    return failures


@contextlib.contextmanager
def kept_workers() -> Iterator[None]:
    """Worker processes outlive `run_all` while this lasts, and with them what they have worked out and cached."""
    _Kept.wanted = True
    try:
        yield
    finally:
        _Kept.wanted = False
        if _Kept.pool is not None:
            _Kept.pool.shutdown(cancel_futures=True)
            _Kept.pool = None


def _serial(work: Callable[[Cell], None], cells: Sequence[Cell], _workers: int) -> Iterator[tuple[Cell, _Outcome]]:
    for cell in cells:
        yield cell, _attempt(work, cell)


def _parallel(work: Callable[[Cell], None], cells: Sequence[Cell], workers: int) -> Iterator[tuple[Cell, _Outcome]]:
    """Never more in flight than there are workers: when one dies, only those few are suspects."""
    waiting = list(reversed(cells))
    pool, running = _workers(workers), dict[Future[_Outcome], Cell]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running[pool.submit(_attempt, work, waiting[-1])] = waiting[-1]
                waiting.pop()
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                pool.shutdown()
                suspects, running = list(running.items()), {}
                for future, cell in suspects:
                    yield cell, _known(future) or _alone(work, cell)
                pool = _workers(workers, anew=True)
                continue
            for future in done:
                yield running.pop(future), future.result()
    except BaseException:
        _stop(pool, running)
        raise
    if not _Kept.wanted:
        pool.shutdown()


def _known(future: Future[_Outcome]) -> _Outcome | None:
    return future.result() if future.done() and future.exception() is None else None


def _alone(work: Callable[[Cell], None], cell: Cell) -> _Outcome:
    """A cell again in a process of its own, after a worker died beside it."""
    with _pool(1) as pool:
        try:
            return pool.submit(_attempt, work, cell).result()
        except BrokenProcessPool:
            return _Outcome("its worker process died (killed, or out of memory)")


def _attempt(work: Callable[[Cell], None], cell: Cell) -> _Outcome:
    """In the worker: errors travel as text, since not every exception survives pickling."""
    try:
        work(cell)
    except OSError as error:
        if error.errno in FULL_DISK:
            return _Outcome(f"the disk is full ({error.filename or 'while writing a cell'})", full_disk=True)
        return _Outcome(f"{type(error).__name__}: {error}", traceback.format_exc())
    except RlscaleError as error:
        return _Outcome(str(error), traceback.format_exc())
    except Exception as error:
        return _Outcome(f"{type(error).__name__}: {error}", traceback.format_exc())
    return _Outcome()


def _workers(count: int, anew: bool = False) -> ProcessPoolExecutor:
    """A pool of workers: the kept one if there is any as large."""
    if not _Kept.wanted:
        return _pool(count)
    if _Kept.pool is None or anew or _Kept.count < count:
        if _Kept.pool is not None:
            _Kept.pool.shutdown()
        _Kept.count, _Kept.pool = count, _pool(count)
    return _Kept.pool


def _pool(workers: int) -> ProcessPoolExecutor:
    for name in ONE_THREAD:  # inherited by the workers, where it counts before numpy and torch are imported
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_ctrl_c)


def _ignore_ctrl_c() -> None:
    """Ctrl-C reaches the whole process group; only the parent acts on it, so that running cells can finish."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stop(pool: ProcessPoolExecutor, running: dict[Future[_Outcome], Any]) -> None:
    """Let what runs finish; a second Ctrl-C does not wait for it."""
    left = sum(not future.done() for future in running)
    try:
        if left:
            print(f"stopping: {left} running cells finish first (Ctrl-C again to drop them)", file=sys.stderr)
        pool.shutdown(wait=True, cancel_futures=True)
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown(wait=True)


def _progress(title: str, total: int) -> AbstractContextManager[Callable[[bool], None]]:
    """A bar on a terminal, otherwise a line every few seconds."""
    return (_bar if sys.stderr.isatty() else _lines)(title, total)


@contextlib.contextmanager
def _lines(title: str, total: int) -> Iterator[Callable[[bool], None]]:
    started, last, done, failed = time.monotonic(), -PLAIN_EVERY_S, 0, 0

    def advance(bad: bool) -> None:
        nonlocal last, done, failed
        done, failed = done + 1, failed + bad
        elapsed = time.monotonic() - started
        if elapsed - last >= PLAIN_EVERY_S or done == total:
            last = elapsed
            print(f"{title}: {done}/{total} ({failed} failed, {elapsed:.0f} s)", file=sys.stderr, flush=True)

    yield advance


@contextlib.contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[bool], None]]:
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TextColumn("{task.fields[failed]}"),
        rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, failed="")
        failed = 0

        def advance(bad: bool) -> None:
            nonlocal failed
            failed += bad
            progress.update(task, advance=1, failed=f"[red]{failed} failed" if failed else "")

        yield advance
