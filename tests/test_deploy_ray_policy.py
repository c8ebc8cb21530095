"""The Ray Serve policy at every tick: when it decides and what it survives. No ray needed."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fake_ray import LIMITS, Scripted, StillClock, Stuck, config, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray_serving import OPEN, SCRIPTED, TO_ZERO, Serving, busy

from rlscale.deploy import ray_build
from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.ray_pilot import Pilot
from rlscale.deploy.ray_serve import Policy, autoscaling_policy
from rlscale.types import Decision


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    Scripted.act, Scripted.asked = Decision((3,), "scripted"), 0
    Stuck.go.clear()
    yield
    Stuck.go.set()


def test_it_decides_once_per_interval_and_repeats_itself_in_between() -> None:
    serving = Serving(**SCRIPTED)
    assert serving.tick() == 3
    Scripted.act = Decision((6,), "scripted")
    assert [serving.tick(1.0) for _ in range(5)] == [3, 3, 3, 3, 6]
    assert Scripted.asked == 3  # once while it was built


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (ZeroDivisionError("boom"), "raised ZeroDivisionError: boom"),
        (None, "answered NoneType"),
        (Decision((math.nan,), "nan"), "asked for nan"),  # type: ignore[arg-type]
        (Decision((math.inf,), "inf"), "asked for inf"),  # type: ignore[arg-type]
        (Decision((None,), "none"), "asked for None"),  # type: ignore[arg-type]
        (Decision((1, 2), "two"), "2 targets for 1 pools"),
        (Decision((), "nothing"), "asked for nan"),
        (3, "answered int"),
    ],
)
def test_a_scaler_that_cannot_decide_is_replaced_by_the_fallback(act: Any, said: str) -> None:
    serving = Serving(**SCRIPTED)
    Scripted.act = act
    assert serving.tick(total_num_requests=9.0) == 5  # Serve's own rule: two requests per replica
    assert (serving.status["decided_by"], serving.status["errors"]) == ("fallback", 1)
    assert said in serving.status["last_error"]
    assert serving.tick(1.0) == 5
    assert serving.status["errors"] == 1  # per decision, not per tick
    serving.tick(5.0)
    assert serving.status["errors"] == 2
    Scripted.act = Decision((4,), "well again")
    assert serving.tick() == 4
    assert serving.status["decided_by"] == "scaler"


def test_a_scaler_that_blocks_costs_its_patience_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_build, "BUILD_S", 0.05)
    serving = Serving(**(SCRIPTED | {"policy": "fake_ray:Stuck", "shields": OPEN | {"breaker": {"deadline_s": 0.05}}}))
    assert serving.tick() == 2
    assert "no decision within 0.05 s" in serving.status["last_error"]
    assert serving.tick() == 2
    assert "still running" in serving.status["last_error"]
    assert serving.status["decided_by"] == "fallback"
    Stuck.go.set()
    until(lambda: serving.tick() == 9)  # its late answer was dropped, the next one counts
    assert serving.status["decided_by"] == "scaler"


def test_a_scaler_that_cannot_be_built_is_built_again() -> None:
    serving = Serving(**(SCRIPTED | {"policy": "fake_ray:Unbuildable"}))
    assert serving.tick() == 2
    assert "not mounted" in serving.status["last_error"]


def test_without_a_scaler_and_a_fallback_the_target_is_held() -> None:
    serving = Serving(**(SCRIPTED | {"fallback": "fake_ray:Unbuildable"}))
    Scripted.act = ValueError("x")
    assert serving.tick(target_num_replicas=7) == 7
    assert (serving.status["decided_by"], serving.status["errors"]) == ("hold", 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"polcy": "hpa"},
        {"policy": "hpa", "limits": LIMITS, "interval_s": 0},
        {"policy": "hpa", "limits": LIMITS, "shields": {"flap": {"windows_s": 3.0}}},
        {"policy": "hpa"},
        {"policy": "hpa", "limits": "/nowhere/limits.json"},
        {"policy": "hpa", "limits": {"rlscale_limits": 1}},
        {},
    ],
)
def test_wrong_settings_hold_the_target_and_say_so(wrong: dict[str, Any]) -> None:
    serving = Serving(**wrong)
    assert serving.tick(20.0, target_num_replicas=4) == 4
    assert serving.tick(20.0) == 4
    assert serving.status["errors"] >= 2
    assert serving.status["last_error"]


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # Ray's own, of a newer pydantic
def test_a_wrong_setting_is_told_to_whoever_deploys() -> None:
    pytest.importorskip("ray", reason="needs rlscale[ray]")
    with pytest.raises(LiveConfigError, match="unknown key 'polcy'; did you mean 'policy'"):
        autoscaling_policy(polcy="hpa")


def test_metrics_that_are_missing_hold() -> None:
    serving = Serving(**(SCRIPTED | {"policy": "hpa", "fallback": "hpa"}))
    assert serving.tick(total_num_requests=0.0, target_num_replicas=6, current_num_replicas=6) == 6  # no report yet
    serving.tick(total_num_requests=8.0)
    held = serving.tick(total_num_requests=math.nan)
    assert serving.tick(200.0) == held  # the last metrics are stale by now


def test_the_last_replica_goes_only_when_that_is_allowed_and_nobody_asks() -> None:
    Scripted.act = Decision((0,), "nobody is there")
    careful = Serving(**SCRIPTED)
    assert careful.tick(capacity_adjusted_min_replicas=0, config=config(min_replicas=0)) == 1
    bold = Serving(**(SCRIPTED | {"shields": TO_ZERO}))
    assert bold.tick(capacity_adjusted_min_replicas=0, config=config(min_replicas=0)) == 1  # four requests are present
    assert [bold.tick(total_num_requests=0.0) for _ in range(3)] == [1, 1, 0]  # idle for 10 s, by metrics
    Scripted.act = RuntimeError("broken")
    blind = bold.tick(total_num_requests=math.nan, target_num_replicas=2, current_num_replicas=2)
    assert blind == 1  # the last reading says idle, and is not of now


def test_what_serve_changes_by_itself_is_not_undone_before_the_next_decision() -> None:
    Scripted.act = Decision((0,), "nobody is there")
    serving = Serving(**(SCRIPTED | {"shields": TO_ZERO}))
    serving.tick(capacity_adjusted_min_replicas=0, total_num_requests=1.0, config=config(min_replicas=0))
    assert [serving.tick(total_num_requests=0.0) for _ in range(4)][-1] == 0
    assert serving.tick(1.0) == 0
    assert serving.tick(1.0, target_num_replicas=1, current_num_replicas=1) == 1  # Serve woke it for a request


def test_serves_bounds_of_the_moment_win() -> None:
    Scripted.act = Decision((9,), "many")
    serving = Serving(**SCRIPTED)
    assert serving.tick(capacity_adjusted_max_replicas=4) == 4
    assert serving.tick(1.0, capacity_adjusted_min_replicas=6, capacity_adjusted_max_replicas=8) == 6
    assert serving.tick(5.0) == 8


def test_a_clock_that_is_set_back_or_forward_changes_nothing() -> None:
    serving = Serving(**SCRIPTED)
    serving.tick()
    for jump_s in (-86_400.0, 7200.0):
        serving.clock.wall_s += jump_s
        assert serving.tick() == 3
    assert serving.status["errors"] == 0


ANY = st.one_of(st.none(), st.floats(), st.integers(-3, 60), st.just("x"))
BROKEN = st.fixed_dictionaries({}, optional={
    "total_num_requests": ANY, "total_queued_requests": ANY, "current_num_replicas": ANY, "target_num_replicas": ANY,
    "capacity_adjusted_min_replicas": ANY, "capacity_adjusted_max_replicas": ANY, "aggregated_metrics": ANY,
    "raw_metrics": ANY, "config": st.none(),
})  # fmt: skip
ACTS = st.one_of(ANY, st.builds(lambda asked: Decision((asked,), "any"), ANY), st.just(ValueError("x")))


@given(st.lists(st.tuples(BROKEN, ACTS), min_size=1, max_size=8), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_the_answer_is_a_whole_number_of_replicas_within_bounds(
    steps: list[tuple[dict[str, Any], Any]], to_zero: bool
) -> None:
    clock = StillClock()
    pilot = Pilot(SCRIPTED | {"shields": TO_ZERO if to_zero else OPEN}, clock)
    for broken, act in steps:
        Scripted.act = act
        ctx = busy()
        for name, value in broken.items():
            setattr(ctx, name, value)
        clock.passes(5.0)
        count, state = pilot.tick(ctx)
        assert isinstance(count, int)
        assert count >= 1  # four requests are present, or nobody knows
        if not {"capacity_adjusted_min_replicas", "capacity_adjusted_max_replicas"} & set(broken):
            assert count <= 10
        json.dumps(state)


def test_the_controller_loads_neither_a_trainer_nor_an_environment() -> None:
    code = ("import sys, rlscale.deploy.ray_serve as r; r.Policy(policy='hpa');"
            "import rlscale.deploy.ray_service, rlscale.policy_folder;"
            "print([m for m in ('torch', 'gymnasium', 'numba', 'scipy', 'ray') if m in sys.modules])")  # fmt: skip
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert out.stdout.strip() == "[]"


def test_the_class_itself_travels_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "0")  # the constructor would leave it set
    cloudpickle = pytest.importorskip("cloudpickle", reason="needs cloudpickle, as ray brings it")
    from rlscale.deploy import ray_serve

    cloudpickle.register_pickle_by_value(ray_serve)
    try:
        data = cloudpickle.dumps(Policy)
    finally:
        cloudpickle.unregister_pickle_by_value(ray_serve)
    assert len(data) < 5_000
    policy = pickle.loads(data)(policy="no-such-scaler", limits=LIMITS)  # noqa: S301  as Serve does
    assert policy(busy())[0] == 2
    assert policy.status()["rlscale"]["scaler"] == "no-such-scaler"
