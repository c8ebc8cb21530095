"""What prefill and decode pools carry, and how scalers follow a load on both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_roles_fluid import cluster

from agents.hpa_scaler import parts_of
from envs import get_scenario
from experiments.cells import Setting, build_scaler
from rlscale import registry
from rlscale.actions import Delta
from rlscale.allocation import allocate_many
from rlscale.beginning import initial_replicas
from rlscale.clairvoyant import future
from rlscale.decide import busy_per_s, carried_per_s, demand_per_s
from rlscale.errors import ScenarioError
from rlscale.execute import allocate
from rlscale.features import NAMES, FeatureExtractor
from rlscale.loop import run
from rlscale.monitor import Monitor
from rlscale.scenario import Scenario
from rlscale.sim import steady
from rlscale.sim.request_world import RequestWorld
from rlscale.sim.world import SimWorld
from rlscale.types import Load, Observation, Role, ScalingLimits
from rlscale.workloads.tokens import CHAT

ROLES: tuple[Role, ...] = ("prefill", "decode", "prefill", "decode")


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return replace(get_scenario("chat-disaggregated"), horizon_s=7200.0)


def limits() -> ScalingLimits:
    """Two prefill pools of 30 and 20 requests/s, two decode pools of 25 and 10."""
    each = np.array([30.0, 25.0, 20.0, 10.0])
    return ScalingLimits(np.array([1, 1, 0, 0]), np.array([4, 6, 10, 10]), each, np.full(4, 10.0), np.full(4, 60.0),
                         np.full(4, 90.0), np.array([3.0, 2.0, 1.0, 1.0]), cluster().slo, 60.0,
                         roles=ROLES)  # fmt: skip


def test_a_fleet_carries_what_its_weaker_side_carries() -> None:
    known = limits()
    assert known.sides == ((0, 2), (1, 3))
    assert carried_per_s([2, 2, 1, 0], known) == 50.0
    assert carried_per_s([2, 4, 1, 1], known) == 80.0
    assert known.cheapest == (2, 1)
    assert known.reference_per_s == pytest.approx(1.0 / (1 / 20 + 1 / 25))
    assert steady.need(np.array([100.0]), known)[0] == 9


def test_an_allocation_gives_both_sides_what_is_asked_and_one_row_is_many() -> None:
    """Seed 0, 200 capacities: of each side the cheapest first, and enough, or all there is."""
    known, asked = limits(), np.random.default_rng(0).uniform(0.0, 300.0, 200)
    many = allocate_many(asked, known)
    for capacity_per_s, row in zip(asked, many, strict=True):
        assert allocate(float(capacity_per_s), known).target == tuple(row)
        for side in known.sides:
            pools = list(side)
            enough = row[pools] @ known.capacity_per_s[pools] >= capacity_per_s - 1e-6
            assert enough or (row[pools] == known.max_replicas[pools]).all()
    assert allocate(60.0, known).target == (1, 3, 2, 0)
    assert "160/s at every maximum" not in allocate(100.0, known).reason
    assert "250/s at every maximum" in allocate(300.0, known).reason


def seen(known: ScalingLimits, **changes: Any) -> Observation:
    values: dict[str, Any] = {
        "t_s": 0.0, "week_s": 0.0, "interval_s": 15.0, "age_s": 2.0, "arrival_per_s": 50.0, "waiting": 0.0,
        "running": 20.0, "ttft_s": 0.1, "tpot_s": 0.02, "attainment": 1.0, "dropped_per_s": 0.0,
        "ready": np.array([2, 2, 0, 0]), "pending": np.zeros(4), "pending_by_age": np.zeros((4, 7)),
        "draining": np.zeros(4), "target": np.array([2, 2, 0, 0]), "ready_at_scrape": np.array([2, 2, 0, 0]),
        "compute_occupancy": np.array([0.3, 0.8, 0.0, 0.0]), "memory_occupancy": np.zeros(4), "limits": known,
    }  # fmt: skip
    return Observation(**{**values, **changes})


def test_rules_see_the_busier_side_and_the_longer_queue() -> None:
    known = limits()
    assert busy_per_s(seen(known).compute_occupancy, seen(known), known) == pytest.approx(0.8 * 50.0)
    assert demand_per_s(seen(known, waiting=60.0, decode_waiting=120.0), known) == pytest.approx(52.0)
    parts = parts_of(seen(known, waiting=4.0, decode_waiting=6.0), known)
    assert parts[0] + parts[2] == pytest.approx(0.3 * 20 + 4.0)
    assert parts[1] + parts[3] == pytest.approx(0.8 * 20 + 6.0)


def test_steps_of_an_agent_keep_the_sides_level() -> None:
    known, action = limits(), Delta()
    batch = seen(known, arrival_per_s=np.full(2, 50.0), waiting=np.zeros(2), target=np.array([[1, 1, 0, 0]] * 2))
    step = [action.steps.index(4), action.steps.index(0)]
    found = action.targets(np.array(step), batch, known)
    assert found.tolist() == [[1, 3, 2, 0], [1, 1, 0, 0]]
    assert action.mask(batch, known)[0].tolist() == [False, False, False, True, True, True, True]


def test_capacity_of_a_side_is_what_it_carries_beside_plenty_of_the_other() -> None:
    """Seed 7 of the request engine: at both capacities at once the fluid's target is met within a point."""
    spec = cluster()
    each = [steady.capacity(spec, pool, (CHAT,)).per_s for pool in range(2)]
    fleet = [8, round(8 * each[0] / each[1])]
    rate = min(count * one for count, one in zip(fleet, each, strict=True))
    load = Load("steady", 1.0, np.full(3600, rate, np.float32), "poisson", (CHAT,))
    for engine in (SimWorld, RequestWorld):
        world = engine(spec, [load], [7], np.array(fleet))
        world.apply(np.array([fleet]))
        for _ in range(240):
            world.wait()
        c = world.cluster[0]
        assert 1.0 - c["missed"] / c["finished"] >= spec.slo.attainment - 0.01


def test_the_first_fleet_has_both_sides(scenario: Scenario) -> None:
    load, known = scenario.sample_load("test", 1), scenario.limits
    fleet = initial_replicas(load, known)
    assert carried_per_s(fleet, known) >= float(load.rate_per_s[:60].mean())
    assert carried_per_s(np.array(fleet) - 2, known) < float(load.rate_per_s[:1800].max())


# (name, settings): those that ask for capacity, or look at each pool's own requests.
SENSIBLE: list[tuple[str, dict[str, Any]]] = [
    ("headroom", {}), ("headroom-held", {}), ("smoothing", {}), ("holt", {}), ("threshold", {}), ("hpa", {}),
    ("hpa-external", {}), ("hpa-gpu", {}), ("keda", {}), ("keda-slo", {}), ("autoscaler", {}),
    ("scheduled", {"table": np.full(168, 190.0)}), ("fixed", {"replicas": 20}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings"), SENSIBLE)
def test_a_rule_serves_the_load_on_both_sides(scenario: Scenario, name: str, settings: dict[str, Any]) -> None:
    """Two hours, seed 1: 97 % within the SLO, with at most three and a half times what is needed."""
    load, known = scenario.sample_load("test", 1), scenario.limits
    scaler = registry.get("agents", "SCALERS", name, "scaler").build(known, **settings)
    found = run(scenario, scaler, load, 1)
    assert found.totals["attainment"] > 0.97
    assert found.series["ready"].mean() < 3.5 * found.series["need"].mean()


def test_features_of_a_fleet_are_those_of_its_weaker_side(scenario: Scenario) -> None:
    known, spec = scenario.limits, scenario.cluster
    load = scenario.sample_load("test", 1)
    world = SimWorld(spec, [load], [1], np.array([8, 2]))
    monitor = Monitor(world, known)
    world.wait()
    found = dict(zip(NAMES, FeatureExtractor(known, spec.interval_s).push(monitor.observe())[0], strict=True))
    assert found["ready"] == pytest.approx(2 * known.capacity_per_s[1] / (24 * known.capacity_per_s.min()), rel=1e-5)
    assert found["compute_occupancy"] == pytest.approx(float(monitor.one().compute_occupancy[1]), rel=1e-5)


def test_no_bound_is_claimed_for_pools_that_do_not_replace_one_another(scenario: Scenario) -> None:
    with pytest.raises(ScenarioError, match="has prefill and decode pools"):
        future(scenario, scenario.sample_load("test", 1), 1)


def test_scalers_that_know_one_kind_of_replica_are_refused_and_the_others_built(scenario: Scenario) -> None:
    refused = set()
    for name, kind in registry.scan("agents", "SCALERS").items():
        try:
            build_scaler(Setting(name), scenario, {"table": [1.0] * 168} if name == "scheduled" else None)
        except ScenarioError as error:
            assert f"scaler '{name}' cannot scale the prefill and decode pools of chat-disaggregated" in str(error)
            refused.add(name)
        else:
            assert kind.roles
    assert refused == {
        "carbon-aware", "cluster-autoscaler", "lp-allocation", "spot-fallback", "receding-horizon", "vertical",
        "knative", "dynamo", "dynamo-load", "llmd-v1", "llmd-v2", "llmd-queueing",
    }  # fmt: skip
