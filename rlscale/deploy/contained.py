"""A scaler that can do no harm: it is built and asked in a thread of its own, and whoever asks waits only so long."""

from __future__ import annotations

import math
import queue
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, SupportsFloat

from rlscale.types import Decision, Observation, Scaler

LOADING_S = 60.0  # for as long a scaler that is being built is not late: kernels may have to be compiled
WAITING = 240  # observations that a scaler which is late may catch up with: an hour of decisions every 15 s


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision that can be read, or why there is none."""

    decision: Decision | None = None
    error: str = ""  # empty without a decision: it is still being built


@dataclass
class _Job:
    seen: Observation
    done: threading.Event = field(default_factory=threading.Event)
    answer: Answer = Answer()


class Contained:
    """Asks a scaler. Exceptions, decisions that say nothing and answers that are late become an `Answer` with an error.

    A scaler that is late is shown every observation all the same, as soon as it is through; answers that come too late
    are dropped. One that cannot be built is built anew the next time. The thread ends with this object, or with the
    decision it is stuck in.
    """

    def __init__(self, build: Callable[[], Scaler], patience_s: float) -> None:
        self._patience_s = patience_s
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._built = threading.Event()
        self._began_s = time.monotonic()
        self._last: _Job | None = None
        worker = threading.Thread(target=_work, args=(build, self._jobs, self._built), name="scaler", daemon=True)
        worker.start()
        weakref.finalize(self, self._jobs.put, None)

    def ask(self, seen: Observation) -> Answer:
        """The decision, within the patience."""
        idle = self._last is None or self._last.done.is_set()
        job = _Job(seen)
        if self._jobs.qsize() < WAITING:
            self._last = job
            self._jobs.put(job)
        # Whoever is late already is not waited for again: Serve's controller would stand still at every decision.
        if job.done.wait(self._patience_s if idle else 0.0):
            return job.answer
        said = f"no decision within {self._patience_s:g} s" if idle else "still busy with an earlier decision"
        loading = not self._built.is_set() and time.monotonic() - self._began_s < LOADING_S
        return Answer() if loading else Answer(error=said)


def decide(scaler: Scaler, seen: Observation, pools: int) -> Answer:
    """Predict and Decide; a decision that cannot be put in force is an error."""
    forecaster = getattr(scaler, "forecaster", None)
    if forecaster is not None:
        seen = replace(seen, forecast_per_s=forecaster.update(float(seen.arrival_per_s), seen.interval_s))
    decision = scaler.decide(seen)
    fault = unreadable(decision, pools)
    return Answer(error=fault) if fault else Answer(decision)


def unreadable(decision: Any, pools: int) -> str:
    """Why this is no decision for so many pools; empty when it is one."""
    if not isinstance(decision, Decision):
        return f"decided {decision!r:.80}; expected a Decision"
    asked = decision.target if len(decision.target) else (decision.capacity_per_s,)
    if len(decision.target) not in (0, pools):
        return f"{len(decision.target)} targets for {pools} pools"
    if not all(isinstance(count, SupportsFloat) and math.isfinite(float(count)) for count in asked):
        return f"asked for {', '.join(map(str, asked)):.80}; expected finite numbers"
    return ""


def _work(build: Callable[[], Scaler], jobs: queue.SimpleQueue[_Job | None], built: threading.Event) -> None:
    scaler: Scaler | None = None
    while (job := jobs.get()) is not None:
        try:
            if scaler is None:
                scaler = build()
            job.answer = decide(scaler, job.seen, len(job.seen.target))
        except BaseException as error:  # SystemExit too: without this thread there is no scaler any more
            job.answer = Answer(error=f"{type(error).__name__}: {error!s:.200}")
        built.set()
        job.done.set()
