"""The circle on the real simulator: what is seen, when, what it costs, and that an environment is the same circle."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from agents.headroom import Headroom
from envs import get_scenario
from envs.cluster_env import ClusterEnv
from rlscale.actions import LEVELS
from rlscale.allocation import allocate_many
from rlscale.execute import allocate
from rlscale.feedback import Scale, reward
from rlscale.loop import initial_replicas, run
from rlscale.monitor import Monitor
from rlscale.scenario import Scenario
from rlscale.sim.world import SimWorld
from rlscale.types import Load, RewardWeights


@pytest.fixture(scope="module")
def chat() -> Scenario:
    return replace(get_scenario("chat"), horizon_s=3600.0)


def test_metrics_are_those_of_the_last_scrape_that_had_arrived(chat: Scenario) -> None:
    """Scrapes every 5 s arrive 2 s later: at a decision at 15 s the newest is that of 10 s."""
    load = chat.sample_load("train", 0)
    world = SimWorld(chat.cluster, [load], [0], np.array([5]))
    monitor = Monitor(world, chat.limits)
    world.wait()
    seen = monitor.one()
    assert seen.age_s == 5.0
    assert seen.arrival_per_s == pytest.approx(load.rate_per_s[:10].mean(), rel=0.1)


def test_missing_metrics_are_nan_and_their_age_grows(chat: Scenario) -> None:
    spec = replace(chat.cluster, metric_missing_share=0.5, metric_noise=0.05)
    world = SimWorld(spec, [chat.sample_load("train", 0)], [3], np.array([5]))
    monitor = Monitor(world, chat.limits)
    ages, missing = [], []
    for _ in range(60):
        world.wait()
        seen = monitor.one()
        ages.append(seen.age_s)
        missing.append(math.isnan(seen.arrival_per_s))
        assert math.isnan(seen.ttft_s) == missing[-1]
    assert 15 < sum(missing) < 45
    assert all(age > 5.0 for age, lost in zip(ages, missing, strict=True) if lost)


def test_doubling_cost_misses_or_churn_lowers_the_reward() -> None:
    scale, weights = Scale(2.0, 100.0), RewardWeights()
    base = reward(2.0, 5.0, 3.0, scale, weights).total
    assert base == pytest.approx(-1.0 - 20 * 0.05 - 0.003)
    assert reward(4.0, 5.0, 3.0, scale, weights).total < base
    assert reward(2.0, 10.0, 3.0, scale, weights).total < base
    assert reward(2.0, 5.0, 6.0, scale, weights).total < base


def test_the_same_seed_gives_the_same_run_and_more_headroom_costs_more(chat: Scenario) -> None:
    load = chat.sample_load("test", 1)
    first, again = (run(chat, Headroom(chat.limits, headroom=1.1), load, 4) for _ in range(2))
    dear = run(chat, Headroom(chat.limits, headroom=1.8), load, 4)
    assert {**first.totals, "decision_us": 0} == {**again.totals, "decision_us": 0}
    assert dear.totals["cost_usd"] > first.totals["cost_usd"]
    assert dear.totals["attainment"] >= first.totals["attainment"]
    assert dear.totals["requests"] == first.totals["requests"]


def test_series_add_up_to_the_totals(chat: Scenario) -> None:
    result = run(chat, Headroom(chat.limits), chat.sample_load("test", 2), 0)
    assert result.series["cost_usd"].sum() == pytest.approx(result.totals["cost_usd"], rel=1e-9)
    assert result.series["arrived"].sum() == pytest.approx(result.totals["requests"], rel=1e-9)
    assert result.histograms[0].sum() == pytest.approx(result.totals["requests"], rel=1e-6)


@pytest.mark.parametrize("level", [0, 7, 11])
def test_env_step_is_the_loop_bit_for_bit(level: int) -> None:
    env = ClusterEnv("chat", split="test")
    env.scenario = replace(env.scenario, horizon_s=3600.0)
    env.reset(seed=0, options={"load_seed": 3, "luck_seed": 5})
    ended = False
    while not ended:
        *_, ended, _ = env.step(np.int64(level))
    result = run(env.scenario, Headroom(env.known, headroom=LEVELS[level]), env.load, 5)
    assert env.world.pool["node_s"][0].sum() == pytest.approx(result.series["billed_nodes"].sum() * 15.0, rel=1e-12)
    assert float(env.world.cluster["arrived"][0]) == result.series["arrived"].sum()
    assert float(env.world.cluster["churn"][0]) == result.totals["churn"]


def test_many_allocations_are_one_after_the_other() -> None:
    known = get_scenario("chat-mixed").limits
    wanted = np.linspace(0.0, 700.0, 101)
    many = allocate_many(wanted, known)
    assert [tuple(row) for row in many.tolist()] == [allocate(float(value), known).target for value in wanted]


def test_the_first_fleet_is_that_of_the_last_ten_minutes_when_the_load_begins_silent(chat: Scenario) -> None:
    quiet = Load("quiet", 1.0, np.zeros(600, np.float32), "poisson", chat.sample_load("train", 0).tokens,
                 history_per_s=np.full(60, 100.0))  # fmt: skip
    assert initial_replicas(quiet, chat.limits)[0] == math.ceil(100.0 / chat.limits.capacity_per_s[0])


def test_the_first_fleet_carries_the_busiest_minute_of_the_lead_time_and_nothing_later(chat: Scenario) -> None:
    values = np.full(3600, 50.0, np.float32)
    lead_s = float(chat.limits.start_p95_s[0])
    values[300:360] = 150.0  # a minute within the lead time
    values[int(lead_s) + 120 :] = 300.0  # what a scaler could have ordered for
    load = Load("busy", 1.0, values, "poisson", chat.sample_load("train", 0).tokens)
    capacity = chat.limits.capacity_per_s[0]
    assert initial_replicas(load, chat.limits)[0] == math.ceil(150.0 / capacity)
    assert initial_replicas(load, chat.limits, cell=400)[0] >= math.ceil(300.0 / capacity)


def test_gymnasium_and_stable_baselines_accept_the_environments() -> None:
    from gymnasium.utils.env_checker import check_env
    from stable_baselines3.common.env_checker import check_env as check_sb3

    env = ClusterEnv("chat", render_mode="ansi")
    env.scenario = replace(env.scenario, horizon_s=600.0)
    check_env(env, skip_render_check=True)
    check_sb3(env)
    assert "ready=" in (env.render() or "")
