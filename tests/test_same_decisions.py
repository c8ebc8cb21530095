"""The same decisions on 5 000 recorded intervals: in the simulator's loop, in the live loop on their metrics and
fleets, behind shields, and as a policy of Ray Serve. Over the wire: tests/live/test_served_decisions.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import INTERVALS, chat_intervals, intervals_of, saved, steady_network, wanted
from replayed import ENOUGH, lived, piloted

from envs import get_scenario
from rlscale.actions import Headroom
from rlscale.deploy.guard import Guarded
from rlscale.deploy.shield_config import ShieldsConfig
from rlscale.policy_folder import load_policy
from rlscale.record import Recorded
from rlscale.scalers import build_scaler
from rlscale.scenario import Scenario


@pytest.fixture(scope="module")
def chat() -> Scenario:
    return get_scenario("chat")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy whose intervals `chat_intervals` records."""
    return saved(tmp_path_factory.mktemp("same") / "policy", steady_network(len(Headroom().levels)), Headroom())


def differ(found: list[tuple[int, ...]], expected: list[tuple[int, ...]]) -> str:
    """Empty when they are the same, all of them."""
    assert len(found) == len(expected) == INTERVALS
    where = [i for i, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other]
    return f"{len(where)} of {INTERVALS}, the first at {where[:5]}" if where else ""


def test_the_live_loop_decides_as_the_simulators_for_a_policy(chat: Scenario, path: Path) -> None:
    runs = chat_intervals()
    found = [target for one in runs for target in lived(chat, one, load_policy(path, chat.limits))]
    assert not differ(found, wanted(runs))
    assert len(set(found)) > 10


@pytest.mark.parametrize("name", ["headroom-held", "hpa", "holt", "threshold", "knative"])
def test_the_live_loop_decides_as_the_simulators_for_rules(chat: Scenario, name: str) -> None:
    (one,) = intervals_of(chat, build_scaler(name, chat.limits), INTERVALS + 1)
    found = list(lived(chat, one, build_scaler(name, chat.limits)))
    assert not differ(found[:-1], in_force_after(one))


def test_behind_shields_both_loops_decide_the_same(chat: Scenario, path: Path) -> None:
    def shielded() -> Guarded:
        fallback = build_scaler("headroom-held", chat.limits)
        return Guarded(load_policy(path, chat.limits), fallback, ShieldsConfig(), chat.limits, 0.1)

    (one,) = intervals_of(chat, shielded(), INTERVALS + 1)
    assert not differ(list(lived(chat, one, shielded()))[:-1], in_force_after(one))


def test_a_policy_of_ray_serve_decides_as_the_simulators(chat: Scenario, tmp_path: Path) -> None:
    """With levels that carry the load: of a queue, Serve tells the length and not how long who left it has waited."""
    assert not differ(*piloted(chat, saved(tmp_path / "policy", steady_network(len(ENOUGH.levels)), ENOUGH)))


def in_force_after(one: Recorded) -> list[tuple[int, ...]]:
    """What the simulator's loop had ordered at the end of every interval but the last."""
    return [tuple(int(count) for count in seen.target) for seen in one.seen[1:]]
