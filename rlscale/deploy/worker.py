"""A thread that makes one call at a time and is given up on when it is late. Knows no scaler.

Threads cannot be stopped: a late call runs on, its answer is dropped, and no second call begins before it has ended.
Code that never lets go of the interpreter (a C extension that holds the lock) blocks every thread and is beyond this.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Late(Exception):
    """The call has not returned in time; it may still be running."""


class Stuck(Exception):
    """An earlier call is still running, nothing was begun."""


class Worker:
    """Calls in a daemon thread of its own, begun with the first of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._latest: Future[Any] | None = None
        self._thread: threading.Thread | None = None

    @property
    def stuck(self) -> bool:
        """Whether a call is running."""
        return self._latest is not None and not self._latest.done()

    def call(self, act: Callable[[], T], deadline_s: float) -> T:
        """What `act` returns or raises; Late after `deadline_s`, Stuck while an earlier call runs."""
        if self.stuck:
            raise Stuck
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._latest = future
        self._calls.put((future, act))
        try:
            return future.result(deadline_s)
        except TimeoutError:
            if future.done():  # its own
                raise
            raise Late from None

    def _serve(self) -> None:
        while True:
            future, act = self._calls.get()
            try:
                future.set_result(act())
            except BaseException as error:  # whatever it is, it must not end the thread
                future.set_exception(error)
