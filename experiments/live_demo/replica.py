"""One replica of the toy service: that of the oracle, led through time by whoever asks. Knows no HTTP, no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from rlscale.sim.laws import iteration_s
from rlscale.sim.naive import Job, Lifetime, Oracle, Replica, Server
from rlscale.types import IterationLaw, ServiceProfile

What = Literal["first", "finished", "gave up"]


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a request, and when."""

    what: What
    job: Job
    at_s: float


class ToyReplica(Oracle):
    """Serves requests by the project's law in virtual seconds since its own start.

    Iterations follow one another in virtual time, so that a caller that looks late sees late what happened in time:
    lateness never adds up.
    """

    def __init__(self, server: Server, timeout_s: float = math.inf) -> None:
        super().__init__(server, [Lifetime()], timeout_s)
        self.begin()
        self.go_on(0.0)
        self._events: list[Event] = []

    def serve(self, number: int, now_s: float, waited_s: float, prompt: float, output: float) -> None:
        """A request comes now; it has waited elsewhere, which counts against its patience."""
        self.go_on(now_s)
        self.take(Job(number, now_s - waited_s, prompt, output, to_process=prompt), now_s)
        self.go_on(now_s)

    def drain(self, now_s: float) -> list[Job]:
        """Take no more; returns those that had not been begun, to be served elsewhere."""
        self.go_on(now_s)
        self._drain(self._replica)
        moved = list(self.shared[False])
        self.shared[False].clear()
        self.in_system -= len(moved)
        return moved

    def news(self) -> list[Event]:
        """What became of requests since this was asked last."""
        news, self._events = self._events, []
        return news

    @property
    def next_s(self) -> float:
        """When the iteration under way ends; infinite where nothing runs."""
        return self.events[0][0] if self.events else math.inf

    @property
    def next_matters(self) -> bool:
        """Whether the end of the iteration under way is a first or a last token of somebody."""
        replica = self._replica
        return any(job.done + tokens >= job.to_process for job, tokens in replica.chunks) or any(
            job.made + 1 >= job.output for job in replica.decoding
        )

    @property
    def waiting(self) -> int:
        """Requests in its queue."""
        return len(self._replica.waiting)

    @property
    def running(self) -> int:
        """Requests that hold a seat."""
        return int(self._replica.outstanding) - self.waiting

    @property
    def memory(self) -> float:
        """Share of the KV memory in use, 0 to 1."""
        replica = self._replica
        held = sum(job.prompt + job.made for job in replica.decoding)
        held += sum(job.to_process for job in replica.prefilling)
        return min(1.0, float(held / replica.server.kv_capacity_tokens))

    @property
    def _replica(self) -> Replica:
        return self.replicas[0]

    # --- what the oracle tells

    def made_first(self, job: Job) -> None:
        """See `Oracle`."""
        self._events.append(Event("first", job, self.now))

    def finished(self, job: Job) -> None:
        """See `Oracle`."""
        self._events.append(Event("finished", job, self.now))

    def gave_up(self, job: Job) -> None:
        """See `Oracle`."""
        self._events.append(Event("gave up", job, self.now))


def described(profile: ServiceProfile, timeout_s: float) -> dict[str, Any]:
    """What a worker process has to know of a replica, as JSON can say it."""
    law = profile.law
    return {
        "law": [law.c0_s, law.c1_s, law.c2_s, law.c3_s, law.c4_s], "seats": profile.max_seats,
        "kv_capacity_tokens": profile.kv_capacity_tokens, "chunk_tokens": profile.chunk_tokens,
        "context_tokens": profile.context_tokens if math.isfinite(profile.context_tokens) else None,
        "timeout_s": timeout_s,
    }  # fmt: skip


def replica_of(told: Mapping[str, Any]) -> ToyReplica:
    """The replica of a description."""
    context = math.inf if told["context_tokens"] is None else float(told["context_tokens"])
    server = Server(partial(iteration_s, IterationLaw(*told["law"])), told["seats"], told["kv_capacity_tokens"],
                    told["chunk_tokens"], context_tokens=context)  # fmt: skip
    return ToyReplica(server, told["timeout_s"])
