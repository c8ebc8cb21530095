"""Prometheus as a source of metrics: one instant query per reading, by the template of a product."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from rlscale.deploy.base import MetricsError, Reading
from rlscale.deploy.buckets import Buckets, of_pairs
from rlscale.deploy.prometheus_answer import QueryRefused, Series, by_edge, shown
from rlscale.deploy.prometheus_http import MAX_BYTES, Api
from rlscale.deploy.prometheus_reading import NAMED, Told, reading_of
from rlscale.deploy.templates import Filling, Template
from rlscale.types import Slo

PART = "rlscale_part"  # label that tells the parts of the one answer apart
FRESH = "fresh"


class Prometheus:
    """The newest metrics of one service.

    `labels` choose its series; `pools` has, per pool, the labels that choose those of the pool, none where the metrics
    do not tell pools apart. `queries` replace those of the template. A reading is of the `window_s` before now and
    takes at most `timeout_s`; for rates the window must hold two scrapes, better four.
    """

    def __init__(self, url: str, template: Template, slo: Slo, labels: Mapping[str, str] | None = None,
                 window_s: float = 60.0, timeout_s: float = 5.0, queries: Mapping[str, str] | None = None,
                 pools: Sequence[Mapping[str, str]] = (), token_file: str | None = None, ca_file: str | None = None,
                 max_bytes: int = MAX_BYTES) -> None:  # fmt: skip
        self._api = Api(url, timeout_s, token_file, ca_file, max_bytes)
        self._slo, self._window_s, self._timeout_s, self._pools = slo, window_s, timeout_s, len(pools)
        self._template = template
        self.parts = _parts(template, dict(labels or {}), window_s, slo, dict(queries or {}), pools)
        self.expression = " or ".join(
            f'label_replace({text}, "{PART}", "{part}", "", "")' for part, text in self.parts.items()
        )
        self._taken_s = math.nan  # of the newest sample there ever was

    def read(self) -> Reading:
        """The newest metrics. Series that are gone leave NaN and the time of their last sample, so that its age grows.

        Raises MetricsError: no answer in time, none that can be read, a query refused, or no series ever seen.
        """
        until_s = time.monotonic() + self._timeout_s
        try:
            series = self._api.query(self.expression)
        except QueryRefused as error:
            raise self._explained(error, until_s) from None
        by_part: dict[str, list[Series]] = {}
        for one in series:
            by_part.setdefault(one.label(PART), []).append(one)
        if strange := by_part.keys() - self.parts.keys():
            raise MetricsError(f"Prometheus {self._api.url}: answered {shown(min(strange))}, which was not asked for")
        if FRESH not in by_part:
            return self._gone()
        self._taken_s = _single(FRESH, by_part[FRESH])
        if not math.isfinite(self._taken_s):
            raise MetricsError(f"Prometheus {self._api.url}: got {self._taken_s} as the time of the newest sample")
        return reading_of(self._told(by_part), self._taken_s, self._slo, self._window_s)

    def close(self) -> None:
        """Let go of the connection."""
        self._api.close()

    def _gone(self) -> Reading:
        if math.isnan(self._taken_s):
            raise MetricsError(
                f"Prometheus {self._api.url}: no series of {self.parts[FRESH]}; expected those of "
                f"{self._template.product}: is it scraped, and do metrics.labels fit?"
            )
        return Reading(self._taken_s)

    def _told(self, by_part: Mapping[str, list[Series]]) -> Told:
        values: dict[str, float] = {}
        histograms: dict[str, tuple[Buckets, float]] = {}
        for part, series in by_part.items():
            if "." not in part and "@" not in part and part != FRESH:
                values[part] = _single(part, series)
        for name in NAMED:
            for i in range(len(self._template.histograms[name].names) if name in self._template.histograms else 0):
                held = _buckets(by_part.get(f"{name}.{i}.buckets", []), self._template.histograms[name].scale)
                total = by_part.get(f"{name}.{i}.sum")
                if held is not None and total is not None and name not in histograms:
                    histograms[name] = (held, _single(name, total) * self._template.histograms[name].scale)
        by_pool = {name: tuple(_single(name, by_part[key]) if (key := f"{name}@{i}") in by_part else math.nan
                               for i in range(self._pools)) for name in ("memory", "running")}  # fmt: skip
        return Told(values, histograms, by_pool["memory"], by_pool["running"])

    def _explained(self, error: QueryRefused, until_s: float) -> MetricsError:
        """The same error with the name of the query that is refused by itself."""
        for part, text in self.parts.items():
            left_s = until_s - time.monotonic()
            if left_s <= 0.0:
                break
            try:
                self._api.query(f'label_replace({text}, "{PART}", "{part}", "", "")', left_s)
            except QueryRefused as own:
                return MetricsError(f"metrics.queries.{part.split('@')[0]}: {own}; the query was {text}")
            except MetricsError:
                break
        return MetricsError(str(error))


def _parts(template: Template, labels: Mapping[str, str], window_s: float, slo: Slo, queries: Mapping[str, str],
           pools: Sequence[Mapping[str, str]]) -> dict[str, str]:  # fmt: skip
    """Name of a part -> PromQL: `waiting`, `memory@0` of a pool, `ttft.0.buckets` for the first name of a histogram."""
    everywhere = Filling(labels, window_s, slo.ttft_s, slo.tpot_s)
    asked = {str(name): text for name, text in template.queries.items()} | dict(queries)
    parts = {FRESH: f"max(timestamp({everywhere.fill(template.fresh, 'fresh')}))"}
    for name, text in asked.items():
        if name not in ("memory", "replicas"):
            parts[name] = everywhere.fill(text, f"metrics.queries.{name}")
        for i, own in enumerate(pools if name in ("memory", "running") else ()):
            there = Filling({**labels, **own}, window_s, slo.ttft_s, slo.tpot_s)
            parts[f"{name}@{i}"] = there.fill(text, f"metrics.queries.{name}")
    for kind in NAMED:
        for i, base in enumerate(template.histograms[kind].names if kind in template.histograms else ()):
            parts[f"{kind}.{i}.buckets"] = everywhere.buckets(base, f"histograms.{kind}")
            parts[f"{kind}.{i}.sum"] = everywhere.total(base, f"histograms.{kind}")
    return parts


def _single(part: str, series: Sequence[Series]) -> float:
    if len(series) != 1:
        raise MetricsError(
            f"metrics.queries.{part}: gave {len(series)} series; expected one: sum(...) makes one of them"
        )
    return series[0].value


def _buckets(series: Sequence[Series], scale: float) -> Buckets | None:
    return of_pairs(by_edge(series, lambda one: one.value), scale)
