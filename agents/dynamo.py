"""NVIDIA Dynamo's planner on pools of aggregated engines: the throughput and load loops, and the easy load mode.

Upstream's rules are in agents/dynamo_planner.py, its forecasts in agents/dynamo_predictors.py, its engine model in
agents/dynamo_engine.py; this feeds them from observations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.dynamo_engine import AggregatedModel
from agents.dynamo_planner import (
    DOWN_SENSITIVITY_PCT,
    ISL_TOKENS,
    LOAD_INTERVAL_S,
    LOAD_PREDICTOR,
    OSL_TOKENS,
    THROUGHPUT_INTERVAL_S,
    aggregated_step,
    sla_step,
    throughput_replicas,
)
from agents.dynamo_planner import UPSTREAM_DEFAULTS as UPSTREAM_DEFAULTS
from agents.dynamo_predictors import predictor
from rlscale.decide import Cadence, blind, called_from_zero, hold, positive
from rlscale.errors import ScenarioError
from rlscale.execute import by_price
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

MAX_BATCHED_TOKENS = 2048.0


class Lengths:
    """Mean prompt and answer tokens: what was last seen, before that what the profile was taken at."""

    def __init__(self, isl: float, osl: float) -> None:
        self._first = positive("isl_tokens", isl), positive("osl_tokens", osl)
        self.reset()

    def reset(self) -> None:
        """Back to the profile's."""
        self.isl, self.osl = self._first

    def state(self) -> list[float]:
        """The means."""
        return [self.isl, self.osl]

    def restore(self, state: list[float]) -> None:
        """Continue from a `state()`."""
        self.isl, self.osl = state

    def see(self, seen: Observation) -> None:
        """Take over what was measured."""
        prompt, answer = float(seen.prompt_tokens), float(seen.answer_tokens)
        self.isl = prompt if math.isfinite(prompt) and prompt > 0 else self.isl
        self.osl = answer if math.isfinite(answer) and answer > 0 else self.osl


def spread(
    demand: float, each: Sequence[float], weights: Sequence[float], most: Sequence[int], order: list[int]
) -> list[float]:
    """Demand per pool: by weight, all of it to the first in `order` without any; what a pool's maximum cannot carry
    goes to the next in `order` that has room."""
    total = sum(weights)
    shares = [demand * weight / total for weight in weights] if total > 0 else [0.0] * len(each)
    if total <= 0 and order:
        shares[order[0]] = demand
    room = [carried * count - share for carried, count, share in zip(each, most, shares, strict=True)]
    over = -sum(min(0.0, left) for left in room)
    shares = [share + min(0.0, left) for share, left in zip(shares, room, strict=True)]
    for pool in order:
        taken = min(over, max(0.0, room[pool]))
        shares[pool], over = shares[pool] + taken, over - taken
    return shares


class Dynamo:
    """Throughput loop: forecast requests, ISL and OSL; engines of a pool = its demand over what one carries. With the
    load loop on, that is only a lower bound and the load loop adds or takes one engine at a time.

    What stands for what. The measured rate of one engine within TTFT and ITL is `engine_share` of l_SLO; with
    `engine_model` "regression" it is learnt from the records instead, as soon as they suffice. A record of a forward
    pass is the mean of a pool's engines over the scraped window: its time is TPOT, its prompt tokens those that came
    during it, its KV tokens the running sequences times ISL + OSL/2. The queue is spread evenly over ready replicas,
    so all engines of a pool say the same. The TTFT and ITL targets are the SLO's; bounds of a pool stand for the GPU
    budget and the minimum, and where all minima are 0, `min_endpoint` is that of the cheapest pool. The demand is
    divided by ordered capacity. The first throughput tick is at the first call (upstream waits one interval), the
    bound holds also where the load loop is content (upstream raises to it only together with a change).
    """

    def __init__(
        self,
        limits: ScalingLimits,
        engine_share: float = 1.0,
        load_predictor: str = "constant",
        throughput_interval_s: float = THROUGHPUT_INTERVAL_S,
        load_interval_s: float = LOAD_INTERVAL_S,
        enable_load_scaling: bool = True,
        load_scaling_down_sensitivity: float = DOWN_SENSITIVITY_PCT,
        load_min_observations: int = 5,
        max_num_fpm_samples: int = 64,
        fpm_sample_bucket_size: int = 16,
        max_num_batched_tokens: float = MAX_BATCHED_TOKENS,
        isl_tokens: float = ISL_TOKENS,
        osl_tokens: float = OSL_TOKENS,
        engine_model: str = "profile",
        min_endpoint: int = 1,
    ) -> None:
        if engine_model not in ("profile", "regression"):
            raise ScenarioError(f"dynamo: engine_model = {engine_model!r}; expected 'profile' or 'regression'")
        share = positive("dynamo: engine_share", engine_share)
        self.limits, self.engine_model = limits, engine_model
        self.interval_s = positive("dynamo: throughput_interval_s", throughput_interval_s)
        self.load_scaling, self.sensitivity_pct = bool(enable_load_scaling), load_scaling_down_sensitivity
        self.max_batched_tokens = positive("dynamo: max_num_batched_tokens", max_num_batched_tokens)
        self._each = [share * float(rate) for rate in limits.capacity_per_s]
        self._most = [int(count) for count in limits.max_replicas]
        self._order = by_price(limits)
        self._floor = floors(limits, min_endpoint)
        self._lengths = Lengths(isl_tokens, osl_tokens)
        self._predictors = {name: predictor(load_predictor) for name in ("requests", "isl", "osl")}
        samples = max_num_fpm_samples, load_min_observations, fpm_sample_bucket_size
        self._models = [AggregatedModel(*samples) for _ in self._each]
        self._slow, self._fast = Cadence(self.interval_s), Cadence(positive("dynamo: load_interval_s", load_interval_s))
        self.reset()

    def reset(self) -> None:
        """A planner restart."""
        for forecaster in self._predictors.values():
            forecaster.reset()
        for model in self._models:
            model.reset()
        self._slow.reset()
        self._fast.reset()
        self._lengths.reset()
        self._bounds = list(self._floor)
        self._window = [0.0] * 4  # seconds, requests, prompt tokens, answer tokens
        self._said = "no forecast yet"

    def state(self) -> dict[str, Any]:
        """What a restarted planner would not know, as plain values."""
        return {
            "predictors": {name: model.state() for name, model in self._predictors.items()},
            "models": [model.state() for model in self._models],
            "lengths": self._lengths.state(),
            "bounds": list(self._bounds),
            "window": list(self._window),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        for name, model in self._predictors.items():
            model.restore(state["predictors"][name])
        for engine, saved in zip(self._models, state["models"], strict=True):
            engine.restore(saved)
        self._lengths.restore(state["lengths"])
        self._bounds, self._window = list(state["bounds"]), list(state["window"])

    def decide(self, seen: Observation) -> Decision:
        """The ticks that are due."""
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting, running=seen.running)
        if why:
            return hold(seen, why)
        self._lengths.see(seen)
        rate, dt_s = float(seen.arrival_per_s), float(seen.interval_s)
        for k, amount in enumerate((1.0, rate, rate * self._lengths.isl, rate * self._lengths.osl)):
            self._window[k] += amount * dt_s
        target = [int(count) for count in np.asarray(seen.target).tolist()]
        slow, fast = self._slow.due(float(seen.t_s)), self._fast.due(float(seen.t_s))
        if slow:
            self._throughput(target)
        if self.load_scaling and fast:
            steps = self._load(seen, target)
        elif slow and not self.load_scaling:
            steps = list(self._bounds)
        else:
            return hold(seen, "between ticks")
        if called_from_zero(seen) and not any(steps) and self._order:
            steps[self._order[0]] = 1
        return Decision(tuple(steps), self._said)

    def _throughput(self, target: list[int]) -> None:
        """Forecast from what came since the last tick, and set the bounds."""
        seconds, requests, prompts, answers = self._window
        self._window = [0.0] * 4
        isl, osl = (prompts / requests, answers / requests) if requests > 0 else (0.0, 0.0)
        now = {"requests": requests / seconds * self.interval_s, "isl": isl, "osl": osl}
        for name, model in self._predictors.items():
            model.add(now[name])
        demand = self._predictors["requests"].predict() / self.interval_s
        each = self._rates()
        weights = [count * rate for count, rate in zip(target, each, strict=True)]
        demands = spread(demand, each, weights, self._most, self._order)
        self._bounds = [
            throughput_replicas(part, rate, low) if rate > 0 else low
            for part, rate, low in zip(demands, each, self._floor, strict=True)
        ]
        self._said = f"{demand:.4g}/s forecast, at least {self._bounds}"

    def _rates(self) -> list[float]:
        if self.engine_model == "profile":
            return self._each
        isl, osl = (self._predictors[name].predict() for name in ("isl", "osl"))
        ttft_ms, itl_ms = self._targets()
        learnt = [model.best_rate(isl, osl, self.max_batched_tokens, ttft_ms, itl_ms) for model in self._models]
        return [own or profiled for own, profiled in zip(learnt, self._each, strict=True)]

    def _targets(self) -> tuple[float, float]:
        slo = self.limits.slo
        return 1000 * (slo.ttft_s + self._lengths.isl / slo.ttft_tokens_per_s), 1000 * slo.tpot_s

    def _load(self, seen: Observation, target: list[int]) -> list[int]:
        """One engine more or less per pool, never below its bound; nothing while engines come or go."""
        ready, scraped = np.asarray(seen.ready).tolist(), np.asarray(seen.ready_at_scrape).tolist()
        occupancy = np.asarray(seen.compute_occupancy).tolist()
        total = sum(scraped)
        queued = float(seen.waiting) / total if total > 0 else 0.0
        rates = [count * rate for count, rate in zip(scraped, self._each, strict=True)]
        steps = list(target)
        for pool, workers in enumerate(target):
            if workers != ready[pool] or ready[pool] != scraped[pool]:
                continue
            share = rates[pool] / sum(rates) / workers if rates[pool] > 0 else 0.0
            sequences = occupancy[pool] * float(self.limits.seats[pool]) if workers else 0.0
            step = self._step(pool, workers, float(seen.arrival_per_s) * share, sequences, queued, float(seen.tpot_s))
            steps[pool] = max(workers if step is None else step, self._bounds[pool])
        return steps

    def _step(
        self, pool: int, workers: int, arrival_per_s: float, sequences: float, queued: float, tpot_s: float
    ) -> int | None:
        model, lengths = self._models[pool], self._lengths
        if workers == 0 or not math.isfinite(sequences):
            return None
        kv_tokens = sequences * (lengths.isl + lengths.osl / 2)
        if math.isfinite(tpot_s) and tpot_s > 0:
            prompts = arrival_per_s * tpot_s
            model.observe(prompts, prompts * lengths.isl, sequences, kv_tokens, tpot_s)
        ttft_s = model.next_ttft_s(queued * lengths.isl, self.max_batched_tokens, kv_tokens)
        itl_s = model.next_itl_s(kv_tokens, 0.0)
        if ttft_s is None or itl_s is None:
            return None
        ttft_ms, itl_ms = self._targets()
        low = max(1, self._floor[pool])
        prefill = sla_step([1000 * ttft_s], ttft_ms, workers, self.sensitivity_pct, low)
        decode = sla_step([1000 * itl_s], itl_ms, workers, self.sensitivity_pct, low)
        self._said = f"TTFT {1000 * ttft_s:.4g} ms, ITL {1000 * itl_s:.4g} ms by the model, at least {self._bounds}"
        return aggregated_step(prefill, decode, workers)


def floors(limits: ScalingLimits, min_endpoint: int) -> list[int]:
    """Least engines per pool: its minimum, and `min_endpoint` of the cheapest where all minima are 0."""
    low = [int(count) for count in limits.min_replicas]
    if not any(low):
        for pool in by_price(limits)[:1]:
            low[pool] = min(min_endpoint, int(limits.max_replicas[pool]))
    return low


_KNOB = Knob(
    "engine_share",
    (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2),
    1.0,
    "rate that one engine is planned for, as a share of l_SLO",
)

SCALERS = {
    "dynamo": ScalerKind(
        Dynamo,
        _KNOB,
        "NVIDIA Dynamo's planner: forecast throughput as a lower bound, one engine more or less by estimated latency",
        native_s=LOAD_INTERVAL_S,
        upstream={
            "load_predictor": LOAD_PREDICTOR,
            "throughput_interval_s": THROUGHPUT_INTERVAL_S,
            "load_interval_s": LOAD_INTERVAL_S,
            "enable_load_scaling": False,
        },
        roles=False,
    )
}

SEARCH: dict[str, dict[str, tuple[Any, ...]]] = {
    "dynamo": {
        "engine_share": ("float", 0.2, 1.2),
        "load_predictor": ("choice", "constant", "kalman", "arima"),
        "throughput_interval_s": ("log", 30.0, 600.0),
        "load_interval_s": ("log", 5.0, 120.0),
        "enable_load_scaling": ("choice", True, False),
        "load_scaling_down_sensitivity": ("float", 20.0, 95.0),
        "engine_model": ("choice", "profile", "regression"),
    }
}
