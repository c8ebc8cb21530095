"""Cases of NVIDIA Dynamo's planner."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from agents.dynamo_planner import EasyMode, Engines, Forecast, sla_plan
from agents.dynamo_predictors import predictor

SYSTEM = "dynamo-planner"


def replicas(case: Mapping[str, Any]) -> Mapping[str, Any]:
    forecast = Forecast(case["requests"], case["isl"], case["osl"], case["interval_s"])
    engines = Engines(
        case["prefill_throughput_per_gpu"],
        case["decode_throughput_per_gpu"],
        case.get("prefill_gpus_per_engine", 1),
        case.get("decode_gpus_per_engine", 1),
    )
    prefill, decode = sla_plan(
        forecast, engines, case.get("prefill_correction", 1.0), case.get("min_endpoint", 1), case.get("gpu_budget", -1)
    )
    return {"prefill": prefill, "decode": decode}


def easy(case: Mapping[str, Any]) -> Mapping[str, Any]:
    full = case["context_tokens"] if case["role"] == "prefill" else case["kv_tokens"]
    workers = case.get("workers", len(case["engines"]))
    rule = EasyMode(case["role"], case["mode"], min_endpoint=case.get("min_endpoint", 1))
    return {"replicas": rule.step([tokens / full for tokens in case["engines"]], workers)}


def forecast_by(name: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    def run(case: Mapping[str, Any]) -> Mapping[str, Any]:
        model = predictor(name)
        for value in case["observations"]:
            model.add(math.nan if value is None else value)
        return {"forecast": model.predict(), "buffered": len(model.points)}

    return run


KINDS = {
    "replica_formula": replicas,
    "easy_mode": easy,
    **{f"{name}_predictor": forecast_by(name) for name in ("constant", "arima", "kalman")},
}
