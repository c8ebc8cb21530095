"""What a Ray Serve application counts in its replicas, and what an autoscaling policy then sees of it. No ray in here.

    @serve.deployment(...)
    class Chat(RayStats):
        def __init__(self):
            self.slo_ttft_s, self.slo_tpot_s = 1.0, 0.05

        async def __call__(self, request):
            with self.counted() as asked:
                ...                            # makes the first token
                asked.first_token()
                ...                            # makes the rest
                asked.answered(prompt_tokens=812, answer_tokens=128)

Serve calls `record_autoscaling_stats` several times per look-back window and hands the series to the policy. They are
totals since the replica began: what lies between two of them is exact, however long the policy has not looked.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

TOTALS = ("arrived", "answered", "dropped", "met", "ttft_s", "several", "tpot_s", "prompt_tokens", "answer_tokens")


@dataclass
class Tally:
    """Sums over the requests of one replica. Safe to use from several threads."""

    slo_ttft_s: float = math.inf
    slo_tpot_s: float = math.inf
    clock: Callable[[], float] = time.monotonic
    _sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TOTALS, 0.0))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **sums: float) -> None:
        """Add to the sums of these names."""
        with self._lock:
            for name, value in sums.items():
                self._sums[name] += value

    def totals(self) -> dict[str, float]:
        """All sums, as `<name>_total`. Latencies do not hold the time in Serve's own queue."""
        with self._lock:
            return {f"{name}_total": value for name, value in self._sums.items()}


class Asked:
    """One request while it is served."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._began_s = tally.clock()
        self._first_s = math.nan
        self.done = False
        tally.add(arrived=1.0)

    def first_token(self) -> None:
        """The first token is there. Without this call the first token is the whole answer."""
        self._first_s = self._tally.clock()

    def answered(self, prompt_tokens: float = 0.0, answer_tokens: float = 1.0) -> None:
        """The whole answer is there."""
        now_s, tally = self._tally.clock(), self._tally
        first_s = now_s if math.isnan(self._first_s) else self._first_s
        ttft_s, several = first_s - self._began_s, answer_tokens > 1
        tpot_s = (now_s - first_s) / (answer_tokens - 1) if several else 0.0
        met = ttft_s <= tally.slo_ttft_s and tpot_s <= tally.slo_tpot_s
        tally.add(answered=1.0, ttft_s=ttft_s, tpot_s=tpot_s, several=float(several), met=float(met),
                  prompt_tokens=prompt_tokens, answer_tokens=answer_tokens)  # fmt: skip
        self.done = True


class RayStats:
    """Mixed into a deployment's class. Set `slo_ttft_s` and `slo_tpot_s` in its constructor to have attainment told."""

    slo_ttft_s: float = math.inf
    slo_tpot_s: float = math.inf

    @contextmanager
    def counted(self) -> Iterator[Asked]:
        """Count a request. One that ends without an error and without `answered()` is answered by its end; one that
        ends with an error was dropped."""
        asked = Asked(self._stats())
        try:
            yield asked
        except BaseException:
            if not asked.done:
                self._stats().add(dropped=1.0)
            raise
        if not asked.done:
            asked.answered()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve hands to the policy, under the names that `rlscale.deploy.ray_context` reads."""
        return self._stats().totals()

    def _stats(self) -> Tally:
        tally: Tally | None = self.__dict__.get("_tally")
        if tally is None:
            # setdefault, so that two first requests on two threads share one.
            tally = self.__dict__.setdefault("_tally", Tally(self.slo_ttft_s, self.slo_tpot_s))
        return tally
