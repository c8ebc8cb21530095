"""Environments: the checkers pass on every id; one circle, whether run, stepped or batched."""

from __future__ import annotations

import itertools
import json
import os
import time
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_sb3

from envs import get_scenario, scenario_names
from envs.batch import TERMS, ClusterBatch
from envs.cluster_env import ClusterEnv
from envs.registration import env_id
from envs.sb3 import REWARD_ZERO, ClusterVecEnv
from envs.vector import ClusterVectorEnv
from rlscale.actions import MAPS, ActionMap, Delta, action_map, described, from_manifest
from rlscale.checks import limits_of, observation
from rlscale.errors import PolicyError, ScenarioError
from rlscale.loop import run
from rlscale.scenario import Scenario
from rlscale.types import Decision, Observation, ScalingLimits

HOUR_S = 3600.0


def short(name: str = "chat", **cluster: Any) -> Scenario:
    """An hour of a built-in scenario, with other settings of its cluster."""
    scenario = get_scenario(name)
    return replace(scenario, horizon_s=HOUR_S, cluster=replace(scenario.cluster, **cluster))


@pytest.mark.parametrize("name", scenario_names())
@pytest.mark.filterwarnings("ignore:.*A Box observation space.*")
def test_both_checkers_pass_on_every_id(name: str) -> None:
    env = gymnasium.make(env_id(name), disable_env_checker=True)
    env.unwrapped.scenario = replace(env.unwrapped.scenario, horizon_s=600.0)  # type: ignore[attr-defined]
    check_env(env.unwrapped, skip_render_check=True)
    check_sb3(env.unwrapped)


@pytest.mark.parametrize("kind", sorted(MAPS))
def test_both_checkers_pass_on_every_action_map(kind: str) -> None:
    env = ClusterEnv("chat-mixed", action=kind)
    env.scenario = replace(env.scenario, horizon_s=600.0)
    check_env(env, skip_render_check=True)
    check_sb3(env)


def test_an_id_whose_dynamics_have_changed_is_refused_and_names_the_new_one() -> None:
    with pytest.raises(ScenarioError, match=r"'rlscale/Chat-Mixed-v0' had other dynamics .* use rlscale/Chat-Mixed-v1"):
        get_scenario("rlscale/Chat-Mixed-v0")


def test_ids_are_made_singly_and_as_vectors_and_their_specs_serialise() -> None:
    assert env_id("chat-a100") == "rlscale/Chat-A100-v0"
    for name in scenario_names():
        spec = gymnasium.spec(env_id(name))
        assert EnvSpec.from_json(spec.to_json()).id == env_id(name)
        assert get_scenario(env_id(name)).name == name
    vector = gymnasium.make_vec("rlscale/Chat-v0", num_envs=3, vectorization_mode="vector_entry_point", loads=2)
    seen, _ = vector.reset(seed=1)
    assert seen.shape == (3, *vector.single_observation_space.shape)
    assert vector.observation_space.contains(seen)
    seen, value, terminated, truncated, infos = vector.step(vector.action_space.sample())
    assert vector.observation_space.contains(seen)
    assert value.shape == terminated.shape == truncated.shape == (3,)
    assert set(TERMS) <= infos.keys()


class Scripted:
    """Does what a row of actions says, through an action map."""

    def __init__(self, actions: ActionMap, plan: np.ndarray, known: ScalingLimits) -> None:
        self.actions, self.plan, self.known, self.at = actions, plan, known, 0

    def reset(self) -> None:
        self.at = 0

    def decide(self, seen: Observation) -> Decision:
        action, self.at = self.plan[self.at], self.at + 1
        return Decision(
            tuple(int(count) for count in self.actions.targets(np.asarray(action)[None], seen, self.known)[0])
        )


@pytest.mark.parametrize("kind", sorted(MAPS))
def test_env_step_is_loop_run_bit_for_bit_with_noisy_late_and_missing_metrics(kind: str) -> None:
    """An hour of two pools; one scrape in five fails, metrics are noisy and 20 s late, decisions 7 s."""
    scenario = short("chat-mixed", metric_missing_share=0.2, metric_noise=0.1, scrape_delay_s=20.0, control_delay_s=7.0)
    env = ClusterEnv("chat-mixed", split="test", action=kind)
    env.scenario, env.known = scenario, scenario.limits
    env.action_space.seed(4)
    env.reset(seed=0, options={"load_seed": 3, "luck_seed": 5})
    plan, rewards, ended = [], [], False
    while not ended:
        plan.append(env.action_space.sample())
        _, value, terminated, ended, _ = env.step(plan[-1])
        assert not terminated
        rewards.append(value)
    result = run(scenario, Scripted(action_map(kind), np.array(plan), scenario.limits), env.load, 5)
    world = env.world
    assert world.pool["node_s"][0].sum() == pytest.approx(result.series["billed_nodes"].sum() * 15.0, rel=1e-12)
    for name in ("arrived", "missed", "churn"):
        assert float(world.cluster[name][0]) == pytest.approx(result.series[name].sum(), rel=1e-12), name
    assert np.array_equal(result.series["target"][1:], result.series["target"][1:].round())
    assert sum(rewards) == pytest.approx(
        float(-(result.series["cost_usd"] / scenario.scale.usd_per_interval)[1:].sum()  # type: ignore[union-attr]
              - scenario.weights.missed * (result.series["missed"] / scenario.scale.requests_per_interval)[1:].sum()  # type: ignore[union-attr]
              - scenario.weights.churn * result.series["churn"][1:].sum()), rel=1e-9)  # fmt: skip


def test_a_row_of_the_vector_is_the_single_environment_bit_for_bit() -> None:
    """Eight rows over 60 intervals: loads, moments and luck as the vector drew them."""
    scenario = short(metric_missing_share=0.1, metric_noise=0.05)
    vector = ClusterVectorEnv(8, scenario, action="delta", loads=3, episode_intervals=40)
    seen, _ = vector.reset(seed=2)
    batch = vector.batch
    assert batch is not None
    batch.age[:] = 1  # all rows at the beginning of their episodes
    rng = np.random.default_rng(0)
    singles = []
    for r in range(8):
        env = ClusterEnv("chat", action="delta")
        env.scenario, env.known = scenario, scenario.limits
        found, _ = env.reset(options={"load_seed": 2 * 3 + int(batch.which[r]), "luck_seed": int(batch.luck[r]),
                                      "first_cell": int(batch.first[r]), "intervals": 40})  # fmt: skip
        np.testing.assert_array_equal(found, seen[r])
        singles.append(env)
    for step in range(39):
        actions = rng.integers(0, 7, 8)
        seen, value, _, ended, infos = vector.step(actions)
        for r, env in enumerate(singles):
            found, alone, _, over, info = env.step(actions[r])
            np.testing.assert_array_equal(found, infos["final_obs"][r] if ended[r] else seen[r])
            assert alone == value[r]
            assert over == ended[r] == (step == 38)
            assert info["missed"] == infos["missed"][r]


def test_masks_forbid_what_the_limits_forbid() -> None:
    known = limits_of(1)
    seen = observation(known, target=np.array([int(known.max_replicas[0])]))
    mask = Delta((-2, -1, 0, 1, 2)).mask(seen, known)
    assert mask.tolist() == [[True, True, True, False, False]]
    asked = Delta((-2, -1, 0, 1, 2)).targets(np.array([4]), seen, known)
    assert asked.tolist() == [[int(known.max_replicas[0])]]


@pytest.mark.parametrize("kind", sorted(MAPS))
def test_an_action_map_comes_back_from_a_manifest(kind: str) -> None:
    assert from_manifest(json.loads(json.dumps(described(action_map(kind))))) == action_map(kind)


@pytest.mark.parametrize(("entry", "message"), [
    ({"name": "delto"}, "did you mean 'delta'"), ({"name": "delta", "levels": [1]}, "levels"),
    ([], "expected a mapping"),
])  # fmt: skip
def test_a_wrong_action_map_is_refused(entry: Any, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        from_manifest(entry)


def fuzz(name: str, action: str, seed: int, intervals: int, rows: int = 16) -> int:
    """Random actions, part of the metrics missing, other luck and loads with every seed; steps that were checked."""
    scenario = short(name, metric_missing_share=0.1, metric_noise=0.1)
    env = ClusterVecEnv(ClusterVectorEnv(rows, scenario, action=action, loads=2, episode_intervals=60), seed=seed)
    env.reset()
    env.action_space.seed(seed)
    batch = env.vector.batch
    assert isinstance(batch, ClusterBatch)
    low, high = batch.known.min_replicas, batch.known.max_replicas
    for _ in range(intervals):
        env.step_async(np.array([env.action_space.sample() for _ in range(rows)]))
        seen, value, _, _ = env.step_wait()
        assert env.observation_space.contains(seen[0])
        assert np.isfinite(seen).all() and np.isfinite(value).all()
        assert (value <= env.reward_share * -REWARD_ZERO).all()  # costs nothing, misses nothing
        cluster, pool = batch.world.cluster, batch.world.pool
        assert ((pool["target"] >= low) & (pool["target"] <= high)).all()
        assert (pool["ready"] + pool["pending"] <= high).all()
        assert (pool["running"] >= 0).all() and (cluster["queued"] >= cluster["left"] - 1e-6).all()
        gone = cluster["finished"] + cluster["dropped"] + cluster["lost"] + batch.world.in_system()
        np.testing.assert_allclose(gone, cluster["arrived"], rtol=1e-9, atol=1e-6)
        assert (cluster["missed"] <= cluster["arrived"] + 1e-6).all()
    return rows * intervals


@pytest.mark.parametrize("action", sorted(MAPS))
def test_random_actions_break_no_invariant(action: str) -> None:
    """16 rows, 120 intervals, two pools; seed 0."""
    fuzz("chat-mixed", action, seed=0, intervals=120)


@pytest.mark.slow
@pytest.mark.timeout(0)  # FUZZ_S is the limit
def test_random_actions_for_a_long_time_break_no_invariant() -> None:
    """Every scenario and action map in turn for FUZZ_S seconds of CPU, a minute unless told otherwise."""
    limit_s, steps, seed = float(os.environ.get("FUZZ_S", "60")), 0, 0
    turns = itertools.cycle(itertools.product(scenario_names(), sorted(MAPS)))
    while time.process_time() < limit_s:
        name, action = next(turns)
        steps += fuzz(name, action, seed, intervals=240)
        seed += 1
    print(f"{steps} steps, {seed} runs")
    assert seed > 0


def test_a_picture_has_pixels_and_the_text_one_line() -> None:
    env = ClusterEnv("chat", render_mode="rgb_array")
    env.scenario = replace(env.scenario, horizon_s=600.0)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.int64(7))
    pixels = env.render()
    assert pixels.shape == (360, 640, 3)
    assert pixels.std() > 5.0
    env.render_mode = "ansi"
    assert env.render().count("\n") == 0
    assert "ready=" in env.render()
