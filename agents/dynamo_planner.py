"""NVIDIA Dynamo's planner: replica formulas, GPU budgets, and the rules of its load loop.

After ai-dynamo/dynamo (Apache-2.0): components/planner/src/dynamo/planner/utils/planner_core.py at 07619258 (the old
SLA planner), components/src/dynamo/planner/core/{throughput_scaling,load_scaling,state_machine}.py at 4d3f6720,
936d8195 and 0272cbdd (the newest). Latencies in milliseconds, as upstream has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlscale.errors import ScenarioError

THROUGHPUT_INTERVAL_S = 180.0
LOAD_INTERVAL_S = 5.0
MAX_GPU_BUDGET = 8
TTFT_MS = 500.0
ITL_MS = 50.0
ISL_TOKENS = 3000.0
OSL_TOKENS = 150.0
LOAD_PREDICTOR = "arima"
DOWN_SENSITIVITY_PCT = 80.0


# Throughput: what the forecast load needs.
@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one interval: requests, mean prompt and answer tokens."""

    requests: float
    isl: float
    osl: float
    interval_s: float = THROUGHPUT_INTERVAL_S


@dataclass(frozen=True, slots=True)
class Engines:
    """GPUs per engine, and tokens per second and GPU at the forecast lengths (decode: within the corrected ITL)."""

    prefill_throughput_per_gpu: float
    decode_throughput_per_gpu: float
    prefill_gpus: int = 1
    decode_gpus: int = 1


def corrections(ttft_ms: float, itl_ms: float, profiled_ttft_ms: float, profiled_itl_ms: float) -> tuple[float, float]:
    """Observed over profiled latency, of prefill and of decode; the profiled ITL is that of the observed concurrency
    (`concurrency`) at context ISL + OSL/2."""
    return ttft_ms / profiled_ttft_ms, itl_ms / profiled_itl_ms


def concurrency(requests: float, decode_engines: int, request_duration_s: float, interval_s: float) -> float:
    """Mean sequences per decode engine during the interval, by Little's law."""
    return requests / decode_engines * request_duration_s / interval_s


def corrected_itl_ms(itl_ms: float, decode_correction: float) -> float:
    """The ITL to look up in the profile so that the true one meets the target; no correction yet changes nothing."""
    return itl_ms if decode_correction <= 0 else itl_ms / decode_correction


def prefill_replicas(forecast: Forecast, engines: Engines, correction: float = 1.0) -> int:
    """Engines for the prompt tokens. A correction above 1 is capped: queueing is not to call for more throughput."""
    tokens_per_s = forecast.requests * forecast.isl / forecast.interval_s * min(1.0, correction)
    return math.ceil(tokens_per_s / engines.prefill_throughput_per_gpu / engines.prefill_gpus)


def decode_replicas(forecast: Forecast, engines: Engines) -> int:
    """Engines for the answer tokens."""
    tokens_per_s = forecast.requests * forecast.osl / forecast.interval_s
    return math.ceil(tokens_per_s / engines.decode_throughput_per_gpu / engines.decode_gpus)


def sla_plan(
    forecast: Forecast,
    engines: Engines,
    prefill_correction: float = 1.0,
    min_endpoint: int = 1,
    gpu_budget: int = MAX_GPU_BUDGET,
    rounded: bool = False,
) -> tuple[int, int]:
    """(prefill, decode) engines within the budget; `rounded` takes the oldest release's budget."""
    prefill = max(prefill_replicas(forecast, engines, prefill_correction), min_endpoint)
    decode = max(decode_replicas(forecast, engines), min_endpoint)
    fit = budget_pair_rounded if rounded else budget_pair
    return fit(prefill, decode, engines.prefill_gpus, engines.decode_gpus, min_endpoint, gpu_budget)


def budget_pair(
    prefill: int, decode: int, prefill_gpus: int, decode_gpus: int, min_endpoint: int, gpu_budget: int
) -> tuple[int, int]:
    """Both shrunk in proportion, rounded down, prefill leaving room for the least of decode; (0, 0) when the minima
    alone exceed the budget. A budget below 0 is none."""
    total = prefill * prefill_gpus + decode * decode_gpus
    if gpu_budget < 0 or total <= gpu_budget:
        return prefill, decode
    if gpu_budget < min_endpoint * (prefill_gpus + decode_gpus):
        return 0, 0
    most = (gpu_budget - min_endpoint * decode_gpus) // prefill_gpus
    prefill = max(min_endpoint, min(most, math.floor(prefill * (gpu_budget / total))))
    return prefill, max(min_endpoint, (gpu_budget - prefill * prefill_gpus) // decode_gpus)


def budget_pair_rounded(
    prefill: int, decode: int, prefill_gpus: int, decode_gpus: int, min_endpoint: int, gpu_budget: int
) -> tuple[int, int]:
    """The oldest release's budget: shares rounded half to even, minima win over the budget."""
    total = prefill * prefill_gpus + decode * decode_gpus
    if total <= gpu_budget:
        return prefill, decode
    prefill = max(min_endpoint, round(prefill * (gpu_budget / total)))
    return prefill, max(min_endpoint, round((gpu_budget - prefill * prefill_gpus) / decode_gpus))


def budget_single(desired: int, gpus: int, min_endpoint: int, gpu_budget: int) -> int:
    """Engines of one kind within the budget; 0 when the minimum alone exceeds it."""
    desired = max(desired, min_endpoint)
    if gpu_budget < 0 or desired * gpus <= gpu_budget:
        return desired
    return 0 if gpu_budget < min_endpoint * gpus else max(min_endpoint, gpu_budget // gpus)


def throughput_replicas(demand_per_s: float, engine_per_s: float, min_endpoint: int = 1) -> int:
    """The newest throughput loop: engines for a rate of requests."""
    return max(math.ceil(demand_per_s / engine_per_s), min_endpoint)


# Load: one engine more or less, by what the engines say now.
def sla_step(
    estimates: Sequence[float],
    target: float,
    workers: int,
    sensitivity_pct: float = DOWN_SENSITIVITY_PCT,
    min_endpoint: int = 1,
) -> int | None:
    """+1 if ALL engines' estimates exceed the target, −1 if ALL are below `sensitivity_pct` percent of it."""
    if not estimates:
        return None
    if all(estimate > target for estimate in estimates):
        return workers + 1
    low = target * sensitivity_pct / 100
    if workers > 1 and all(estimate < low for estimate in estimates):
        return max(workers - 1, min_endpoint)
    return None


def aggregated_step(prefill: int | None, decode: int | None, workers: int) -> int | None:
    """Engines that do both: up if either side wants up, down only if both want down."""
    if prefill is not None and prefill > workers:
        return prefill
    if decode is not None and decode > workers:
        return decode
    down = prefill is not None and decode is not None and max(prefill, decode) < workers
    return max(prefill or 0, decode or 0) if down else None


# (role, mode): thresholds of the ratio, and whether reaching the threshold is enough, up and down.
EASY: dict[tuple[str, str], tuple[float, float, bool, bool]] = {
    ("prefill", "throughput"): (1.0, 0.1, True, False),
    ("prefill", "latency"): (0.1, 0.0, True, True),
    ("decode", "throughput"): (1.0, 0.6, False, False),
    ("decode", "latency"): (0.4, 0.1, False, False),
}


@dataclass(frozen=True, slots=True)
class EasyMode:
    """Static thresholds. The ratio is queued prompt tokens over the context length for prefill, scheduled + queued KV
    tokens (of aggregated engines also queued prompt tokens) over the KV capacity for the others."""

    role: str = "decode"
    mode: str = "throughput"
    scale_up: float | None = None  # None: upstream's
    scale_down: float | None = None
    min_endpoint: int = 1

    def __post_init__(self) -> None:
        if (self._row, self.mode) not in EASY:
            raise ScenarioError(f"dynamo: role {self.role!r}, mode {self.mode!r}; expected one of {list(EASY)}")

    @property
    def _row(self) -> str:
        return "decode" if self.role == "agg" else self.role

    def step(self, ratios: Sequence[float], workers: int) -> int | None:
        """+1 if ANY engine is above, −1 if ALL are below and there is more than one; None: no change."""
        if not ratios or workers == 0:
            return None
        up, down, up_at, down_at = EASY[self._row, self.mode]
        up = up if self.scale_up is None else self.scale_up
        down = down if self.scale_down is None else self.scale_down
        if any(ratio > up or (up_at and ratio == up) for ratio in ratios):
            return workers + 1
        if workers > 1 and all(ratio < down or (down_at and ratio == down) for ratio in ratios):
            return max(workers - 1, self.min_endpoint)
        return None


UPSTREAM_DEFAULTS: dict[str, dict[str, Any]] = {
    "dynamo-planner": {
        "throughput_interval_s": THROUGHPUT_INTERVAL_S,
        "load_interval_s": LOAD_INTERVAL_S,
        "max_gpu_budget": MAX_GPU_BUDGET,
        "ttft_ms": TTFT_MS,
        "itl_ms": ITL_MS,
        "load_predictor": LOAD_PREDICTOR,
    }
}
