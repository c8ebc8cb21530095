"""Scalers that allocate by a program: lp-allocation, spot-fallback, receding-horizon."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from agents import allocation, receding
from agents.allocation import LpAllocation, SpotFallback, keep_until_replaced
from agents.headroom import Headroom
from agents.receding import RecedingHorizon
from envs import get_scenario
from rlscale import registry
from rlscale.allocation_lp import whole
from rlscale.checks import check_scaler, limits_of, observation
from rlscale.decide import carried_per_s
from rlscale.errors import ScenarioError
from rlscale.execute import allocate, bound
from rlscale.loop import run
from rlscale.optimal import Spells, best_plan
from rlscale.types import PENDING_AGES_S, Observation, ScalingLimits

KINDS = {**allocation.SCALERS, **receding.SCALERS}
SEARCH = {**allocation.SEARCH, **receding.SEARCH}
MIXED = replace(
    limits_of(2),
    min_replicas=np.array([2, 0]),
    max_replicas=np.array([6, 60]),
    capacity_per_s=np.array([20.0, 8.0]),
    usd_per_replica_s=np.array([4.0, 1.4]) / 3600.0,
)
SPOT = replace(
    limits_of(3), max_replicas=np.array([40, 20, 20]), capacity_per_s=np.full(3, 10.0),
    usd_per_replica_s=np.array([4.0, 3.0, 3.0]) / 3600.0, spot=(False, True, True), zones=("e/a", "e/b", "e/c"),
)  # fmt: skip


def counts(ready: list[int], target: list[int], age_s: float = 0.0) -> dict[str, object]:
    missing = np.maximum(np.array(target) - np.array(ready), 0)
    by_age = np.zeros((len(ready), len(PENDING_AGES_S) + 1), np.int64)
    by_age[:, np.searchsorted(PENDING_AGES_S, age_s, side="right")] = missing
    return {
        "ready": np.array(ready), "ready_at_scrape": np.array(ready), "target": np.array(target), "pending": missing,
        "pending_by_age": by_age,
    }  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_they_are_registered_keep_the_contract_and_can_be_tuned(name: str) -> None:
    kind = registry.scan("agents", "SCALERS")[name]
    assert kind.knob is not None and kind.knob.name in SEARCH[name]
    for limits in (limits_of(1), limits_of(3), SPOT):
        check_scaler(kind, limits)
    for parameter, (law, *ends) in SEARCH[name].items():
        assert law in ("float", "log", "int", "choice")
        for value in ends:
            kind.build(limits_of(), **{parameter: value})


@pytest.mark.parametrize("name", KINDS)
def test_odd_fleets_and_metrics_trip_none_of_them(name: str) -> None:
    nothing = replace(limits_of(3), max_replicas=np.array([40, 0, 40]), capacity_per_s=np.array([10.0, 5.0, 0.0]))
    scaler = KINDS[name].build(nothing)
    for waiting in (0.0, 2.0**31, math.nan, -1.0):
        seen = observation(nothing, waiting=waiting, arrival_per_s=30.0, **counts([2, 0, 0], [2, 0, 0]))
        target = bound(scaler.decide(seen), nothing, seen.target).target
        assert target[1] == target[2] == 0
        assert target[0] == (40 if waiting == 2.0**31 else target[0])
    empty = replace(limits_of(), min_replicas=np.array([0]))
    scaler = KINDS[name].build(empty)
    assert scaler.decide(observation(empty, **counts([0], [0]))).target == (0,)
    asked = observation(empty, t_s=900.0, arrival_per_s=0.01, **counts([0], [0]))
    assert scaler.decide(asked).target == (1,)


@pytest.mark.parametrize("name", KINDS)
def test_a_decision_takes_well_below_five_milliseconds(name: str) -> None:
    """Median of 200 decisions at three pools; the load of the machine is what the margin is for."""
    scaler, taken = KINDS[name].build(SPOT), []
    for k in range(200):
        seen = observation(SPOT, t_s=15.0 * k, arrival_per_s=150.0 + k, **counts([8, 5, 5], [9, 5, 6], 60.0))
        began = time.perf_counter()
        scaler.decide(seen)
        taken.append(time.perf_counter() - began)
    assert np.median(taken) < 2.5e-3


# lp-allocation
def test_the_cheapest_whole_replicas_carry_the_forecast() -> None:
    """96/s wanted, 40 of them by the minimum: 7 of the second pool for 9.8 are cheaper than 3 of the first for 12."""
    scaler = LpAllocation(MIXED, headroom=1.2, forecaster="last", restart=0.0)
    seen = observation(MIXED, arrival_per_s=80.0, **counts([2, 0], [2, 0]))
    assert scaler.decide(seen).target == (2, 7)
    assert scaler.problem is not None
    assert whole(scaler.problem).cost == pytest.approx(9.8)


@pytest.mark.parametrize("rate_per_s", np.linspace(5.0, 460.0, 40))
def test_branch_and_bound_costs_what_highs_finds(rate_per_s: float) -> None:
    for have in ([2, 0], [3, 9], [6, 30]):
        seen = observation(MIXED, arrival_per_s=float(rate_per_s), **counts(have, have))
        exact, highs = (LpAllocation(MIXED, forecaster="last", solver=solver) for solver in ("exact", "highs"))
        exact.decide(seen)
        assert exact.problem is not None
        units = exact._solve(exact.problem)
        cost = sum(p * x for p, x in zip(exact.problem.prices, units or (), strict=True))
        assert cost == pytest.approx(whole(exact.problem).cost)
        assert carried_per_s(highs.decide(seen).target, MIXED) >= 1.2 * rate_per_s * (1 - 1e-9)


def test_what_is_there_stays_where_a_change_would_not_pay_for_its_start() -> None:
    """Six of the first pool for 24 carry 120: so do two and ten of the second for 22, which would have to start."""
    seen = observation(MIXED, arrival_per_s=100.0, **counts([6, 0], [6, 0]))
    assert LpAllocation(MIXED, forecaster="last", restart=0.25).decide(seen).target == (6, 0)
    moved = LpAllocation(MIXED, forecaster="last", restart=0.0)._problem(120.0, seen)
    assert whole(moved).amounts == (0.0, 0.0, 0.0, 10.0)


def test_ready_replicas_stay_until_their_successors_are_ready() -> None:
    seen = observation(MIXED, **counts([6, 2], [2, 12]))
    assert keep_until_replaced([2, 12], 120.0, seen, MIXED) == [6, 12]
    assert keep_until_replaced([2, 12], 80.0, seen, MIXED) == [4, 12]
    ready = observation(MIXED, **counts([6, 12], [6, 12]))
    assert keep_until_replaced([2, 12], 120.0, ready, MIXED) == [2, 12]


def test_more_than_everything_gets_everything_and_says_so() -> None:
    for solver in ("exact", "highs", "lp"):
        decision = LpAllocation(MIXED, solver=solver).decide(observation(MIXED, arrival_per_s=1e6))
        assert decision.target == (6, 60)
        assert "more than every pool" in decision.reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"solver": "simplex"}, "solver = 'simplex'"),
        ({"restart": -1.0}, "restart = -1"),
        ({"headroom": 0.0}, "headroom"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        LpAllocation(MIXED, **change)  # type: ignore[arg-type]
    with pytest.raises(ScenarioError, match="zone_share"):
        SpotFallback(SPOT, zone_share=1.2)
    with pytest.raises(ScenarioError, match="penalty"):
        RecedingHorizon(SPOT, penalty=math.nan)


# spot-fallback
def settled(scaler: SpotFallback, rate_per_s: float) -> list[int]:
    have = [1, 0, 0]
    for k in range(4):
        seen = observation(SPOT, t_s=15.0 * k, arrival_per_s=rate_per_s, **counts(have, have))
        have = list(scaler.decide(seen).target)
    return have


def test_spot_is_ordered_beyond_the_need_and_over_both_zones() -> None:
    """120/s, 10 of them by the minimum; 0.8 expected of a replica, 55 per zone: 6 in each, the last 14 on demand."""
    assert settled(SpotFallback(SPOT, availability=0.8), 100.0) == [3, 6, 6]


def test_on_demand_replaces_a_zone_that_went_and_goes_when_it_is_back() -> None:
    scaler = SpotFallback(SPOT, availability=0.8, window_s=0.0)
    assert settled(scaler, 100.0) == [3, 6, 6]

    def after(t_s: float, ready: list[int], target: list[int], age_s: float = 0.0) -> tuple[int, ...]:
        seen = observation(SPOT, t_s=t_s, arrival_per_s=100.0, **counts(ready, target, age_s))
        return tuple(int(count) for count in scaler.decide(seen).target)

    # 120 less 48 of zone c: 72 on demand, and the order for zone b stays.
    assert after(60.0, [3, 0, 6], [3, 6, 6]) == (8, 6, 6)
    assert after(600.0, [8, 0, 6], [8, 6, 6], 500.0) == (8, 6, 6)
    assert after(700.0, [8, 6, 6], [8, 6, 6]) == (3, 6, 6)


def test_an_order_that_stays_pending_beyond_the_start_up_is_replaced_and_kept() -> None:
    scaler = SpotFallback(SPOT, availability=0.8)
    seen = observation(SPOT, arrival_per_s=100.0, **counts([3, 0, 6], [3, 6, 6], 300.0))
    assert scaler.decide(seen).target == (3, 6, 6)  # under way
    seen = observation(SPOT, t_s=900.0, arrival_per_s=100.0, **counts([3, 0, 6], [3, 6, 6], 970.0))
    assert scaler.decide(seen).target == (8, 6, 6)


# receding-horizon
INTERVAL_S = 30.0


class Foresees(RecedingHorizon):
    """With a perfect forecast: the demand of every interval of a known run, zero beyond its end."""

    def know(self, future_per_s: np.ndarray) -> Foresees:
        self.future = future_per_s
        return self

    def path(self, ahead: list[float], seen: Observation) -> np.ndarray:
        return self.future[round(float(seen.t_s) / INTERVAL_S) :]


def test_one_interval_order_under_long_lead_is_placed_a_lead_time_ahead() -> None:
    """Ten quiet intervals, then a step to three replicas; two intervals to start: ordered at the eighth, not before."""
    limits = small(spells := Spells(1, 1, 2), most=3)
    future = np.repeat([10.0, 30.0], 10)
    assert closed(limits, future, spells, begun=1)[0][7:10] == [1, 3, 3]


def small(spells: Spells, most: int) -> ScalingLimits:
    start = np.array([(spells.provision + spells.load) * INTERVAL_S])
    return replace(limits_of(), min_replicas=np.array([0]), max_replicas=np.array([most]), start_median_s=start)


def closed(limits: ScalingLimits, future: np.ndarray, spells: Spells, begun: int) -> tuple[list[int], float]:
    """A fleet of single-replica nodes under the rule; what was asked for, and price x billed + penalty x missing.

    A node is ordered for `provision` intervals, loads for `load`, serves, and bills `idle` more when it is let go.
    """
    loading = spells.load / max(1, spells.provision + spells.load)
    scaler = Foresees(limits, headroom=1.0, idle_s=spells.idle * INTERVAL_S, loading=loading, penalty=5.0).know(future)
    nodes, ages, idle, cost, asked = begun, [], [], 0.0, []
    lead = spells.provision + spells.load
    for i, demand in enumerate(future):
        nodes += sum(age >= lead for age in ages)
        ages, idle = [age for age in ages if age < lead], [left for left in idle if left > 0]
        by_age = np.zeros((1, len(PENDING_AGES_S) + 1), np.int64)
        for age in ages:
            by_age[0, np.searchsorted(PENDING_AGES_S, age * INTERVAL_S, side="right")] += 1
        seen = observation(
            limits, t_s=i * INTERVAL_S, interval_s=INTERVAL_S, arrival_per_s=float(demand), ready=np.array([nodes]),
            target=np.array([nodes + len(ages)]), pending=np.array([len(ages)]), pending_by_age=by_age,
        )  # fmt: skip
        (wanted,) = scaler.decide(seen).target
        asked.append(wanted)
        ages += [0] * (wanted - nodes - len(ages))
        surplus = nodes + len(ages) - wanted
        cancelled = min(surplus, len(ages))
        ages = sorted(ages, reverse=True)[: len(ages) - max(0, cancelled)]
        for _ in range(max(0, surplus - max(0, cancelled))):
            nodes -= 1
            idle.append(spells.idle)
        cost += nodes + sum(age >= spells.provision for age in ages) + len(idle)
        cost += 5.0 * max(0.0, demand / 10.0 - nodes)
        ages, idle = [age + 1 for age in ages], [left - 1 for left in idle]
    return asked, cost


@pytest.mark.parametrize("seed", range(60))
def test_with_a_perfect_forecast_it_costs_what_the_clairvoyant_plan_does(seed: int) -> None:
    """60 runs of 24 intervals, up to 4 nodes, starts of 2 intervals, idle spells of 2 or 3; costs to 1e-6."""
    rng = np.random.default_rng(seed)
    spells = [Spells(1, 1, 2), Spells(2, 0, 3), Spells(0, 2, 2)][seed % 3]
    future = 10.0 * np.repeat(rng.uniform(0.0, 4.0, 8), 3)
    begun, most = int(rng.integers(0, 4)), 4
    saved = 5.0 * np.clip(future[:, None] / 10.0 - np.arange(most), 0.0, 1.0)
    loss = np.column_stack([saved.sum(axis=1), saved.sum(axis=1, keepdims=True) - saved.cumsum(axis=1)])
    plan = best_plan(loss, 1.0, spells, begun)
    assert closed(small(spells, most), future, spells, begun)[1] == pytest.approx(plan.value, abs=1e-6)


def test_a_short_dip_is_bridged_and_a_long_one_is_not() -> None:
    spells = Spells(1, 1, 2)
    for dip, kept in ((2, 3), (8, 1)):
        future = np.concatenate([np.full(4, 30.0), np.full(dip, 10.0), np.full(8, 30.0)])
        assert closed(small(spells, 3), future, spells, 3)[0][5] == kept


def test_the_demand_beyond_a_full_pool_goes_to_the_next() -> None:
    scaler = RecedingHorizon(MIXED, forecaster="last", headroom=1.0)
    seen = observation(MIXED, arrival_per_s=40.0 + 60 * 8.0 + 30.0, **counts([2, 0], [2, 0]))
    assert scaler.decide(seen).target == (4, 60)
    assert allocate(550.0, MIXED).target == (4, 60)


class KnowsTheRamp(RecedingHorizon):
    """With the mean rate of every moment of a load for a forecast."""

    rates_per_s: np.ndarray  # per second

    def path(self, ahead: list[float], seen: Observation) -> np.ndarray:
        path = super().path(ahead, seen)
        own = replace(seen, waiting=0.0)
        backlog = path - super().path(ahead, own)
        at_s = seen.t_s + (np.arange(len(path)) + 0.5) * seen.interval_s
        return np.interp(at_s, np.arange(len(self.rates_per_s)), self.rates_per_s) + backlog


@pytest.mark.parametrize("seed", range(3))
def test_on_a_known_ramp_with_a_long_lead_it_beats_the_reactive_rule(seed: int) -> None:
    """Chat on H100, 9 minutes of lead; 60 to 360 requests/s within 25 minutes, 55 minutes in all; luck 0 to 2.

    At least 3 % cheaper than the reactive rule at headroom 1.45 and at least 8 points more within the SLO: measured
    8 to 10 % and 15 to 18 points.
    """
    chat = get_scenario("chat")
    rates = np.concatenate([np.full(900, 60.0), np.linspace(60.0, 360.0, 1500), np.full(900, 360.0)])
    load = replace(chat.sample_load("train", 0), values=rates.astype(np.float32), token_block=np.zeros(1, np.int64),
                   history_per_s=np.full(60, 60.0), history_step_s=60.0)  # fmt: skip
    scaler = KnowsTheRamp(chat.limits, headroom=1.1)
    scaler.rates_per_s = rates
    ahead = run(chat, scaler, load, seed).summary()
    reactive = run(chat, Headroom(chat.limits, 1.45), load, seed).summary()
    assert ahead["cost_usd"] < 0.97 * reactive["cost_usd"]
    assert ahead["attainment"] > reactive["attainment"] + 0.08


def test_spot_with_a_fallback_keeps_the_slo_where_the_cheapest_price_loses_it() -> None:
    """A day of chat-spot, seed 0: 0.97 against 0.71 measured; 10 points are asked."""
    spot = get_scenario("chat-spot")
    load = spot.sample_load("test", 0)
    fallback = run(spot, SpotFallback(spot.limits), load, 0).summary()
    greedy = run(spot, Headroom(spot.limits), load, 0).summary()
    assert fallback["attainment"] > max(0.95, greedy["attainment"] + 0.1)
