"""The Kubernetes HPA's replica calculator: what is most often done differently, one statement each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.hpa_calculator import (
    MAX_INT32,
    MAX_INT64,
    Calculator,
    Proposal,
    Tally,
    Tolerance,
    by_average,
    by_utilization,
    by_value,
    by_value_per_pod,
)
from agents.hpa_pods import (
    Container,
    MetricError,
    Pod,
    Readiness,
    Sample,
    group_pods,
    pod_request_milli,
    scoped_usage_milli,
)

TEN = Tolerance(0.1, 0.1)


def test_utilisation_is_cut_to_whole_percent_before_the_ratio() -> None:
    """50.99 % of 45 % would be 1.133; the whole 50 % is 1.11, and with 46 % 1.087, within the tolerance."""
    tally = Tally(10, 10, 5099, known=10, requests_milli=10_000)
    assert by_utilization(tally, 45, 10, TEN) == Proposal(12, 509, 50)
    assert by_utilization(tally, 46, 10, TEN).replicas == 10


def test_the_average_is_cut_to_thousandths_before_the_ratio() -> None:
    assert by_average(Tally(3, 3, 3 * 22_000 + 2), 20_000, 3, TEN) == Proposal(3, 22_000)
    assert by_average(Tally(3, 3, 3 * 22_000 + 3), 20_000, 3, TEN).replicas == 4


@pytest.mark.parametrize(("average", "replicas"), [(9, 10), (11, 10), (8, 8), (12, 12)])
def test_both_ends_of_the_tolerance_belong_to_it(average: int, replicas: int) -> None:
    assert by_average(Tally(10, 10, average * 10_000), 10_000, 10, TEN).replicas == replicas


def test_the_ratio_multiplies_the_ready_pods_not_the_current_count() -> None:
    assert by_average(Tally(2, 2, 60_000), 20_000, 5, TEN).replicas == 3
    assert by_value([50_000], 10_000, current=3, ready=1, tolerance=TEN).replicas == 5


def test_missing_pods_are_at_the_target_when_shrinking_and_idle_when_growing() -> None:
    assert by_average(Tally(2, 2, 20_000, missing=1), 20_000, 3, TEN).replicas == 2
    assert by_average(Tally(2, 2, 80_000, missing=1), 20_000, 3, TEN).replicas == 4
    assert by_average(Tally(2, 2, 40_000, missing=1), 20_000, 3, TEN).replicas == 3  # exactly at it: not filled


def test_a_missing_pod_uses_its_whole_request_or_the_target_if_that_is_more() -> None:
    pods = [Pod(name, containers=(Container("c", 1000),)) for name in "abc"]
    samples = {"a": Sample(300), "b": Sample(300)}
    wanted = Calculator(TEN).resource_utilization
    assert wanted(pods, samples, 60, 3).replicas == 3  # (300 + 300 + 1000) / 3000 is 53 %
    assert wanted(pods, samples, 150, 3).replicas == 2  # (300 + 300 + 1500) / 3000 is 70 %


def test_unready_pods_are_left_out_when_shrinking_and_idle_when_growing() -> None:
    assert by_average(Tally(4, 4, 40_000, unready=4), 20_000, 8, TEN).replicas == 2
    assert by_average(Tally(4, 4, 160_000, unready=4), 20_000, 8, TEN).replicas == 8
    assert by_average(Tally(4, 4, 160_000, unready=2), 20_000, 6, TEN).replicas == 8


def test_the_second_ratio_is_tested_too() -> None:
    """2 of 3 at 1.6 times the target: with the missing one 1.067, within the tolerance."""
    assert by_average(Tally(2, 2, 64_000, missing=1), 20_000, 3, TEN).replicas == 3


def test_a_second_ratio_on_the_other_side_of_one_changes_nothing() -> None:
    assert by_average(Tally(1, 1, 24_000, missing=1), 20_000, 2, TEN).replicas == 2


def test_a_count_against_the_direction_changes_nothing() -> None:
    """Twice the target on one pod of two: two replicas, but five are there."""
    assert by_average(Tally(1, 1, 60_000, missing=1), 20_000, 5, TEN).replicas == 5


@pytest.mark.parametrize(
    ("pod", "sample", "group"),
    [
        (Pod("p", deleted=True, phase="Pending"), None, "ignored"),
        (Pod("p", phase="Failed"), Sample(), "ignored"),
        (Pod("p", phase="Succeeded"), Sample(), "ignored"),
        (Pod("p", phase="Pending"), Sample(), "unready"),
        (Pod("p", ready=None, start_s=None), None, "missing"),
        (Pod("p", ready=None), Sample(), "unready"),
        (Pod("p", start_s=None), Sample(), "unready"),
        (Pod("p", start_s=-60.0, ready_transition_s=-30.0), Sample(t_s=0.0, window_s=60.0), "unready"),
        (Pod("p", start_s=-60.0, ready_transition_s=-50.0), Sample(t_s=10.0, window_s=60.0), "ready"),
        (Pod("p", ready=False, start_s=-60.0, ready_transition_s=-55.0), Sample(), "unready"),
        (Pod("p", ready=False, start_s=-120.0, ready_transition_s=-115.0), Sample(), "unready"),  # never was
        (Pod("p", ready=False, start_s=-120.0, ready_transition_s=-110.0), Sample(), "ready"),  # was once
    ],
)
def test_pods_are_grouped_by_the_first_rule_that_fits(pod: Pod, sample: Sample | None, group: str) -> None:
    samples = {} if sample is None else {"p": sample}
    groups = group_pods([pod], samples, "cpu", 0.0, Readiness(120.0, 10.0))
    assert groups.ready == (group == "ready")
    assert [name for name in ("unready", "missing", "ignored") if getattr(groups, name)] == [group][groups.ready :]


def test_readiness_matters_for_cpu_alone() -> None:
    pod = Pod("p", ready=None, start_s=None)
    assert group_pods([pod], {"p": Sample()}, "memory", 0.0, Readiness()).ready == 1


def test_sidecars_request_too_ordinary_init_containers_do_not() -> None:
    inits = (Container("setup", 5000), Container("sidecar", 30, restartable=True))
    pod = Pod("p", containers=(Container("a", 100), Container("b", 50)), init_containers=inits, request_milli=800)
    assert pod_request_milli(pod) == 180
    assert pod_request_milli(pod, pod_level=True) == 800
    assert pod_request_milli(pod, "sidecar", pod_level=True) == 30
    with pytest.raises(MetricError, match="setup not found"):
        pod_request_milli(pod, "setup")
    with pytest.raises(MetricError, match="missing request in container b"):
        pod_request_milli(replace(pod, containers=(Container("b", None),)))


def test_a_request_missing_on_an_ignored_pod_is_an_error_too() -> None:
    pods = [Pod("a", containers=(Container("c", 100),)), Pod("b", phase="Failed", containers=(Container("c", None),))]
    with pytest.raises(MetricError, match="pod b"):
        Calculator().resource_utilization(pods, {"a": Sample(50)}, 50, 1)


def test_usage_of_pods_that_are_not_listed_is_skipped_for_utilisation_and_counts_for_an_average() -> None:
    pods = [Pod("a", containers=(Container("c", 1000),))]
    samples = {"a": Sample(500), "stranger": Sample(4500)}
    assert Calculator().resource_utilization(pods, samples, 50, 1).utilization_pct == 50
    assert Calculator().pods_average(pods, samples, 500, 1) == Proposal(5, 2500)


def test_a_sample_without_one_of_its_containers_is_none() -> None:
    assert scoped_usage_milli({"a": 1, "b": 2}) == 3
    assert scoped_usage_milli({"a": 1, "b": 2}, "b") == 2
    assert scoped_usage_milli({"a": 1, "b": None}) is None
    assert scoped_usage_milli({}) is None
    assert scoped_usage_milli({"a": 1}, "b") is None


def test_without_samples_or_pods_there_is_no_proposal() -> None:
    pod = Pod("p", phase="Pending", containers=(Container("c", 100),))
    for pods, samples in (([], {}), ([pod], {}), ([pod], {"p": Sample(9)})):
        with pytest.raises(MetricError):
            Calculator().pods_average(pods, samples, 100, 1)
        with pytest.raises(MetricError):
            Calculator().resource_utilization(pods, samples, 50, 1)


def test_sums_and_counts_stay_at_the_ends_of_their_range() -> None:
    assert by_value([MAX_INT64, 1], 1, current=3, ready=3, tolerance=TEN) == Proposal(MAX_INT32, MAX_INT64)
    assert by_value_per_pod([MAX_INT64, MAX_INT64], 1, 2, TEN).replicas == MAX_INT32


def test_from_zero_the_ratio_alone_counts_and_the_tolerance_is_skipped() -> None:
    assert by_value([10_500], 10_000, current=0, ready=0, tolerance=TEN).replicas == 2
    assert by_value([10_500], 10_000, current=1, ready=1, tolerance=TEN).replicas == 1
    assert by_value_per_pod([10_500], 10_000, 0, TEN) == Proposal(2, 0)


def test_usage_per_pod_is_reported_rounded_up_over_all_replicas_that_exist() -> None:
    assert by_value_per_pod([8600], 2150, 3, TEN) == Proposal(4, 2867)
    assert by_value_per_pod([8600], 2900, 3, TEN).replicas == 3


@pytest.mark.parametrize("target", [0, -1])
def test_a_target_of_nothing_is_an_invalid_metric(target: int) -> None:
    with pytest.raises(MetricError, match="expected above 0"):
        by_value([1], target, 1, 1, TEN)
