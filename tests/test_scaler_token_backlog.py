"""Token backlog: the queue in tokens, worked off within the bound."""

from __future__ import annotations

import pytest

from agents.token_backlog import TokenBacklog
from rlscale.checks import limits_of, observation


def wanted(scaler: TokenBacklog, t_s: float = 0.0, **seen: float) -> float:
    return scaler.decide(observation(limits_of(), t_s=t_s, **seen)).capacity_per_s


def test_the_queue_is_gone_within_the_bound_beside_what_arrives():
    assert wanted(TokenBacklog(limits_of(), 30.0, 1.0), arrival_per_s=20.0, waiting=300.0) == pytest.approx(30.0)
    assert wanted(TokenBacklog(limits_of(), 10.0, 1.0), arrival_per_s=20.0, waiting=300.0) == pytest.approx(50.0)


def test_prompts_longer_than_usual_count_for_more():
    scaler = TokenBacklog(limits_of(), 30.0, 1.0, usual_tokens=1000.0)
    assert wanted(scaler, arrival_per_s=20.0, prompt_tokens=2000.0) == pytest.approx(40.0)
    assert wanted(scaler, arrival_per_s=20.0, prompt_tokens=500.0) == pytest.approx(10.0)


def test_the_usual_length_is_learned_slowly_and_a_gap_repeats_the_last():
    scaler = TokenBacklog(limits_of(), 30.0, 1.0, memory_s=1000.0)
    assert wanted(scaler, 0.0, arrival_per_s=20.0) == 20.0  # never measured: usual
    assert wanted(scaler, 15.0, arrival_per_s=20.0, prompt_tokens=1000.0) == 20.0
    longer = wanted(scaler, 30.0, arrival_per_s=20.0, prompt_tokens=2000.0)
    assert 39.0 < longer < 40.0
    assert wanted(scaler, 45.0, arrival_per_s=20.0) == pytest.approx(longer)
    for k in range(400):
        later = wanted(scaler, 60.0 + 15.0 * k, arrival_per_s=20.0, prompt_tokens=2000.0)
    assert later == pytest.approx(20.0, rel=0.01)


def test_a_clock_that_jumps_back_teaches_nothing():
    scaler = TokenBacklog(limits_of(), 30.0, 1.0)
    wanted(scaler, 1000.0, arrival_per_s=20.0, prompt_tokens=1000.0)
    assert wanted(scaler, 0.0, arrival_per_s=20.0, prompt_tokens=2000.0) == pytest.approx(40.0)
