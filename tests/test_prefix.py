"""Prompts seen before: the request engine is the oracle, the trace is as published, the switch does something."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs import get_scenario
from rlscale.errors import RlscaleError, ScenarioError
from rlscale.scenario import load_scenario
from rlscale.sim.naive import Lifetime, Oracle
from rlscale.sim.request_play import play, twin
from rlscale.sim.request_tables import FastServer
from rlscale.sim.request_world import RequestWorld
from rlscale.sim.world import SimWorld
from rlscale.types import Floats, Ints, IterationLaw, PromptBlocks, Requests
from rlscale.workloads.readers import read
from rlscale.workloads.trace_workload import TraceWorkload

LAW = IterationLaw(0.006, 1e-5, 2e-5, 1e-7, 1e-9)
BLOCK = 16


def sessions(seed: int, n: int = 300) -> Requests:
    """Users of two groups who come back with all they said before and a little more."""
    g = np.random.default_rng(seed)
    at_s, prompts, ids, group = np.cumsum(g.exponential(0.03, n)), [], [], []
    said: list[list[int]] = [[0, 1] for _ in range(12)]
    fresh = 2
    for _ in range(n):
        user = int(g.integers(12))
        if g.random() < 0.15:
            said[user] = [0, 1]
        more = int(g.integers(1, 8))
        said[user] = said[user] + list(range(fresh, fresh + more))
        fresh += more
        ids.append(list(said[user]))
        group.append(user % 2)
        prompts.append(BLOCK * len(ids[-1]) - int(g.integers(BLOCK)))
    count = np.array([len(one) for one in ids])
    blocks = PromptBlocks(np.concatenate(ids), np.cumsum(count) - count, count, np.array(group), BLOCK)
    return Requests(at_s, np.array(prompts, float), np.rint(g.lognormal(3.0, 0.8, n)) + 1.0, blocks)


def both(seed: int, kept_blocks: int) -> tuple[Floats, Floats]:
    """TTFT by the request engine and by the oracle."""
    g = np.random.default_rng([seed, 1])
    requests, kv = sessions(seed), float(g.choice([np.inf, 3000.0]))
    lives = [Lifetime(), Lifetime(float(g.uniform(0.0, 2.0)), float(g.uniform(4.0, 8.0)), 0.5), Lifetime(3.0)]
    chunk = float(g.choice([64.0, 512.0]))
    rules = {"timeout_s": float(g.choice([np.inf, 1.0])), "requeue": bool(g.integers(2))}
    server = FastServer(LAW, 16, kv, chunk, kept_blocks=kept_blocks)
    fast = play(server, lives, requests, **rules)  # type: ignore[arg-type]
    slow = Oracle(twin(server), lives, **rules).run(requests)  # type: ignore[arg-type]
    assert (fast.dropped, fast.lost) == (slow.dropped, slow.lost)
    np.testing.assert_allclose(fast.e2e_s, slow.e2e_s, rtol=1e-8)
    return fast.ttft_s, slow.ttft_s


@pytest.mark.parametrize("kept_blocks", [1, 7, 60, 5000])
def test_it_is_the_oracle_whatever_is_kept(kept_blocks: int) -> None:
    """Seeds 0 to 24, 300 requests each on three replicas that come, drain and go."""
    for seed in range(25):
        fast, slow = both(seed, kept_blocks)
        np.testing.assert_allclose(fast, slow, rtol=1e-8)


def test_what_is_kept_shortens_prompts_and_nothing_else() -> None:
    """One replica with room for everything, seed 0: first tokens come sooner; without the cache, blocks do nothing."""
    requests = sessions(0)
    plain = play(FastServer(LAW, 16), [Lifetime()], requests)
    blind = play(FastServer(LAW, 16), [Lifetime()], replace(requests, blocks=None))
    np.testing.assert_array_equal(plain.e2e_s, blind.e2e_s)
    means = [play(FastServer(LAW, 16, kept_blocks=kept), [Lifetime()], requests).ttft_s.mean() for kept in (20, 5000)]
    assert means[1] < means[0] < plain.ttft_s.mean()


def alike(blocks: Ints, group: list[int], prompt: float = 3 * BLOCK) -> Floats:
    """TTFT of prompts of `blocks` (n, k) that come one by one."""
    n, k = blocks.shape
    whose = PromptBlocks(blocks.ravel(), np.arange(n) * k, np.full(n, k), np.array(group), BLOCK)
    requests = Requests(np.arange(n) * 5.0, np.full(n, prompt), np.ones(n), whose)
    return play(FastServer(LAW, 4, kept_blocks=50), [Lifetime()], requests).ttft_s


def prompt_s(new: float, before: float) -> float:
    """Time of a prompt's only iteration."""
    return LAW.c0_s + LAW.c1_s + LAW.c2_s * new + LAW.c4_s * ((new + before) ** 2 - before**2)


def test_a_prompt_begins_behind_what_is_known_of_it_all_but_its_last_token() -> None:
    """By hand: 48 tokens, three blocks; the same again, a common beginning, another group."""
    ttft = alike(np.array([[1, 2, 3], [1, 2, 3], [1, 2, 9], [1, 8, 7], [1, 2, 3]]), [0, 0, 0, 0, 1])
    expected = [prompt_s(48, 0), prompt_s(1, 47), prompt_s(16, 32), prompt_s(32, 16), prompt_s(48, 0)]
    np.testing.assert_allclose(ttft, expected, rtol=1e-12)
    # A last block that is not full is nobody's beginning.
    np.testing.assert_allclose(alike(np.array([[1, 2, 3], [1, 2, 3]]), [0, 0], 40.0)[1], prompt_s(8, 32), rtol=1e-12)


def test_the_scenario_switches_it_on_and_the_fluid_says_that_it_cannot(tmp_path: Path) -> None:
    chat = get_scenario("chat")
    path = tmp_path / "cached.yaml"
    text = (chat.path or Path()).read_text()
    path.write_text(text.replace("workload:", "fleet: {prefix_cache_share: 0.3}\nworkload:", 1))
    cached = load_scenario(path)
    assert cached.cluster.prefix_cache_share == 0.3 and cached.hash != chat.hash
    with pytest.raises(ScenarioError, match="--engine request"):
        SimWorld(cached.cluster, [chat.sample_load("test", 0)], [0], np.array([2]))
    assert cached.limits.capacity_per_s == chat.limits.capacity_per_s  # as if no prompt had been seen before
    requests = sessions(3)
    load = replace(chat.sample_load("test", 0), law="counts", requests=requests)
    means = []
    for spec in (chat.cluster, cached.cluster):
        world = RequestWorld(spec, [load, replace(load, requests=None)], [0, 0], np.array([1]), load_of_row=[0, 1])
        for _ in range(2):
            world.wait()
        assert world.cluster["admitted"][0] == len(requests) and world.cluster["admitted"][1] > 0
        means.append(world.cluster["ttft_sum_s"][0] / len(requests))
    assert means[1] < 0.95 * means[0]
    path.write_text(path.read_text().replace("0.3", "0.95"))
    with pytest.raises(ScenarioError, match=r"line \d+: fleet.prefix_cache_share: got 0.95"):
        load_scenario(path)


def test_a_world_that_begins_anew_has_seen_nothing() -> None:
    """The same load twice on one world: the second time ends as the first."""
    chat = get_scenario("chat")
    spec = replace(chat.cluster, prefix_cache_share=0.3)
    load = replace(chat.sample_load("test", 0), law="counts", requests=sessions(3))
    world, found = RequestWorld(spec, [load], [0], np.array([1])), []
    for _ in range(2):
        world.wait()
        found.append((world.cluster.tobytes(), world.hist.tobytes()))
        world.reset([0], [0], np.array([1]), [0], [0])
    assert found[0] == found[1]


def mooncake(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_blocks_are_read_moved_with_their_requests_and_told_apart_by_copy(tmp_path: Path) -> None:
    rows = [{"timestamp": 1000 * i + 7 * i, "input_length": 600, "output_length": i + 1, "hash_ids": [0, i + 1]}
            for i in range(1200)]  # fmt: skip
    path = mooncake(tmp_path / "few.jsonl", *rows)
    every = read(path).requests
    assert every is not None and every.blocks is not None and every.blocks.tokens == 512
    load = TraceWorkload(path=str(path), factor=2.0, scaling="superpose").sample(np.random.default_rng(0), np.inf, 1.0)
    assert load.requests is not None and load.requests.blocks is not None
    blocks = load.requests.blocks
    np.testing.assert_array_equal(blocks.ids[blocks.first + 1], load.requests.output_tokens)  # each its own
    assert set(np.unique(blocks.group)) == {0, 1}


@pytest.mark.parametrize("ids", [[1], [1, 2, 3], [1, -2], [1, 2.5], "12", None])
def test_blocks_that_cannot_be_are_refused_with_their_line(ids: object, tmp_path: Path) -> None:
    good = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}
    path = mooncake(tmp_path / "bad.jsonl", good, {**good, "timestamp": 9000, "hash_ids": ids})
    with pytest.raises(RlscaleError, match=r"bad.jsonl.*line 2.*hash_ids.*a list of 2 whole numbers"):
        read(path)


def test_a_third_of_the_mooncake_conversations_has_been_seen_before(shared_traces: Path) -> None:
    """All of it on one replica that keeps everything: as many blocks as are in the trace twice, 38 %."""
    requests = read(shared_traces / "mooncake_conversation.jsonl.gz").requests
    assert requests is not None and requests.blocks is not None
    whole = np.minimum(requests.blocks.count, requests.prompt_tokens // 512).astype(int)
    seen: set[int] = set()
    again = 0
    for first, count in zip(requests.blocks.first, whole, strict=True):
        ids = requests.blocks.ids[first : first + count].tolist()
        again += sum(one in seen for one in ids)
        seen.update(ids)
    assert again / whole.sum() == pytest.approx(0.38, abs=0.01)
