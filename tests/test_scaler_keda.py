"""KEDA: executor and fallback, the scaler over both halves."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from agents import keda as family
from agents.hpa_pods import MetricError
from agents.keda import Keda
from agents.keda_executor import (
    UPSTREAM_DEFAULTS,
    Executor,
    Fallback,
    Health,
    ScaledObject,
    any_active,
    composed,
    hpa_bounds,
    is_active,
)
from rlscale.checks import ToyFleet, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Observation, ScalingLimits

ONE = limits_of()  # 80 sequences per replica at l_SLO


def from_zero() -> ScalingLimits:
    limits = limits_of()
    limits.min_replicas[:] = 0
    return limits


ZERO = from_zero()


def seen(t: float, replicas: int, requests: float, **changes: Any) -> Observation:
    return observation(ZERO, t_s=float(t), ready=np.array([replicas]), running=requests, **changes)


# Activation and bounds.
def test_a_trigger_is_active_strictly_above_its_threshold() -> None:
    assert [is_active(value, 5.0) for value in (4.9, 5.0, 5.1)] == [False, False, True]
    assert [is_active(value) for value in (0.0, 1.0, math.nan)] == [False, True, False]


def test_any_trigger_suffices_and_resource_metrics_alone_are_always_active() -> None:
    assert any_active([(1.0, 5.0), (6.0, 5.0)])
    assert not any_active([(1.0, 5.0)])
    assert any_active([], resources_only=True)


def test_the_autoscaler_never_sees_zero() -> None:
    assert hpa_bounds() == (1, 100)
    assert hpa_bounds(0, 7) == (1, 7)


# Executor.
def test_from_zero_the_executor_jumps_to_the_minimum_or_one_and_leaves_one_to_n_alone() -> None:
    assert Executor(ScaledObject()).poll(0.0, 0, active=True).replicas == 1
    assert Executor(ScaledObject(low=5)).poll(0.0, 0, active=True).replicas == 5
    assert Executor(ScaledObject(low=5)).poll(0.0, 3, active=True).replicas == 3  # the autoscaler's business
    assert Executor(ScaledObject(low=5)).poll(0.0, 3, active=False).replicas == 5


def test_idle_mode_jumps_straight_between_idle_and_the_minimum() -> None:
    executor = Executor(ScaledObject(low=5, idle=1))
    assert executor.poll(0.0, 1, active=True).replicas == 5
    assert executor.poll(30.0, 5, active=False).replicas == 5
    assert executor.poll(301.0, 5, active=False).replicas == 1
    assert executor.poll(331.0, 0, active=False).replicas == 0  # below the minimum, but idle mode is on
    with pytest.raises(ScenarioError, match="idle = 5"):
        ScaledObject(low=5, idle=5)


@pytest.mark.parametrize(("age_s", "replicas"), [(299.0, 4), (300.0, 4), (300.1, 0)])
def test_the_cooldown_is_over_strictly_after_it(age_s: float, replicas: int) -> None:
    executor = Executor(ScaledObject())
    executor.poll(0.0, 4, active=True)
    assert executor.poll(age_s, 4, active=False).replicas == replicas


@pytest.mark.parametrize(("t_s", "replicas"), [(0.0, 4), (200.0, 4), (200.1, 0)])
def test_before_any_activity_the_initial_cooldown_counts_from_creation(t_s: float, replicas: int) -> None:
    executor = Executor(ScaledObject(initial_cooldown_s=200.0), created_s=0.0)
    assert executor.poll(t_s, 4, active=False).replicas == replicas


def test_an_error_does_not_count_as_activity() -> None:
    executor = Executor(ScaledObject())
    executor.poll(0.0, 4, active=True)
    assert executor.poll(200.0, 4, active=True, failed=True).ready == "Unknown"
    assert executor.last_active_s == 0.0
    assert executor.poll(301.0, 4, active=False).replicas == 0


def test_an_inactive_service_with_errors_is_left_alone() -> None:
    plain = Executor(ScaledObject(), created_s=-1e6)
    assert plain.poll(0.0, 4, active=False, failed=True).replicas == 4
    assert plain.poll(0.0, 4, active=False, failed=True).ready == "False"
    falling_back = Executor(ScaledObject(fallback=Fallback(3, 10)), created_s=-1e6)
    assert falling_back.poll(0.0, 4, active=False, failed=True).replicas == 4
    useless = Executor(ScaledObject(fallback=Fallback(3, 0)), created_s=-1e6)
    assert useless.poll(0.0, 4, active=False, failed=True).replicas == 0


def test_pausing_forces_a_count_or_blocks_a_direction() -> None:
    assert Executor(ScaledObject(paused=7)).poll(0.0, 2, active=True).replicas == 7
    out = Executor(ScaledObject(paused_out=True))
    assert (out.poll(0.0, 0, active=True).replicas, out.last_active_s) == (0, None)
    assert Executor(ScaledObject(paused_in=True), created_s=-1e6).poll(0.0, 3, active=False).replicas == 3
    assert Executor(ScaledObject(force_activation=True)).poll(0.0, 0, active=False).replicas == 1


def test_an_executor_continues_from_its_state_and_a_new_one_has_never_been_active() -> None:
    executor = Executor(ScaledObject(), created_s=-1000.0)
    executor.poll(0.0, 4, active=True)
    restored = Executor(ScaledObject())
    restored.restore(json.loads(json.dumps(executor.state())))
    for t_s in (100.0, 300.0, 301.0):
        assert restored.poll(t_s, 4, active=False) == executor.poll(t_s, 4, active=False)
    assert Executor(ScaledObject(), created_s=-1000.0).poll(100.0, 4, active=False).replicas == 0


# Fallback.
def test_the_fallback_begins_after_more_failures_than_the_threshold_and_a_success_resets_them() -> None:
    health, fallback = Health(), Fallback(3, 10)
    for _ in range(3):
        with pytest.raises(MetricError):
            health.read(None, 5.0, fallback)
    assert health.read(None, 5.0, fallback) == 50.0
    assert (health.failures, health.status) == (4, "Failing")
    assert health.read(7.0, 5.0, fallback) == 7.0
    assert (health.failures, health.status) == (0, "Happy")


@pytest.mark.parametrize(
    ("behavior", "current", "replicas"),
    [
        ("static", 4, 10),
        ("currentReplicas", 4, 4),
        ("currentReplicasIfHigher", 4, 10),
        ("currentReplicasIfHigher", 15, 15),
        ("currentReplicasIfLower", 4, 4),
        ("currentReplicasIfLower", 15, 10),
    ],
)
def test_what_a_metric_reads_in_fallback(behavior, current: int, replicas: int) -> None:
    assert Health(9).read(None, 2.0, Fallback(3, 10, behavior), current=current) == 2.0 * replicas


def test_a_value_metric_is_divided_by_the_ready_replicas() -> None:
    assert Health(9).read(None, 10.0, Fallback(3, 6), "Value", ready=4) == 15.0
    with pytest.raises(MetricError):
        Health(9).read(None, 10.0, Fallback(3, 6), "Value", ready=0)


@pytest.mark.parametrize("fallback", [None, Fallback(-3, 10), Fallback(3, -10)])
def test_without_a_valid_fallback_the_error_is_passed_on(fallback: Fallback | None) -> None:
    with pytest.raises(MetricError):
        Health(9).read(None, 10.0, fallback)


def test_a_composite_fails_with_any_of_its_triggers() -> None:
    assert composed(lambda a, b: a + b, 1.0, 2.0) == 3.0
    assert composed(lambda a, b: a + b, 1.0, None) is None


# Scaler.
def polls(keda: Keda, rows: list[tuple[float, int, float]]) -> list[int]:
    return [keda.decide(seen(t, replicas, requests)).target[0] for t, replicas, requests in rows]


def test_keda_starts_the_first_replica_at_a_poll_and_the_autoscaler_adds_the_rest_later() -> None:
    keda = Keda(ZERO, target=0.5)
    assert polls(keda, [(0, 0, 0.0), (15, 0, 400.0), (30, 0, 400.0), (45, 1, 400.0)]) == [0, 0, 1, 4]


def test_keda_waits_for_the_autoscalers_window_to_reach_one_and_for_the_cooldown_to_reach_zero() -> None:
    keda, counts, replicas = Keda(ZERO, target=0.5, cooldown_s=600.0), [], 8
    for t in range(0, 900, 15):
        replicas = keda.decide(seen(t, replicas, 320.0 if t < 30 else 0.0)).target[0]
        counts.append(replicas)
    assert counts == [8] * 22 + [1] * 20 + [0] * 18  # 15 s + 300 s not older; last active at 0 s + 600 s < 630 s


def test_the_executor_takes_a_pool_to_zero_from_any_count() -> None:
    keda = Keda(ZERO, target=0.5, cooldown_s=60.0)
    assert polls(keda, [(0, 8, 320.0), (30, 8, 0.0), (60, 8, 0.0), (90, 8, 0.0)]) == [8, 8, 8, 0]


def test_a_little_load_below_the_activation_threshold_does_not_wake_the_service() -> None:
    assert polls(Keda(ZERO, activation=10.0), [(0, 0, 10.0), (30, 0, 10.5)]) == [0, 1]


def test_failures_hold_and_then_fall_back() -> None:
    blind = [seen(30.0 * turn, 2, math.nan) for turn in range(5)]
    held = Keda(ZERO)
    assert [held.decide(one).target[0] for one in blind] == [2] * 5
    falling_back = Keda(ZERO, fallback_replicas=4, fallback_failures=3)
    assert [falling_back.decide(one).target[0] for one in blind] == [2, 2, 2, 4, 4]


def test_between_polls_and_syncs_keda_holds() -> None:
    keda = Keda(ZERO)
    keda.decide(seen(0, 1, 40.0))
    decision = keda.decide(seen(5, 1, 400.0))
    assert decision.target == (1,)
    assert "between" in decision.reason


def test_in_a_closed_circle_keda_sleeps_wakes_and_settles() -> None:
    """A quiet quarter of an hour, then 60 requests/s for 100 minutes; no randomness."""
    fleet = ToyFleet(ZERO, 0.0, start_s=60.0)
    keda = Keda(ZERO, target=0.5)
    assert totals(drive(keda, fleet, 60))[-1] == 0
    fleet.rate_per_s = 60.0
    awake = totals(drive(keda, fleet, 400))
    assert max(awake[:3]) >= 1
    assert 11 <= awake[-1] <= 14
    assert set(awake[-20:]) == {awake[-1]}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": 0.0}, "target"),
        ({"activation": math.nan}, "activation"),
        ({"polling_s": 0.0}, "polling_s"),
        ({"cooldown_s": -1.0}, "cooldown_s"),
        ({"fallback_behavior": "dynamic"}, "fallback_behavior"),
        ({"behavior": "none"}, "behavior"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        Keda(ONE, **settings)


def test_a_service_that_may_not_run_is_left_at_nothing() -> None:
    limits = from_zero()
    limits.max_replicas[:] = 0
    decision: Decision = Keda(limits).decide(observation(limits, ready=np.array([0]), waiting=50.0))
    assert decision.target == (0,)


def test_both_ends_of_every_searched_parameter_can_be_built() -> None:
    for parameter, (_, *values) in family.SEARCH["keda"].items():
        for value in values:
            Keda(ONE, **{parameter: value})


def test_upstreams_defaults_are_the_ones_in_use() -> None:
    declared, keda, wanted = UPSTREAM_DEFAULTS["keda"], Keda(ONE), ScaledObject()
    assert declared["polling_interval_s"] == keda.keda.polling_s
    assert declared["cooldown_period_s"] == keda.keda.cooldown_s == wanted.cooldown_s
    assert declared["initial_cooldown_s"] == wanted.initial_cooldown_s
    assert (declared["min_replicas"], declared["max_replicas"]) == (wanted.low, wanted.high)
