"""The answers of Prometheus' HTTP API, checked to the last field. Pure: text in, values or MetricsError out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlscale.deploy.base import MetricsError

SHOWN = 120  # characters of a foreign text in an error message


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its labels, and samples as (unix time, value). An instant query gives one sample."""

    labels: tuple[tuple[str, str], ...]  # sorted
    samples: tuple[tuple[float, float], ...]

    def label(self, name: str) -> str:
        """Value of a label; "" when there is none, as in PromQL."""
        return dict(self.labels).get(name, "")

    @property
    def value(self) -> float:
        """The last sample."""
        return self.samples[-1][1]


class QueryRefused(MetricsError):
    """Prometheus understood the request and refused the query: bad PromQL, or an evaluation that cannot be done."""


def read_answer(status: int, body: bytes, kind: str) -> list[Series]:
    """The series of an answer of the kind "vector" or "matrix". Raises MetricsError, QueryRefused for a bad query."""
    told = _parsed(status, body)
    if told.get("status") == "error":
        what = f"{shown(told.get('errorType'))}: {shown(told.get('error'))}"
        refused = told.get("errorType") in ("bad_data", "execution")
        raise (QueryRefused if refused else MetricsError)(f"answered HTTP {status}, {what}")
    if status != 200 or told.get("status") != "success":
        raise MetricsError(f"answered HTTP {status}, status {shown(told.get('status'))}; expected 200 and success")
    data = told.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("result"), list):
        raise MetricsError(f"answered data {shown(data)}; expected a mapping with a list 'result'")
    if data.get("resultType") != kind:
        raise MetricsError(f"answered a {shown(data.get('resultType'))}; expected a {kind}")
    found = [_series(item, kind) for item in data["result"]]
    if len({one.labels for one in found}) < len(found):
        raise MetricsError("answered one series twice; expected each set of labels once")
    return found


def shown(value: Any) -> str:
    """A foreign value for an error message: one line, short."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _parsed(status: int, body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        text = shown(body[:SHOWN].decode("utf-8", "replace"))
        raise MetricsError(f"answered HTTP {status} and no JSON: {text or 'nothing'}") from None
    if not isinstance(told, dict):
        raise MetricsError(f"answered HTTP {status} and {shown(told)}; expected a JSON object")
    return told


def _series(item: Any, kind: str) -> Series:
    name = "value" if kind == "vector" else "values"
    if not isinstance(item, dict) or not isinstance(item.get("metric"), dict):
        raise MetricsError(f"answered a series {shown(item)}; expected a mapping with 'metric' and '{name}'")
    if not all(isinstance(value, str) for value in item["metric"].values()):
        raise MetricsError(f"answered the labels {shown(item['metric'])}; expected texts")
    samples = [item.get("value")] if kind == "vector" else item.get("values")
    if not isinstance(samples, list) or not samples:
        raise MetricsError(f"answered a series with the samples {shown(samples)}; expected a list '{name}'")
    return Series(tuple(sorted(item["metric"].items())), tuple(_sample(sample) for sample in samples))


def _sample(sample: Any) -> tuple[float, float]:
    """[unix time, "number"]; NaN, +Inf and -Inf come as texts too."""
    if isinstance(sample, list) and len(sample) == 2:
        time, value = sample
        if isinstance(time, int | float) and not isinstance(time, bool) and isinstance(value, str):
            try:
                when, number = float(time), float(value)
            except (ValueError, OverflowError):
                when = math.nan
            if math.isfinite(when):
                return when, number
    raise MetricsError(f"answered the sample {shown(sample)}; expected [unix time, number as a text]")


def by_edge(series: Sequence[Series], value: Callable[[Series], float]) -> dict[float, float]:
    """Upper edge -> count of a histogram's buckets. 1 and 1.0, from replicas of different versions, are one edge."""
    pairs: dict[float, float] = {}
    for one in series:
        try:
            edge = float(one.label("le"))
        except ValueError:
            raise MetricsError(f"a bucket with le={one.label('le')!r}; expected a number") from None
        pairs[edge] = pairs.get(edge, 0.0) + value(one)
    return pairs
