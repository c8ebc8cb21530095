"""How far the fluid engine can be trusted: its distance to the oracle on a grid of loads.

The oracle takes about an hour for the whole grid. Each cell's per-request times are kept under a cache folder, so
that an interrupted run goes on where it stopped and a changed fluid engine is judged without a new oracle run.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rlscale.sim.laws import demand, iteration_s
from rlscale.sim.naive import Lifetime, Oracle, Server
from rlscale.sim.profiles import service_profile
from rlscale.types import Requests, ServiceProfile
from rlscale.workloads.tokens import CHAT

LOADS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.1)
CVS = (1.0, 2.0, 3.5)
REPLICAS = (1, 4, 16)
PROFILES = ("h100-8b", "a100-8b")
SEEDS = (0, 1, 2, 3, 4)
REQUESTS = 20_000
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Cell:
    """One point of the grid and one seed."""

    profile: str
    load: float  # share of l_sat
    cv: float  # of the gamma inter-arrivals of the whole service
    replicas: int
    seed: int

    @property
    def key(self) -> str:
        return f"{self.profile}_load{self.load:g}_cv{self.cv:g}_r{self.replicas}_s{self.seed}"

    @property
    def rate_per_s(self) -> float:
        return self.load * saturation_per_s(service_profile(self.profile)) * self.replicas


def grid() -> list[Cell]:
    """All cells, the cheap ones first."""
    return [
        Cell(profile, load, cv, replicas, seed)
        for seed, replicas, profile, load, cv in itertools.product(SEEDS, REPLICAS, PROFILES, LOADS, CVS)
    ]


def saturation_per_s(profile: ServiceProfile) -> float:
    """l_sat with chat lengths: arrivals per second at which every seat of a replica is taken."""
    d = demand(profile, CHAT)
    return 1.0 / (d.no * d.c0 / d.seats + d.no * d.c + d.w)


def requests(cell: Cell, n: int = REQUESTS) -> Requests:
    """The arrivals and lengths of a cell; the same for every engine."""
    rng = np.random.default_rng([cell.seed, round(1000 * cell.load), round(10 * cell.cv), cell.replicas])
    shape = 1.0 / cell.cv**2
    arrival = np.cumsum(rng.gamma(shape, 1.0 / (shape * cell.rate_per_s), n))
    return Requests(arrival, np.round(CHAT.prompt_at(rng.random(n))), np.round(CHAT.output_at(rng.random(n))))


def server(profile: ServiceProfile) -> Server:
    """The oracle's replica for a profile."""
    return Server(
        partial(iteration_s, profile.law), profile.max_seats, profile.kv_capacity_tokens, profile.chunk_tokens
    )


def run_oracle(cell: Cell, cache: Path) -> Path:
    """Simulate a cell unless its file is there; written under its final name only when complete."""
    path = cache / f"{cell.key}.npz"
    if path.exists():
        return path
    oracle = Oracle(server(service_profile(cell.profile)), [Lifetime()] * cell.replicas, timeout_s=TIMEOUT_S)
    outcome = oracle.run(requests(cell))
    partial_path = path.with_suffix(f".{os.getpid()}.partial")
    with partial_path.open("wb") as file:
        np.savez_compressed(
            file,
            ttft_s=outcome.ttft_s.astype(np.float32),
            tpot_s=outcome.tpot_s.astype(np.float32),
            e2e_s=outcome.e2e_s.astype(np.float32),
            dropped=outcome.dropped,
            lost=outcome.lost,
            **{name: np.array(value) for name, value in asdict(cell).items()},
        )
    partial_path.replace(path)
    return path
