"""The clairvoyant bound and its plan in the simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs import get_scenario
from rlscale import constant_fleets
from rlscale.clairvoyant import Foreseen, Future, future
from rlscale.errors import ScenarioError
from rlscale.loop import run
from rlscale.scenario import Scenario
from rlscale.types import Load


@pytest.fixture(scope="module")
def day() -> tuple[Scenario, Load, Future]:
    """Eight hours of chat."""
    scenario = replace(get_scenario("chat"), horizon_s=8 * 3600.0)
    load = scenario.sample_load("test", 1)
    return scenario, load, future(scenario, load, 1)


def test_more_attainment_costs_more_and_the_plan_keeps_its_promise(day: tuple[Scenario, Load, Future]) -> None:
    _, _, known = day
    bounds = [known.bound(target) for target in (0.9, 0.95, 0.99, 0.999)]
    costs = [bound.cost_usd for bound in bounds]
    assert costs == sorted(costs) and costs[0] > 0
    assert all(bound.expected >= bound.attainment - 1e-9 for bound in bounds)
    assert all(bound.plan.billed * known.price_usd >= bound.cost_usd * (1 - 1e-6) for bound in bounds)


def test_losses_are_those_of_a_constant_fleet_made_convex(day: tuple[Scenario, Load, Future]) -> None:
    _, _, known = day
    assert (np.diff(known.loss, axis=1) <= 1e-9).all() and (np.diff(known.loss, 2, axis=1) >= -1e-6).all()
    np.testing.assert_allclose(known.loss[:, 0], known.arrived)
    assert known.loss[:, -1].sum() < 1e-3 * known.arrived.sum()


@pytest.mark.parametrize("replicas", [10, 12, 14])
def test_a_constant_fleet_misses_what_its_own_run_misses(day: tuple[Scenario, Load, Future], replicas: int) -> None:
    """Seed 1, eight hours: windows of five minutes forget what happened before them, so never more than 10 % above."""
    from agents.fixed import SCALERS

    scenario, load, _ = day
    spec, each = scenario.cluster, float(scenario.limits.capacity_per_s[0])
    came = constant_fleets.requests(spec, load, 1)
    lost = constant_fleets.losses(spec, load, came, np.array([0, replicas]), each)[:, 1].sum()
    fixed = SCALERS["fixed"].build(scenario.limits, replicas=replicas)
    missed = run(scenario, fixed, load, 1, initial=(replicas,)).totals["missed"]
    assert 0.5 * missed - 5.0 < lost < 1.1 * missed + 5.0
    assert len(came) == load.duration_s


def test_the_requests_are_those_of_every_run_with_this_luck(day: tuple[Scenario, Load, Future]) -> None:
    scenario, load, known = day
    played = run(scenario, Foreseen(known, known.plan(1.0)), load, 1)
    np.testing.assert_allclose(known.arrived, played.series["arrived"])


def test_its_plan_costs_in_the_simulator_what_it_says(day: tuple[Scenario, Load, Future]) -> None:
    """Seed 1, eight hours, 99.9 % aimed at: cost within 2 %, attainment within half a point."""
    scenario, load, known = day
    least = known.bound(0.999)
    played = run(scenario, Foreseen(known, least.plan), load, 1).totals
    assert played["cost_usd"] == pytest.approx(least.plan.billed * known.price_usd, rel=0.02)
    assert played["attainment"] == pytest.approx(least.expected, abs=0.005)


def test_no_constant_fleet_is_cheaper(day: tuple[Scenario, Load, Future]) -> None:
    _, _, known = day
    target = 0.99
    enough = int(np.argmax(known.loss.sum(axis=0) <= (1 - target) * known.arrived.sum()))
    constant = enough * len(known.arrived) * known.price_usd
    assert known.bound(target).cost_usd < constant


def test_what_not_even_every_node_could_is_infinite(day: tuple[Scenario, Load, Future]) -> None:
    _, _, known = day
    short = replace(known, loss=known.loss[:, :3], prices_usd=known.prices_usd[:2])
    assert short.bound(0.99).cost_usd == np.inf


def test_several_pools_have_a_bound_and_no_plan_to_execute() -> None:
    """Two hours of chat-mixed, seed 0: not above what its cheapest pool alone could do."""
    scenario = replace(get_scenario("chat-mixed"), horizon_s=2 * 3600.0)
    load = scenario.sample_load("test", 0)
    known = future(scenario, load, 0)
    assert len(known.prices_usd) == sum(-(-p.max_replicas // p.slots_per_node) for p in scenario.cluster.pools)
    alone = min(
        future(_only(scenario, pool), load, 0).bound(0.99).cost_usd for pool in range(len(scenario.cluster.pools))
    )
    assert 0.5 * alone < known.bound(0.99).cost_usd <= 1.02 * alone
    with pytest.raises(ScenarioError, match="chat-mixed has 2 pools"):
        Foreseen(known, known.plan(1.0))


def _only(scenario: Scenario, pool: int) -> Scenario:
    one = replace(scenario.cluster.pools[pool], min_replicas=1)
    return replace(scenario, cluster=replace(scenario.cluster, pools=(one,)))
