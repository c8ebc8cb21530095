"""Scenario values to the arrays the kernels read. Knows the layout and the values, no time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.errors import ScenarioError
from rlscale.sim.company import company_table
from rlscale.sim.kappa import Kappa
from rlscale.sim.laws import demand
from rlscale.sim.records import DEMAND, LAW, POOL_SPEC, SPEC, records
from rlscale.sim.tables import kv_spread_s, output_classes, points
from rlscale.types import ClusterSpec, Load, Pool, TokenLaw

Records = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tables:
    """Read-only inputs of the fluid kernel; shared by all clusters of a world."""

    spec: Records  # (1,)
    pool_spec: Records  # (P,)
    demands: Records  # (token laws, P)
    point: NDArray[np.float64]  # (token laws, P, SETS, POINTS, COLUMNS)
    output: NDArray[np.float64]  # (token laws, CLASSES, 4)
    bank: NDArray[np.float32]  # (loads, cells)
    law: Records  # (loads,)
    block: NDArray[np.int64]  # (loads, blocks): which token law
    block_steps: int


def compile_tables(spec: ClusterSpec, loads: Sequence[Load], log_events: bool, kappa: Kappa) -> Tables:
    """Check that the loads fit the cluster's sub-step and lay everything out."""
    for load in loads:
        if abs(load.step_s - spec.substep_s) > 1e-9:
            raise ScenarioError(
                f"load '{load.name}' has cells of {load.step_s:g} s; expected the sub-step of {spec.substep_s:g} s"
            )
    laws = list(dict.fromkeys(token_law for load in loads for token_law in load.tokens))
    block, block_steps = _blocks(loads, laws, spec.substep_s)
    demands = records((len(laws), len(spec.pools)), DEMAND)
    for i, token_law in enumerate(laws):
        for p, pool in enumerate(spec.pools):
            _fill_demand(demands[i, p], pool, token_law)
    return Tables(
        _spec_record(spec, log_events, kappa),
        _pool_records(spec.pools),
        demands,
        np.stack([np.stack([points(pool.profile, token_law) for pool in spec.pools]) for token_law in laws]),
        np.stack([output_classes(token_law) for token_law in laws]),
        _bank(spec, loads),
        _law_records(loads),
        block,
        block_steps,
    )


def _spec_record(spec: ClusterSpec, log_events: bool, kappa: Kappa) -> Records:
    record = records((1,), SPEC)
    row = record[0]
    h = spec.substep_s
    # The newest scrape that has arrived when the interval ends: scrape times are multiples of the scrape interval.
    lag = spec.scrape_delay_s + (spec.interval_s - spec.scrape_delay_s) % spec.scrape_interval_s
    row["substep_s"], row["substeps"] = h, spec.substeps
    row["scrape_step"] = max(1, spec.substeps - math.ceil(lag / h - 1e-9))
    row["control_step"] = min(spec.substeps - 1, round(spec.control_delay_s / h))
    row["drain_s"], row["timeout_s"], row["node_idle_s"] = spec.drain_s, spec.timeout_s, spec.node_idle_s
    row["bill_from_order"], row["log_events"] = spec.bill_from == "order", log_events
    row["ttft_s"], row["ttft_s_per_token"] = spec.slo.ttft_s, 1.0 / spec.slo.ttft_tokens_per_s
    row["tpot_s"] = spec.slo.tpot_s
    for name, value in asdict(kappa).items():
        row[f"k_{name}"] = value
    return record


def _pool_records(pools: Sequence[Pool]) -> Records:
    record = records((len(pools),), POOL_SPEC)
    for row, pool in zip(record, pools, strict=True):
        profile = pool.profile
        row["slots_per_node"] = pool.slots_per_node
        row["min_replicas"], row["max_replicas"] = pool.min_replicas, pool.max_replicas
        row["batching"], row["service_cv2"] = profile.batching, profile.service_cv2
        row["node_median_s"], row["node_sigma"] = pool.node.provisioning.median_s, pool.node.provisioning.sigma
        row["cold_median_s"], row["cold_sigma"] = profile.cold_start.median_s, profile.cold_start.sigma
        row["warm_median_s"], row["warm_sigma"] = profile.warm_start.median_s, profile.warm_start.sigma
        row["kv_capacity_tokens"], row["chunk_tokens"] = profile.kv_capacity_tokens, profile.chunk_tokens
    return record


def _fill_demand(row: Any, pool: Pool, token_law: TokenLaw) -> None:
    d = demand(pool.profile, token_law)
    if d.over > 0.5:
        raise ScenarioError(
            f"pool '{pool.name}': {d.over:.0%} of the requests have more prompt and output tokens than the KV memory "
            f"of {pool.profile.name} holds ({pool.profile.kv_capacity_tokens:g}); choose a larger profile"
        )
    for name in ("ni", "no", "k", "c0", "c", "w", "w2", "seats", "chunk_s", "over"):
        row[name] = getattr(d, name)
    # The classes' own mean, so that sequences entering and leaving a pool balance exactly.
    row["no"] = output_classes(token_law)[:, 0].mean()
    row["kv_spread_s"] = kv_spread_s(pool.profile, token_law)


def _bank(spec: ClusterSpec, loads: Sequence[Load]) -> NDArray[np.float32]:
    bank = np.zeros((len(loads), max(len(load.values) for load in loads)), np.float32)
    for row, load in zip(bank, loads, strict=True):
        values = load.values
        if load.law == "counts" and not spec.pools[0].profile.batching:
            values = _smooth(values, spec.substeps)
        row[: len(values)] = values
    return bank


def _smooth(values: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """Interval means: a formula for the mean wait wants mean rates; sampled counts would count chance twice."""
    whole = len(values) // cells * cells
    means = values[:whole].reshape(-1, cells).mean(axis=1, dtype=np.float64)
    return np.concatenate([np.repeat(means, cells), values[whole:]]).astype(np.float32)


def _law_records(loads: Sequence[Load]) -> Records:
    record = records((len(loads),), LAW)
    for row, load in zip(record, loads, strict=True):
        row["poisson"], row["burstiness"] = load.law == "poisson", max(1.0, load.burstiness)
        row["bursty"], row["company"] = load.burstiness > 1.0, company_table(float(f"{max(1.0, load.burstiness):.3g}"))
    return record


def _blocks(loads: Sequence[Load], laws: list[TokenLaw], substep_s: float) -> tuple[NDArray[np.int64], int]:
    """Token law per load and block, on the finest block length of all loads."""
    shortest = min(load.token_block_s for load in loads)
    longest = max(load.duration_s for load in loads)
    length = shortest if math.isfinite(shortest) else longest
    count = max(1, math.ceil(longest / length - 1e-9))
    block = np.zeros((len(loads), count), np.int64)
    for row, load in zip(block, loads, strict=True):
        for i in range(count):
            own = min(int(i * length / load.token_block_s), len(load.token_block) - 1)
            row[i] = laws.index(load.tokens[int(load.token_block[own])])
    return block, max(1, round(length / substep_s))
