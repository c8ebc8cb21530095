"""The request engine as a world: invariants with everything on, the same luck, the same loop, plain Python alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from full_cluster import busy_load, everything

from envs import get_scenario
from experiments.__main__ import main
from rlscale.errors import ScenarioError
from rlscale.loop import run
from rlscale.sim import request_world
from rlscale.sim.naive import Lifetime
from rlscale.sim.request_play import play
from rlscale.sim.request_records import BALANCERS, GONE
from rlscale.sim.request_tables import FastServer
from rlscale.sim.request_world import RequestWorld
from rlscale.sim.worlds import ENGINES, make_world
from rlscale.types import Engine, Requests

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import json, sys
import numpy as np
np.seterr(over="ignore")  # unsigned integers wrap in the luck; numpy scalars warn of it, compiled code does not
sys.path.insert(0, "tests")
from equivalence_run import request_digests
print(json.dumps(request_digests(*map(int, sys.argv[1:]))))
"""


def busy_world(seeds: list[int], intervals: int, balancer: Any = "least-outstanding", **more: Any) -> RequestWorld:
    spec = replace(everything(), balancer=balancer)
    return RequestWorld(spec, [busy_load(intervals)], seeds, np.array([2, 1, 1, 0]), **more)


@pytest.mark.parametrize("balancer", list(BALANCERS))
def test_nothing_is_lost_and_nothing_is_over_its_limit_with_everything_on(balancer: str) -> None:
    """Seeds 0 to 3, 120 intervals, random targets: spot, shortage, failures, zones, standby, HPA, sessions, jobs."""
    world, rng = busy_world([0, 1, 2, 3], 120, balancer=balancer), np.random.default_rng(1)
    profiles = [pool.profile for pool in world.spec.pools]
    for _ in range(120):
        world.apply(rng.integers(0, 6, (4, 4)))
        world.wait()
        c = world.cluster
        gone = c["finished"] + c["dropped"] + c["lost"]
        np.testing.assert_array_equal(c["arrived"] - gone, world.in_system())
        assert (c["missed"] <= gone + 1e-9).all() and (c["admitted"] >= c["finished"]).all()
        for name in ("ready", "pending", "draining", "nodes_up", "nodes_billed", "standby", "running", "drain_running"):
            assert (world.pool[name] >= 0).all(), name
        pool_of = world.replicas["pool"]
        seats = np.array([profile.max_seats for profile in profiles])[pool_of]
        memory = np.array([profile.kv_capacity_tokens for profile in profiles])[pool_of]
        assert (world.replicas["decoding"] + world.replicas["prefilling"] <= seats).all()
        assert (world.replicas["held"] + world.replicas["reserved"] <= memory).all()
        if balancer == "gateway-queue":
            assert (
                world.replicas["decoding"] + world.replicas["prefilling"] + world.replicas["waiting"] <= seats
            ).all()
        idle = world.replicas["state"] == GONE
        assert (world.replicas["decoding"][idle] + world.replicas["prefilling"][idle] == 0).all()
    world.finish()
    np.testing.assert_array_equal(world.in_system(), 0.0)
    np.testing.assert_allclose(world.hist[:, 2].sum(axis=1), world.cluster["arrived"])


def test_the_same_requests_come_whatever_is_decided_and_in_both_engines() -> None:
    """An hour of chat, seed 3."""
    scenario = get_scenario("chat")
    load = scenario.sample_load("test", 3)
    arrived = []
    for engine, replicas in (("request", 4), ("request", 12), ("fluid", 12)):
        world = make_world(engine, scenario.cluster, [load], [3], np.array([replicas]))
        world.apply(np.array([[replicas]]))
        seen = []
        for _ in range(240):
            world.wait()
            seen.append(float(world.cluster["arrived"][0]))
        arrived.append(seen)
    assert arrived[0] == arrived[1] == arrived[2]


def test_a_row_of_a_batch_is_a_single_cluster_and_room_that_runs_out_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three rows with everything on, 60 intervals; then with room for eight requests at first."""

    def played(seeds: list[int], rows: list[int]) -> list[bytes]:
        world, rng = busy_world(seeds, 60), np.random.default_rng(2)
        for _ in range(60):
            world.apply(rng.integers(0, 6, (3, 4))[rows])
            world.wait()
        return [world.cluster[i].tobytes() + world.pool[i].tobytes() + world.hist[i].tobytes()
                for i in range(len(seeds))]  # fmt: skip

    whole = played([5, 6, 7], [0, 1, 2])
    assert [played([seed], [row])[0] for row, seed in enumerate((5, 6, 7))] == whole
    monkeypatch.setattr(request_world, "ROOM", 8)
    monkeypatch.setattr(request_world, "SUBSTEP_ROOM", 2)
    assert played([5, 6, 7], [0, 1, 2]) == whole


def test_recorded_requests_end_as_without_a_cluster_around_them() -> None:
    """Five replicas, 20 000 recorded requests: every TTFT, TPOT and E2E is that of the bare replicas."""
    scenario = get_scenario("chat")
    pool, g = scenario.cluster.pools[0], np.random.default_rng(4)
    n = 20_000
    given = Requests(np.cumsum(g.exponential(1 / 80.0, n)), np.rint(g.lognormal(6.0, 1.0, n)) + 1.0,
                     np.rint(g.lognormal(4.5, 1.0, n)) + 1.0)  # fmt: skip
    load = replace(scenario.sample_load("test", 0), law="counts", requests=given)
    world = RequestWorld(scenario.cluster, [load], [0], np.array([5]), log_requests=True)
    world.apply(np.array([[5]]))
    for _ in range(20):
        world.wait()
    world.finish()
    profile = pool.profile
    bare = play(FastServer(profile.law, profile.max_seats, profile.kv_capacity_tokens, profile.chunk_tokens),
                [Lifetime()] * 5, given, timeout_s=scenario.cluster.timeout_s)  # fmt: skip
    np.testing.assert_allclose(world.log[:, 2], bare.e2e_s, rtol=1e-9)
    np.testing.assert_allclose(world.log[:, 0], bare.ttft_s, rtol=1e-9)
    assert float(world.cluster["finished"][0]) == n


def test_each_load_brings_its_own_requests_and_empty_ones_are_taken_for_one_token() -> None:
    """Three loads: two recorded ones with requests at one instant and of no tokens, and one that draws its own."""
    scenario = get_scenario("chat")
    drawn = scenario.sample_load("test", 0)
    given = [Requests(np.array([0.0, 7.0, 7.0, 7.0, 40.0]), np.array([5.0, 0.0, 80.0, 80.0, 9.0]), np.array(output))
             for output in ([0.0, 9.0, 9.0, 9.0, 30.0], [1.0, 1.0, 1.0, 2.0, 0.0])]  # fmt: skip
    loads = [replace(drawn, law="counts", requests=one) for one in given] + [drawn]
    world = RequestWorld(scenario.cluster, loads, [0, 0, 0], np.array([2]), load_of_row=[0, 1, 2], log_requests=True)
    for _ in range(4):
        world.wait()
    assert world.cluster["arrived"].tolist()[:2] == world.cluster["finished"].tolist()[:2] == [5.0, 5.0]
    assert world.cluster["arrived"][2] > 1000.0
    assert np.isfinite(world.log).all() and len(world.log) == 10
    assert (world.log[[0, 5, 6, 7, 9], 1] == 0.0).all()  # answers of one token, or of none
    # Of three at one instant on two replicas, the third waits for the end of the first one's iteration.
    assert world.log[3, 0] == pytest.approx(world.log[1, 0] + world.log[2, 0], rel=1e-3)


@pytest.mark.parametrize(("limit", "rate_per_s"), [("kv_capacity_tokens", 3.0), ("context_tokens", 40.0)])
def test_what_no_replica_can_ever_hold_is_turned_away_in_both_engines(limit: str, rate_per_s: float) -> None:
    """Half an hour of chat, seed 0, twelve replicas for 2 000 tokens: who is longer is missed, nobody waits for it.

    In a memory of that size a replica has one seat, so the load is small, and the share that of 5 400 requests.
    """
    scenario = get_scenario("chat")
    pool = scenario.cluster.pools[0]
    short = replace(pool, profile=replace(pool.profile, **{limit: 2000.0}))
    spec = replace(scenario.cluster, pools=(short,))
    load = replace(scenario.sample_load("test", 0), values=np.full(1800, rate_per_s, np.float32))
    law = load.tokens[0]
    u = (np.arange(400) + 0.5) / 400
    over = float((law.prompt_at(u)[:, None] + law.output_at(u)[None, :] > 2000.0).mean())
    assert 0.05 < over < 0.5
    for engine in ("fluid", "request"):
        world = make_world(engine, spec, [load], [0], np.array([12]))
        world.apply(np.array([[12]]))
        for _ in range(120):
            world.wait()
        c = world.cluster[0]
        assert c["dropped"] / c["arrived"] == pytest.approx(over, rel=0.08), engine
        assert c["queued"] - c["left"] < 20
    tiny = replace(pool, profile=replace(pool.profile, **{limit: 200.0}))
    with pytest.raises(
        ScenarioError, match=r"9\d% of the requests have more .* (memory|context) of h100-8b holds \(200"
    ):
        make_world("request", replace(spec, pools=(tiny,)), [load], [0], np.array([1]))


def test_the_loop_runs_on_it_and_the_fluid_is_near() -> None:
    """Two hours of chat, seed 1, a held rule: attainment within a point, mean TPOT within 3 %, cost within 2 %."""
    from agents.headroom import SCALERS

    scenario = replace(get_scenario("chat"), horizon_s=7200.0)
    load = scenario.sample_load("test", 1)
    found = [run(scenario, SCALERS["headroom-held"].build(scenario.limits, headroom=1.15), load, 1, engine=engine)
             for engine in ("fluid", "request")]  # fmt: skip
    fluid, request = (one.totals for one in found)
    assert request["requests"] == fluid["requests"]
    assert request["attainment"] == pytest.approx(fluid["attainment"], abs=0.01)
    assert request["cost_usd"] == pytest.approx(fluid["cost_usd"], rel=0.02)
    means = [np.nanmean(one.series["tpot_mean_s"]) for one in found]
    assert means[1] == pytest.approx(means[0], rel=0.03)


def test_comparisons_and_environments_run_on_it(tmp_path: Path) -> None:
    from envs.cluster_env import ClusterEnv
    from envs.vector import ClusterVectorEnv

    out = tmp_path / "exact"
    scenario = tmp_path / "hour.yaml"
    from envs import scenario_path

    scenario.write_text(scenario_path("chat").read_text() + "\nhorizon_s: 1800\n")
    flags = ["--scenario", str(scenario), "--scalers", "fixed", "--seeds", "1", "--workers", "1"]
    assert main(["compare", *flags, "--engine", "request", "--out", str(out)]) == 0
    assert json.loads((out / "results.json").read_text())["study"]["engine"] == "request"
    env = ClusterEnv("chat", engine="request")
    env.reset(seed=0, options={"intervals": 5})
    vector = ClusterVectorEnv(3, "chat", engine="request", loads=2)
    seen, _ = vector.reset(seed=0)
    for _ in range(3):
        env.step(env.action_space.sample())
        seen, reward, *_ = vector.step(vector.action_space.sample())
        assert np.isfinite(seen).all() and np.isfinite(reward).all()


def test_what_it_does_not_know_is_refused() -> None:
    scenario = get_scenario("chat")
    load = scenario.sample_load("test", 0)
    with pytest.raises(ScenarioError, match="engine 'exact'; expected fluid or request"):
        make_world("exact", scenario.cluster, [load], [0], np.array([1]))
    pool = scenario.cluster.pools[0]
    wide = replace(pool, profile=replace(pool.profile, batching=False))
    with pytest.raises(ScenarioError, match="one request at a time per replica"):
        RequestWorld(replace(scenario.cluster, pools=(wide,)), [load], [0], np.array([1]))


def test_plain_python_is_compiled_code() -> None:
    """Two seeds with everything on, 25 intervals: every record, bit for bit."""

    def digests(jit: bool) -> list[str]:
        env = {**os.environ, "NUMBA_DISABLE_JIT": "0" if jit else "1"}
        done = subprocess.run([sys.executable, "-c", PROGRAM, "2", "25"], cwd=ROOT, env=env, check=True,
                              capture_output=True, text=True)  # fmt: skip
        return list(json.loads(done.stdout))

    plain = digests(False)
    assert plain == digests(True) and len(set(plain)) == 2


def test_every_engine_that_can_be_named_is_there() -> None:
    assert get_args(Engine) == tuple(ENGINES)
