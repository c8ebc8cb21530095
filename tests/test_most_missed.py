"""The ten behaviours of production autoscalers that reimplementations miss most, each as a short story of numbers."""

from __future__ import annotations

import pytest

from agents.aibrix_rules import Context, Controller
from agents.aws_rules import Step, StepPolicy
from agents.azure import Autoscale, Rule, calm_count
from agents.cluster_autoscaler_expanders import Template
from agents.cluster_autoscaler_nodes import Requests, Unneeded, eligible, utilisation
from agents.hpa_calculator import Calculator, Proposal, Tolerance
from agents.hpa_pods import Container, MetricError, Pod, Sample
from agents.hpa_reconcile import HorizontalAutoscaler
from agents.keda_executor import Executor, ScaledObject, hpa_bounds, is_active
from agents.knative_kpa import Autoscaler, DeciderSpec
from agents.knative_windows import TimedBuckets


def pods(count: int, request_milli: int = 1000) -> list[Pod]:
    return [Pod(f"pod-{i}", containers=(Container("server", request_milli),)) for i in range(count)]


def using(*milli: int) -> dict[str, Sample]:
    return {f"pod-{i}": Sample(value) for i, value in enumerate(milli)}


def proposes(replicas: int):
    return lambda current, tolerance: Proposal(replicas, 0)


def fails(current: int, tolerance: Tolerance) -> Proposal:
    raise MetricError("no metrics")


def test_1_hpa_cuts_utilisation_to_whole_percent_before_it_forms_a_ratio():
    # Ten pods use 5509 of 10000 thousandths: 55.09 %, which is 55 %. Against a target of 50 % the ratio is
    # exactly 1.10, and the upper end belongs to the tolerance. A floating-point 1.1018 would have added two pods.
    proposal = Calculator().resource_utilization(pods(10), using(*[551] * 9, 550), target_pct=50, current=10)
    assert proposal.utilization_pct == 55
    assert proposal.replicas == 10
    # One more percent is beyond it: ceil(56 / 50 * 10).
    assert Calculator().resource_utilization(pods(10), using(*[560] * 10), target_pct=50, current=10).replicas == 12


def test_2_hpa_takes_a_missing_pod_for_idle_on_the_way_up_and_for_full_on_the_way_down():
    # Up: three pods at 100 % of a target of 50 % say 2.0. The fourth has no sample and counts as 0 %: 300/400 is
    # 75 %, the ratio 1.5, and four samples make 6. Ratio 2.0 times the current count would have been 8.
    up = Calculator().resource_utilization(pods(4), using(1000, 1000, 1000), target_pct=50, current=4)
    assert up.replicas == 6
    # Down: three pods at 10 % say 0.2. The fourth counts as all it requested: 130/400 is 32 %, the ratio 0.64, 3 pods.
    down = Calculator().resource_utilization(pods(4), using(100, 100, 100), target_pct=50, current=4)
    assert down.replicas == 3
    # On the way down it can also stop the move: with two of four missing 220/400 is 55 %, on the other side of 1.
    assert Calculator().resource_utilization(pods(4), using(100, 100), target_pct=50, current=4).replicas == 4


def test_3_hpa_with_one_broken_metric_grows_by_the_others_and_does_not_shrink_by_them():
    for replicas, expected in ((8, 8), (5, 5), (3, 5)):
        scaler = HorizontalAutoscaler(1, 20, downscale_stabilization_s=0.0)
        assert scaler.sync(0.0, 5, [proposes(replicas), fails]).replicas == expected
    scaler = HorizontalAutoscaler(1, 20, downscale_stabilization_s=0.0)
    scaler.sync(0.0, 5, [proposes(5)])
    assert scaler.sync(15.0, 5, [proposes(3)]).replicas == 3  # when all metrics are there
    assert scaler.sync(30.0, 3, [fails]).replicas == 3


@pytest.mark.parametrize(("current", "expected"), [(1, 4), (2, 4), (3, 6), (10, 20), (60, 100)])
def test_4_hpa_without_behavior_grows_to_the_larger_of_four_and_twice_the_count(current: int, expected: int):
    # Not the policy of 4 pods in 15 s: from 1 that would allow 5, from 3 it would allow 7.
    scaler = HorizontalAutoscaler(1, 100)
    assert scaler.sync(0.0, current, [proposes(1000)]).replicas == expected


def test_5_knative_panics_on_the_unclamped_demand_and_leaves_strictly_after_the_stable_window():
    # One pod, target 10, at most three times as many at once. A panic value of 100 wants 10 pods: 10 >= 2 x 1 panics,
    # though only 3 may be had. With a limit of 1.5 the clamped 2 pods would not have said so for a threshold of 3.
    spec = DeciderSpec(10.0, 10.0, max_scale_up_rate=1.5, panic_threshold=3.0)
    scaler = Autoscaler(spec, 1, 0.0)
    assert scaler.scale(0.0, 1, 10.0, 100.0).desired == 2
    assert scaler.in_panic
    # The load is gone at once. For 60 s it keeps what it had, and at exactly 60 s still: the test is strict.
    assert scaler.scale(30.0, 2, 10.0, 10.0).desired == 2
    scaler.scale(60.0, 2, 10.0, 10.0)
    assert scaler.in_panic
    assert scaler.scale(62.0, 2, 10.0, 10.0).desired == 1
    assert not scaler.in_panic
    # At exactly the threshold it panics: 3 wanted of 1.
    assert not scaler.scale(64.0, 1, 10.0, 29.0).desired > 2 and scaler.in_panic


def test_6_knative_divides_by_the_seconds_seen_while_its_window_fills_up():
    # Ten seconds of 12 concurrent requests are 12, not 12 * 10 / 60 = 2: six times too few pods.
    window = TimedBuckets(60.0)
    for second in range(10):
        window.record(float(second), 12.0)
    assert window.average(9.0) == 12.0
    # Trailing silence leaves the divisor, a hole inside does not: 10 writes over 11 seconds.
    assert window.average(12.0) == 12.0
    window.record(11.0, 12.0)
    assert window.average(11.0) == pytest.approx(12.0 * 11 / 12, abs=1e-6)


def test_7_keda_activates_above_the_threshold_only_and_an_error_does_not_count_as_activity():
    assert not is_active(5.0, 5.0) and is_active(5.1, 5.0) and not is_active(0.0, 0.0)
    executor = Executor(ScaledObject(0, 10, cooldown_s=300.0))
    assert executor.poll(0.0, 0, active=True).replicas == 1
    executor.poll(30.0, 1, active=True)
    # Active, but a trigger failed: the state is unknown and the last activity stays at 30 s.
    assert executor.poll(60.0, 1, active=True, failed=True).ready == "Unknown"
    assert executor.last_active_s == 30.0
    assert executor.poll(330.0, 1, active=False).replicas == 1  # at exactly 300 s it waits: strict
    assert executor.poll(360.0, 1, active=False).replicas == 0
    # From N the autoscaler comes first, with a window of its own and a minimum of 1: cooldown over or not.
    low, high = hpa_bounds(0, 10)
    scaler = HorizontalAutoscaler(low, high)
    counts = [6]
    for second in range(0, 331, 15):
        counts.append(scaler.sync(float(second), counts[-1], [proposes(6 if second == 0 else 0)]).replicas)
    assert counts[1:22] == [6] * 21  # to 300 s, the 6 of the first sync included
    assert counts[22] == 1


def test_8_aibrix_stabilises_the_wrong_way_round():
    # Growing takes the largest and shrinking the smallest of its window, so neither is ever held back.
    controller = Controller("apa", Context(scale_up_cooldown_window_s=60.0, scale_down_cooldown_window_s=300.0))
    assert controller.stabilise(0.0, 3, 8) == 3  # at once: nothing waits for 300 s
    assert controller.stabilise(10.0, 6, 8) == 3  # and the smaller one from before rules over the present
    assert controller.stabilise(20.0, 9, 8) == 9
    assert controller.stabilise(30.0, 10, 9) == 10
    assert controller.stabilise(40.0, 11, 10) == 11
    assert controller.stabilise(50.0, 11, 10) == 11


def test_9_cluster_autoscaler_counts_requests_half_is_eligible_and_the_timer_starts_anew():
    node = Template(cpu_milli=4000, memory=16e9)
    half, more = Requests(2000, 4e9), Requests(2001, 4e9)
    assert utilisation(node, [half]) == 0.5
    assert eligible(0.5)  # what is requested, whatever is used
    assert not eligible(utilisation(node, [more]))
    timers = Unneeded()
    timers.update(0.0, ["node"])
    timers.update(590.0, ["node"])
    assert not timers.over(590.0, "node")
    timers.update(595.0, [])  # a pod comes for one scan
    timers.update(600.0, ["node"])
    assert not timers.over(600.0, "node")
    timers.update(1200.0, ["node"])
    assert timers.over(1200.0, "node")  # exactly ten minutes after it came back


def test_10_azure_projects_before_it_removes_and_aws_steps_know_to_which_side_a_bound_belongs():
    # Azure: in below 60, out above 80. Three instances at 57 would be two at 85.5, so none is removed; at 53 they
    # would be 79.5, so one is. Of five at 50 three would be 83.3: it tries the smaller step, four at 62.5.
    rules = (Rule("out", 80.0), Rule("in", 60.0, change=2))
    assert calm_count(3, 57.0, rules, 2) == 3
    assert calm_count(3, 53.0, rules, 2) == 2
    assert calm_count(5, 50.0, rules, 3) == 4
    assert Autoscale(rules).tick(0.0, 50.0, 5, (1, 10)) == 4
    # AWS, above 60: a lower bound is inclusive, an upper one exclusive. Below it is the other way round.
    out = StepPolicy(60.0, "above", [Step(0, 10, 10), Step(10, None, 30)])
    assert [out.capacity(10, metric) for metric in (59.9, 60.0, 69.9, 70.0)] == [10, 11, 11, 13]
    shrink = StepPolicy(40.0, "below", [Step(-10, 0, -10), Step(None, -10, -30)])
    assert [shrink.capacity(10, metric) for metric in (40.1, 40.0, 30.1, 30.0)] == [10, 9, 9, 7]
