"""Scenario values to the arrays the kernels read. Knows the layout and the values, no time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlscale.errors import ScenarioError
from rlscale.parts import Admission, Grid
from rlscale.sim.company import company_table
from rlscale.sim.kappa import Kappa
from rlscale.sim.laws import demand_of
from rlscale.sim.records import DEMAND, LAW, NO_STANDBY, POOL_SPEC, ROLES, SLEEPS, SPEC, STOPS, records
from rlscale.sim.supply import ALL, CELL_S, OPEN, SPOT, UP, Supply, needed, supply
from rlscale.sim.tables import kv_spread_s, output_classes, points
from rlscale.types import WORK_STEP_S, ClusterSpec, Load, Pool, TokenLaw

Records = NDArray[Any]
NO_SUPPLY = Supply(np.full((1, 1), ALL, np.uint8), CELL_S, 1)
# Deferrable sequences join a replica until a decode pass takes this share of the TPOT that the SLO allows: what is left
# is for the prompts of interactive requests, which make their passes longer.
WORK_PASS_SHARE = 0.6
NEVER_S = 1e12


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
    supply: NDArray[np.uint8]  # (P, cells) codes, see supply.py
    grid: NDArray[np.float64]  # (P, hours, 2) gCO2 and USD per kWh, from Monday 00:00
    work: NDArray[np.float64]  # (loads, cells) deferrable tokens that have come so far
    degraded: NDArray[np.int64]  # (token laws,) which law takes the place of each while answers are cut
    laws: tuple[TokenLaw, ...]
    held: int  # intervals that the HPA looks back before it lets a target fall


def compile_tables(spec: ClusterSpec, loads: Sequence[Load], log_events: bool, kappa: Kappa) -> Tables:
    """Check that the loads fit the cluster's sub-step and lay everything out."""
    for load in loads:
        if abs(load.step_s - spec.substep_s) > 1e-9:
            raise ScenarioError(
                f"load '{load.name}' has cells of {load.step_s:g} s; expected the sub-step of {spec.substep_s:g} s"
            )
    laws = list(dict.fromkeys(token_law for load in loads for token_law in load.tokens))
    degraded = _with_degraded(spec.admission, laws)
    block, block_steps = _blocks(loads, laws, spec.substep_s)
    demands = records((len(laws), len(spec.pools)), DEMAND)
    for i, token_law in enumerate(laws):
        for p, pool in enumerate(spec.pools):
            _fill_demand(demands[i, p], pool, token_law)
        if spec.has_roles:
            _join_sides(demands[i], spec)
    kept = supply(spec, max(load.duration_s for load in loads)) if needed(spec) else NO_SUPPLY
    return Tables(
        _spec_record(spec, loads, kept, log_events, kappa),
        _pool_records(spec),
        demands,
        np.stack([np.stack([points(pool.profile, token_law) for pool in spec.pools]) for token_law in laws]),
        np.stack([output_classes(token_law) for token_law in laws]),
        _bank(spec, loads),
        _law_records(loads),
        block,
        block_steps,
        kept.codes if needed(spec) else np.full((len(spec.pools), 1), ALL, np.uint8),
        _grid(spec),
        _work(loads),
        degraded,
        tuple(laws),
        max(1, math.ceil(spec.actuator.stabilization_s / spec.interval_s - 1e-9)),
    )


def _spec_record(spec: ClusterSpec, loads: Sequence[Load], kept: Supply, log_events: bool, kappa: Kappa) -> Records:
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
    row["interval_s"], row["node_delay_after_add_s"] = spec.interval_s, spec.node_delay_after_add_s
    row["has_supply"], row["supply_starts"] = needed(spec), kept.starts
    row["supply_steps"] = max(1, round(kept.cell_s / h))
    row["tolerance"] = spec.actuator.tolerance
    failures, admission = spec.failures, spec.admission
    row["fails"] = failures.replica_per_h > 0.0 or failures.node_per_h > 0.0
    row["requeue"] = failures.running == "requeued"
    row["energy"], row["pue"] = spec.energy.measured, spec.energy.pue
    row["rejects"], row["degrades"] = admission.policy == "reject", admission.policy == "degrade"
    row["max_waiting"] = admission.max_waiting
    row["roles"] = spec.has_roles
    row["transfer_s"], row["transfer_s_per_token"] = spec.transfer.fixed_s, spec.transfer.s_per_token
    row["has_work"] = any(load.work_per_s.any() for load in loads)
    row["work_pass_s"] = WORK_PASS_SHARE * min(spec.slo.tpot_s, 1.0)
    row["deadline_steps"] = round(min(NEVER_S, *(load.deadline_s for load in loads)) / h)
    for name, value in asdict(kappa).items():
        row[f"k_{name}"] = value
    return record


def _pool_records(spec: ClusterSpec) -> Records:
    record = records((len(spec.pools),), POOL_SPEC)
    families = [pool.family for pool in spec.pools]
    for row, pool in zip(record, spec.pools, strict=True):
        profile = pool.profile
        row["role"] = ROLES[pool.role]
        row["slots_per_node"] = pool.slots_per_node
        row["min_replicas"], row["max_replicas"] = pool.min_replicas, pool.max_replicas
        row["batching"], row["service_cv2"] = profile.batching, profile.service_cv2
        row["node_median_s"], row["node_sigma"] = pool.node.provisioning.median_s, pool.node.provisioning.sigma
        for name, stages in (("cold", profile.cold), ("warm", profile.warm)):
            row[f"{name}_stages"] = len(stages)
            row[f"{name}_median_s"][: len(stages)] = [stage.median_s for stage in stages]
            row[f"{name}_sigma"][: len(stages)] = [stage.sigma for stage in stages]
        row["kv_capacity_tokens"], row["chunk_tokens"] = profile.kv_capacity_tokens, profile.chunk_tokens
        market = spec.spot if pool.spot else None
        row["spot"], row["notice_s"] = market is not None, market.notice_s if market else 0.0
        row["needs"] = OPEN | UP | (SPOT if market else 0)
        row["family"] = families.index(pool.family) if pool.family else -1
        _fill_standby(row, pool)
        nodes, slots = records_per_pool(pool)
        hours = spec.interval_s / 3600.0
        row["nodes"] = nodes
        row["replica_fails"] = spec.failures.replica_per_h * hours * slots
        row["node_fails"] = spec.failures.node_per_h * hours * nodes
        row["gpus_per_node"] = pool.node.gpus
        row["gpus_per_replica"] = profile.gpus_per_replica * profile.gpu_share
        for name, watts in asdict(pool.node.power).items():
            row[name] = watts
    return record


def records_per_pool(pool: Pool) -> tuple[int, int]:
    """Nodes and slots to keep records for: draining replicas and those in standby do not count against the maximum."""
    nodes = 2 * math.ceil((pool.max_replicas + pool.max_standby) / pool.slots_per_node) + 2
    return nodes, nodes * pool.slots_per_node


def _fill_standby(row: Any, pool: Pool) -> None:
    row["standby"] = {"none": NO_STANDBY, "stopped": STOPS, "sleeping": SLEEPS}[pool.standby]
    wake = {"none": None, "stopped": pool.node.wake_stopped, "sleeping": pool.node.wake_sleeping}[pool.standby]
    if wake is not None:
        row["wake_median_s"], row["wake_sigma"] = wake.median_s, wake.sigma


def _with_degraded(admission: Admission, laws: list[TokenLaw]) -> NDArray[np.int64]:
    """Adds the laws with cut answers to `laws`; which of them stands for each."""
    if admission.policy != "degrade":
        return np.arange(len(laws))
    cut = [replace(law, output_tokens=tuple(min(tokens, admission.degraded_tokens) for tokens in law.output_tokens))
           for law in laws]  # fmt: skip
    laws.extend(law for law in dict.fromkeys(cut) if law not in laws)
    return np.array([*(laws.index(law) for law in cut), *range(len(cut), len(laws))])


def _grid(spec: ClusterSpec) -> NDArray[np.float64]:
    given = dict(spec.energy.grids)
    grids = [given.get(pool.zone, Grid()) for pool in spec.pools]
    series = [(grid.carbon_g_per_kwh, grid.usd_per_kwh) for grid in grids]
    hours = math.lcm(*(len(values) for pair in series for values in pair))
    return np.array([[np.resize(values, hours) for values in pair] for pair in series]).transpose(0, 2, 1).copy()


def _work(loads: Sequence[Load]) -> NDArray[np.float64]:
    """Running sums per cell; of one cell only where nothing can be deferred."""
    if not any(load.work_per_s.any() for load in loads):
        return np.zeros((len(loads), 1))
    work = np.zeros((len(loads), max(len(load.values) for load in loads)))
    for row, load in zip(work, loads, strict=True):
        cells = len(load.values)
        at = np.minimum((np.arange(cells) * load.step_s / WORK_STEP_S).astype(int), len(load.work_per_s) - 1)
        row[:cells] = np.cumsum(load.work_per_s[at] * load.step_s)
        row[cells:] = row[cells - 1]
    return work


def _fill_demand(row: Any, pool: Pool, token_law: TokenLaw) -> None:
    d = demand_of(pool.role, pool.profile, token_law)
    if d.over > 0.5:
        what = "the context" if pool.profile.context_tokens < pool.profile.kv_capacity_tokens else "the KV memory"
        raise ScenarioError(
            f"pool '{pool.name}': {d.over:.0%} of the requests have more prompt and output tokens than {what} of "
            f"{pool.profile.name} holds ({pool.profile.longest_tokens:g}); choose a larger profile"
        )
    for name in ("ni", "no", "k", "c0", "c", "w", "w2", "seats", "chunk_s", "over", "first", "prompt_s", "alone_s",
                 "prompt_cv2"):  # fmt: skip
        row[name] = getattr(d, name)
    # The classes' own mean, so that sequences entering and leaving a pool balance exactly.
    if pool.role != "prefill":
        row["no"] = output_classes(token_law)[:, 1 if pool.role == "decode" else 0].mean()
    row["kv_spread_s"] = kv_spread_s(pool.profile, token_law)


def _join_sides(row: Records, spec: ClusterSpec) -> None:
    """What holds for the pools of both sides: requests too long for one of them, the time of a KV cache."""
    decodes = np.array([pool.role == "decode" for pool in spec.pools])
    row["over"] = max(row["over"][decodes].min(), row["over"][~decodes].min())
    row["transfer_s"] = spec.transfer.delay_s(float(row["ni"].max()))


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
        row["continues"] = load.continues
        row["returns"] = 1.0 - math.exp(-load.step_s / load.think_s) if load.continues > 0.0 else 0.0
        row["stretch"] = weibull_stretch(load.burstiness)
        row["bursty"], row["company"] = load.burstiness > 1.0, company_table(float(f"{max(1.0, load.burstiness):.3g}"))
    return record


@lru_cache(maxsize=256)
def weibull_stretch(burstiness: float) -> float:
    """The power of an exponential gap whose squared coefficient of variation is the `burstiness`."""
    if burstiness <= 1.0:
        return 1.0
    low, high = 1.0, 8.0  # 1 is exponential; 8 has a squared coefficient of variation of 12 869
    for _ in range(60):
        middle = 0.5 * (low + high)
        spread = math.gamma(1.0 + 2.0 * middle) / math.gamma(1.0 + middle) ** 2 - 1.0
        low, high = (middle, high) if spread < burstiness else (low, middle)
    return low


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
