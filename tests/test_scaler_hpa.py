"""Scalers on the Kubernetes HPA in a cluster: pods metric, external metric, utilisation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents import hpa as family
from agents.hpa import HPA, ExternalHPA, GpuHPA
from agents.hpa_calculator import Calculator, Tolerance
from agents.hpa_pods import Container, Pod, Sample
from rlscale.checks import ToyFleet, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError
from rlscale.types import Observation

ONE = limits_of()  # 80 sequences per replica at l_SLO


def seen(t: float, ready: int, share: float, pending: int = 0, **changes: Any) -> Observation:
    """`share`: running + waiting requests over the sequences of the ready replicas at l_SLO."""
    load = {"running": min(1.0, share) * ready * 80, "waiting": max(0.0, share - 1) * ready * 80}
    fleet = {"ready": np.array([ready]), "pending": np.array([pending]), "target": np.array([ready + pending])}
    return observation(ONE, t_s=float(t), **(fleet | load | {"ready_at_scrape": np.array([ready])} | changes))


def test_hpa_doubles_at_once_when_the_load_is_twice_the_target():
    assert HPA(ONE, target=0.5).decide(seen(t=0, ready=4, share=1.0)).target == (8,)


def test_hpa_leaves_ten_percent_alone():
    hpa = HPA(ONE, target=0.5)
    assert hpa.decide(seen(t=0, ready=4, share=0.55)).target == (4,)
    assert hpa.decide(seen(t=15, ready=4, share=0.56)).target == (5,)


def test_the_queue_counts_as_much_as_the_batch():
    assert HPA(ONE, target=1.0).decide(seen(t=0, ready=4, share=1.5)).target == (6,)


def test_hpa_grows_by_the_larger_of_four_replicas_and_a_doubling():
    assert HPA(ONE, target=0.1).decide(seen(t=0, ready=2, share=3.0)).target == (6,)
    assert HPA(ONE, target=0.1).decide(seen(t=0, ready=10, share=3.0)).target == (20,)


def test_hpa_waits_out_the_stabilisation_window():
    hpa = HPA(ONE, target=0.5)
    assert hpa.decide(seen(t=0, ready=4, share=1.0)).target == (8,)  # load doubles
    for t in range(15, 300, 15):
        assert hpa.decide(seen(t=t, ready=8, share=0.1)).target == (8,)  # 8 still in the window
    assert hpa.decide(seen(t=300, ready=8, share=0.1)).target == (2,)  # 8 has left


def test_a_fresh_controller_does_not_shrink_for_one_window():
    hpa = HPA(ONE, target=0.5)
    assert hpa.decide(seen(t=0, ready=8, share=0.1)).target == (8,)
    assert hpa.decide(seen(t=300, ready=8, share=0.1)).target == (2,)


def test_hpa_does_not_order_again_what_is_starting():
    hpa = HPA(ONE, target=0.5)
    assert hpa.decide(seen(t=0, ready=4, share=1.0)).target == (8,)
    for t in range(15, 315, 15):
        assert hpa.decide(seen(t=t, ready=4, pending=4, share=1.0)).target == (8,)


def test_hpa_does_not_order_twice_when_replicas_arrive_between_scrape_and_sync():
    late = seen(t=0, ready=8, share=1.0, ready_at_scrape=np.array([4]), running=320.0)
    assert HPA(ONE, target=0.5).decide(late).target == (8,)


def test_between_syncs_hpa_holds():
    hpa = HPA(ONE, target=0.5)
    assert hpa.decide(seen(t=0, ready=4, share=0.5)).target == (4,)
    between = hpa.decide(seen(t=5, ready=4, share=2.0))
    assert between.target == (4,)
    assert "between syncs" in between.reason
    assert hpa.decide(seen(t=15, ready=4, share=2.0)).target == (8,)


def test_a_count_outside_the_bounds_goes_to_them_without_a_window():
    assert HPA(ONE, target=0.5).decide(seen(t=0, ready=60, share=0.5)).target == (40,)


def test_a_failed_scrape_enters_no_window():
    hpa = HPA(ONE, target=0.5)
    hpa.decide(seen(t=0, ready=4, share=0.5))
    assert hpa.decide(seen(t=15, ready=4, share=0.5, running=math.nan)).target == (4,)
    assert hpa.decide(seen(t=315, ready=4, share=0.25)).target == (2,)


def test_a_service_whose_replicas_are_all_starting_is_held():
    starting = seen(t=0, ready=0, pending=3, share=0.0, waiting=50.0)
    assert HPA(ONE, target=0.5).decide(starting).target == (3,)


def test_every_pool_scales_its_own_replicas_by_the_same_ratio():
    two = limits_of(2)  # 80 and 40 sequences per replica
    fleet = {"ready": np.array([4, 2]), "running": 400.0}  # 400 of 400 sequences
    assert HPA(two, target=0.5).decide(observation(two, **fleet)).target == (8, 4)


def test_an_empty_pool_without_a_minimum_starts_as_soon_as_there_is_load():
    two = limits_of(2)
    fleet = {"ready": np.array([4, 0]), "running": 320.0}
    assert HPA(two, target=0.5).decide(observation(two, **fleet)).target == (8, 2)
    assert HPA(two, target=0.5).decide(observation(two, **(fleet | {"running": 0.0}))).target == (4, 0)


def test_a_failed_metric_still_lets_the_bounds_be_kept():
    decision = HPA(ONE).decide(seen(t=0, ready=60, share=0.5, running=math.nan))
    assert decision.target == (40,)
    assert "TooManyReplicas" in decision.reason


def test_the_reason_names_the_limit_that_ruled():
    assert "ScaleUpLimit" in HPA(ONE, target=0.1).decide(seen(t=0, ready=2, share=3.0)).reason
    assert "no value for waiting" in HPA(ONE).decide(seen(t=0, ready=2, share=3.0, waiting=math.nan)).reason


def test_without_a_behavior_section_the_fleet_at_most_doubles_or_goes_to_four():
    assert HPA(ONE, target=0.1, behavior="absent").decide(seen(t=0, ready=1, share=9.0)).target == (4,)
    assert HPA(ONE, target=0.1, behavior="absent").decide(seen(t=0, ready=3, share=9.0)).target == (6,)


def test_a_policy_of_one_replica_a_minute():
    hpa = HPA(ONE, target=0.1, up_pods=1, up_percent=0, up_period_s=60.0)
    counts, ready = [], 2
    for turn in range(9):
        ready = hpa.decide(seen(t=15 * turn, ready=ready, share=3.0)).target[0]
        counts.append(ready)
    assert counts == [3, 3, 3, 3, 4, 4, 4, 4, 5]


# External metric.
def test_an_external_total_asks_for_total_over_target_whatever_is_ready():
    assert ExternalHPA(ONE, target=0.5).decide(seen(t=0, ready=4, share=1.0)).target == (8,)
    starting = seen(t=0, ready=4, pending=4, share=1.0)
    assert ExternalHPA(ONE, target=0.5).decide(starting).target == (8,)
    assert ExternalHPA(ONE, target=0.5).decide(seen(t=0, ready=0, pending=2, share=0.0, waiting=160.0)).target == (4,)


def test_an_external_total_is_divided_over_pools_by_their_sequences():
    two = limits_of(2)  # 80 and 40 sequences per replica
    fleet = {"ready": np.array([4, 2]), "running": 400.0}  # 400 of 400 sequences
    assert ExternalHPA(two, target=0.5).decide(observation(two, **fleet)).target == (8, 4)


# Utilisation.
def test_utilisation_is_per_pool_and_cut_to_whole_percent():
    two = limits_of(2)
    fleet = {"ready": np.array([10, 4]), "compute_occupancy": np.array([0.5599, 0.25])}
    assert GpuHPA(two, target=0.5).decide(observation(two, **fleet)).target == (10, 4)  # 55 of 50 is within
    fleet["compute_occupancy"] = np.array([0.56, 0.25])
    assert GpuHPA(two, target=0.5).decide(observation(two, **fleet)).target == (12, 4)


def test_a_pool_without_replicas_has_no_utilisation_and_stays_empty():
    two = limits_of(2)
    fleet = {"ready": np.array([4, 0]), "compute_occupancy": np.array([1.0, math.nan])}
    decision = GpuHPA(two, target=0.5).decide(observation(two, **fleet))
    assert decision.target == (8, 0)
    assert "pool 1: ScalingDisabled" in decision.reason


# All three.
def test_counts_stand_for_the_very_pods():
    """Pods metric and utilisation from counts against the calculator on pods one by one: 400 fleets, seed 5."""
    rng, metrics = np.random.default_rng(5), Calculator(Tolerance(0.1, 0.1))
    for _ in range(400):
        sampled, missing, pending = 1 + int(rng.integers(6)), int(rng.integers(6)), int(rng.integers(6))
        share, current = float(rng.uniform(0.0, 2.0)), sampled + missing + pending
        pods = [Pod(f"r{k}", containers=(Container("gpu", 1000),)) for k in range(sampled + missing)]
        pods += [Pod(f"p{k}", phase="Pending", containers=(Container("gpu", 1000),)) for k in range(pending)]
        state = seen(0, sampled + missing, 0.0, pending, ready_at_scrape=np.array([sampled]))
        state = replace(state, running=share * 80 * sampled, compute_occupancy=np.array([share]))

        requests = {f"r{k}": Sample(int(share * 80 * 1000)) for k in range(sampled)}
        fed, _ = HPA(ONE)._metrics(state)
        assert fed[0](current, metrics.tolerance) == metrics.pods_average(pods, requests, 40_000, current)

        usage = {f"r{k}": Sample(int(share * 1000)) for k in range(sampled)}
        fed, _ = GpuHPA(ONE)._metrics(state)
        utilisation = metrics.resource_utilization(pods, usage, 50, current, 0.0, "gpu")
        assert fed[0](current, metrics.tolerance) == utilisation


SCALERS = [HPA, ExternalHPA, GpuHPA]


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("share", [0.35, 0.5, 0.8])
def test_in_a_closed_circle_occupancy_settles_at_the_target(scaler, share: float):
    """200 intervals at 60 requests/s, no randomness: busy replicas over all within the tolerance and one replica."""
    fleet = ToyFleet(ONE, 60.0, start_s=120.0)
    settled = totals(drive(scaler(ONE, target=share), fleet, 200))[-40:]
    assert set(settled) == {settled[0]}
    assert math.floor(6 / share / 1.11) <= settled[0] <= math.ceil(6 / share * 1.11) + 1


@pytest.mark.parametrize("scaler", SCALERS)
def test_a_service_that_may_not_run_is_left_at_nothing(scaler):
    limits = limits_of()
    limits.min_replicas[:] = limits.max_replicas[:] = 0
    nothing = observation(limits, ready=np.array([0]), waiting=50.0, arrival_per_s=5.0)
    assert scaler(limits).decide(nothing).target == (0,)


@pytest.mark.parametrize("scaler", SCALERS)
def test_metrics_that_are_old_or_impossible_hold(scaler):
    for odd in ({"age_s": 500.0}, {"running": -1.0, "compute_occupancy": np.array([-1.0])}):
        decision = scaler(ONE).decide(seen(t=0, ready=4, share=1.0, **odd))
        assert decision.target == (4,)
        assert decision.reason.startswith("hold")


@pytest.mark.parametrize("scaler", SCALERS)
def test_a_clock_that_goes_back_holds(scaler):
    running = scaler(ONE, target=0.5)
    running.decide(seen(t=600, ready=4, share=0.5))
    assert running.decide(seen(t=300, ready=4, share=2.0)).target == (4,)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": 0.0}, "target"),
        ({"target": math.nan}, "target"),
        ({"tolerance": -0.1}, "tolerance"),
        ({"sync_s": 0.0}, "sync_s"),
        ({"window_down_s": math.inf}, "window_down_s"),
        ({"behavior": "none"}, "behavior"),
    ],
)
@pytest.mark.parametrize("scaler", SCALERS)
def test_impossible_settings_are_refused(scaler, settings: dict[str, Any], said: str):
    with pytest.raises(ScenarioError, match=said):
        scaler(ONE, **settings)


@pytest.mark.parametrize("name", family.SEARCH)
def test_both_ends_of_every_searched_parameter_can_be_built(name: str):
    for parameter, (kind, *values) in family.SEARCH[name].items():
        assert kind in ("float", "log", "int", "choice")
        for value in values:
            family.SCALERS[name].build(ONE, **{parameter: value})
