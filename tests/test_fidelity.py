"""The fluid engine against the oracle on a few cells; the whole grid is `python -m experiments fidelity`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from envs import get_scenario
from experiments import fidelity_steady
from rlscale.sim.laws import iteration_s
from rlscale.sim.naive import Lifetime, Oracle, Server
from rlscale.sim.steady import REPLICAS, capacity
from rlscale.types import Requests
from rlscale.workloads.tokens import CHAT

FEWER = 8_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of 8 000 requests."""
    monkeypatch.setattr(fidelity_steady, "requests", partial(fidelity_steady.requests, n=FEWER))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("profile", "load", "cv", "replicas"), [
    ("h100-8b", 0.7, 1.0, 4), ("h100-8b", 0.5, 2.0, 16), ("a100-8b", 0.7, 1.0, 16), ("a100-8b", 0.5, 3.5, 4),
])  # fmt: skip
def test_both_engines_agree_on_the_same_arrivals(
    profile: str, load: float, cv: float, replicas: int, tmp_path: Path
) -> None:
    """One seed of 8 000 requests: TTFT mean 20 %, p99 30 %, TPOT mean 6 %, attainment 5 points."""
    cell = fidelity_steady.Cell(profile, load, cv, replicas, 0)
    fidelity_steady.run_oracle(cell, tmp_path)
    truth, fluid = fidelity_steady.of_oracle(cell, tmp_path), fidelity_steady.of_fluid(cell)
    error = dict(zip(fidelity_steady.MEASURES, fidelity_steady.errors(fluid, truth), strict=True))
    assert abs(error["ttft_mean"]) <= 0.20
    assert abs(error["ttft_p99"]) <= 0.30
    assert abs(error["tpot_mean"]) <= 0.06
    assert abs(error["attainment"]) <= 0.05


@pytest.mark.usefixtures("small")
def test_the_result_does_not_hang_on_the_sub_step() -> None:
    """One seed of 8 000 requests, 16 replicas: 0.5 s and 5 s within 8 % of 1 s for mean TTFT and TPOT."""
    cell = fidelity_steady.Cell("h100-8b", 0.7, 1.0, 16, 0)
    one = fidelity_steady.of_fluid(cell, 1.0)
    for h in (0.5, 5.0):
        other = fidelity_steady.of_fluid(cell, h)
        assert other[[0, 2]] == pytest.approx(one[[0, 2]], rel=0.08), h


def test_capacity_is_where_the_oracle_too_begins_to_miss_the_slo() -> None:
    """8 replicas under Poisson load of the chat scenario, 40 000 requests, seed 3.

    At l_SLO the oracle attains the target within 1.5 points; at 15 % more it misses it by more than that.
    """
    scenario = get_scenario("chat")
    spec = replace(scenario.cluster, timeout_s=60.0)
    profile = spec.pools[0].profile
    per_s = capacity(scenario.cluster, 0, (CHAT,)).per_s
    server = Server(partial(iteration_s, profile.law), profile.max_seats, profile.kv_capacity_tokens,
                    profile.chunk_tokens)  # fmt: skip

    def attainment(rate_per_s: float) -> float:
        rng, n = np.random.default_rng(3), 40_000
        arrival = np.cumsum(rng.exponential(1.0 / (rate_per_s * REPLICAS), n))
        load = Requests(arrival, np.round(CHAT.prompt_at(rng.random(n))), np.round(CHAT.output_at(rng.random(n))))
        out = Oracle(server, [Lifetime()] * REPLICAS, timeout_s=spec.timeout_s).run(load)
        ttft_limit = spec.slo.ttft_s + load.prompt_tokens / spec.slo.ttft_tokens_per_s
        return float(((out.ttft_s <= ttft_limit) & (out.tpot_s <= spec.slo.tpot_s)).mean())

    assert attainment(per_s) == pytest.approx(spec.slo.attainment, abs=0.015)
    assert attainment(1.15 * per_s) < spec.slo.attainment - 0.015
