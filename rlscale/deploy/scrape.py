"""Metrics of services without a Prometheus: reads the pages of vLLM replicas itself and keeps a window of them.

`metrics: {kind: scrape, urls: [http://HOST:PORT/metrics, ...]}`. Replicas come and go under their addresses: one that
does not answer is not there. Counters that fall begin anew, as in Prometheus.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from rlscale.deploy.base import LiveConfigError, MetricsError, Reading
from rlscale.deploy.buckets import Buckets, of_pairs
from rlscale.deploy.http_link import Link, Place, Unanswered
from rlscale.deploy.kinds import Kind, Site
from rlscale.deploy.prometheus_reading import Told, reading_of
from rlscale.strict import Strict
from rlscale.types import Slo

Page = Mapping[tuple[str, str], float]  # (name without the prefix, le or finished_reason) -> value
PREFIX = "vllm:"
GAUGES = ("num_requests_running", "num_requests_waiting")
MEMORY = ("kv_cache_usage_perc", "gpu_cache_usage_perc")
HISTOGRAMS = {
    "ttft": ("time_to_first_token_seconds",),
    "tpot": ("request_time_per_output_token_seconds", "inter_token_latency_seconds", "time_per_output_token_seconds"),
    "prompt_tokens": ("request_prompt_tokens",), "answer_tokens": ("request_generation_tokens",),
}  # fmt: skip
DROPPED = ("abort", "error")
WORKERS = 8


class ScrapeConfig(Strict):
    """What live.yaml may say."""

    urls: list[str] = Field(min_length=1, max_length=4096, description="pages of all replicas there may ever be")
    every_s: float = Field(5.0, gt=0, le=300, description="between two readings of the pages")
    window_s: float = Field(60.0, gt=0, le=86_400, description="of rates and histograms")
    timeout_s: float = Field(2.0, gt=0, le=60, description="of one page")

    @field_validator("urls")
    @classmethod
    def _addresses(cls, urls: list[str]) -> list[str]:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme != "http" or not parts.hostname or parts.username:
                raise ValueError(f"got {url!r:.80}; expected http://HOST:PORT/PATH")
        return urls


@dataclass(frozen=True, slots=True)
class Scrape:
    """All pages at a moment; None of a replica that did not answer."""

    at_s: float  # unix time
    pages: tuple[Page | None, ...]


class Scraped:
    """Scrapes in a thread of its own, from the first reading on."""

    def __init__(self, options: ScrapeConfig, slo: Slo, pools: int, unix_s: Callable[[], float] = time.time) -> None:
        self._options, self._slo, self._unix_s, self._pools = options, slo, unix_s, pools
        self._pages = [PageReader(url, options.timeout_s) for url in options.urls]
        self._kept: deque[Scrape] = deque()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def read(self) -> Reading:
        """Of the window before the newest scrape. MetricsError where no page was ever read."""
        if self._thread is None:
            self._scrape()
            self._thread = threading.Thread(target=self._run, name="scrape", daemon=True)
            self._thread.start()
        kept = list(self._kept)
        if not kept:
            raise MetricsError(f"none of {len(self._pages)} pages answered; expected vLLM's: do metrics.urls fit?")
        return reading_of_scrapes(kept, self._slo, self._pools)

    def close(self) -> None:
        """Scrape no more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(self._options.timeout_s + 1.0)

    def _run(self) -> None:
        next_s = time.monotonic() + self._options.every_s
        with ThreadPoolExecutor(WORKERS) as pool:
            while not self._stopped.wait(next_s - time.monotonic()):
                next_s = max(next_s + self._options.every_s, time.monotonic())
                self._scrape(pool)

    def _scrape(self, pool: ThreadPoolExecutor | None = None) -> None:
        """A scrape in which nobody answered is none: what is known grows old."""
        now_s = self._unix_s()
        pages = tuple((map if pool is None else pool.map)(PageReader.read, self._pages))
        if all(page is None for page in pages):
            return
        self._kept.append(Scrape(now_s, pages))
        while len(self._kept) > 2 and self._kept[1].at_s <= now_s - self._options.window_s:
            self._kept.popleft()


class PageReader:
    """One page, over a connection that is kept."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        self._place, self._path = Place(str(parts.hostname), parts.port or 80), parts.path or "/metrics"
        self._headers = {"Host": parts.netloc, "Accept": "text/plain"}
        self._timeout_s, self._link = timeout_s, Link()

    def read(self) -> Page | None:
        """Its samples; None when there is no answer, or none that can be read."""
        try:
            answer = self._link.exchange(self._place, "GET", self._path, self._headers, None, self._timeout_s)
            return parsed(answer.body.decode()) if answer.status == 200 else None
        except (Unanswered, ValueError):
            return None


def parsed(text: str) -> Page:
    """The samples of a page that are of use; labels but `le` and `finished_reason` are summed over."""
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError:
        raise LiveConfigError("metrics.kind scrape needs prometheus-client: pip install 'rlscale[live]'") from None
    page: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.name.startswith(PREFIX) else ():
            label = sample.labels.get("le") or sample.labels.get("finished_reason", "")
            key = (sample.name.removeprefix(PREFIX), label)
            page[key] = page.get(key, 0.0) + float(sample.value)
    return page


def reading_of_scrapes(kept: Sequence[Scrape], slo: Slo, pools: int) -> Reading:
    """The reading of a window: increases from the first scrape to the last, gauges of the last."""
    first, last = kept[0], kept[-1]
    window_s = last.at_s - first.at_s
    there = [page for page in last.pages if page is not None]
    values = {"running": _total(there, GAUGES[0]), "waiting": _total(there, GAUGES[1])}
    memory = [page[(name, "")] for page in there for name in MEMORY if (name, "") in page]
    share = math.fsum(memory) / len(memory) if memory else math.nan
    if window_s > 0.0:
        inside = sum(values.values()) - sum(_total([p for p in first.pages if p is not None], name) for name in GAUGES)
        ended = _increase(kept, "request_success_total")
        dropped = sum(ended.get(reason, 0.0) for reason in DROPPED)
        values["arrival_per_s"] = max(0.0, (sum(ended.values()) + inside) / window_s)
        values["dropped_per_s"] = dropped / window_s
    histograms = {name: held for name, bases in HISTOGRAMS.items() if (held := _histogram(kept, bases)) is not None}
    for name in ("prompt_tokens", "answer_tokens"):
        held = histograms.pop(name, None)
        if held is not None and held[0].total > 0.0:
            values[name] = held[1] / held[0].total
    memory_of, running_of = ((share,), (values["running"],)) if pools == 1 else ((), ())
    return reading_of(Told(values, histograms, memory_of, running_of), last.at_s, slo, window_s)


def _histogram(kept: Sequence[Scrape], bases: Sequence[str]) -> tuple[Buckets, float] | None:
    for base in bases:
        pairs = {float(le): count for le, count in _increase(kept, f"{base}_bucket").items() if le}
        held = of_pairs(pairs)
        if held is not None:
            return held, sum(_increase(kept, f"{base}_sum").values())
    return None


def _increase(kept: Sequence[Scrape], name: str) -> dict[str, float]:
    """By label, how much a counter rose over all replicas; one that fell began anew at 0, as did one that was not
    there in the scrape before, unless that was the first."""
    found: dict[str, float] = {}
    for replica in range(len(kept[0].pages)):
        before: Page | None = kept[0].pages[replica]
        for i, scrape in enumerate(kept[1:], 1):
            page = scrape.pages[replica]
            if page is None:
                continue
            new = all(earlier.pages[replica] is None for earlier in kept[:i])
            for (own, label), value in page.items():
                if own == name:
                    was = (before or {}).get((own, label), 0.0 if before is not None or new else value)
                    found[label] = found.get(label, 0.0) + (value - was if value >= was else value)
            before = page
    return found


def _total(pages: Sequence[Page], name: str) -> float:
    found = [page[(name, "")] for page in pages if (name, "") in page]
    return math.fsum(found) if found or not pages else math.nan


def _build(options: ScrapeConfig, site: Site) -> Scraped:
    return Scraped(options, site.limits.slo, len(site.limits.min_replicas), site.clock.unix_s)


KIND = Kind(ScrapeConfig, _build)
