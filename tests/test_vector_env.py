"""Features, and what the vector environment hands to a learner."""

from __future__ import annotations

import math

import numpy as np

from envs import get_scenario
from envs.batch import EPISODE_INTERVALS
from envs.sb3 import ClusterVecEnv
from envs.vector import ClusterVectorEnv
from rlscale.checks import limits_of, observation
from rlscale.features import FEATURES, NAMES, FeatureExtractor
from rlscale.monitor import Monitor
from rlscale.monitor import row as one_row
from rlscale.sim.world import SimWorld


def test_features_of_a_batch_row_are_those_of_the_single_cluster() -> None:
    chat = get_scenario("chat")
    load = chat.sample_load("train", 0)
    world = SimWorld(chat.cluster, [load], [1, 2, 3], np.array([6]))
    monitor = Monitor(world, chat.limits)
    batch = FeatureExtractor(chat.limits, 15.0, 3)
    single = FeatureExtractor(chat.limits, 15.0)
    batch.reset(slice(None), load.history_per_s, load.history_step_s)
    single.reset(slice(None), load.history_per_s, load.history_step_s)
    for step in range(30):
        world.apply(np.array([[4 + step % 3]] * 3))
        world.wait()
        seen = monitor.observe()
        rows = batch.push(seen)
        np.testing.assert_array_equal(single.push(one_row(seen, 1))[0], rows[1])
        for value, (name, _, low, high) in zip(rows[0], FEATURES, strict=True):
            assert low <= value <= high, name


def test_features_are_never_nan_and_flag_what_is_missing() -> None:
    limits = limits_of(1)
    extractor = FeatureExtractor(limits, 15.0)
    good = extractor.push(observation(limits, arrival_per_s=10.0))
    nothing = math.nan
    lost = extractor.push(observation(limits, arrival_per_s=nothing, waiting=nothing, ttft_s=nothing, tpot_s=nothing,
                                      attainment=nothing))  # fmt: skip
    assert np.isfinite(lost).all()
    assert lost[0, NAMES.index("missing")] == 1.0
    assert lost[0, 0] == good[0, 0]


def test_the_vector_environment_keeps_the_last_observation_of_an_episode() -> None:
    env = ClusterVecEnv(ClusterVectorEnv(8, "chat", loads=2), seed=0)
    first = env.reset()
    assert first.shape == (8, len(NAMES))
    ended = 0
    for _ in range(EPISODE_INTERVALS):
        env.step_async(np.full(8, 7))
        seen, value, done, infos = env.step_wait()
        assert np.isfinite(seen).all()
        assert np.isfinite(value).all()
        for r in np.flatnonzero(done):
            ended += 1
            assert infos[r]["TimeLimit.truncated"]
            assert not np.array_equal(infos[r]["terminal_observation"], seen[r])
    assert ended == 8  # ages were spread, so every row ends exactly once
