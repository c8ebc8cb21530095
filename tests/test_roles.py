"""Prefill and decode replicas in the oracle: by hand, in the limit, and nothing lost."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from rlscale.parts import Transfer
from rlscale.sim.laws import Chunk, iteration_s
from rlscale.sim.naive import Lifetime, Oracle, Outcome, Server
from rlscale.types import Floats, IterationLaw, Requests, Role

LAW = IterationLaw(0.01, 1e-4, 2e-5, 1e-7, 0.0)


def server(role: Role, seats: int = 64, kv_tokens: float = math.inf, law: IterationLaw = LAW) -> Server:
    return Server(partial(iteration_s, law), seats, kv_tokens, 2048.0, role)


def drawn(seed: int, n: int, rate_per_s: float) -> Requests:
    g = np.random.default_rng(seed)
    return Requests(np.cumsum(g.exponential(1.0 / rate_per_s, n)), np.rint(g.lognormal(6.0, 1.0, n)) + 1.0,
                    np.rint(g.lognormal(3.5, 1.0, n)) + 1.0)  # fmt: skip


def one(prompt: float, output: float, servers: list[Server], lives: list[Lifetime], **more: object) -> Outcome:
    requests = Requests(np.zeros(1), np.full(1, prompt), np.full(1, output))
    return Oracle(servers, lives, **more).run(requests)  # type: ignore[arg-type]


def test_a_lone_request_pays_prompt_transfer_and_passes() -> None:
    transfer = Transfer(0.002, 3e-6)
    out = one(3000.0, 4.0, [server("prefill"), server("decode")], [Lifetime()] * 2, transfer=transfer)
    prompt_s = sum(iteration_s(LAW, 1, [Chunk(done, tokens, 3000.0)], 0.0) for done, tokens in ((0, 2048), (2048, 952)))
    passes_s = sum(iteration_s(LAW, 1, [], 3000.0 + made) for made in (1, 2, 3))
    assert out.ttft_s[0] == pytest.approx(prompt_s)
    assert out.tpot_s[0] == pytest.approx((transfer.delay_s(3000.0) + passes_s) / 3)


def test_an_answer_of_one_token_never_sees_a_decode_replica() -> None:
    out = one(100.0, 1.0, [server("prefill"), server("decode")], [Lifetime(), Lifetime(1e9)], transfer=Transfer(5.0))
    assert out.e2e_s[0] == out.ttft_s[0]


@pytest.mark.parametrize("seed", range(3))
def test_first_tokens_are_those_of_a_fleet_that_only_does_prompts(seed: int) -> None:
    """Seeds 0 to 2, 400 requests, three prefill replicas near saturation: whatever comes after, to the last bit."""
    requests = drawn(seed, 400, 100.0)
    split = Oracle([server("prefill")] * 3 + [server("decode", 4)], [Lifetime()] * 4, transfer=Transfer(0.5))
    alone = Oracle([server("both")] * 3, [Lifetime()] * 3)
    prompts = Requests(requests.arrival_s, requests.prompt_tokens, np.ones(400))
    np.testing.assert_array_equal(split.run(requests).ttft_s, alone.run(prompts).ttft_s)


def test_decoding_that_costs_nothing_extra_takes_its_passes_and_the_transfer() -> None:
    """Seed 4, 300 requests, no limit on the decode side: TPOT within a pass of (transfer + passes) / (m - 1)."""
    law = IterationLaw(0.01, 0.0, 2e-5, 0.0, 0.0)
    requests = drawn(4, 300, 40.0)
    fleet = [server("prefill", law=law)] * 3 + [server("decode", 10**6, law=law)]
    out = Oracle(fleet, [Lifetime()] * 4, transfer=Transfer(0.1)).run(requests)
    further = requests.output_tokens - 1.0
    left: Floats = (out.tpot_s * further - 0.1 - further * 0.01)[further > 0]
    assert (left >= -1e-9).all() and (left <= 0.01 + 1e-9).all()  # the iteration under way when it arrives


def test_a_decode_replica_preempts_and_computes_the_prompt_itself() -> None:
    """Two sequences of 100 + 60 tokens in 250: the one that came last is computed anew behind the other."""
    requests = Requests(np.array([0.0, 0.1]), np.full(2, 100.0), np.full(2, 60.0))
    fleet = [server("prefill"), server("decode", kv_tokens=250.0)]
    roomy = [server("prefill"), server("decode")]
    tight, free = (Oracle(some, [Lifetime()] * 2).run(requests) for some in (fleet, roomy))
    assert tight.e2e_s[0] < 1.01 * free.e2e_s[0] and tight.e2e_s[1] > free.e2e_s[1] + 20 * LAW.c0_s
    np.testing.assert_array_equal(tight.ttft_s, free.ttft_s)


def test_a_sequence_that_waits_where_nobody_serves_any_more_travels_again() -> None:
    """One seat; its second decode replica comes as the first drains."""
    requests = Requests(np.array([0.0, 0.0]), np.full(2, 10.0), np.array([1000.0, 5.0]))
    lives = [Lifetime(), Lifetime(0.0, 2.0, 100.0), Lifetime(2.0)]
    out = Oracle([server("prefill"), server("decode", 1), server("decode", 1)], lives, transfer=Transfer(0.7))
    ends = out.run(requests)
    assert 2.7 < ends.e2e_s[1] < 2.8 and ends.lost == 0


@pytest.mark.parametrize("requeue", [False, True])
def test_what_runs_on_a_decode_replica_that_goes_begins_at_the_beginning_or_is_lost(requeue: bool) -> None:
    lives = [Lifetime(), Lifetime(0.0, 1.0, 0.0), Lifetime(3.0)]
    out = one(10.0, 500.0, [server("prefill"), server("decode"), server("decode")], lives, requeue=requeue)
    assert out.lost == (0 if requeue else 1)
    assert np.isfinite(out.e2e_s[0]) == requeue
    if requeue:
        assert out.ttft_s[0] < 0.1 and out.e2e_s[0] > 3.0 + 499 * LAW.c0_s  # its user asked again at 1 s


def test_only_the_wait_for_a_prompt_times_out() -> None:
    requests = Requests(np.zeros(3), np.full(3, 10.0), np.full(3, 50.0))
    late = [Lifetime(), Lifetime(60.0)]
    out = Oracle([server("prefill"), server("decode")], late, timeout_s=1.0).run(requests)
    assert out.dropped == 0 and (out.e2e_s > 60.0).all()
    out = Oracle([server("prefill"), server("decode")], late[::-1], timeout_s=1.0).run(requests)
    assert out.dropped == 3
