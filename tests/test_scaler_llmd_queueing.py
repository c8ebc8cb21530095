"""The queueing model of the llm-d workload variant autoscaler, and its greedy solver."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agents.llmd_queueing import (
    Allocation,
    QueueModel,
    RequestSize,
    Server,
    ServiceParameters,
    Targets,
    bisection,
    sized,
    solve_greedy,
)
from agents.llmd_slo import calibrated
from rlscale.errors import ScenarioError

# Queueing model
SIZE = RequestSize(1000, 200)


def test_one_server_without_batching_is_the_textbook_queue():
    model = QueueModel(ServiceParameters(100.0, 0.0, 0.0), RequestSize(0, 1), max_batch=1, max_queue=9)
    p = np.array([0.5**n for n in range(11)])
    p /= p.sum()
    found = model.performance(5.0)
    assert found.rate_per_s == pytest.approx(5.0 * (1 - p[10]))
    assert found.sequences == pytest.approx(1 - p[0])
    assert found.wait_ms == pytest.approx(1000 * (np.arange(11) @ p - (1 - p[0])) / found.rate_per_s)


def test_an_iteration_takes_base_compute_and_memory():
    parameters = ServiceParameters(10.0, 0.02, 0.001)
    step = 10.0 + 4 * (0.02 * 1200 / 201 + 0.001 * 1100)
    assert parameters.iteration_ms(SIZE, 4) == pytest.approx(step)
    assert parameters.prefill_ms(SIZE, 4) == pytest.approx(step + 0.021 * 1000)
    assert parameters.decode_ms(SIZE, 4) == pytest.approx(step + 0.02 + 0.001 * 1100)
    assert parameters.prefill_ms(RequestSize(0, 10), 4) == 0.0


def test_the_best_rate_meets_the_targets_and_no_more_would():
    model = QueueModel(calibrated(80, 10.0, SIZE, 0.5, 0.5), SIZE, 80, 800)
    for targets in (Targets(ttft_ms=500), Targets(itl_ms=30), Targets(1000, 32)):
        rate = model.best_rate(targets)
        found, more = model.performance(rate), model.performance(1.01 * rate)
        assert found.ttft_ms <= (targets.ttft_ms or math.inf) * 1.001
        assert found.itl_ms <= (targets.itl_ms or math.inf) * 1.001
        assert more.ttft_ms > (targets.ttft_ms or math.inf) or more.itl_ms > (targets.itl_ms or math.inf)
    assert model.best_rate(Targets(ttft_ms=0.1)) is None
    assert model.best_rate(Targets()) == pytest.approx(model.performance(model.max_per_s).rate_per_s)
    slower = model.performance(0.9 * model.max_per_s).rate_per_s
    assert model.best_rate(Targets(throughput_tokens_per_s=1)) == pytest.approx(slower)


def test_a_full_batch_completes_what_it_was_calibrated_to():
    parameters = calibrated(80, 10.0, SIZE, 0.3, 0.6)
    assert 1000 * 80 / parameters.service_ms(SIZE, 80) == pytest.approx(10.0)
    assert parameters.alpha / parameters.iteration_ms(SIZE, 80) == pytest.approx(0.3)


def test_bisection_knows_the_ends_of_its_range():
    assert bisection((1.0, 5.0), 9.0, lambda x: x * x) == pytest.approx(3.0, rel=1e-5)
    assert (bisection((1.0, 5.0), 0.5, lambda x: x), bisection((1.0, 5.0), 7.0, lambda x: x)) == (None, 5.0)
    assert (bisection((1.0, 5.0), 7.0, lambda x: -x), bisection((1.0, 5.0), -3.0, lambda x: -x)) == (
        None,
        pytest.approx(3),
    )


def test_what_cannot_be_served_is_refused():
    with pytest.raises(ScenarioError, match="cannot be served"):
        QueueModel(ServiceParameters(1, 0, 0), RequestSize(10, 0), 4, 4)
    with pytest.raises(ScenarioError, match="saturation_policy = 'First'"):
        solve_greedy([], {}, "First")


def test_replicas_for_a_rate():
    assert [sized(rate, 9.0, 1) for rate in (0.0, 9.0, 9.1, 90.0)] == [1, 1, 2, 10]


# Solver
def server(name: str, priority: int, *candidates: tuple[str, int, float]) -> Server:
    return Server(name, priority, [Allocation(acc, n, value, value) for acc, n, value in candidates])


def test_priority_goes_first_and_then_the_larger_regret():
    first = server("late", 2, ("h100", 4, 8.0), ("l40", 8, 9.0))
    second = server("soft", 1, ("h100", 3, 6.0), ("l40", 6, 6.5))
    third = server("hard", 1, ("h100", 3, 6.0), ("l40", 6, 9.0))
    chosen = solve_greedy([first, second, third], {"h100": 5, "l40": 14})
    assert {name: each.accelerator for name, each in chosen.items()} == {"hard": "h100", "soft": "l40", "late": "l40"}


@pytest.mark.parametrize(
    ("policy", "replicas"),
    [
        ("None", {}),
        ("PriorityExhaustive", {"b": 6}),  # of equal regrets the larger value goes first
        ("RoundRobin", {"a": 3, "b": 3}),
        ("PriorityRoundRobin", {"a": 3, "b": 3}),
    ],
)
def test_what_cannot_be_satisfied_gets_the_rest_by_policy(policy: str, replicas: dict[str, int]):
    chosen = solve_greedy([server("a", 1, ("h100", 7, 7.0)), server("b", 1, ("h100", 9, 9.0))], {"h100": 6}, policy)
    assert {name: each.replicas for name, each in chosen.items()} == replicas


def test_going_over_to_another_accelerator_costs_a_tenth():
    now, more, other = Allocation("a", 2, 4.0, 0), Allocation("a", 3, 6.0, 0), Allocation("b", 1, 3.0, 0)
    assert (now.penalty_to(now), now.penalty_to(more), now.penalty_to(other)) == (0.0, 2.0, pytest.approx(-0.3))
