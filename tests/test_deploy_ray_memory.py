"""The log of a Ray Serve policy: what a restart goes on from, and decisions that can be taken again. No ray needed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from fake_ray import LIMITS, StillClock, config, told
from ray_serving import SCRIPTED, Serving, decisions

from rlscale.circle import decide
from rlscale.deploy.audit import records
from rlscale.deploy.observed import from_json
from rlscale.limits_file import parse_limits
from rlscale.scalers import build_scaler

KNOWN = parse_limits(json.dumps(LIMITS).encode(), "test")


def test_a_restart_shows_the_scaler_the_last_hour_again_and_keeps_counting(tmp_path: Path) -> None:
    clock = StillClock()
    kwargs = SCRIPTED | {"policy": "fake_ray:Counting", "audit": str(tmp_path / "audit.jsonl")}
    before = Serving(clock, **kwargs)
    assert [before.tick() for _ in range(4)] == [1, 2, 3, 4]
    del before
    after = Serving(clock, **kwargs)
    assert after.tick() == 5
    assert after.status["decisions"] == 5
    observed = [row["observation"]["t_s"] for row in decisions(tmp_path)]
    assert observed == [0, 5, 10, 15, 20]


def test_what_is_older_than_an_hour_is_not_shown_again(tmp_path: Path) -> None:
    clock = StillClock()
    kwargs = SCRIPTED | {"policy": "fake_ray:Counting", "audit": str(tmp_path / "audit.jsonl")}
    Serving(clock, **kwargs).tick()
    clock.passes(7200.0)
    after = Serving(clock, **kwargs)
    assert after.tick() == 1
    assert after.status["decisions"] == 2


def test_a_line_that_was_torn_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    clock = StillClock()
    kwargs = SCRIPTED | {"policy": "fake_ray:Counting", "audit": str(tmp_path / "audit.jsonl")}
    before = Serving(clock, **kwargs)
    before.tick(), before.tick()
    del before
    path = tmp_path / "audit.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert Serving(clock, **kwargs).tick() == 2


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    serving = Serving(**(SCRIPTED | {"audit": str(tmp_path / "file" / "audit.jsonl")}))
    assert serving.tick() == 3
    assert "file" in serving.status["audit_fault"]


def test_a_log_that_another_deployment_writes_is_left_to_it(tmp_path: Path) -> None:
    kwargs = SCRIPTED | {"audit": str(tmp_path / "audit.jsonl")}
    first, second = Serving(**kwargs), Serving(**kwargs)
    assert (first.tick(), second.tick()) == (3, 3)
    assert second.status["audit_fault"]
    assert len(decisions(tmp_path)) == 1
    del first
    second.tick()
    assert second.status["audit_fault"] == ""


def test_warnings_are_written_once(tmp_path: Path) -> None:
    serving = Serving(**(SCRIPTED | {"audit": str(tmp_path / "audit.jsonl")}))
    serving.ctx.config = config(downscale_delay_s=600.0)
    for _ in range(3):
        serving.tick()
    warnings = [row["text"] for row in records(tmp_path / "audit.jsonl") if row["kind"] == "warning"]
    assert warnings == ["downscale_delay_s = 600.0 delays every release; set it to 0.0"]


@pytest.mark.parametrize("name", ["hpa", "headroom-held", "keda", "ray-serve"])
def test_decisions_are_those_of_the_same_scaler_asked_directly(name: str, tmp_path: Path) -> None:
    serving = Serving(**(SCRIPTED | {"policy": name, "audit": str(tmp_path / "audit.jsonl")}))
    for step in range(200):
        load = 8.0 + 7.0 * math.sin(step / 20.0)
        metrics = told(serving.clock.unix_s() + 5.0, arrival_per_s={"a": 4.0 * load}, ttft_s={"a": 0.2})
        serving.tick(total_num_requests=load, total_queued_requests=load / 4, **metrics)
    scaler = build_scaler(name, KNOWN)
    scaler.reset()
    rows = decisions(tmp_path)
    assert len({row["target"][0] for row in rows}) > 1
    for row in rows:
        assert row["decided_by"] == "scaler"
        assert list(decide(scaler, from_json(row["observation"], KNOWN), KNOWN).target) == row["target"]
