"""NVIDIA Dynamo's old SLA planner for separate prefill and decode engines: correct, forecast, plan, once an interval.

After components/planner/src/dynamo/planner/utils/planner_core.py of ai-dynamo/dynamo at 07619258 (Apache-2.0). The
pools of this project do both; the planner is here for deployments that do not, and for comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from agents.dynamo_planner import (
    ITL_MS,
    LOAD_PREDICTOR,
    MAX_GPU_BUDGET,
    THROUGHPUT_INTERVAL_S,
    Engines,
    Forecast,
    concurrency,
    corrected_itl_ms,
    corrections,
    sla_plan,
)
from agents.dynamo_predictors import predictor
from agents.dynamo_profile import DecodeProfile, PrefillProfile


@dataclass(frozen=True, slots=True)
class Traffic:
    """Means of one interval; what was not measured is NaN."""

    requests: float
    isl: float
    osl: float
    ttft_ms: float
    itl_ms: float
    request_duration_s: float

    @property
    def valid(self) -> bool:
        """Everything was measured."""
        values = (self.requests, self.isl, self.osl, self.ttft_ms, self.itl_ms, self.request_duration_s)
        return not any(math.isnan(value) for value in values)


class SlaPlanner:
    """Engines for prefill and for decode. The corrections are kept from interval to interval and begin at 1."""

    def __init__(
        self,
        prefill: PrefillProfile,
        decode: DecodeProfile,
        itl_ms: float = ITL_MS,
        load_predictor: str = LOAD_PREDICTOR,
        interval_s: float = THROUGHPUT_INTERVAL_S,
        prefill_gpus: int = 1,
        decode_gpus: int = 1,
        min_endpoint: int = 1,
        gpu_budget: int = MAX_GPU_BUDGET,
        no_correction: bool = False,
    ) -> None:
        self.prefill, self.decode = prefill, decode
        self.itl_ms, self.interval_s, self.no_correction = itl_ms, interval_s, no_correction
        self.gpus = prefill_gpus, decode_gpus
        self.bounds = min_endpoint, gpu_budget
        self._predictors = [predictor(load_predictor) for _ in range(3)]
        self.reset()

    def reset(self) -> None:
        """A planner restart."""
        for model in self._predictors:
            model.reset()
        self.corrections = (1.0, 1.0)

    def state(self) -> dict[str, Any]:
        """What is remembered, as plain values."""
        return {"predictors": [m.state() for m in self._predictors], "corrections": list(self.corrections)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        for model, saved in zip(self._predictors, state["predictors"], strict=True):
            model.restore(saved)
        prefill, decode = state["corrections"]
        self.corrections = (prefill, decode)

    def plan(self, traffic: Traffic, decode_engines: int) -> tuple[int, int] | None:
        """(prefill, decode) engines; None, no change, when something was not measured."""
        for model, value in zip(self._predictors, (traffic.requests, traffic.isl, traffic.osl), strict=True):
            model.add(value)
        if not traffic.valid:
            return None
        if not self.no_correction and decode_engines > 0:
            busy = concurrency(traffic.requests, decode_engines, traffic.request_duration_s, self.interval_s)
            self.corrections = corrections(
                traffic.ttft_ms,
                traffic.itl_ms,
                self.prefill.ttft_ms(traffic.isl),
                self.decode.itl_ms(busy, traffic.isl + traffic.osl / 2),
            )
        requests, isl, osl = (model.predict() for model in self._predictors)
        within_ms = corrected_itl_ms(self.itl_ms, self.corrections[1])
        engines = Engines(
            self.prefill.throughput_per_gpu(isl),
            self.decode.best_throughput_per_gpu(within_ms, isl + osl / 2),
            *self.gpus,
        )
        forecast = Forecast(requests, isl, osl, self.interval_s)
        return sla_plan(forecast, engines, self.corrections[0], *self.bounds, rounded=True)
