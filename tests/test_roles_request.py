"""The request engine is the oracle with prefill and decode replicas, too."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlscale.parts import Transfer
from rlscale.sim.naive import Lifetime, Oracle
from rlscale.sim.request_play import play, twin
from rlscale.sim.request_tables import FastServer
from rlscale.types import IterationLaw, Requests, Role

CASES = 300
LONG_CASES = 3500  # later ones have two equal prompts that begin anew at one instant, whose order is anybody's


def case(seed: int) -> tuple[list[FastServer], Requests, list[Lifetime], dict[str, object]]:
    """1 to 3 prefill and 1 to 3 decode replicas that come, drain and go; any seats, KV memory, chunks and patience."""
    g = np.random.default_rng([seed, 1])
    n = int(g.integers(5, 300))
    arrival_s = np.cumsum(g.exponential(1.0 / g.uniform(1.0, 60.0), n))
    requests = Requests(arrival_s, np.rint(g.lognormal(4.0, 0.8, n)) + 1.0, np.rint(g.lognormal(4.5, 0.9, n)))
    servers, lives = [], []
    sides: tuple[Role, ...] = ("prefill", "decode")
    for role in sides:
        law = IterationLaw(
            float(g.uniform(0.003, 0.02)), float(g.uniform(0.0, 2e-4)), float(g.uniform(1e-6, 1e-4)),
            # Not 0: equal iterations end at one instant on two replicas, and rounding would decide which is first.
            float(g.uniform(1e-9, 1e-6)), float(g.uniform(1e-11, 1e-8)),
        )  # fmt: skip
        kind = FastServer(law, int(g.integers(1, 64)), float(g.choice([math.inf, *g.integers(600, 3_000, 2)])),
                          float(g.choice([math.inf, 128.0, 512.0, 2048.0])), role=role)  # fmt: skip
        count = int(g.integers(1, 4))
        servers += [kind] * count
        lives.append(Lifetime(float(g.choice([0.0, g.uniform(0.0, 5.0)]))))
        for _ in range(count - 1):
            ready_s = float(g.choice([0.0, g.uniform(0.0, 5.0)]))
            drain_s = float(g.choice([math.inf, *(ready_s + g.uniform(0.1, 10.0, 2))]))
            lives.append(Lifetime(ready_s, drain_s, float(g.uniform(0.0, 1.0))))
    rules = {
        "timeout_s": float(g.choice([math.inf, g.uniform(0.2, 5.0)])),
        "balancing": str(g.choice(["least_outstanding", "round_robin"])),
        "requeue": bool(g.integers(2)),
        "transfer": Transfer(float(g.choice([0.0, g.uniform(0.0, 0.5)])), float(g.choice([0.0, g.uniform(0.0, 1e-3)]))),
    }
    return servers, requests, lives, rules


def check(seed: int) -> tuple[int, int]:
    """Returns how many were dropped and lost."""
    servers, requests, lives, rules = case(seed)
    slow = [twin(one) for one in servers]
    want = Oracle(slow, lives, **rules).run(requests)  # type: ignore[arg-type]
    got = play(servers, lives, requests, **rules)  # type: ignore[arg-type]
    finished = np.isfinite(want.e2e_s)
    np.testing.assert_array_equal(np.isfinite(got.e2e_s), finished)
    assert (got.dropped, got.lost) == (want.dropped, want.lost)
    assert finished.sum() + want.dropped + want.lost == len(requests)
    for name in ("e2e_s", "ttft_s", "tpot_s"):
        np.testing.assert_allclose(getattr(got, name)[finished], getattr(want, name)[finished], rtol=1e-8, atol=1e-9)
    return want.dropped, want.lost


def test_it_is_the_oracle_on_random_fleets_with_roles() -> None:
    """300 cases: every request ends as in the oracle, to rounding; some are dropped and some lost."""
    dropped, lost = np.sum([check(seed) for seed in range(CASES)], axis=0)
    assert dropped > 100 and lost > 100


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_is_the_oracle_on_thousands_of_random_fleets_with_roles() -> None:
    for seed in range(CASES, CASES + LONG_CASES):
        check(seed)
