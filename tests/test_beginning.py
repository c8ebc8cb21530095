"""First fleets and rates before a moment of a load, against their plain definitions."""

from __future__ import annotations

import numpy as np
import pytest

from envs import get_scenario
from rlscale.beginning import HISTORY_MINUTES, Beginnings, initial_replicas
from rlscale.sim import steady
from rlscale.types import Load


def need_per_s(load: Load, cell: int, lead: int) -> float:
    """The busiest whole minute of the lead time, and the ten minutes before."""
    ahead = load.rate_per_s[cell : cell + lead]
    minutes = [ahead[i : i + 60].mean() for i in range(0, max(1, len(ahead) - 59), 60)]
    past = np.concatenate([np.repeat(load.history_per_s, 60), load.rate_per_s[:cell]])
    return float(max(*minutes, past[-600:].mean()))


@pytest.mark.parametrize("name", ["chat", "chat-mixed", "api"])
def test_fleets_and_rates_of_any_moment_are_those_of_their_definitions(name: str) -> None:
    """Three loads, 200 random moments and the ends; seed 0."""
    scenario = get_scenario(name)
    known = scenario.limits
    loads = [scenario.sample_load("train", seed) for seed in range(3)]
    rng = np.random.default_rng(0)
    cells = np.concatenate([rng.integers(0, 86_400 // 60, 200) * 60, [0, 60, 600, 3600, 86_400 - 60]])
    which = rng.integers(0, 3, len(cells))
    fleets, minutes = Beginnings(loads, known).at(which, cells)
    pool = steady.cheapest(known)
    lead = int(np.ceil(max(60.0, known.start_p95_s[pool])))
    for k, cell, fleet, before in zip(which, cells.tolist(), fleets, minutes, strict=True):
        load = loads[k]
        wanted = int(steady.need(np.array([need_per_s(load, cell, lead)]), known)[0])
        assert fleet[pool] == min(
            wanted - known.min_replicas.sum() + known.min_replicas[pool], known.max_replicas[pool]
        )
        past = np.concatenate([np.repeat(load.history_per_s, 60), load.rate_per_s[:cell]])[-3600:]
        np.testing.assert_allclose(before, past.reshape(HISTORY_MINUTES, 60).mean(axis=1), rtol=1e-12)
        assert initial_replicas(load, known, cell) == tuple(fleet)


def test_a_load_without_history_has_no_rates_before_its_first_cell() -> None:
    chat = get_scenario("chat")
    load = Load("new", 1.0, np.full(600, 50.0, np.float32), "poisson", chat.sample_load("train", 0).tokens)
    _, minutes = Beginnings([load], chat.limits).at(np.zeros(2, np.int64), np.array([0, 120]))
    assert np.isnan(minutes[0]).all()
    assert np.isnan(minutes[1]).tolist() == [True] * 58 + [False] * 2
    np.testing.assert_array_equal(minutes[1, 58:], [50.0, 50.0])
