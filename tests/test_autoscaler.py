"""The friendly face, as a beginner meets it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rlscale.autoscaler import AutoScaler
from rlscale.checks import ToyFleet, limits_of
from rlscale.errors import ScenarioError


def metrics(instances: int = 4, cpu: float | None = 0.5, memory: float | None = 0.5, **more: Any) -> dict[str, Any]:
    return {"instances": instances, "cpu_utilization": cpu, "memory_utilization": memory, **more}


def asked(scaler: AutoScaler, **now: Any) -> int:
    """One round of the circle on a dictionary of metrics."""
    scaler.monitor(metrics(**now))
    scaler.decide()
    return scaler.scale()[0]


def test_the_circle_on_a_dictionary():
    scaler = AutoScaler(min_instances=1, max_instances=10)
    scaler.monitor({"instances": 4, "cpu_utilization": 0.9, "memory_utilization": 0.4})
    assert scaler.predict() == (3.6, 1.6)
    assert scaler.decide().reason == "compute needs 4.5, memory 2"
    assert scaler.scale() == (5,)
    after = scaler.feedback({"instances": 5, "cpu_utilization": 0.72, "memory_utilization": 0.32})
    assert after == {"target": 5.0, "ready": 5.0, "cpu_utilization": 0.72, "memory_utilization": pytest.approx(0.32)}


def test_the_larger_need_wins():
    assert asked(AutoScaler(), cpu=0.4, memory=1.0) == 5
    assert asked(AutoScaler(), cpu=1.0, memory=0.4) == 5
    assert asked(AutoScaler(target_cpu_utilization=0.5), cpu=1.0, memory=1.0) == 8


def test_near_the_target_nothing_moves():
    assert asked(AutoScaler(), cpu=0.87) == 4


def test_the_limits_hold():
    assert asked(AutoScaler(max_instances=6), cpu=2.0) == 6
    scaler = AutoScaler(min_instances=3)
    assert [asked(scaler, instances=4, cpu=0.0, memory=0.0, time_s=t) for t in (0, 300, 600)] == [3, 3, 3]


def test_what_was_ordered_is_not_ordered_again():
    scaler = AutoScaler(max_instances=40)
    for t in range(0, 300, 15):
        assert asked(scaler, instances=4, cpu=1.6, time_s=t) == 8


def test_instances_that_start_can_be_given_as_pending():
    assert asked(AutoScaler(), instances=4, pending=4, cpu=1.6) == 8


def test_scaling_in_is_slow_and_gradual():
    scaler = AutoScaler(max_instances=40)
    assert asked(scaler, instances=10, cpu=0.8, time_s=0) == 10
    assert asked(scaler, instances=10, cpu=0.1, memory=0.1, time_s=285) == 10  # five calm minutes first
    assert asked(scaler, instances=10, cpu=0.1, memory=0.1, time_s=300) == 8  # a fifth at a time
    assert asked(scaler, instances=8, cpu=0.1, memory=0.1, time_s=585) == 8
    assert asked(scaler, instances=8, cpu=0.1, memory=0.1, time_s=600) == 7


def test_no_traffic_scales_in_to_the_minimum():
    scaler = AutoScaler()
    counts = [4]
    for t in range(0, 1800, 15):
        counts.append(asked(scaler, instances=counts[-1], cpu=0.0, memory=0.0, time_s=t))
    assert counts[-1] == 1


def test_scaled_to_zero_the_first_request_starts_one():
    scaler = AutoScaler(min_instances=0)
    assert asked(scaler, instances=0, cpu=None, memory=None, requests_per_s=0.0) == 0
    assert asked(scaler, instances=0, cpu=None, memory=None, requests_per_s=0.2) == 1


@pytest.mark.parametrize("missing", [{"cpu": None}, {"memory": math.nan}])
def test_a_missing_metric_holds(missing: dict[str, Any]):
    scaler = AutoScaler()
    assert asked(scaler, **({"cpu": 1.0, "memory": 1.0} | missing)) == 4
    assert scaler.decision is not None
    assert "hold: no value" in scaler.decision.reason


def test_growing_traffic_is_met_before_it_arrives():
    scaler = AutoScaler(max_instances=40)
    for k in range(60):
        scaler.monitor(metrics(instances=10, cpu=0.7, requests_per_s=100.0 + 10 * k, time_s=15.0 * k))
    compute, _ = scaler.predict()
    assert 7.0 < compute <= 14.0  # more than is busy now, never more than twice


def test_falling_traffic_is_not_met_before_it_has_fallen():
    scaler = AutoScaler()
    for k in range(20):
        scaler.monitor(metrics(instances=10, cpu=0.7, requests_per_s=1000.0 - 50 * k, time_s=15.0 * k))
    assert scaler.predict()[0] >= 7.0


def test_a_world_is_told_and_asked():
    fleet = ToyFleet(limits_of(), rate_per_s=90.0, start_s=60.0)  # 9 replicas, all busy
    scaler = AutoScaler(max_instances=40, world=fleet)
    for _ in range(20):
        scaler.monitor()
        scaler.predict()
        scaler.decide()
        scaler.scale()
        after = scaler.feedback()
    assert after == {"target": 12.0, "ready": 12.0, "cpu_utilization": 0.75, "memory_utilization": 0.375}


def test_as_a_scaler_it_forgets_on_reset():
    scaler = AutoScaler()
    asked(scaler, cpu=1.0)
    scaler.reset()
    assert scaler.seen is None
    assert scaler.target == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"min_instances": 5, "max_instances": 2}, "min_instances = 5, max_instances = 2; expected min <= max"),
        ({"min_instances": -1}, "min_instances = -1; expected a whole number"),
        ({"min_instances": 0, "max_instances": 0}, "max at least 1"),
        ({"max_instances": 2.5}, "max_instances = 2.5; expected a whole number"),
        ({"max_instances": True}, "max_instances = True"),
        ({"target_cpu_utilization": 0.0}, "target_cpu_utilization = 0.0; expected a share"),
        ({"target_cpu_utilization": 80}, "target_cpu_utilization = 80; expected a share"),
        ({"target_memory_utilization": math.nan}, "target_memory_utilization = nan"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], said: str):
    with pytest.raises(ScenarioError, match=said):
        AutoScaler(**arguments)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cpu_utilisation": 0.5}, "did you mean 'cpu_utilization'"),
        ({"cpu_utilization": 85}, "such as 0.85 for 85 %"),
        ({"cpu_utilization": "high"}, "'high'; expected a number"),
        ({"memory_utilization": -0.1}, "memory_utilization = -0.1"),
        ({"requests_per_s": -3}, "0 or more"),
        ({"instances": None}, "instances = None; expected how many"),
    ],
)
def test_impossible_metrics_are_refused(given: dict[str, Any], said: str):
    with pytest.raises(ScenarioError, match=said):
        AutoScaler().monitor(metrics() | given)


def test_metrics_without_the_number_of_instances_are_refused():
    with pytest.raises(ScenarioError, match="instances = None; expected how many"):
        AutoScaler().monitor({"cpu_utilization": 0.5})


@pytest.mark.parametrize("stage", ["predict", "decide", "scale", "feedback"])
def test_a_stage_before_monitor_says_so(stage: str):
    with pytest.raises(ScenarioError, match=f"{'decide' if stage == 'scale' else stage}\\(\\) before monitor"):
        getattr(AutoScaler(), stage)()


def test_monitoring_nothing_says_what_is_needed():
    with pytest.raises(ScenarioError, match="pass a dictionary or give a world"):
        AutoScaler().monitor()


def test_a_world_that_measures_something_else_is_named():
    class Odd(ToyFleet):
        def measure(self):
            return 42

    with pytest.raises(ScenarioError, match=r"measure\(\) gave a int"):
        AutoScaler(world=Odd(limits_of(), 10.0)).monitor()
