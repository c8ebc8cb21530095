"""The load step of both engines: the same arrivals, the same moment of readiness, nothing lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments import fidelity_step as step

CELL = step.Cell("a100-8b", 1.0, 120.0, 0)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute before the step and one after the new replicas are ready."""
    monkeypatch.setattr(step, "STEP_S", 60.0)
    monkeypatch.setattr(step, "SETTLED_S", 60.0)


@pytest.mark.usefixtures("short")
def test_the_late_replicas_are_ready_in_the_sub_step_in_which_the_oracle_has_them() -> None:
    world = step.world_of(CELL)
    ready = {}
    for window in range(24):
        world.apply(np.array([[step.BEFORE if window * step.WINDOW_S < 60.0 else step.AFTER]]))
        world.wait()
        ready[(window + 1) * step.WINDOW_S] = int(world.pool["ready"][0, 0])
    assert ready[180.0] == step.BEFORE
    assert ready[190.0] == step.AFTER
    assert world.pool["ready_s"][0, 0] == step.BEFORE * 240.0 + (step.AFTER - step.BEFORE) * 60.0


@pytest.mark.usefixtures("short")
def test_both_engines_count_the_same_requests_and_tell_the_same_story(tmp_path: Path) -> None:
    """One seed: the backlog when the replicas come within 5 %, mean TTFT while waiting within 10 %."""
    arrived = len(step.requests(CELL))
    fluid, fluid_line = step.of_fluid(CELL)
    oracle, oracle_line = step.of_oracle(CELL, step.run_oracle(CELL, "service", tmp_path))
    world = step.world_of(CELL)
    for _ in range(24):
        world.wait()
    assert world.cluster["arrived"][0] == arrived
    when_ready = round(180.0 / step.WINDOW_S) - 1
    assert fluid_line[when_ready, 0] == pytest.approx(oracle_line[when_ready, 0], rel=0.05)
    assert fluid[1, 0] == pytest.approx(oracle[1, 0], rel=0.10)
    assert (fluid[:, 4] >= 0).all()


@pytest.mark.usefixtures("short")
def test_a_finished_cell_is_not_simulated_again(tmp_path: Path) -> None:
    path = step.run_oracle(CELL, "service", tmp_path)
    written = path.stat().st_mtime_ns
    assert step.run_oracle(CELL, "service", tmp_path) == path
    assert path.stat().st_mtime_ns == written
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
