"""The oracle lands where two independent public simulators agree, and obeys queueing theory."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from rlscale.sim.laws import Chunk, iteration_s
from rlscale.sim.naive import Lifetime, Oracle, Outcome, Server
from rlscale.sim.profiles import service_profile
from rlscale.types import Requests


def parity_law(sequences: int, chunks: list[Chunk], kv_tokens: float) -> float:
    """The published law of the parity cases, whole microseconds. Not physical; for parity only."""
    us = 10480.72 + 4.41684 * sequences + 0.125165 * kv_tokens
    for chunk in chunks:
        us += 6.806092 * chunk.tokens + 0.000255637 * chunk.tokens * (chunk.prompt + chunk.tokens / 2)
    return int(us) / 1e6


def parity_run(replicas: int, seed: int, rate: float, n: int) -> Outcome:
    arrival = np.round(np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n)) * 1e6) / 1e6
    requests = Requests(arrival, np.full(n, 512.0), np.full(n, 128.0))
    oracle = Oracle(Server(parity_law, 128, chunk_tokens=2048), [Lifetime()] * replicas, balancing="round_robin")
    return oracle.run(requests)


# (replicas, seed, rate, n), then mean TTFT, p99 TTFT, mean TPOT, mean E2E, p99 E2E in ms: middle of the two peers
PARITY = [
    ((1, 1004, 4.0, 1000), (20.25, 27.35, 11.125, 1433.15, 1497.0), (0.01, 0.02, 0.001, 0.001, 0.002)),
    ((1, 1001, 1.0, 1000), (18.13, 24.8, 10.70, 1376.4, 1410.6), (0.01, 0.02, 0.001, 0.001, 0.002)),
    ((4, 4004, 16.0, 2000), (19.85, 25.3, 11.09, 1428.4, 1464.5), (0.01, 0.02, 0.001, 0.001, 0.002)),
    ((1, 13, 60.0, 1000), (2680.5, 5878.5, 23.16, 5622.5, 8559.0), (0.005, 0.005, 0.005, 0.005, 0.005)),
]


@pytest.mark.parametrize(("case", "expected", "tolerance"), PARITY)
def test_oracle_agrees_with_two_public_simulators(
    case: tuple[int, int, float, int], expected: tuple[float, ...], tolerance: tuple[float, ...]
) -> None:
    out = parity_run(*case)
    got = (out.ttft_s.mean(), np.percentile(out.ttft_s, 99), out.tpot_s.mean(), out.e2e_s.mean(),
           np.percentile(out.e2e_s, 99))  # fmt: skip
    for value, want, allowed in zip(got, expected, tolerance, strict=True):
        assert 1000 * value == pytest.approx(want, rel=allowed)


def servers(count: int, service_s: float) -> Oracle:
    """Servers that take one request at a time from one queue; a unit of work takes `service_s`."""
    law = partial(iteration_s, service_profile("web").law)
    unit = service_profile("web").law.c2_s

    def scaled(sequences: int, chunks: list[Chunk], kv_tokens: float) -> float:
        return law(sequences, chunks, kv_tokens) / unit * service_s

    return Oracle(Server(scaled, seats=1), [Lifetime()] * count, queue="service")


def erlang_c(servers_: int, load: float) -> float:
    """Chance that a request waits in M/M/c; `load` = rate x service time."""
    inverse = 1.0
    for k in range(1, servers_ + 1):
        inverse = 1.0 + inverse * k / load
    blocked = 1.0 / inverse
    return blocked / (1.0 - load / servers_ * (1.0 - blocked))


def batch_mean(wait: np.ndarray, batches: int = 20) -> tuple[float, float]:
    """Mean without the first tenth, and its standard error from batch means."""
    means = wait[len(wait) // 10 :][: len(wait) * 9 // 10 // batches * batches].reshape(batches, -1).mean(axis=1)
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(batches))


@pytest.mark.parametrize(
    ("count", "rho", "service_s"),
    [(1, 0.5, 0.05), (1, 0.8, 20.0), (1, 0.95, 0.05), (4, 0.5, 20.0), (4, 0.8, 0.05), (4, 0.95, 0.05),
     (32, 0.5, 0.05), (32, 0.8, 20.0), (32, 0.95, 0.05)],
)  # fmt: skip
def test_mmc_waits_as_erlang_says(count: int, rho: float, service_s: float) -> None:
    """20 000 requests, seed 7; within 4 standard errors of batch means and 2 % of the service time."""
    rng = np.random.default_rng([7, count, round(100 * rho)])
    n = 20_000
    arrival = np.cumsum(rng.exponential(service_s / (rho * count), n))
    out = servers(count, service_s).run(Requests(arrival, rng.exponential(1.0, n), np.ones(n)))
    work = np.random.default_rng([7, count, round(100 * rho)])
    work.exponential(1.0, n)
    wait = out.ttft_s - work.exponential(1.0, n) * service_s
    exact = erlang_c(count, rho * count) * service_s / (count * (1.0 - rho))
    mean, error = batch_mean(wait)
    assert abs(mean - exact) <= 4.0 * error + 0.02 * service_s
    assert error < 0.5 * exact + 0.05 * service_s  # the comparison means something


@pytest.mark.parametrize("rho", [0.5, 0.8, 0.95])
def test_md1_waits_as_pollaczek_and_khinchine_say(rho: float) -> None:
    """20 000 requests, seed 8; within 4 standard errors of batch means and 2 % of the service time."""
    rng = np.random.default_rng([8, round(100 * rho)])
    n = 20_000
    out = servers(1, 0.05).run(Requests(np.cumsum(rng.exponential(0.05 / rho, n)), np.ones(n), np.ones(n)))
    mean, error = batch_mean(out.ttft_s - 0.05)
    assert abs(mean - 0.05 * rho / (2 * (1 - rho))) <= 4.0 * error + 0.001


def test_littles_law_and_conservation() -> None:
    out = parity_run(4, 4004, 16.0, 2000)
    arrived_per_s = 2000 / out.end_s
    assert out.mean_in_system == pytest.approx(arrived_per_s * out.e2e_s.mean(), rel=1e-9)
    assert out.dropped == out.lost == 0
    assert np.isfinite(out.e2e_s).all()


def test_requests_leave_when_patience_ends_and_all_are_accounted_for() -> None:
    rng = np.random.default_rng(3)
    n = 3000
    requests = Requests(np.cumsum(rng.exponential(0.01, n)), np.full(n, 512.0), np.full(n, 128.0))
    lifetimes = [Lifetime(), Lifetime(drain_s=5.0, grace_s=1.0)]
    out = Oracle(Server(parity_law, 16, 20_000.0, 2048), lifetimes, timeout_s=2.0).run(requests)
    finished = int(np.isfinite(out.e2e_s).sum())
    assert finished + out.dropped + out.lost == n
    assert out.dropped > 0
    assert out.lost > 0


def test_no_token_comes_before_its_replica_is_ready() -> None:
    requests = Requests(np.array([0.0, 1.0]), np.full(2, 100.0), np.full(2, 5.0))
    out = Oracle(Server(parity_law, 16, chunk_tokens=2048), [Lifetime(ready_s=10.0)]).run(requests)
    assert (out.ttft_s + requests.arrival_s > 10.0).all()


def test_kv_memory_that_holds_one_request_serves_them_one_by_one() -> None:
    requests = Requests(np.zeros(2), np.full(2, 100.0), np.full(2, 50.0))
    out = Oracle(Server(parity_law, 16, 160.0, 2048), [Lifetime()]).run(requests)
    assert np.isfinite(out.e2e_s).all()
    assert out.ttft_s[1] > out.e2e_s[0]
