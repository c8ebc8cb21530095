"""The same decisions: what the simulator's loop decides, the live loop decides on the metrics and fleets of the same
intervals, for 5 000 of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_fakes import FakeClock
from test_policy import some_network

from envs import get_scenario
from rlscale.actions import LEVELS, Headroom
from rlscale.circle import begin, turn
from rlscale.deploy.base import Fleet, Reading
from rlscale.deploy.world import LiveWorld, Place
from rlscale.loop import run
from rlscale.policy_folder import save_policy
from rlscale.scalers import build_scaler
from rlscale.scenario import Scenario
from rlscale.types import Observation

INTERVALS = 5000
MONDAY_S = 4 * 86_400.0  # unix time of a Monday, 00:00 UTC
SAID = ("arrival_per_s", "waiting", "running", "ttft_s", "tpot_s", "attainment", "dropped_per_s", "ttft_p90_s",
        "tpot_p90_s", "prompt_tokens", "answer_tokens")  # fmt: skip


class Recording:
    """Decides as another scaler, and keeps what it saw and said."""

    def __init__(self, scaler: Any) -> None:
        self.scaler, self.seen, self.said = scaler, [], []  # type: ignore[var-annotated]
        if hasattr(scaler, "forecaster"):
            self.forecaster = scaler.forecaster
        if hasattr(scaler, "warm_up"):
            self.warm_up = scaler.warm_up

    def reset(self) -> None:
        self.scaler.reset()

    def decide(self, seen: Observation) -> Any:
        self.seen.append(seen)
        self.said.append(self.scaler.decide(seen))
        return self.said[-1]


@pytest.fixture(scope="module")
def chat() -> Scenario:
    return get_scenario("chat")


class Recorded:
    """Source and backend in one: metrics and fleet of one recorded interval after the other."""

    tolerance = 0.0

    def __init__(self, seen: list[Observation], clock: FakeClock) -> None:
        self._left, self._clock = iter(seen), clock
        self.now: Observation | None = None

    def fleet(self) -> Fleet:
        self.now = seen = next(self._left)
        counts = (seen.ready, seen.pending, seen.target, seen.draining)
        return Fleet(*(tuple(int(count) for count in some) for some in counts))

    def read(self) -> Reading:
        seen = self.now
        assert seen is not None
        values = {name: float(getattr(seen, name)) for name in SAID}
        return Reading(self._clock.unix_s() - seen.age_s, **values, memory=tuple(seen.memory_occupancy),
                       replicas=tuple(seen.ready_at_scrape))  # fmt: skip

    def order(self, target: tuple[int, ...]) -> None:
        pass

    def close(self) -> None:
        pass


def lived(scenario: Scenario, recorded: list[Observation], scaler: Any, load: Any) -> Iterator[tuple[int, ...]]:
    """Targets of a live loop that is shown the metrics and fleets of recorded intervals."""
    first = recorded[0]
    clock = FakeClock(epoch_s=MONDAY_S + float(first.week_s))
    parts = Recorded(recorded, clock)
    world = LiveWorld(Place(scenario.limits, scenario.cluster.interval_s), parts, parts, clock)
    world._began_s -= float(first.t_s)
    begin(scaler, load.history_per_s, load.history_step_s)
    for _ in recorded:
        assert world.wait()
        yield turn(world, scaler, scenario.limits).bounded.target


@pytest.mark.parametrize("name", ["headroom-held", "hpa", "holt", "threshold", "knative", "policy"])
def test_the_live_loop_decides_as_the_simulators(chat: Scenario, name: str, tmp_path: Path) -> None:
    full = name
    if name == "policy":
        full = f"policy:{tmp_path / 'policy'}"
        save_policy(tmp_path / "policy", some_network(len(LEVELS)), Headroom(), 1, 15.0, {"algo": "test"})
    load = chat.sample_load("test", 0)
    recording = Recording(build_scaler(full, chat.limits))
    targets = run(chat, recording, load, 0).series["target"]
    seen = recording.seen[:INTERVALS]
    live = list(lived(chat, seen, build_scaler(full, chat.limits), load))
    assert len(live) == INTERVALS
    differ = [i for i, target in enumerate(live) if target[0] != targets[i + 1]]
    assert not differ, f"{len(differ)} of {INTERVALS}, the first at {differ[:5]}"
