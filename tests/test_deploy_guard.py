"""Whatever a scaler does, what comes out is whole and within the limits, and someone always decides."""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.headroom import Headroom, held
from agents.hpa import HPA
from agents.threshold import Threshold
from envs import get_scenario
from rlscale.checks import ToyFleet, drive, limits_of, observation
from rlscale.deploy import shield_config as config
from rlscale.deploy.guard import Guarded
from rlscale.deploy.worker import Late, Stuck, Worker
from rlscale.loop import run
from rlscale.types import Decision, Observation, ScalingLimits

LIMITS = limits_of()
DIRECT = config.Breaker(deadline_s=None)  # in the test's own thread
PATIENCE_S = 20.0  # until a test gives up waiting


class Says:
    """A scaler that answers, raises or calls what it is told to; `asked` counts."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, 0

    def reset(self) -> None:
        pass

    def decide(self, seen: Observation) -> Decision:
        self.asked += 1
        answer = self.answer(seen) if callable(self.answer) else self.answer
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[no-any-return]


def guarded(answer: Any, known: ScalingLimits = LIMITS, fallback: Any = None, **settings_: Any) -> Guarded:
    spare = fallback if fallback is not None else Says(Decision((5,), "five"))
    made = config.ShieldsConfig(**({"breaker": DIRECT} | settings_))
    return Guarded(answer if hasattr(answer, "decide") else Says(answer), spare, made, known)


def seen(t_s: float = 0.0, limits: ScalingLimits = LIMITS, target: tuple[int, ...] = (4,), **more: Any) -> Observation:
    more = {"arrival_per_s": 40.0, "attainment": 1.0} | more
    return observation(limits, t_s=t_s, target=np.array(target), ready=np.array(target), **more)


WILD = st.one_of(
    st.none(), st.text(max_size=3), st.booleans(), st.integers(-(10**400), 10**400), st.floats(), st.just(10**12)
)


@settings(max_examples=200, deadline=None)
@given(
    pools=st.integers(1, 3),
    answer=st.one_of(
        WILD,
        st.builds(Decision, st.lists(WILD, max_size=4).map(tuple)),
        st.builds(Decision, st.just(()), st.just("capacity"), WILD),
        st.builds(Decision, st.just((1,)), st.just("standby"), st.just(0.0), st.lists(WILD, max_size=2).map(tuple)),
        st.sampled_from([ValueError("no"), KeyError(), SystemExit(), RecursionError(), TimeoutError("its own")]),
    ),
    spare=st.one_of(WILD, st.builds(Decision, st.lists(WILD, max_size=3).map(tuple)), st.just(OSError("spare"))),
    least=st.integers(0, 2),
    current=st.integers(0, 40),
    metrics=st.fixed_dictionaries(
        {name: st.one_of(st.floats(), st.floats(0, 1e3)) for name in
         ("arrival_per_s", "waiting", "running", "attainment", "dropped_per_s", "age_s")}
    ),
    to_zero=st.booleans(),
)  # fmt: skip
def test_what_comes_out_is_whole_within_limits_and_never_zero_by_accident(
    pools: int, answer: Any, spare: Any, least: int, current: int, metrics: dict[str, float], to_zero: bool
) -> None:
    limits = replace(limits_of(pools), min_replicas=np.array([least] + [0] * (pools - 1)))
    if isinstance(answer, SystemExit):
        answer = RuntimeError("exits only end a thread of its own")
    guard = guarded(answer, limits, Says(spare), limits=config.Limits(scale_to_zero=to_zero))
    target = (current,) + (0,) * (pools - 1)
    for k in range(3):
        decision = guard.decide(seen(15.0 * k, limits, target, **metrics))
        assert len(decision.target) == pools
        assert all(type(count) is int for count in decision.target)
        for count, low, high in zip(decision.target, limits.min_replicas, limits.max_replicas, strict=True):
            assert low <= count <= high
        assert sum(decision.target) > 0, "600 s without traffic have not passed"
        assert decision.reason
        json.dumps(guard.state(), allow_nan=False)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (RuntimeError("cuda is gone"), "scaler_error"),
        (None, "scaler_invalid"),
        (Decision((math.nan,)), "scaler_invalid"),
        (Decision((-1,)), "scaler_invalid"),
        (Decision((4, 4)), "scaler_invalid"),
        (Decision(capacity_per_s=math.nan), "scaler_invalid"),
        (Decision(capacity_per_s=-3.0), "scaler_invalid"),
    ],
)
def test_a_scaler_that_fails_is_stood_in_for_and_left_alone(answer: Any, kind: str) -> None:
    scaler = Says(answer)
    guard = guarded(scaler)
    taken = [guard.decide(seen(15.0 * k)) for k in range(8)]
    assert {decision.target for decision in taken} == {(5,)}
    assert guard.counts[kind] == 3
    assert guard.counts["breaker_open"] == 1
    assert guard.counts["fallback"] == 8
    assert scaler.asked == 3
    assert guard.gauges["breaker_is_open"] == 1.0
    assert "breaker is open" in taken[-1].reason
    scaler.answer = Decision((6,), "well again")
    assert guard.decide(seen(120.0)).target == (5,)
    assert guard.decide(seen(30.0 + 120.0)).target == (6,), "the trial after the cool-off"
    assert guard.decided_by == "scaler"


def test_when_nobody_can_decide_the_target_is_held() -> None:
    guard = guarded(RuntimeError("a"), fallback=Says(RuntimeError("b")))
    decision = guard.decide(seen())
    assert decision.target == (4,)
    assert guard.counts["hold"] == guard.counts["fallback_failed"] == 1
    assert "a" in decision.reason
    assert "b" in decision.reason


def test_a_scaler_that_blocks_is_abandoned_and_not_called_twice() -> None:
    free, calls = threading.Event(), []

    def block(moment: Observation) -> Decision:
        calls.append(moment.t_s)
        free.wait(PATIENCE_S)
        return Decision((7,), "at last")

    breaker = config.Breaker(deadline_s=0.5, failures=10**9)
    guard = guarded(block, breaker=breaker)
    began = time.monotonic()
    assert [guard.decide(seen(15.0 * k)).target for k in range(4)] == [(5,)] * 4
    assert time.monotonic() - began < PATIENCE_S / 2
    assert calls == [0.0]
    assert guard.counts["scaler_slow"] == 1
    assert guard.counts["scaler_stuck"] == 3
    assert guard.state()["scaler"] is None
    free.set()
    deadline = time.monotonic() + PATIENCE_S
    while guard.decided_by != "scaler" and time.monotonic() < deadline:
        decision = guard.decide(seen(60.0))
    assert decision.target == (7,)


def test_a_worker_outlives_what_it_runs() -> None:
    worker = Worker("test")
    for error in (SystemExit(3), KeyboardInterrupt(), TimeoutError("its own"), ValueError("x")):

        def act(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)):
            worker.call(act, PATIENCE_S)
    free = threading.Event()
    with pytest.raises(Late):
        worker.call(lambda: free.wait(PATIENCE_S), 0.02)
    with pytest.raises(Stuck):
        worker.call(lambda: 1, PATIENCE_S)
    free.set()
    deadline = time.monotonic() + PATIENCE_S
    while worker.stuck:
        assert time.monotonic() < deadline
    assert worker.call(lambda: 1, PATIENCE_S) == 1


def test_missing_metrics_hold_then_the_fallback_adds_and_takes_nothing_away() -> None:
    guard = guarded(Decision((6,)), fallback=Says(lambda moment: Decision((9 if moment.t_s > 200 else 2,))))
    blind = {"arrival_per_s": math.nan}
    assert guard.decide(seen(0.0)).target == (6,)
    taken = [guard.decide(seen(15.0 * k, target=(6,), **blind)).target[0] for k in range(1, 16)]
    assert taken == [6] * 13 + [9, 9]  # 120 s held, then what it wants where that is more
    assert guard.counts["metrics_hold"] == 8
    assert guard.counts["metrics_fallback"] == 7
    back = [guard.decide(seen(15.0 * k, target=(9,))).target[0] for k in range(16, 22)]
    assert back == [9] * 4 + [6] * 2


def test_a_shield_that_raises_is_left_out_and_counted() -> None:
    guard = guarded(Decision((99,)))

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    guard.shields["queueing"].apply = broken  # type: ignore[method-assign]
    guard.gates["metrics"].judge = broken  # type: ignore[method-assign]
    assert guard.decide(seen()).target == (40,), "the limits still stand"
    assert guard.counts["shield_error"] == 2


OFF = {
    name: {"on": False}
    for name in ("breaker", "metrics", "silence", "distribution", "queueing", "flap", "tolerance", "limits")
}


@pytest.mark.parametrize(
    ("name", "moments"),
    [
        ("metrics", [{"arrival_per_s": math.nan}] * 12),
        ("queueing", [{"arrival_per_s": 390.0}] * 3),
        ("limits", [{"target": (39,)}] * 3),
        ("flap", [{"target": (4 + 9 * (k % 2),)} for k in range(30)]),
    ],
)
def test_a_shield_that_is_off_lets_through_what_it_would_change(name: str, moments: list[dict[str, Any]]) -> None:
    only = OFF | {name: {}, "flap": {"on": name == "flap", "reversals": 3}}
    through, kept = ([], [])
    for taken, chosen in ((through, OFF), (kept, only)):
        made = config.ShieldsConfig.model_validate(chosen)
        guard = Guarded(Says(Decision((3,), "three")), Says(Decision((5,))), made, LIMITS)
        taken += [guard.decide(seen(15.0 * k, **moment)).target for k, moment in enumerate(moments)]
    assert set(through) == {(3,)}
    assert set(kept) != {(3,)}, "on, it changes something here"


def test_tolerance_of_the_backend_or_of_the_setting() -> None:
    for share, backend, wanted in ((None, 0.1, 23), (None, 0.0, 21), (0.0, 0.1, 21)):
        made = config.ShieldsConfig(breaker=DIRECT, tolerance=config.Tolerance(share=share))
        guard = Guarded(Says(Decision((21,))), Says(Decision((5,))), made, LIMITS, tolerance=backend)
        decision = guard.decide(seen(target=(20,), arrival_per_s=200.0))
        assert decision.target[0] in ((22, 23) if wanted == 23 else (21,))


@pytest.mark.parametrize("scaler", ["headroom", "held", "threshold"])
def test_behind_all_shields_a_sensible_scaler_is_what_it_was_in_the_simulator(scaler: str) -> None:
    chat = replace(get_scenario("chat"), horizon_s=3 * 3600.0)
    load, known = chat.sample_load("test", 0), chat.limits
    build: Any = {"headroom": Headroom, "held": held, "threshold": Threshold}[scaler]
    # The first decision compiles what is not compiled yet.
    made = config.ShieldsConfig(breaker=config.Breaker(deadline_s=120.0))
    guard = Guarded(build(known), HPA(known), made, known)
    behind, bare = run(chat, guard, load, 0), run(chat, build(known), load, 0)
    np.testing.assert_array_equal(behind.series["target"], bare.series["target"])
    assert behind.totals["cost_usd"] == bare.totals["cost_usd"]
    assert not any(guard.counts.values()), guard.counts


def test_a_restart_goes_unnoticed() -> None:
    def fresh() -> Guarded:
        made = config.ShieldsConfig(breaker=DIRECT, flap=config.Flap(reversals=2))
        return Guarded(Says(wanted), Says(Decision((5,), "five")), made, LIMITS, tolerance=0.1)

    def wanted(moment: Observation) -> Decision | Exception:
        k = int(moment.t_s / 15.0)
        return ValueError("now and then") if k % 9 < 2 or 60 < k < 66 else Decision((4 + 11 * (k % 5 < 2),), "by turns")

    through, other, target = fresh(), fresh(), (4,)
    for k in range(160):
        if k % 23 == 22:
            kept = json.loads(json.dumps(other.state(), allow_nan=False))
            other = fresh()
            other.restore(kept)
        more = {"arrival_per_s": math.nan} if 80 < k < 100 else {"waiting": float(k % 4)}
        moment = seen(15.0 * k, target=target, **more)
        first, second = through.decide(moment), other.decide(moment)
        assert replace(first, reason="") == replace(second, reason=""), f"decision {k}"
        assert through.counts == other.counts, f"decision {k}"
        target = first.target
    assert through.counts["breaker_open"]
    assert through.counts["flap_hold"]


def test_a_state_of_another_format_is_refused() -> None:
    guard = guarded(Decision((4,)))
    with pytest.raises(ValueError, match="format 0"):
        guard.restore(guard.state() | {"format": 0})


def test_a_clock_that_begins_anew_neither_blocks_nor_hurries() -> None:
    guard = guarded(RuntimeError("x"))
    for k in range(4):
        guard.decide(seen(1000.0 + 15.0 * k))
    kept = json.loads(json.dumps(guard.state()))
    scaler = Says(Decision((6,)))
    after = guarded(scaler)
    after.restore(kept)
    taken = [after.decide(seen(15.0 * k)).target[0] for k in range(10)]
    assert taken[0] == 5, "the breaker is open still"
    assert taken[-1] == 6


def test_it_is_a_scaler_that_follows_the_load_of_a_toy_fleet() -> None:
    guard = guarded(Headroom(LIMITS), fallback=HPA(LIMITS))
    fleet = ToyFleet(LIMITS, 40.0)
    low = drive(guard, fleet, 60)[-1].target
    fleet.rate_per_s = 160.0
    high = drive(guard, fleet, 60)[-1].target
    fleet.rate_per_s = 40.0
    assert drive(guard, fleet, 60)[-1].target == low < high
