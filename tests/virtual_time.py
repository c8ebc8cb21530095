"""Threads in virtual time: one runs at a time and sleeping costs nothing. What a seed draws happens again alike."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable


class VirtualTime:
    """`spawn` functions, then `run`; within them `sleep` lets the others go on."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, threading.Semaphore]] = []
        self._number, self._idle = itertools.count(), threading.Semaphore(0)
        self._alive = 0
        self._failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def spawn(self, work: Callable[[], object], after_s: float = 0.0) -> None:
        """Run `work` in a thread of its own, `after_s` seconds from now."""
        turn = threading.Semaphore(0)

        def life() -> None:
            turn.acquire()
            try:
                work()
            except BaseException as error:
                self._failures.append(error)
            self._alive -= 1
            self._idle.release()

        self._alive += 1
        heapq.heappush(self._due, (self.now_s + after_s, next(self._number), turn))
        thread = threading.Thread(target=life, daemon=True)
        thread.start()
        self._threads.append(thread)

    def sleep(self, seconds: float) -> None:
        """Give way for so long."""
        turn = threading.Semaphore(0)
        heapq.heappush(self._due, (self.now_s + max(0.0, seconds), next(self._number), turn))
        self._idle.release()
        turn.acquire()

    def run(self) -> None:
        """Until every thread has ended; raises the first failure in one of them."""
        while self._alive:
            self.now_s, _, turn = heapq.heappop(self._due)
            turn.release()
            self._idle.acquire()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]
