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

Serve calls `record_autoscaling_stats` several times per look-back window; every call gives the means since the last.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Sums of the requests of one replica since they were last told. Safe to use from several threads."""

    slo_ttft_s: float = math.inf
    slo_tpot_s: float = math.inf
    clock: Callable[[], float] = time.monotonic
    _sums: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _told_s: float = field(init=False)
    _means: dict[str, float] = field(default_factory=dict)  # the last ones there were, for windows without requests

    def __post_init__(self) -> None:
        self._told_s = self.clock()

    def add(self, **sums: float) -> None:
        """Add to the sums of these names."""
        with self._lock:
            for name, value in sums.items():
                self._sums[name] = self._sums.get(name, 0.0) + value

    def tell(self) -> dict[str, float]:
        """Rates and means since the last call, and begin anew. Latencies do not hold the time in Serve's own queue."""
        with self._lock:
            now_s, sums = self.clock(), self._sums
            window_s = max(now_s - self._told_s, 1e-9)
            self._told_s, self._sums = now_s, {}
        answered, dropped = sums.get("answered", 0.0), sums.get("dropped", 0.0)
        rates = {"arrival_per_s": sums.get("arrived", 0.0), "answered_per_s": answered, "dropped_per_s": dropped}
        if answered:
            means = {"ttft_s": "ttft_s", "prompt_tokens": "prompt_tokens", "answer_tokens": "answer_tokens"}
            self._means |= {name: sums.get(total, 0.0) / answered for name, total in means.items()}
            if sums.get("several"):
                self._means["tpot_s"] = sums["tpot_s"] / sums["several"]
        if answered + dropped:
            self._means["attainment"] = sums.get("met", 0.0) / (answered + dropped)
        return {name: count / window_s for name, count in rates.items()} | self._means


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
        return self._stats().tell()

    def _stats(self) -> Tally:
        tally: Tally | None = self.__dict__.get("_tally")
        if tally is None:
            # setdefault, so that two first requests on two threads share one.
            tally = self.__dict__.setdefault("_tally", Tally(self.slo_ttft_s, self.slo_tpot_s))
        return tally
