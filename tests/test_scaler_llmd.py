"""The llm-d workload variant autoscaler: V1 against V2, queueing model and solver, and the scalers in a circle."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from agents import llmd, llmd_slo
from agents.llmd_capacity import (
    CapacityAnalyser,
    CapacityConfig,
    EngineLimits,
    ReplicaMetrics,
    StoredCapacity,
    VariantCapacity,
    cost_aware,
    median,
    output_class,
    signals,
)
from agents.llmd_saturation import UPSTREAM_DEFAULTS, Replica, SaturationConfig, Variant, analyse, targets_v1
from rlscale.checks import ToyFleet, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError

KINDS = llmd.SCALERS | llmd_slo.SCALERS
SEARCH = llmd.SEARCH | llmd_slo.SEARCH
CONFIG = SaturationConfig()


# V1
def test_a_replica_is_saturated_at_either_threshold():
    found = analyse([Replica(0.8, 0), Replica(0.1, 5), Replica(0.79, 4)], CONFIG)
    assert (found.saturated_indices, found.non_saturated) == ((0, 1), 1)


@pytest.mark.parametrize(
    ("replicas", "up", "safe"),
    [
        ([(0.2, 1)] * 3, False, True),
        ([(0.71, 0)] * 3, True, False),  # spare KV 0.09
        ([(0.2, 2)] * 3, False, False),  # spare queue 3 is enough to stay; on two it would be 2
        ([(0.2, 3)] * 3, True, False),
        ([(0.9, 9)] * 3, True, False),  # all saturated: spare counts as 0
        ([(0.1, 0)], False, False),
        ([(0.1, 0), (0.9, 0)], False, False),  # one that is not saturated
        ([], False, False),
    ],
)
def test_spare_is_the_mean_of_those_not_saturated(replicas: list[tuple[float, float]], up: bool, safe: bool):
    found = analyse([Replica(kv, queue) for kv, queue in replicas], CONFIG)
    assert (found.scale_up, found.scale_down_safe) == (up, safe)


def test_replicas_that_say_the_same_can_be_counted():
    one_by_one, counted = analyse([Replica(0.37, 1.3)] * 7, CONFIG), analyse([Replica(0.37, 1.3, count=7)], CONFIG)
    assert (one_by_one.spare_kv, one_by_one.non_saturated) == (pytest.approx(counted.spare_kv), counted.non_saturated)
    assert analyse([Replica(0.37, 1.3, count=2**31)], CONFIG).non_saturated == 2**31


A, B, C = Variant("a", 5, 2, 0, 2), Variant("b", 5, 2, 2, 2), Variant("c", 9, 2, 0, 2)


@pytest.mark.parametrize(
    ("variants", "up", "down", "targets"),
    [
        ((A, B, C), True, False, {"a": 3, "b": 2, "c": 2}),  # a tie: the first by name
        ((A, B), False, True, {"a": 2, "b": 1}),  # and the last
        ((A, B, C), False, True, {"a": 2, "b": 2, "c": 1}),
        ((A, B, C), False, False, {"a": 2, "b": 2, "c": 2}),
        ((A, C), True, True, {"a": 3, "c": 2}),  # up goes first
        ((Variant("a", 5, 2, 0, 2, pending=1), C), True, False, {"a": 2, "c": 3}),
        ((Variant("a", 5, 2, 4, 2), C), True, False, {"a": 4, "c": 2}),  # on its way to 4: all are frozen
        ((Variant("a", 5, 3, 0, 2), C), True, False, {"a": 3, "c": 2}),  # a replica does not report yet
        ((Variant("z", 9, 1, 0, 1), A), False, True, {"z": 1, "a": 1}),  # nobody goes below one
    ],
)
def test_v1_moves_one_replica_of_one_variant(
    variants: tuple[Variant, ...], up: bool, down: bool, targets: dict[str, int]
):
    assert targets_v1(variants, up, down) == targets


# V2
def metrics(**changes: float) -> ReplicaMetrics:
    return ReplicaMetrics(
        **{"kv_tokens_in_use": 5000, "kv_total_tokens": 16000, "queue": 0, "avg_input": 500, "avg_output": 100}
        | changes
    )


def test_compute_capacity_is_observed_then_remembered_then_derived_then_memorys():
    analyser, engine = CapacityAnalyser(CapacityConfig()), EngineLimits(600, 10)
    assert analyser.replica(metrics()).k2 == 12800  # nothing known: memory's
    assert analyser.replica(metrics(), engine).k2 == 5500  # min(600·100/600, 10)·550
    assert analyser.replica(metrics(queue=5, kv_tokens_in_use=7000), engine).capacity == 7000
    assert analyser.replica(metrics(queue=6, kv_tokens_in_use=8001), engine).capacity == 8001
    assert analyser.replica(metrics(), engine).capacity == 7500  # the mean of both, truncated
    assert analyser.replica(metrics(avg_output=99), engine).k2 < 5500  # another output class
    assert analyser.replica(metrics(), engine, "other").k2 == 5500
    assert analyser.replica(metrics(kv_total_tokens=0)) is None


def test_only_ten_observations_are_remembered():
    analyser = CapacityAnalyser(CapacityConfig())
    for tokens in range(100, 112):
        analyser.remember("", 100, tokens)
    assert analyser.replica(metrics()).k2 == int(np.mean(range(102, 112)))
    again = CapacityAnalyser(CapacityConfig())
    again.restore(json.loads(json.dumps(analyser.state())))
    assert again.state() == analyser.state()


def test_a_queue_adds_its_prompts_to_the_demand():
    assert CapacityAnalyser(CapacityConfig()).replica(metrics(queue=3)).demand == 6500


def test_stored_capacity_of_a_variant_without_replicas():
    analyser, engine = CapacityAnalyser(CapacityConfig()), EngineLimits(8192, 256)
    assert analyser.stored(StoredCapacity(9000), engine, 500, 100) == 9000
    assert analyser.stored(StoredCapacity(8192, "deployment"), engine, 500, 100) == 140800
    assert analyser.stored(StoredCapacity(8192, "deployment", 100_000), engine, 500, 100) == 80000
    assert analyser.stored(StoredCapacity(8192, "deployment", 100_000), engine, 500, 100, 70_000) == 70000
    assert analyser.stored(StoredCapacity(8192, "deployment"), engine, 0, 0) == 8192


@pytest.mark.parametrize(("values", "middle"), [([], 0), ([3], 3), ([4, 1], 2), ([9, 1, 5], 5)])
def test_the_median_of_whole_numbers(values: list[int], middle: int):
    assert median(values) == middle


def test_output_classes():
    assert [output_class(n) for n in (0, 99.9, 100, 499, 500)] == ["short", "short", "medium", "medium", "long"]


def test_pending_replicas_count_for_what_is_required_and_not_for_what_is_spare():
    loaded = VariantCapacity("a", 1, 1000, replicas=5, pending=3, demand=1700)
    assert signals([loaded], 0, CapacityConfig()) == (0, 0)
    assert signals([loaded], 3400, CapacityConfig()) == (pytest.approx(1000), 0)
    assert signals([VariantCapacity("a", 1, 1000, 5, 0, 700)], 0, CapacityConfig()) == (0, pytest.approx(4000))


@pytest.mark.parametrize(
    ("required", "spare", "variants", "targets"),
    [
        (25000, 0, [("dear", 15, 20000, 1), ("cheap", 5, 10000, 1)], {"dear": 1, "cheap": 4}),  # several at once
        (25000, 0, [("dear", 15, 40000, 1), ("cheap", 5, 10000, 1)], {"dear": 2, "cheap": 1}),  # cost per capacity
        (25000, 0, [("dear", 15, 20000, 1), ("new", 1, 0, 0)], {"dear": 3, "new": 0}),  # no capacity: skipped
        (0, 90000, [("dear", 15, 20000, 2), ("cheap", 5, 10000, 3)], {"dear": 0, "cheap": 1}),
        (0, 30000, [("dear", 15, 40000, 1), ("cheap", 5, 10000, 3)], {"dear": 1, "cheap": 0}),
        (0, 9999, [("only", 5, 10000, 3)], {"only": 3}),
        (0, 5, [], {}),
    ],
)
def test_v2_jumps_at_the_least_cost(required: float, spare: float, variants: list[Any], targets: dict[str, int]):
    assert cost_aware(required, spare, [VariantCapacity(*row) for row in variants]) == targets


def test_pending_replicas_do_not_bar_a_variant_in_v2():
    assert cost_aware(5.0, 0.0, [VariantCapacity("a", 1, 10, 2, pending=2)]) == {"a": 3}


# The scalers
def seen(t_s: float, ready: int = 4, pending: int = 0, **changes: Any):
    fleet = {"ready": np.array([ready]), "pending": np.array([pending]), "target": np.array([ready + pending])}
    load = {"arrival_per_s": 20.0, "running": 160.0, "ready_at_scrape": np.array([ready])}
    occupied = {"compute_occupancy": np.array([0.5]), "memory_occupancy": np.array([0.25])}
    return observation(changes.pop("limits", limits_of()), t_s=t_s, **(fleet | load | occupied | changes))


def test_v1_moves_by_one_and_v2_jumps():
    hot = {"memory_occupancy": np.array([0.9]), "compute_occupancy": np.array([1.8]), "waiting": 600.0}
    assert KINDS["llmd-v1"].build(limits_of()).decide(seen(0.0, **hot)).target == (5,)
    assert KINDS["llmd-v2"].build(limits_of()).decide(seen(0.0, **hot)).target[0] > 8


def test_v1_freezes_while_replicas_come():
    hot = {"memory_occupancy": np.array([0.9]), "waiting": 600.0}
    assert "in transition" in KINDS["llmd-v1"].build(limits_of()).decide(seen(0.0, pending=2, **hot)).reason


def test_v1_passes_over_a_full_pool():
    limits = limits_of(2)
    limits.max_replicas[1] = 0
    now = observation(
        limits, ready=np.array([3, 0]), memory_occupancy=np.array([0.9, math.nan]), arrival_per_s=9.0, waiting=300.0
    )
    assert KINDS["llmd-v1"].build(limits).decide(now).target == (4, 0)


def test_v2_counts_in_sequences_at_the_slo_when_memory_is_ample():
    rule = KINDS["llmd-v2"].build(limits_of())  # 4 replicas at half of their sequences: 2 / 0.70 are wanted
    assert rule.decide(seen(0.0)).target == (3,)
    assert rule.decide(
        seen(60.0, ready=3, compute_occupancy=np.array([0.9]), memory_occupancy=np.array([0.45]))
    ).target == (4,)


def test_the_queueing_scaler_sizes_by_the_arrival_rate():
    rule = KINDS["llmd-queueing"].build(limits_of(), stability_safety_fraction=0.0)
    best = rule.best_rates()[0]
    assert 8.0 < best < 10.0
    assert rule.decide(seen(0.0, arrival_per_s=100.0)).target == (math.ceil(100 / best),)
    assert rule.decide(seen(60.0, arrival_per_s=1e6)).target == (40,)  # all there are
    assert rule.decide(seen(120.0, arrival_per_s=0.0, waiting=1.0)).target == (1,)


def test_longer_prompts_need_more_replicas():
    rule = KINDS["llmd-queueing"].build(limits_of())
    targets = [rule.decide(seen(60.0 * k, prompt_tokens=n, answer_tokens=200.0, arrival_per_s=100.0)).target[0]
               for k, n in enumerate((1000.0, 4000.0))]  # fmt: skip
    assert targets[1] > targets[0]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "bad",
    [{"waiting": math.nan}, {"arrival_per_s": math.nan}, {"memory_occupancy": np.array([math.nan])}, {"age_s": 1e4}],
)
def test_without_metrics_the_scalers_hold(name: str, bad: dict[str, Any]):
    decision = KINDS[name].build(limits_of()).decide(seen(0.0, **bad))
    assert (decision.target, decision.reason[:4]) == ((4,), "hold")


@pytest.mark.parametrize("name", KINDS)
def test_to_and_from_zero(name: str):
    limits = limits_of()
    limits.min_replicas[:] = 0
    rule = KINDS[name].build(limits)
    calm = {"arrival_per_s": 0.0, "running": 0.0, "memory_occupancy": np.zeros(1), "compute_occupancy": np.zeros(1)}
    rule.decide(seen(0.0, 1, limits=limits))
    assert rule.decide(seen(1200.0, 1, limits=limits, **calm)).target == (0,)
    assert rule.decide(seen(1260.0, 0, limits=limits, **calm | {"waiting": 1.0})).target == (1,)
    limits.max_replicas[:] = 0
    assert KINDS[name].build(limits).decide(seen(0.0, 0, limits=limits, **calm | {"waiting": 1.0})).target == (0,)


@pytest.mark.parametrize("name", KINDS)
def test_between_optimisations_the_scalers_hold(name: str):
    rule = KINDS[name].build(limits_of())
    rule.decide(seen(0.0))
    assert rule.decide(seen(15.0)).reason == "hold: between optimisations"


@pytest.mark.parametrize("name", KINDS)
def test_state_survives_a_restart(name: str):
    first, second, fleet = (
        KINDS[name].build(limits_of(2)),
        KINDS[name].build(limits_of(2)),
        ToyFleet(limits_of(2), 40.0),
    )
    drive(first, fleet, 30)
    second.restore(json.loads(json.dumps(first.state())))
    fleet.t_s += 60.0
    now = fleet.measure()
    assert second.decide(now) == first.decide(now)
    first.reset()
    assert first.state() == KINDS[name].build(limits_of(2)).state()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("end", [1, 2])
def test_ends_of_the_search_space_can_be_run(name: str, end: int):
    chosen = {key: space[end] for key, space in SEARCH[name].items()}
    assert min(totals(drive(KINDS[name].build(limits_of(), **chosen), ToyFleet(limits_of(), 40.0), 40))) >= 1


def test_impossible_settings_are_refused():
    with pytest.raises(ScenarioError, match=r"scale_down_boundary = 0\.9"):
        KINDS["llmd-v2"].build(limits_of(), scale_down_boundary=0.9)
    with pytest.raises(ScenarioError, match="base_share = 1"):
        KINDS["llmd-queueing"].build(limits_of(), base_share=1)
    with pytest.raises(ScenarioError, match="kv_threshold = 0"):
        KINDS["llmd-v1"].build(limits_of(), kv_threshold=0)


def test_defaults_are_upstreams():
    assert UPSTREAM_DEFAULTS["llm-d-wva V1"] == {
        "kv_threshold": 0.8, "queue_threshold": 5, "kv_spare_trigger": 0.1, "queue_spare_trigger": 3,
    }  # fmt: skip
