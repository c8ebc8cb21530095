"""Each shield by itself: what it changes, what it lets through, and that it goes on after a restart."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlscale.checks import limits_of, observation
from rlscale.decide import carried_per_s
from rlscale.deploy import shield_config as config
from rlscale.deploy.shields.base import Context
from rlscale.deploy.shields.breaker import Breaker
from rlscale.deploy.shields.flap import Flap
from rlscale.deploy.shields.limits import Limits
from rlscale.deploy.shields.metrics import Metrics, unreadable
from rlscale.deploy.shields.queueing import Queueing
from rlscale.deploy.shields.table import gates, shields
from rlscale.deploy.shields.tolerance import Tolerance, enlarged, ignored
from rlscale.types import Observation, ScalingLimits

LIMITS = limits_of()  # 1 to 40 replicas of 10 requests/s
TO_ZERO = replace(LIMITS, min_replicas=np.zeros(1, np.int64))
SIDES = replace(limits_of(2), min_replicas=np.zeros(2, np.int64), roles=("prefill", "decode"))


def at(now_s: float, current: int | tuple[int, ...], limits: ScalingLimits = LIMITS, **more: Any) -> Context:
    return Context(limits, now_s, (current,) if isinstance(current, int) else current, **more)


def seen(rate: float = 40.0, limits: ScalingLimits = LIMITS, **more: Any) -> Observation:
    return observation(limits, arrival_per_s=rate, **more)


def test_a_configuration_is_strict() -> None:
    everything = config.ShieldsConfig()
    assert all(getattr(everything, name).on for name in type(everything).model_fields)
    assert config.ShieldsConfig.model_validate(json.loads(everything.model_dump_json())) == everything
    for wrong in ({"limit": {}}, {"flap": {"reversals": "3"}}, {"limits": {"scale_to_zero": 1}},
                  {"metrics": {"hold_s": math.inf}}, {"breaker": {"deadline_s": 0.0}}):  # fmt: skip
        with pytest.raises(ValidationError):
            config.ShieldsConfig.model_validate(wrong)


def test_what_is_off_is_not_there() -> None:
    off = config.ShieldsConfig(queueing=config.Queueing(on=False), metrics=config.Metrics(on=False))
    assert list(shields(off)) == ["flap", "tolerance", "limits"]
    assert list(gates(off, None, LIMITS)) == ["silence", "distribution"]
    to_zero = config.ShieldsConfig(limits=config.Limits(scale_to_zero=True))
    assert "silence" not in gates(to_zero, None, LIMITS)


# Limits.
def test_limits_and_steps_bound_every_target() -> None:
    steps = Limits(config.Limits(max_step_up=3, max_step_down=2))
    assert steps.apply(seen(), (30,), at(0, 10)).target == (13,)
    verdict = steps.apply(seen(), (4,), at(0, 10))
    assert verdict.target == (8,)
    assert verdict.counted == ("limits_bound",)
    assert "step limit" in verdict.reason
    assert Limits(config.Limits()).apply(seen(), (99,), at(0, 10)).target == (40,)
    assert Limits(config.Limits()).apply(seen(), (11,), at(0, 10)) == ((11,), "", ())


def test_one_decision_takes_half_of_the_fleet_at_most() -> None:
    shield = Limits(config.Limits())
    assert shield.apply(seen(), (2,), at(0, 12)).target == (6,)
    assert shield.apply(seen(), (6,), at(0, 12)).reason == ""
    assert shield.apply(seen(), (1,), at(0, 2)).target == (1,)
    two = limits_of(2)
    # 4 of 10/s move to 8 of 5/s: nothing is lost.
    assert shield.apply(seen(limits=two), (1, 6), at(0, (4, 0), two)).target == (1, 6)


def test_there_is_no_scale_to_zero_unless_it_is_allowed_and_nobody_came_for_long() -> None:
    idle = seen(0.0, TO_ZERO)
    forbidden, allowed = Limits(config.Limits()), Limits(config.Limits(scale_to_zero=True, idle_s=60.0))
    for now in range(0, 700, 15):
        assert forbidden.apply(idle, (0,), at(now, 1, TO_ZERO)).target == (1,)
    assert allowed.apply(seen(0.1, TO_ZERO), (0,), at(0, 1, TO_ZERO)).target == (1,)
    taken = [allowed.apply(idle, (0,), at(now, 1, TO_ZERO)).target[0] for now in range(15, 120, 15)]
    assert taken == [1, 1, 1, 1, 0, 0, 0]
    blind = at(120, 1, TO_ZERO, blind="metrics are 90 s old")
    assert allowed.apply(idle, (0,), blind).target == (1,), "without fresh metrics nobody knows that nobody came"
    assert allowed.apply(seen(1.0, TO_ZERO), (0,), at(135, 1, TO_ZERO)).counted == ("limits_zero",)


def test_a_fleet_of_nothing_outlives_a_failed_scrape_but_not_blindness() -> None:
    shield = Limits(config.Limits(scale_to_zero=True, idle_s=0.0))
    assert shield.apply(seen(0.0, TO_ZERO), (0,), at(0, 0, TO_ZERO)).target == (0,)
    for now, wanted in ((15, 0), (105, 0), (135, 1)):
        assert shield.apply(seen(0.0, TO_ZERO), (0,), at(now, 0, TO_ZERO, blind="no value")).target == (wanted,)


def test_each_side_keeps_a_replica_and_an_empty_pool_beside_a_serving_one_is_none_of_this() -> None:
    shield = Limits(config.Limits())
    assert shield.apply(seen(limits=SIDES), (0, 3), at(0, (1, 3), SIDES)).target == (1, 3)
    both = replace(SIDES, roles=())
    assert shield.apply(seen(limits=both), (0, 3), at(0, (1, 3), both)).target == (0, 3)
    assert shield.apply(seen(limits=both), (0, 0), at(0, (0, 3), both)).target == (0, 2)  # half of it at once
    assert shield.apply(seen(limits=both), (0, 0), at(0, (0, 1), both)).target == (0, 1)


# Queueing.
def test_targets_carry_the_present_load() -> None:
    shield = Queueing(config.Queueing())
    verdict = shield.apply(seen(100.0), (2,), at(0, 10))
    assert verdict.target == (10,)  # 100/s at 10/s each
    assert verdict.counted == ("queueing_floor",)
    assert Queueing(config.Queueing()).apply(seen(100.0), (10,), at(0, 10)).reason == ""


def test_a_rate_that_nothing_present_bears_out_raises_no_floor() -> None:
    """160 requests run where 80 seats carry 10/s: 4 x 20/s at most have come, whatever is told."""
    shield, told = Queueing(config.Queueing()), {"running": 160.0, "waiting": 0.0}
    assert LIMITS.seats[0] == 80.0
    shield.apply(seen(40.0, **told), (40,), at(0, 10))
    assert "for 80/s" in shield.apply(seen(1000.0, **told), (1,), at(100, 10)).reason
    crowd = shield.apply(seen(1000.0, running=160.0, waiting=15_000.0), (1,), at(200, 10))
    assert "for 230/s" in crowd.reason, "what has begun to wait is a witness: 150/s more"
    assert "for 1000/s" in shield.apply(seen(1000.0, waiting=math.nan), (1,), at(300, 10)).reason, (
        "no witness, no bound"
    )


def test_both_sides_carry_it() -> None:
    shield = Queueing(config.Queueing())
    assert shield.apply(seen(100.0, SIDES), (1, 30), at(0, (1, 30), SIDES)).target == (10, 30)


def test_nothing_is_added_beyond_a_multiple_of_the_demand_and_nothing_is_taken_away() -> None:
    shield = Queueing(config.Queueing())
    calm = {"attainment": 1.0}
    assert shield.apply(seen(20.0, **calm), (40,), at(0, 4)).target == (8,)  # 3 * 20/s and two replicas
    assert shield.apply(seen(20.0, **calm), (40,), at(15, 30)).target == (30,)
    assert shield.apply(seen(20.0, **calm), (25,), at(30, 30)).target == (25,)
    assert shield.apply(seen(20.0, attainment=0.9), (40,), at(45, 4)).target == (40,), "the SLO is missed: no ceiling"
    assert shield.apply(seen(math.nan), (40,), at(60, 4, blind="no value")).target == (40,)


@given(rate=st.floats(0, 1e4), wanted=st.integers(0, 10**6), current=st.integers(0, 40))
def test_floor_and_ceiling_are_where_they_are_said_to_be(rate: float, wanted: int, current: int) -> None:
    setting = config.Queueing()
    target = Queueing(setting).apply(seen(rate, attainment=1.0), (wanted,), at(0, current)).target
    carried = carried_per_s(target, LIMITS)
    assert target[0] >= wanted or carried >= setting.ceiling_factor * rate or target[0] >= current
    assert carried >= min(setting.floor_share * rate, 400.0) - 1e-6 or target[0] >= 40
    assert target[0] <= max(wanted, math.ceil(setting.floor_share * rate / 10.0 - 1e-9))


# Flaps.
def swing(shield: Flap, moves: list[int], **observed: Any) -> list[int]:
    """Targets in force when these are asked for, one every 15 s."""
    current, taken = 10, []
    for k, wanted in enumerate(moves):
        current = shield.apply(seen(**observed), (wanted,), at(15.0 * k, current)).target[0]
        taken.append(current)
    return taken


def test_a_target_that_swings_is_held_and_let_go_again() -> None:
    shield = Flap(config.Flap(reversals=4))
    taken = swing(shield, [16, 10] * 20)
    assert taken[:5] == [16, 10, 16, 10, 16]
    assert len(set(taken[4:])) == 1, "neither direction gets through: that would be a drift"
    assert shield.apply(seen(), (16,), at(15.0 * 40 + 600.0, taken[-1])).target == (16,)


def test_noise_of_one_replica_and_a_trend_are_no_flaps() -> None:
    moves = [10 + k % 2 for k in range(40)]
    assert swing(Flap(config.Flap(reversals=2)), moves) == moves
    rise = list(range(10, 40)) + list(range(40, 10, -1))
    assert swing(Flap(config.Flap(reversals=2)), rise) == rise


@pytest.mark.parametrize("pressing", [{"rate": 500.0}, {"attainment": 0.5}, {"dropped_per_s": 1.0}])
def test_a_scale_out_that_the_load_needs_is_never_held(pressing: dict[str, float]) -> None:
    shield = Flap(config.Flap(reversals=2))
    held = swing(shield, [16, 10] * 6)[-1]
    assert shield.apply(seen(), (held + 6,), at(200, held)).target == (held,)
    assert shield.apply(seen(**pressing), (held + 6,), at(215, held)).target == (held + 6,)
    assert shield.apply(seen(**pressing), (held - 6,), at(230, held)).target == (held,)
    rising = [shield.apply(seen(waiting=20.0 * k), (held + 6,), at(245 + k, held)).target[0] for k in range(1, 4)]
    assert rising == [held + 6] * 3


# Tolerance.
@pytest.mark.parametrize(("now", "want", "lost"), [(20, 21, True), (22, 23, True), (22, 20, True), (20, 23, False),
                                                   (2, 3, False), (0, 1, False), (5, 0, False)])  # fmt: skip
def test_what_an_hpa_ignores(now: int, want: int, lost: bool) -> None:
    assert ignored(want, now, 0.1) is lost


def test_small_changes_get_through_or_are_named() -> None:
    shield = Tolerance(config.Tolerance())
    out = shield.apply(seen(), (21,), at(0, 20, tolerance=0.1))
    assert not ignored(out.target[0], 20, 0.1)
    assert ignored(out.target[0] - 1, 20, 0.1)
    assert out.counted == ("tolerance_enlarged",)
    back = shield.apply(seen(), (20,), at(0, 22, tolerance=0.1))
    assert back.target == (20,)
    assert "ignores" in back.reason
    assert back.counted == ("tolerance_marked",)
    assert shield.apply(seen(), (40,), at(0, 39, tolerance=0.1)).counted == ("tolerance_marked",)  # no more allowed
    assert shield.apply(seen(), (21,), at(0, 20)) == ((21,), "", ())
    both = Tolerance(config.Tolerance(back="enlarge"))
    assert both.apply(seen(), (20,), at(0, 22, tolerance=0.1)).target == (19,)


@given(now=st.integers(1, 500), step=st.integers(-40, 40), share=st.floats(0.0, 0.9))
def test_the_smallest_change_that_gets_through(now: int, step: int, share: float) -> None:
    want = max(1, now + step)
    if want != now:
        through = enlarged(want, now, share)
        assert through == 0 or not ignored(through, now, share)
        assert (through - want) * (want - now) >= 0
        assert through == want or ignored(through + (1 if want < now else -1), now, share)


def test_an_enlarged_scale_in_never_ends_at_zero() -> None:
    shield = Tolerance(config.Tolerance(back="enlarge", share=0.6))
    assert shield.apply(seen(), (1,), at(0, 2, TO_ZERO, tolerance=0.6)).target == (1,)


def test_a_step_limit_that_makes_a_change_too_small_says_so() -> None:
    verdict = Limits(config.Limits(max_step_up=1)).apply(seen(), (23,), at(0, 20, tolerance=0.1))
    assert verdict.target == (21,)
    assert "ignores" in verdict.reason


# Metrics.
def test_missing_metrics_hold_then_hand_over_then_back() -> None:
    gate = Metrics(config.Metrics(hold_s=60.0, fresh_decisions=3))
    blind = {"blind": "no value for waiting"}
    ruled = [gate.judge(seen(), at(now, 4, **blind)).who for now in range(0, 90, 15)]
    assert ruled == ["hold"] * 4 + ["fallback"] * 2
    back = [gate.judge(seen(), at(now, 4)).who for now in range(90, 165, 15)]
    assert back == ["fallback"] * 3 + ["scaler"] * 2
    assert gate.judge(seen(), at(165, 4, **blind)).who == "hold"
    assert gate.judge(seen(), at(180, 4)).who == "scaler", "a hold ends with the first fresh metric"


@pytest.mark.parametrize(("changes", "why"), [({"arrival_per_s": math.nan}, "arrival_per_s"),
                                              ({"waiting": -1.0}, "waiting"), ({"age_s": 61.0}, "61 s old"),
                                              ({"age_s": math.nan}, "old")])  # fmt: skip
def test_what_is_no_metric(changes: dict[str, float], why: str) -> None:
    setting = config.Metrics()
    assert unreadable(seen(), setting) == ""
    assert why in unreadable(replace(seen(), **changes), setting)
    slow = replace(seen(), age_s=61.0, interval_s=60.0)
    assert unreadable(slow, setting) == "", "never those of the last three intervals"


# Breaker.
def test_a_breaker_opens_tries_once_and_closes() -> None:
    breaker = Breaker(config.Breaker(failures=3, window_s=100.0, cool_off_s=50.0))
    assert [breaker.failed(now) for now in (0.0, 60.0, 120.0)] == [False, False, False]  # two within 100 s
    assert breaker.failed(130.0)
    assert not breaker.allows(179.0)
    assert breaker.allows(180.0)
    assert breaker.failed(180.0), "the trial failed"
    assert not breaker.allows(229.0)
    breaker.succeeded()
    assert breaker.allows(229.0)
    assert not breaker.failed(240.0)


def test_shields_go_on_after_a_restart() -> None:
    def parts() -> dict[str, Any]:
        made = config.ShieldsConfig(
            flap=config.Flap(reversals=3), limits=config.Limits(scale_to_zero=True, idle_s=90.0)
        )
        return shields(made)

    rng = np.random.default_rng(3)
    through, first, current = parts(), parts(), 10
    for k in range(120):
        if k == 57:
            kept = json.loads(json.dumps({name: shield.state() for name, shield in first.items()}, allow_nan=False))
            first = parts()
            for name, shield in first.items():
                shield.restore(kept[name])
        wanted = (int(rng.integers(0, 40)),)
        moment = seen(float(rng.choice([0.0, 0.0, 90.0])), TO_ZERO, waiting=float(rng.integers(0, 3)))
        context = at(15.0 * k, current, TO_ZERO, tolerance=0.1)
        verdicts = [[shield.apply(moment, wanted, context) for shield in part.values()] for part in (through, first)]
        assert verdicts[0] == verdicts[1], f"decision {k}"
        current = verdicts[0][-1].target[0]
