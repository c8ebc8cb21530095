"""Runs over three plain pools, and with everything on, whose whole end state is hashed: compiled and plain alike."""

from __future__ import annotations

import hashlib

import numpy as np
from full_cluster import busy_load, everything, split

from rlscale.sim.profiles import node_type, service_profile
from rlscale.sim.request_world import RequestWorld
from rlscale.sim.world import SimWorld
from rlscale.types import ClusterSpec, Load, Pool, Slo
from rlscale.workloads.tokens import CHAT


def digests(seeds: int, intervals: int) -> list[str]:
    """One hash per seed and cluster."""
    plain = [_digest(*_plain(intervals), seed, intervals, [3, 2, 1]) for seed in range(seeds)]
    load = busy_load(intervals)
    return plain + [_digest(everything(), load, seed, intervals, [2, 1, 1, 0]) for seed in range(seeds)]


def _plain(intervals: int) -> tuple[ClusterSpec, Load]:
    pools = (
        Pool("h100", node_type("h100-x1"), service_profile("h100-8b"), 0, 8),
        Pool("a100", node_type("a100-x1"), service_profile("a100-8b"), 0, 8),
        Pool("big", node_type("h100-x8"), service_profile("h100-70b-tp4"), 0, 4),
    )
    spec = ClusterSpec(pools, Slo(1.0, 0.05, 5000.0), substep_s=5.0, node_idle_s=60.0, drain_s=20.0)
    values = (90.0 + 60.0 * np.sin(np.arange(3 * intervals) / 40.0)).astype(np.float32)
    return spec, Load("wave", 5.0, values, "poisson", (CHAT,), burstiness=3.0)


def request_digests(seeds: int, intervals: int) -> list[str]:
    """One hash per seed: the request engine with everything on."""
    load = busy_load(intervals)
    return [_digest(everything(), load, seed, intervals, [2, 1, 1, 0], REQUEST_STATE, RequestWorld)
            for seed in range(seeds)]  # fmt: skip


def role_digests(seeds: int, intervals: int) -> list[str]:
    """One hash per engine and seed: prefill and decode pools with everything on."""
    load, engines = busy_load(intervals), ((RequestWorld, REQUEST_STATE), (SimWorld, (*STATE, "sent")))
    return [_digest(split(), load, seed, intervals, [2, 1, 1, 1], state, engine)
            for engine, state in engines for seed in range(seeds)]  # fmt: skip


STATE = ("cluster", "pool", "node", "slot", "queue", "cells", "classes", "hist", "scrape", "pool_scrape", "held")


REQUEST_STATE = ("cluster", "pool", "node", "slot", "flow", "replicas", "requests", "hist", "scrape", "pool_scrape")


def _digest(
    spec: ClusterSpec, load: Load, seed: int, intervals: int, initial: list[int], state: tuple[str, ...] = STATE,
    engine: type[SimWorld] = SimWorld,
) -> str:  # fmt: skip
    rng = np.random.default_rng(seed)
    world = engine(spec, [load], [seed], np.array(initial))
    for _ in range(intervals):
        world.apply(rng.integers(0, 6, (1, len(initial))))
        world.wait()
    digest = hashlib.sha256()
    for name in state:
        digest.update(np.ascontiguousarray(getattr(world, name)).tobytes())
    return digest.hexdigest()
