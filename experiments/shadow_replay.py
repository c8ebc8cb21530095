"""An audit log as a load, and what scalers make of it in the simulator. Writes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from experiments import stats
from experiments.cells import deciding_every
from rlscale.deploy.audit_read import Audit, AuditDecision, AuditError, series
from rlscale.loop import RunResult, run
from rlscale.scenario import Scenario
from rlscale.types import WEEK_S, Decision, Floats, Ints, Load, Observation, Scaler

MOST_FILLED = 0.5  # share of the intervals without a rate, above which there is no load to speak of
HISTORY_S = 900.0  # the mean rate of the beginning stands in for what was before the log
BLOCKS_S = (86_400.0, 21_600.0, 3_600.0, 1_800.0)
Targets = tuple[tuple[int, ...] | None, ...]  # by interval; None: nothing was logged
LAWS = ("poisson", "counts")


@dataclass(frozen=True)
class Recording:
    """A log on the grid of its control intervals: `i` is the interval that ended when decision `i` was made."""

    interval_s: float
    rate_per_s: Floats  # (intervals,) filled where nothing was seen
    filled: float  # share of the intervals that are
    week_s: float  # at the beginning of the first interval
    acting: Targets = field(repr=False)
    shadow: Targets = field(repr=False)
    initial: tuple[int, ...] = ()

    @property
    def pairs(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Targets of both, where both were logged."""
        both = zip(self.acting, self.shadow, strict=True)
        return [(a, b) for a, b in both if a is not None and b is not None]


def recording(audit: Audit) -> Recording:
    """A log on its grid. Raises AuditError where intervals or pools change, or most of the load is unknown."""
    decisions = audit.decisions
    interval_s = _one_interval(decisions)
    pools = {len(decision.target) for decision in decisions}
    if len(pools) > 1:
        raise AuditError(f"targets of {sorted(pools)} pools in one log; give the part with one number of pools")
    at = _places(decisions, interval_s)
    count = int(at[-1]) + 1
    if len(decisions) < (1.0 - MOST_FILLED) * count:
        raise AuditError(f"{len(decisions)} decisions over {count} intervals; give a stretch with fewer gaps")
    seen = series(decisions, "arrival_per_s")
    rate = np.full(count, np.nan)
    fresh = np.isfinite(seen) & (seen >= 0.0)
    rate[at[fresh]] = seen[fresh]
    known = np.flatnonzero(np.isfinite(rate))
    filled = 1.0 - len(known) / count
    if filled > MOST_FILLED:
        raise AuditError(f"{filled:.0%} of {count} intervals have no arrival rate; expected at most {MOST_FILLED:.0%}")
    before = np.maximum(np.searchsorted(known, np.arange(count), side="right") - 1, 0)
    acting: list[tuple[int, ...] | None] = [None] * count
    shadow: list[tuple[int, ...] | None] = [None] * count
    for place, decision in zip(at, decisions, strict=True):
        acting[place], shadow[place] = decision.target, decision.shadow_target
    week_s = decisions[0].week_s - interval_s if math.isfinite(decisions[0].week_s) else 0.0
    initial = decisions[0].observation.get("target")
    there = tuple(int(n) for n in initial) if isinstance(initial, list) else decisions[0].target
    return Recording(interval_s, rate[known[before]], filled, week_s % WEEK_S, tuple(acting), tuple(shadow), there)


def _one_interval(decisions: Sequence[AuditDecision]) -> float:
    found = {decision.number("interval_s") for decision in decisions}
    if len(found) != 1 or not all(value > 0.0 for value in found):
        raise AuditError(f"control intervals {sorted(found)} in one log; expected one number of seconds, interval_s")
    return found.pop()


def _places(decisions: Sequence[AuditDecision], interval_s: float) -> Ints:
    """The interval of every decision, by wall time; without it by run time, which begins anew with every restart."""
    times = np.array([decision.unix_s for decision in decisions])
    if not np.isfinite(times).all():
        run_s = np.array([decision.t_s for decision in decisions])
        steps = np.diff(run_s, prepend=run_s[0])
        times = np.cumsum(np.where(steps < 0.0, interval_s, steps))
    return np.asarray(np.rint((times - times[0]) / interval_s), np.int64)


def serving(scenario: Scenario, recorded: Recording) -> Scenario:
    """The scenario's cluster at the interval of the log. Raises AuditError where the pools differ."""
    pools = len(scenario.cluster.pools)
    logged = next(len(target) for target in recorded.acting if target is not None)
    if logged != pools:
        raise AuditError(f"the log has targets for {logged} pools, scenario {scenario.name} has {pools}; "
                         "give the scenario of the cluster that was scaled")  # fmt: skip
    steps = recorded.interval_s / scenario.cluster.substep_s
    if abs(steps - round(steps)) > 1e-9:
        raise AuditError(f"a control interval of {recorded.interval_s:g} s is no multiple of substep_s = "
                         f"{scenario.cluster.substep_s:g} s of scenario {scenario.name}")  # fmt: skip
    if scenario.cluster.interval_s != recorded.interval_s:
        scenario = deciding_every(scenario, recorded.interval_s)
    return replace(scenario, scale=None, horizon_s=len(recorded.rate_per_s) * recorded.interval_s)


def observed_load(scenario: Scenario, recorded: Recording, law: str = "poisson") -> Load:
    """The arrivals that were observed, with the lengths of the scenario's requests.

    `law` "poisson": the rate of every interval, counts drawn anew. "counts": whole requests, evenly over an interval.
    """
    like = scenario.sample_load("train", 0)
    spec = scenario.cluster
    rate = np.repeat(recorded.rate_per_s, spec.substeps)
    if law == "counts":
        rate = np.diff(np.floor(np.cumsum(rate * spec.substep_s) + 1e-6), prepend=0.0)
    first = recorded.rate_per_s[: max(1, round(HISTORY_S / recorded.interval_s))].mean()
    duration_s = len(rate) * spec.substep_s
    blocks = np.resize(like.token_block, max(1, math.ceil(duration_s / like.token_block_s)))
    return Load(
        "observed", spec.substep_s, rate.astype(np.float32), "counts" if law == "counts" else "poisson", like.tokens,
        blocks, like.token_block_s, like.burstiness, np.full(60, first), 60.0, recorded.week_s,
    )  # fmt: skip


class Recorded:
    """The targets of a log, one after the other, whatever comes of them."""

    def __init__(self, targets: Targets, interval_s: float) -> None:
        self.targets, self.interval_s = targets, interval_s

    def reset(self) -> None:
        """Nothing is remembered."""

    def decide(self, seen: Observation) -> Decision:
        """What was logged for this interval; the target in force where nothing was."""
        place = min(max(0, round(seen.t_s / self.interval_s) - 1), len(self.targets) - 1)
        logged = self.targets[place]
        if logged is None:
            return Decision(tuple(int(count) for count in seen.target), "hold: nothing logged")
        return Decision(logged, "as logged")


def replay(
    scenario: Scenario, load: Load, recorded: Recording, builds: dict[str, Callable[[], Scaler]], seed: int
) -> dict[str, RunResult]:
    """Every scaler on the same load with the same luck, from the fleet of the log's beginning."""
    known = scenario.limits
    clipped = np.clip(recorded.initial, known.min_replicas, known.max_replicas)
    first = tuple(int(count) for count in clipped)
    return {name: run(scenario, build(), load, seed, name, first) for name, build in builds.items()}


def block_s(duration_s: float) -> float:
    """The longest usual block of which there are enough for an interval; the shortest where there never are."""
    return next((size for size in BLOCKS_S if duration_s >= stats.MIN_BLOCKS * size), BLOCKS_S[-1])


def blocks(result: RunResult, size_s: float) -> dict[str, Floats]:
    """Hours, cost, requests, misses, churn and the sum of TTFT of every block; what was missed at last, to the last."""
    s, step_s = result.series, result.interval_s
    index = stats.block_of(s["t_s"], len(s["t_s"]) * step_s, size_s)
    series = {name: s[name] for name in ("cost_usd", "arrived", "missed", "churn")}
    series |= {"ttft_s": np.nan_to_num(s["ttft_mean_s"]) * s["arrived"], "hours": np.full(len(index), step_s / 3600.0)}
    total = {name: np.asarray(np.bincount(index, values), np.float64) for name, values in series.items()}
    total["missed"][-1] += result.totals["missed"] - s["missed"].sum()
    return total
