"""The request engine is the oracle, faster; and obeys queueing theory."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rlscale.sim.naive import Lifetime, Oracle
from rlscale.sim.request_play import play, twin
from rlscale.sim.request_tables import FastServer
from rlscale.types import IterationLaw, Requests

CASES = 150
LONG_CASES = 4000


def case(seed: int) -> tuple[FastServer, Requests, list[Lifetime], dict[str, object]]:
    """1 to 5 replicas that come, drain and go, up to 400 requests, any seats, KV memory, chunks and patience."""
    g = np.random.default_rng(seed)
    law = IterationLaw(
        float(g.uniform(0.003, 0.02)), float(g.uniform(0.0, 2e-4)), float(g.uniform(1e-6, 1e-4)),
        float(g.choice([0.0, g.uniform(0.0, 1e-6)])), float(g.choice([0.0, g.uniform(0.0, 1e-8)])),
    )  # fmt: skip
    n = int(g.integers(5, 400))
    arrival_s = np.cumsum(g.exponential(1.0 / g.uniform(1.0, 60.0), n))
    requests = Requests(arrival_s, np.rint(g.lognormal(5.0, 1.2, n)) + 1.0,
                        np.rint(g.lognormal(3.5, 1.0, n)) + 1.0)  # fmt: skip
    server = FastServer(law, int(g.integers(1, 64)), float(g.choice([math.inf, g.integers(800, 20_000)])),
                        float(g.choice([math.inf, 128.0, 512.0, 2048.0])))  # fmt: skip
    lives = [Lifetime(float(g.choice([0.0, g.uniform(0.0, 5.0)])))]
    for _ in range(int(g.integers(0, 5))):
        ready_s = float(g.choice([0.0, g.uniform(0.0, 5.0)]))
        drain_s = float(g.choice([math.inf, ready_s + g.uniform(0.1, 15.0)]))
        lives.append(Lifetime(ready_s, drain_s, float(g.uniform(0.0, 5.0))))
    rules = {
        "timeout_s": float(g.choice([math.inf, g.uniform(0.2, 5.0)])),
        "balancing": str(g.choice(["least_outstanding", "round_robin"])),
        "requeue": bool(g.integers(2)),
    }
    return server, requests, lives, rules


def check(seed: int) -> None:
    server, requests, lives, rules = case(seed)
    slow = twin(server)
    want = Oracle(slow, lives, **rules).run(requests)  # type: ignore[arg-type]
    got = play(server, lives, requests, **rules)  # type: ignore[arg-type]
    finished = np.isfinite(want.e2e_s)
    np.testing.assert_array_equal(np.isfinite(got.e2e_s), finished)
    assert (got.dropped, got.lost) == (want.dropped, want.lost)
    for name in ("e2e_s", "ttft_s", "tpot_s"):
        np.testing.assert_allclose(getattr(got, name)[finished], getattr(want, name)[finished], rtol=1e-8, atol=1e-9)


def test_it_is_the_oracle_on_random_fleets() -> None:
    """150 cases: every request ends as in the oracle, to rounding."""
    for seed in range(CASES):
        check(seed)


def test_a_request_goes_where_its_memory_is_or_waits_for_such_a_replica() -> None:
    """By hand: two small replicas, and from second 10 on a large one. Then 60 random fleets of two kinds."""
    law = IterationLaw(0.01, 0.0, 0.0, 0.0, 0.0)
    small, large = FastServer(law, 4, 100.0), FastServer(law, 4, 1000.0)
    lives = [Lifetime(), Lifetime(), Lifetime(10.0)]
    requests = Requests(np.array([1.0, 2.0, 3.0, 12.0]), np.array([50.0, 500.0, 50.0, 500.0]), np.full(4, 2.0))
    found = play([small, small, large], lives, requests)
    np.testing.assert_allclose(found.ttft_s, [0.01, 8.01, 0.01, 0.01])
    assert found.dropped == 0
    for seed in range(60):
        server, requests, lives, rules = case(seed)
        g = np.random.default_rng([seed, 2])
        kinds = [
            replace(server, kv_capacity_tokens=float(kv)) for kv in g.choice([300.0, 1000.0, 20_000.0], len(lives))
        ]
        slow = [twin(one) for one in kinds]
        want = Oracle(slow, lives, **rules).run(requests)  # type: ignore[arg-type]
        got = play(kinds, lives, requests, **rules)  # type: ignore[arg-type]
        np.testing.assert_allclose(got.e2e_s, want.e2e_s, rtol=1e-8)
        assert (got.dropped, got.lost) == (want.dropped, want.lost)


def test_a_queue_at_the_gateway_is_first_in_first_out_over_all_replicas() -> None:
    """Seeds 0 to 19, one seat per replica: every request begins when and where it does in one queue in front of all."""
    for seed in range(20):
        server, requests, lives, _ = case(seed)
        server = replace(server, seats=1, kv_capacity_tokens=math.inf)
        stay = [Lifetime(life.ready_s) for life in lives]
        slow = twin(server)
        want = Oracle(slow, stay, queue="service").run(requests)
        got = play(server, stay, requests, balancing="gateway-queue")
        np.testing.assert_allclose(np.sort(got.e2e_s + requests.arrival_s), np.sort(want.e2e_s + requests.arrival_s))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_is_the_oracle_on_thousands_of_random_fleets() -> None:
    for seed in range(CASES, CASES + LONG_CASES):
        check(seed)


# (replicas, seed, rate, n), then mean TTFT, p99 TTFT, mean TPOT, mean E2E, p99 E2E in ms: middle of two public
# simulators, and the accepted relative error of each.
PARITY = [
    ((1, 1004, 4.0, 1000), (20.25, 27.35, 11.125, 1433.15, 1497.0), (0.01, 0.02, 0.001, 0.001, 0.002)),
    ((1, 1001, 1.0, 1000), (18.13, 24.8, 10.70, 1376.4, 1410.6), (0.01, 0.02, 0.001, 0.001, 0.002)),
    ((4, 4004, 16.0, 2000), (19.85, 25.3, 11.09, 1428.4, 1464.5), (0.01, 0.02, 0.001, 0.001, 0.002)),
    ((1, 13, 60.0, 1000), (2680.5, 5878.5, 23.16, 5622.5, 8559.0), (0.005, 0.005, 0.005, 0.005, 0.005)),
]
# Their law, in whole microseconds; a prompt of n tokens processed in one step costs 1.5 n^2 of their quadratic
# coefficient.
PARITY_LAW = IterationLaw(10480.72e-6, 4.41684e-6, 6.806092e-6, 0.125165e-6, 1.5 * 0.000255637e-6)


@pytest.mark.parametrize(("case_", "expected", "tolerance"), PARITY)
def test_it_agrees_with_two_public_simulators(
    case_: tuple[int, int, float, int], expected: tuple[float, ...], tolerance: tuple[float, ...]
) -> None:
    replicas, seed, rate, n = case_
    arrival = np.round(np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n)) * 1e6) / 1e6
    out = play(FastServer(PARITY_LAW, 128, chunk_tokens=2048.0, grain_s=1e-6), [Lifetime()] * replicas,
               Requests(arrival, np.full(n, 512.0), np.full(n, 128.0)), balancing="round_robin")  # fmt: skip
    got = (out.ttft_s.mean(), np.percentile(out.ttft_s, 99), out.tpot_s.mean(), out.e2e_s.mean(),
           np.percentile(out.e2e_s, 99))  # fmt: skip
    for value, want, allowed in zip(got, expected, tolerance, strict=True):
        assert 1000 * value == pytest.approx(want, rel=allowed)


@pytest.mark.parametrize("servers", [1, 4, 32])
def test_a_batch_whose_speed_does_not_depend_on_its_size_is_m_m_c(servers: int) -> None:
    """Seed 5, 200 000 requests at 80 %, exponential answers of 2 000 tokens: mean wait within 6 % of Erlang C."""
    from agents.erlang import erlang_c

    g = np.random.default_rng(5)
    n, token_s, tokens = 200_000, 1e-3, 2000.0
    mean_s = tokens * token_s
    requests = Requests(np.cumsum(g.exponential(mean_s / (0.8 * servers), n)), np.ones(n),
                        np.maximum(1.0, np.rint(g.exponential(tokens, n))))  # fmt: skip
    law = IterationLaw(token_s, 0.0, 0.0, 0.0, 0.0)
    out = play(FastServer(law, servers), [Lifetime()], requests)
    waited = float((out.ttft_s - token_s).mean())
    theory = erlang_c(servers, 0.8 * servers) * mean_s / (servers * 0.2)
    assert waited == pytest.approx(theory, rel=0.06, abs=2 * token_s)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_a_batch_whose_speed_is_shared_is_m_g_1_processor_sharing(load: float) -> None:
    """Seed 7, 200 000 requests, answers of 200 or 3 800 tokens: mean stay E[S]/(1 - load) whatever the law, within 5 %;
    and a short one stays in proportion to its length."""
    g = np.random.default_rng(7)
    n, token_s = 200_000, 1e-4
    tokens = np.where(g.random(n) < 0.5, 200.0, 3800.0)
    mean_s = 2000.0 * token_s
    requests = Requests(np.cumsum(g.exponential(mean_s / load, n)), np.ones(n), tokens)
    out = play(FastServer(IterationLaw(0.0, token_s, 0.0, 0.0, 0.0), 100_000), [Lifetime()], requests)
    assert out.e2e_s.mean() == pytest.approx(mean_s / (1.0 - load), rel=0.05)
    short = out.e2e_s[tokens == 200.0].mean()
    assert short == pytest.approx(200.0 * token_s / (1.0 - load), rel=0.05)
