"""Cases of aibrix.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.kinds import Refused

from agents.aibrix_rules import Context, Panic, Sample, apa, compute, kpa
from agents.aibrix_windows import PANIC_WINDOW_S, STABLE_WINDOW_S, TimeWindow, WindowPair, pod_average

SYSTEM = "aibrix"

Input = Mapping[str, Any]


def _context(given: Input) -> Context:
    names = Context.__dataclass_fields__
    settings = {name: value for name, value in given.items() if name in names}
    bounds = {f"{name}_replicas": given[name] for name in ("min", "max") if given.get(name) is not None}
    return Context(**settings, **bounds)


def _apa(given: Input) -> dict[str, Any]:
    return {"replicas": apa(given["current"], given["target"], given["value"], _context(given))}


def _kpa(given: Input) -> dict[str, Any]:
    panic = Panic(given["in_panic"], given["max_panic_pods"], given["activation_scale"])
    sample = Sample(given["target"], given["stable_value"], given["panic_value"])
    return {"replicas": kpa(given["ready"], sample, _context(given), panic)}


def _pipeline(given: Input) -> dict[str, Any]:
    """A first reconcile: one sample, which is the average of both windows."""
    samples = []
    for metric in given["metrics"]:
        if metric.get("value") is not None:
            windows = WindowPair()
            windows.record(0.0, metric["value"])
            samples.append(Sample(metric["target"], windows.stable.average, windows.panic.average))
    found = compute(given["algorithm"], given["current"], samples, _context(given), given.get("ready"))
    if found is None:
        raise Refused("no metric has a value")
    return {"replicas": found.replicas}


def _window_pair(given: Input) -> dict[str, Any]:
    windows = WindowPair(given.get("stable_window_s", STABLE_WINDOW_S), given.get("panic_window_s", PANIC_WINDOW_S))
    for sample in given["samples"]:
        windows.record(sample["t"], sample["value"])
    return {"stable": windows.stable.average, "panic": windows.panic.average}


def _pod_average(given: Input) -> dict[str, Any]:
    """The only list of the input holds the values of the pods."""
    average = pod_average(next(value for value in given.values() if isinstance(value, list)))
    return dict.fromkeys(("average", "avg", "mean", "value"), average)


def _time_window(given: Input) -> dict[str, Any]:
    """`live_values` are those of consecutive buckets; `samples` are written as they come."""
    window, values = TimeWindow(given["window_s"], given["granularity_s"]), []
    live = [{"t": i * given["granularity_s"], "value": value} for i, value in enumerate(given.get("live_values", []))]
    for sample in live or given.get("samples") or given.get("records") or []:
        window.record(sample["t"], sample["value"])
        values.append(window.values)
    return {
        "avg": window.average,
        "min": window.least,
        "max": window.most,
        "size": len(window.values),
        "values": window.values,
        "values_after_each": values,
    }


KINDS = {
    "apa": _apa,
    "kpa": _kpa,
    "pipeline": _pipeline,
    "window_pair": _window_pair,
    "pod_average": _pod_average,
    "time_window": _time_window,
}
