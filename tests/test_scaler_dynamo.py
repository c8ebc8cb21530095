"""NVIDIA Dynamo's planner: formulas, budgets, ALL against ANY, engine models, and the scalers in a circle."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from agents import dynamo, dynamo_load
from agents.dynamo import Dynamo, spread
from agents.dynamo_load import DynamoLoad
from agents.dynamo_planner import (
    EasyMode,
    Engines,
    Forecast,
    aggregated_step,
    budget_pair,
    budget_pair_rounded,
    budget_single,
    concurrency,
    corrected_itl_ms,
    prefill_replicas,
    sla_plan,
    sla_step,
    throughput_replicas,
)
from agents.dynamo_profile import DecodeProfile, PrefillProfile
from agents.dynamo_sla import SlaPlanner, Traffic
from rlscale.checks import ToyFleet, check_scaler, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError

KINDS = dynamo.SCALERS | dynamo_load.SCALERS
SEARCH = dynamo.SEARCH | dynamo_load.SEARCH


# 6.1 The old planner's formulas
def test_queueing_does_not_call_for_more_prefill():
    forecast, engines = Forecast(600, 3000, 150, 60.0), Engines(10_000, 1000)
    assert [prefill_replicas(forecast, engines, c) for c in (0.5, 1.0, 3.0)] == [2, 3, 3]


def test_a_decode_correction_tightens_the_target_and_none_leaves_it():
    assert [corrected_itl_ms(50.0, c) for c in (2.0, 0.5, 0.0, -1.0)] == [25.0, 100.0, 50.0, 50.0]
    assert concurrency(600, 3, 9.0, 180.0) == 10.0


@pytest.mark.parametrize(
    ("wanted", "gpus", "budget", "fitted", "rounded"),
    [
        ((2, 2), (1, 1), 8, (2, 2), (2, 2)),
        ((6, 10), (1, 1), 8, (3, 5), (3, 5)),
        ((5, 6), (1, 1), 8, (3, 5), (4, 4)),  # 3.64: down, or to the nearest
        ((1, 9), (2, 2), 5, (1, 1), (1, 2)),  # rounding half to even exceeds the budget
        ((9, 1), (2, 4), 8, (2, 1), (3, 1)),  # prefill leaves room for the least of decode
        ((3, 3), (1, 1), 1, (0, 0), (1, 1)),  # not even the minima fit
        ((9, 9), (1, 1), -1, (9, 9), None),
    ],
)
def test_the_budget_shrinks_both_in_proportion(
    wanted: tuple[int, int], gpus: tuple[int, int], budget: int, fitted: tuple[int, int], rounded: tuple[int, int]
):
    assert budget_pair(*wanted, *gpus, 1, budget) == fitted
    assert rounded is None or budget_pair_rounded(*wanted, *gpus, 1, budget) == rounded


def test_one_kind_of_engine_within_its_budget():
    assert [budget_single(n, 2, 2, 9) for n in (0, 3, 9)] == [2, 3, 4]
    assert budget_single(3, 4, 2, 7) == 0


def test_the_old_planner_skips_what_was_not_measured_and_keeps_its_corrections():
    pairs = [(usage, context) for usage in (0.1, 0.5, 0.9) for context in (1000.0, 2000.0, 4000.0)]
    decode = DecodeProfile(
        [u for u, _ in pairs], [c for _, c in pairs], [10 + 40 * u for u, _ in pairs], [2000 * u for u, _ in pairs], 1e5
    )
    prefill = PrefillProfile([100, 1000, 2000, 4000], [10, 50, 110, 300], [20e3, 40e3, 39e3, 35e3])
    planner = SlaPlanner(prefill, decode, load_predictor="constant")
    usual = Traffic(1800, 1500, 200, 160.0, 40.0, 8.0)
    assert planner.plan(Traffic(1800, 1500, 200, math.nan, 40.0, 8.0), 2) is None
    assert planner.corrections == (1.0, 1.0)
    assert planner.plan(usual, 2) == (1, 2)
    assert planner.corrections[0] == pytest.approx(160 / prefill.ttft_ms(1500))
    again = SlaPlanner(prefill, decode, load_predictor="constant")
    again.restore(json.loads(json.dumps(planner.state())))
    assert again.plan(usual, 2) == planner.plan(usual, 2)
    assert prefill.throughput_per_gpu(1e6) == pytest.approx(35e3)  # clamped to the profiled range
    assert decode.best_throughput_per_gpu(1.0, 2000.0) == pytest.approx(200.0)  # none feasible: the lowest usage


# 6.2 The newest planner
def test_the_throughput_loop_rounds_up_to_its_minimum():
    assert [throughput_replicas(rate, 10.0, 2) for rate in (0.0, 20.0, 20.1)] == [2, 2, 3]


@pytest.mark.parametrize(
    ("estimates", "workers", "step"),
    [
        ([600, 700], 2, 3),
        ([600, 400], 2, None),  # one engine within the target is enough to wait
        ([399, 300], 2, 1),
        ([400, 300], 2, None),  # 80 % exactly
        ([100], 1, None),
        ([], 3, None),
    ],
)
def test_the_load_loop_needs_all_engines(estimates: list[float], workers: int, step: int | None):
    assert sla_step(estimates, 500.0, workers, 80.0) == step


@pytest.mark.parametrize(
    ("prefill", "decode", "step"),
    [(4, None, 4), (None, 4, 4), (2, 4, 4), (2, None, None), (2, 2, 2), (None, None, None)],
)
def test_aggregated_engines_grow_for_either_and_shrink_for_both(prefill: int, decode: int, step: int | None):
    assert aggregated_step(prefill, decode, 3) == step


@pytest.mark.parametrize(
    ("role", "mode", "ratios", "step"),
    [
        ("prefill", "throughput", [1.0, 0.0], 3),  # any, and reaching it is enough
        ("prefill", "throughput", [0.1, 0.0], None),
        ("prefill", "throughput", [0.09, 0.0], 1),
        ("prefill", "latency", [0.1, 0.0], 3),
        ("prefill", "latency", [0.0, 0.0], 1),
        ("decode", "throughput", [1.0, 0.0], None),  # above only
        ("decode", "throughput", [0.6, 0.0], None),
        ("decode", "throughput", [0.59, 0.0], 1),
        ("decode", "latency", [0.41, 0.0], 3),
        ("agg", "latency", [0.09, 0.09], 1),
    ],
)
def test_easy_modes_grow_for_any_and_shrink_for_all(role: str, mode: str, ratios: list[float], step: int | None):
    assert EasyMode(role, mode).step(ratios, 2) == step
    assert EasyMode(role, mode).step([0.0], 1) is None
    assert EasyMode(role, mode).step(ratios, 0) is None


def test_an_unknown_mode_is_refused():
    with pytest.raises(ScenarioError, match="mode 'fast'"):
        EasyMode("decode", "fast")


# The scalers
def seen(t_s: float, rate: float, ready: int = 4, pending: int = 0, **changes: Any):
    fleet = {"ready": np.array([ready]), "pending": np.array([pending]), "target": np.array([ready + pending])}
    load = {"arrival_per_s": rate, "ready_at_scrape": np.array([ready])}
    return observation(limits_of(), t_s=t_s, **(fleet | load | changes))


def test_throughput_alone_sets_the_count_every_interval():
    rule = Dynamo(limits_of(), enable_load_scaling=False)
    assert rule.decide(seen(0.0, 72.0)).target == (8,)
    assert [rule.decide(seen(t, 15.0, 8)).target for t in (15.0, 165.0)] == [(8,), (8,)]
    assert rule.decide(seen(180.0, 15.0, 8)).target == (2,)


def test_with_the_load_loop_throughput_is_a_bound_only():
    rule, latency = Dynamo(limits_of(), load_min_observations=2), {"tpot_s": 0.03, "compute_occupancy": np.array([0.2])}
    assert rule.decide(seen(0.0, 15.0, 8, **latency)).target == (8,)  # 2 would do, no record yet
    assert rule.decide(seen(15.0, 15.0, 8, **latency)).target == (7,)  # one at a time
    assert rule.decide(seen(30.0, 15.0, 2, **latency)).target == (2,)  # not below the bound


def test_the_load_loop_adds_one_for_a_queue_and_waits_while_engines_come():
    rule, latency = Dynamo(limits_of(), load_min_observations=2), {"tpot_s": 0.03, "compute_occupancy": np.array([1.0])}
    for t in (0.0, 15.0):
        rule.decide(seen(t, 40.0, 4, **latency))
    assert rule.decide(seen(30.0, 40.0, 4, waiting=400.0, **latency)).target == (5,)
    assert rule.decide(seen(45.0, 40.0, 4, pending=1, waiting=400.0, **latency)).target == (5,)
    late = {"ready_at_scrape": np.array([4]), **latency}
    assert rule.decide(seen(60.0, 40.0, 5, waiting=400.0, **late)).target == (5,)  # records do not cover every worker


def test_lengths_are_those_last_seen():
    rule = Dynamo(limits_of(), isl_tokens=500.0)
    rule.decide(seen(0.0, 10.0))
    assert rule.state()["lengths"] == [500.0, 150.0]
    rule.decide(seen(15.0, 10.0, prompt_tokens=900.0, answer_tokens=80.0))
    rule.decide(seen(30.0, 10.0, prompt_tokens=math.nan))
    assert rule.state()["lengths"] == [900.0, 80.0]


def test_demand_beyond_a_pools_maximum_goes_to_the_next():
    assert spread(100.0, [10.0, 5.0], [40.0, 0.0], [4, 20], [0, 1]) == [40.0, 60.0]
    assert spread(100.0, [10.0, 5.0], [0.0, 0.0], [40, 20], [1, 0]) == [0.0, 100.0]
    assert spread(90.0, [10.0, 5.0], [20.0, 10.0], [40, 20], [0, 1]) == pytest.approx([60.0, 30.0])


def test_a_learnt_rate_is_taken_once_there_is_one():
    rule = Dynamo(limits_of(), engine_model="regression", load_min_observations=5)
    rates = []
    for k in range(13):
        share = 0.2 + 0.05 * (k % 4)
        occupied = {"compute_occupancy": np.array([share]), "tpot_s": 0.01 + 0.02 * share}
        rule.decide(seen(15.0 * k, 40.0 * share, **occupied, prompt_tokens=1000.0, answer_tokens=100.0))
        rates.append(rule._rates()[0])
    assert rates[0] == 10.0
    assert rates[-1] != 10.0
    assert rates[-1] > 0


def test_the_easy_mode_looks_at_kv_and_queue():
    rule, full = DynamoLoad(limits_of()), {"compute_occupancy": np.array([0.5]), "running": 160.0}
    assert rule.decide(seen(0.0, 20.0, memory_occupancy=np.array([0.3]), **full)).target == (4,)
    assert rule.decide(seen(15.0, 20.0, memory_occupancy=np.array([0.41]), **full)).target == (5,)
    assert rule.decide(seen(30.0, 20.0, memory_occupancy=np.array([0.09]), **full)).target == (3,)
    queued = {"memory_occupancy": np.array([0.3]), "waiting": 200.0}  # 50 each, 0.0075 of the KV per sequence
    assert rule.decide(seen(45.0, 20.0, **queued, **full)).target == (5,)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("bad", [{"waiting": math.nan}, {"waiting": -1.0}, {"age_s": 1e4}])
def test_without_metrics_the_scalers_hold(name: str, bad: dict[str, float]):
    assert KINDS[name].build(limits_of()).decide(seen(0.0, 400.0, **bad)).reason.startswith("hold")


@pytest.mark.parametrize("name", KINDS)
def test_requests_to_nothing_call_one_engine_and_bounds_of_zero_none(name: str):
    limits = limits_of()
    limits.min_replicas[:] = 0
    empty = {"ready": np.array([0]), "waiting": 3.0, "arrival_per_s": 1.0}
    assert KINDS[name].build(limits).decide(observation(limits, **empty)).target == (1,)
    assert KINDS[name].build(limits).decide(observation(limits, **empty | {"arrival_per_s": 2.0**31})).target[0] >= 1


@pytest.mark.parametrize("name", KINDS)
def test_state_survives_a_restart(name: str):
    first, second, fleet = (
        KINDS[name].build(limits_of(2)),
        KINDS[name].build(limits_of(2)),
        ToyFleet(limits_of(2), 40.0),
    )
    drive(first, fleet, 24)
    second.restore(json.loads(json.dumps(first.state())))
    fleet.t_s += 300.0  # every tick is due
    now = fleet.measure()
    assert second.decide(now).target == first.decide(now).target
    first.reset()
    assert first.state() == KINDS[name].build(limits_of(2)).state()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("end", [1, 2])
def test_ends_of_the_search_space_keep_the_contract_of_reading(name: str, end: int):
    chosen = {key: space[end] for key, space in SEARCH[name].items()}
    decisions = drive(KINDS[name].build(limits_of(), **chosen), ToyFleet(limits_of(), 40.0), 40)
    assert min(totals(decisions)) >= 1


@pytest.mark.parametrize("changes", [{"load_predictor": "kalman"}, {"enable_load_scaling": False}])
def test_other_settings_keep_the_contract(changes: dict[str, Any]):
    check_scaler(KINDS["dynamo"], limits_of(), **changes)


def test_an_unknown_predictor_or_engine_model_is_refused():
    with pytest.raises(ScenarioError, match="unknown load_predictor 'prophet'"):
        Dynamo(limits_of(), load_predictor="prophet")
    with pytest.raises(ScenarioError, match="engine_model = 'guess'"):
        Dynamo(limits_of(), engine_model="guess")


def test_old_plan_and_defaults():
    assert sla_plan(Forecast(100, 3000, 150, 60.0), Engines(10_000, 1000, 2, 2), 1.0, 1, 5) == (1, 1)
    assert dynamo.UPSTREAM_DEFAULTS["dynamo-planner"]["load_predictor"] == "arima"
