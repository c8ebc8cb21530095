"""The oracle: every request and every engine iteration, in plain slow Python. Both fast engines are tested against it.

A replica runs iterations back to back while it holds requests. Each iteration gives one token to every decoding
sequence and spends what is left of its token budget on prompts, first those already begun, then the head of the
queue while seats and KV memory last (continuous batching with chunked prefill, as in vLLM and Sarathi-Serve). The
iteration that ends a prompt yields the first token. When decoding outgrows the KV memory, the sequence admitted
last goes back to the head of the queue and is computed anew.

With roles, a prefill replica only does prompts. Its iteration that ends one yields the first token; then the KV cache
travels to the decode side, where the sequence waits for a seat and memory and makes its other tokens without a prompt.
What a decode replica preempts it computes anew itself. A sequence that waits for a decode replica which stops taking
any travels once more; those that run on a replica that goes begin at the beginning.

A replica may keep blocks of prompts that it has seen: a prompt that begins with them begins behind them, all but its
last token. They have a memory of their own, and the least recently used goes first.

Knows nothing of control, cost or observations. Replicas come and go by a given plan.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from rlscale.parts import Transfer
from rlscale.sim.laws import Chunk
from rlscale.types import Floats, Requests, Role

NO_TIME = Transfer()
IterationTime = Callable[[int, Sequence[Chunk], float], float]  # (sequences, chunks, decode KV tokens) -> seconds


@dataclass(slots=True)
class Job:
    """One request on its way."""

    number: int
    arrival_s: float
    prompt: float
    output: float
    to_process: float = 0.0  # prompt tokens still to compute, plus recomputed ones after a preemption
    done: float = 0.0
    made: int = 0
    blocks: tuple[Hashable, ...] = ()  # of its prompt

    @property
    def has_kv(self) -> bool:
        """Its prompt was computed elsewhere, and comes with it."""
        return self.done >= self.to_process


@dataclass(slots=True)
class Replica:
    """One model server."""

    server: Server
    waiting: deque[Job] = field(default_factory=deque)
    prefilling: list[Job] = field(default_factory=list)
    decoding: list[Job] = field(default_factory=list)
    chunks: list[tuple[Job, float]] = field(default_factory=list)  # of the iteration under way
    ready: bool = False
    gone: bool = False
    busy: bool = False
    seen: OrderedDict[Hashable, None] = field(default_factory=OrderedDict)  # blocks of prompts, by their last use

    @property
    def outstanding(self) -> int:
        return len(self.waiting) + len(self.prefilling) + len(self.decoding)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a replica serves: takes requests from `ready_s`, no new ones from `drain_s`, gone `grace_s` later."""

    ready_s: float = 0.0
    drain_s: float = math.inf
    grace_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """What every replica is like."""

    iteration_s: IterationTime
    seats: int
    kv_capacity_tokens: float = math.inf
    chunk_tokens: float = math.inf
    role: Role = "both"
    kept_blocks: int = 0  # of prompts seen before, in a memory of their own
    context_tokens: float = math.inf

    @property
    def longest_tokens(self) -> float:
        """Prompt and answer together that it can serve."""
        return min(self.kv_capacity_tokens, self.context_tokens)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Per request, in order of arrival; +inf where the request never got there."""

    ttft_s: Floats
    tpot_s: Floats  # 0 for one-token answers
    e2e_s: Floats
    dropped: int  # ran out of patience in the queue, or could never fit
    lost: int  # on a replica when it went away
    mean_in_system: float  # time average over the run
    end_s: float


class Oracle:
    """Simulate `requests` on replicas with the given `lifetimes`. Deterministic: there is no luck in here."""

    def __init__(
        self, server: Server | Sequence[Server], lifetimes: Sequence[Lifetime], timeout_s: float = math.inf,
        balancing: Literal["least_outstanding", "round_robin"] = "least_outstanding",
        queue: Literal["replica", "service"] = "replica",
        requeue: bool = False,  # what runs on a replica that goes begins anew instead of being lost
        transfer: Transfer = NO_TIME,
    ) -> None:  # fmt: skip
        self.timeout_s, self.balancing, self.queue, self.requeue = timeout_s, balancing, queue, requeue
        self.transfer = transfer
        self.lifetimes = list(lifetimes)
        self.servers = [server] * len(self.lifetimes) if isinstance(server, Server) else list(server)

    def run(self, requests: Requests) -> Outcome:
        """Every request to its end."""
        self.begin()
        self.first_s, self.finish_s = np.full((2, len(requests)), np.inf)
        self.asked_s = requests.arrival_s.copy()  # for the last time
        self.block_tokens = 1 if requests.blocks is None else requests.blocks.tokens
        columns = (requests.arrival_s.tolist(), requests.prompt_tokens.tolist(), requests.output_tokens.tolist())
        for number, (at_s, prompt, output) in enumerate(zip(*columns, strict=True)):
            self.take(Job(number, at_s, prompt, output, to_process=prompt, blocks=_blocks(requests, number)), at_s)
        self.go_on()
        tokens, e2e = np.maximum(requests.output_tokens - 1.0, 1.0), self.finish_s - requests.arrival_s
        with np.errstate(invalid="ignore"):
            tpot = np.where(requests.output_tokens > 1, (self.finish_s - self.first_s) / tokens, 0.0)
        tpot = np.nan_to_num(np.where(np.isfinite(self.first_s), tpot, np.inf), nan=np.inf, posinf=np.inf)
        mean = self.area / self.now if self.now > 0 else 0.0
        return Outcome(self.first_s - self.asked_s, tpot, e2e, self.dropped, self.lost, mean, self.now)

    def begin(self) -> None:
        """Replicas as planned and no request yet."""
        self.dropped = self.lost = self.in_system = 0
        self.area = self.now = 0.0
        self.replicas = [Replica(server) for server in self.servers]
        self.largest_kv = largest_kv_tokens([(server.role, server.longest_tokens) for server in self.servers])
        self.shared: dict[bool, deque[Job]] = {False: deque(), True: deque()}  # by whether they are to decode only
        self.turn, self.order = {False: 0, True: 0}, itertools.count()
        self.block_tokens = 1
        self.events: list[tuple[float, int, int, Callable[[Any], None], Any]] = []
        for replica, life in zip(self.replicas, self.lifetimes, strict=True):
            self._at(life.ready_s, self._ready, replica)
            if life.drain_s < math.inf:
                self._at(life.drain_s, self._drain, replica)
                self._at(life.drain_s + life.grace_s, self._remove, replica)

    def take(self, job: Job, at_s: float) -> None:
        """A request comes at `at_s`, after what replicas do at the same time."""
        self._at(at_s, self._arrive, job, turn=1)

    def go_on(self, until_s: float = math.inf) -> None:
        """Let everything happen that is due by then."""
        while self.events and self.events[0][0] <= until_s:
            time_s, _, _, act, what = heapq.heappop(self.events)
            self.area += self.in_system * (time_s - self.now)
            self.now = time_s
            act(what)

    # --- what becomes of a request

    def made_first(self, job: Job) -> None:
        """Its first token is there."""
        self.first_s[job.number] = self.now

    def finished(self, job: Job) -> None:
        """Its last token is there."""
        self.finish_s[job.number] = self.now

    def gave_up(self, job: Job) -> None:
        """It will never be served."""
        self.first_s[job.number] = np.inf

    # --- events

    def _at(self, time_s: float, act: Callable[[Any], None], what: Any, turn: int = 0) -> None:
        heapq.heappush(self.events, (time_s, turn, next(self.order), act, what))

    def _arrive(self, sequence: Job) -> None:
        if sequence.prompt + sequence.output > self.largest_kv:
            self.dropped += 1
            self.gave_up(sequence)
            return
        self.in_system += 1
        self._dispatch(sequence)

    def _ready(self, replica: Replica) -> None:
        replica.ready = True
        shared = self.shared[replica.server.role == "decode"]
        for _ in range(len(shared) if self.queue == "replica" else 0):  # arrived while no replica could take them
            self._dispatch(shared.popleft())
        if not replica.busy:
            self._start(replica)

    def _drain(self, replica: Replica) -> None:
        replica.ready = False
        moved, replica.waiting = replica.waiting, deque()
        for sequence in moved:
            if sequence.has_kv:
                self._send(sequence)
            else:
                self._dispatch(sequence)

    def _remove(self, replica: Replica) -> None:
        replica.gone = True
        left = replica.prefilling + replica.decoding + list(replica.waiting)  # those were preempted while it drained
        for job in left if self.requeue else ():  # its user asks again
            self.asked_s[job.number] = self.now
            again = Job(job.number, self.now, job.prompt, job.output, to_process=job.prompt, blocks=job.blocks)
            self._dispatch(again)
        gone = 0 if self.requeue else len(left)
        self.lost, self.in_system = self.lost + gone, self.in_system - gone

    def _iteration_ends(self, replica: Replica) -> None:
        if replica.gone:
            return
        for sequence in replica.decoding:
            sequence.made += 1
        for sequence, tokens in replica.chunks:
            sequence.done += tokens
            if sequence.done >= sequence.to_process:
                replica.prefilling.remove(sequence)
                self._keep(replica, sequence)
                if sequence.made == 0:
                    self.made_first(sequence)
                sequence.made += 1
                if replica.server.role == "prefill" and sequence.made < sequence.output:
                    self._send(sequence)
                else:
                    replica.decoding.append(sequence)
        for sequence in replica.decoding:
            if sequence.made >= sequence.output:
                self.in_system -= 1
                self.finished(sequence)
        replica.decoding = [sequence for sequence in replica.decoding if sequence.made < sequence.output]
        self._start(replica)

    # --- a replica's work

    def _start(self, replica: Replica) -> None:
        """Put the next iteration together, or fall idle."""
        server = replica.server
        queue = self.shared[server.role == "decode"] if self.queue == "service" else replica.waiting
        held = sum(s.prompt + s.made for s in replica.decoding)  # KV tokens read by every decode pass
        reserved = held + sum(s.to_process for s in replica.prefilling)
        while reserved + len(replica.decoding) > server.kv_capacity_tokens and len(replica.decoding) > 1:
            last = replica.decoding.pop()
            last.done, last.to_process = 0.0, last.prompt + last.made
            held, reserved = held - last.to_process, reserved - last.to_process
            queue.appendleft(last)
        budget = server.chunk_tokens - len(replica.decoding)
        chunks: list[tuple[Job, float]] = []
        for sequence in replica.prefilling:
            tokens = min(budget, sequence.to_process - sequence.done)
            if tokens > 0:
                chunks.append((sequence, tokens))
                budget -= tokens
        while queue and (replica.ready or self.queue == "replica") and budget > 0:
            head = queue[0]
            if head.made == 0 and self.now - head.arrival_s > self.timeout_s:
                self.dropped += 1
                self.in_system -= 1
                self.gave_up(queue.popleft())
                continue
            seated = len(replica.prefilling) + len(replica.decoding)
            if seated >= server.seats:
                break
            if head.has_kv:
                taken = head.prompt + head.made
                if reserved + taken + len(replica.decoding) + 1 > server.kv_capacity_tokens:
                    break  # with the token that everybody makes in this iteration
                replica.decoding.append(queue.popleft())
                held, reserved, budget = held + taken, reserved + taken, budget - 1
                continue
            if reserved + head.to_process > server.kv_capacity_tokens:
                break
            queue.popleft()
            replica.prefilling.append(head)
            reserved += head.to_process
            head.done = self._seen(replica, head)
            tokens = min(budget, head.to_process - head.done)
            chunks.append((head, tokens))
            budget -= tokens
        replica.chunks, replica.busy = chunks, bool(chunks or replica.decoding)
        if replica.busy:
            parts = [Chunk(s.done, tokens, s.to_process) for s, tokens in chunks]
            duration = server.iteration_s(len(chunks) + len(replica.decoding), parts, held)
            self._at(self.now + duration, self._iteration_ends, replica)

    def _seen(self, replica: Replica, sequence: Job) -> float:
        """Tokens of its prompt that need not be computed again."""
        whole = itertools.takewhile(lambda block: block in replica.seen, self._whole(sequence))
        hits = list(whole)
        for block in reversed(hits):
            replica.seen.move_to_end(block)
        return max(0.0, min(len(hits) * self.block_tokens, sequence.to_process - 1.0))

    def _keep(self, replica: Replica, sequence: Job) -> None:
        """Its whole blocks are the last used, its beginning at the very last; the oldest go."""
        for block in reversed(self._whole(sequence) if replica.server.kept_blocks else ()):
            replica.seen[block] = None
            replica.seen.move_to_end(block)
            if len(replica.seen) > replica.server.kept_blocks:
                replica.seen.popitem(last=False)

    def _whole(self, sequence: Job) -> tuple[Hashable, ...]:
        return sequence.blocks[: int(sequence.prompt / self.block_tokens)]

    # --- balancing

    def _send(self, sequence: Job) -> None:
        """Its KV cache travels to the decode side."""
        self._at(self.now + self.transfer.delay_s(sequence.prompt), self._dispatch, sequence)

    def _dispatch(self, sequence: Job) -> None:
        # What has made a token with roles has left the prefill side for good.
        decode_only = sequence.made > 0 and any(server.role == "decode" for server in self.servers)
        ready = [r for r in self.replicas if r.ready and (r.server.role == "decode") == decode_only]
        if self.queue == "service" or not ready:
            self.shared[decode_only].append(sequence)
            idle = next((replica for replica in ready if not replica.busy), None)
            if idle is not None:
                self._start(idle)
            return
        self.turn[decode_only] += 1
        turn = self.turn[decode_only] % len(ready)
        rotated = ready[turn:] + ready[:turn]
        chosen = rotated[0] if self.balancing == "round_robin" else min(rotated, key=lambda r: r.outstanding)
        need = sequence.prompt + sequence.output
        if chosen.server.longest_tokens < need:  # it could never hold it
            larger = [r for r in rotated if r.server.longest_tokens >= need]
            if not larger:
                self.shared[decode_only].append(sequence)
                return
            chosen = min(larger, key=lambda r: r.outstanding)
        chosen.waiting.append(sequence)
        if not chosen.busy:
            self._start(chosen)


def _blocks(requests: Requests, number: int) -> tuple[Hashable, ...]:
    """Blocks of a prompt, those of other groups not among them."""
    if requests.blocks is None:
        return ()
    first, count = int(requests.blocks.first[number]), int(requests.blocks.count[number])
    group = int(requests.blocks.group[number])
    return tuple((group, int(block)) for block in requests.blocks.ids[first : first + count])


def largest_kv_tokens(servers: Sequence[tuple[Role, float]]) -> float:
    """Prompt and answer together that some replica can hold; with roles one of each."""
    sides = [[tokens for role, tokens in servers if (role == "decode") == side] for side in (False, True)]
    return min(max(tokens) for tokens in sides if tokens)
