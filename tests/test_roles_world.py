"""Clusters with prefill and decode pools: nothing is lost in either engine, and bad input is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_cluster import busy_load, split
from test_scenario_files import POOL, written

from rlscale.errors import ScenarioError
from rlscale.parts import Failures
from rlscale.scenario import load_scenario
from rlscale.sim.records import DECODE, PREFILL
from rlscale.sim.request_records import GONE
from rlscale.sim.request_world import RequestWorld

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import json, sys
import numpy as np
np.seterr(over="ignore")  # unsigned integers wrap in the luck; numpy scalars warn of it, compiled code does not
sys.path.insert(0, "tests")
from equivalence_run import role_digests
print(json.dumps(role_digests(*map(int, sys.argv[1:]))))
"""
FLEET = np.array([2, 1, 1, 1])


@pytest.mark.parametrize(
    ("balancer", "running"), [("least-outstanding", "lost"), ("power-of-two", "requeued"), ("gateway-queue", "lost")]
)
def test_every_request_is_somewhere_with_everything_on(balancer: Any, running: Any) -> None:
    """Seeds 0 to 3, 60 intervals, random targets: spot, shortage, failures, zones, standby, HPA, sessions, jobs."""
    spec = split(failures=Failures(1.0, 0.5, 0.5, 120.0, running))
    world = RequestWorld(replace(spec, balancer=balancer), [busy_load(60)], [0, 1, 2, 3], FLEET)
    rng, role = np.random.default_rng(1), world._servers["role"]
    for _ in range(60):
        world.apply(rng.integers(0, 5, (4, 4)))
        world.wait()
        c, r = world.cluster, world.replicas
        gone = c["finished"] + c["dropped"] + c["lost"]
        np.testing.assert_array_equal(c["arrived"] - gone, world.in_system())
        here = world.pool["running"].sum(axis=1) + world.pool["drain_running"].sum(axis=1)
        np.testing.assert_array_equal(c["queued"] - c["left"] + c["passed"] - c["joined"] + here, world.in_system())
        assert (c["missed"] <= gone).all() and (c["admitted"] >= c["finished"]).all()
        seats = np.array([pool.profile.max_seats for pool in spec.pools])[r["pool"]]
        memory = np.array([pool.profile.kv_capacity_tokens for pool in spec.pools])[r["pool"]]
        assert (r["decoding"] + r["prefilling"] <= seats).all() and (r["held"] + r["reserved"] <= memory).all()
        assert (r["decoding"][role[r["pool"]] == PREFILL] == 0).all()
        assert (r["decoding"] + r["prefilling"])[r["state"] == GONE].sum() == 0
    assert (world.cluster["passed"] > 1000).all() and (role == DECODE).any()
    assert (world.cluster["lost"] > 0).any() == (running == "lost")
    world.finish()
    np.testing.assert_array_equal(world.in_system(), 0.0)
    np.testing.assert_allclose(world.hist[:, 2].sum(axis=1), world.cluster["arrived"])


def test_plain_python_is_compiled_code() -> None:
    """One seed with everything on, 10 intervals: every record, bit for bit."""

    def digests(jit: bool) -> list[str]:
        env = {**os.environ, "NUMBA_DISABLE_JIT": "0" if jit else "1"}
        done = subprocess.run([sys.executable, "-c", PROGRAM, "1", "10"], cwd=ROOT, env=env, check=True,
                              capture_output=True, text=True)  # fmt: skip
        return list(json.loads(done.stdout))

    assert digests(False) == digests(True)


PROMPTS, ANSWERS = {**POOL, "name": "p", "role": "prefill"}, {**POOL, "name": "d", "role": "decode"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pools": [{**POOL, "role": "encode"}]},
            r"line \d+: pools.0.role: got 'encode', expected 'both', 'prefill' or",
        ),
        ({"pools": [PROMPTS]}, r"pools: 'p' has role prefill, and there is no pool of role decode; add one"),
        ({"pools": [ANSWERS]}, r"pools: 'd' has role decode, and there is no pool of role prefill; add one"),
        ({"pools": [PROMPTS, ANSWERS, POOL]}, r"pools: 'a' does both and 'p' has role prefill; give every pool"),
        ({"pools": [POOL], "transfer": {"fixed_s": 0.1}}, r"transfer: no pool has a role"),
        ({"pools": [PROMPTS, ANSWERS], "transfer": {"fixed_s": -1.0}}, r"transfer.fixed_s: got -1.0"),
        ({"pools": [PROMPTS, ANSWERS], "transfer": {"s_per_token": -1.0}}, r"transfer.s_per_token: got -1.0"),
        ({"pools": [PROMPTS, ANSWERS], "transfer": {"fixed": 1.0}}, r"unknown key 'transfer.fixed'; did you mean"),
        (
            {"pools": [PROMPTS, {**ANSWERS, "node": "h100-x8", "profile": "h100-70b-tp4"}]},
            r"pools: prefill and decode pools run llama-3.1-8b and llama-3.1-70b; a KV cache",
        ),
        (
            {"pools": [{**PROMPTS, "node": "a10g-x1", "profile": "web"}, ANSWERS]},
            r"pool 'p': role 'prefill' for 'web', which serves one request at a time",
        ),
    ],
)
def test_a_wrong_scenario_is_refused_with_file_and_field(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(ScenarioError, match=message) as caught:
        load_scenario(path)
    assert str(path) in str(caught.value)


def test_a_transfer_takes_the_kv_bytes_of_the_prompt_over_the_link_unless_told(tmp_path: Path) -> None:
    pools = [PROMPTS, ANSWERS]
    assert load_scenario(written(tmp_path, pools=pools)).cluster.transfer.delay_s(1e6) == pytest.approx(2.62144)
    told = load_scenario(written(tmp_path, pools=pools, transfer={"fixed_s": 0.01, "s_per_token": 1e-5}))
    assert told.cluster.transfer.delay_s(1000.0) == pytest.approx(0.02)
