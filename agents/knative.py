"""Knative Serving's pod autoscaler (KPA) on running + waiting requests, one revision per pool.

After knative/serving, commit 98e5ef90aa70 (Apache-2.0); the rules themselves are in agents/knative_*.py.

What upstream scrapes every second, a scaler sees once per control interval. So an observation stands for every
second since the one before: its concurrency goes into each of these 1 s buckets. In a single bucket it would be
diluted fifteenfold at 15 s, because empty buckets inside a window count as zero. At an interval of 2 s, upstream's
tick, this is upstream's own pace, each sample held for two of its scrapes. A failed scrape leaves a hole, as upstream.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import mul
from typing import Any

from agents.knative_config import DEFAULTS, TICK_S, WINDOW_RANGE_S, exposed_defaults, panic_window_s, resolve_target
from agents.knative_kpa import Autoscaler, DeciderSpec
from agents.knative_revision import Revision, RevisionSpec
from agents.knative_windows import TimedBuckets, WeightedBuckets
from rlscale.decide import Cadence, blind, hold, positive
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

# Upstream's names. Weights that fall with age follow a change sooner and, as upstream, see too little at first.
AGGREGATIONS: dict[str, type[TimedBuckets]] = {"linear": TimedBuckets, "weightedExponential": WeightedBuckets}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a pool's revision is built from."""

    decider: DeciderSpec
    revision: RevisionSpec
    panic_window_s: float
    buckets: type[TimedBuckets] = TimedBuckets


class PoolScaler:
    """Windows, autoscaler and revision of one pool. The latter two begin with the first tick."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """A restart of the autoscaler, on a revision that is also new."""
        buckets = self.settings.buckets
        self.stable = buckets(self.settings.decider.stable_window_s)
        self.panic = buckets(self.settings.panic_window_s)
        self.mean = 0.0  # of the stable window at the last tick, for the audit log
        self.autoscaler: Autoscaler | None = None
        self.revision: Revision | None = None

    def record(self, before_s: float, t_s: float, concurrency: float) -> None:
        """Concurrency of the revision in every second since `before_s`."""
        self.stable.record_since(before_s, t_s, concurrency)
        self.panic.record_since(before_s, t_s, concurrency)

    def has_data(self, t_s: float) -> bool:
        """Something was seen within the stable window.

        Upstream takes silence of exactly the window's length for a load of 0, for one tick at most. Intervals of 15 s
        would always meet that instant, so here it is without data like every longer one.
        """
        return self.stable.silence_s(t_s) < self.stable.window_s

    def tick(self, t_s: float, ready: int, current: int) -> int:
        """The new count; `current` where nothing is known or nothing may be applied."""
        autoscaler, revision = self._begun(t_s, ready, current)
        if not self.has_data(t_s):
            return current
        self.mean = self.stable.average(t_s)
        result = autoscaler.scale(t_s, ready, self.mean, self.panic.average(t_s))
        if not result.valid:
            return current
        scaled = revision.reconcile(t_s, result.desired, result.excess_burst_capacity, ready)
        return scaled.desired if scaled.write else current

    def state(self) -> dict[str, Any]:
        """All there is to remember, as plain JSON."""
        return {
            "stable": self.stable.state(),
            "panic": self.panic.state(),
            "autoscaler": None if self.autoscaler is None else self.autoscaler.state(),
            "revision": None if self.revision is None else self.revision.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.reset()
        self.stable.restore(state["stable"])
        self.panic.restore(state["panic"])
        if state["autoscaler"] is not None:
            self.autoscaler = Autoscaler(self.settings.decider, 0, 0.0)
            self.autoscaler.restore(state["autoscaler"])
        if state["revision"] is not None:
            self.revision = Revision(self.settings.revision, 0.0)
            self.revision.restore(state["revision"])

    def _begun(self, t_s: float, ready: int, current: int) -> tuple[Autoscaler, Revision]:
        if self.autoscaler is None:
            self.autoscaler = Autoscaler(self.settings.decider, ready, t_s)
        if self.revision is None:
            spec = self.settings.revision
            begun = Revision(spec, t_s, "active" if ready else "activating" if current else "inactive")
            begun.initialised = ready >= max(1, begun.least_pods())
            self.revision = begun
        return self.autoscaler, self.revision


class Knative:
    """One KPA per pool, aiming at `utilisation` of the sequences a replica holds at l_SLO.

    Requests belong to the pools in proportion to what serves; a pool in which nothing serves sees the load of one
    replica, as upstream takes 0 pods for 1. With nothing serving anywhere they wait in the activator, for the pools
    in proportion to what was ordered. No request and no pod: nobody reports, and nothing is decided. Where a pool's
    minimum is 0, its last replica goes by the steps of agents/knative_revision.py.

    A fresh scaler over several ready replicas starts in panic, which keeps them for a stable window. Of the world
    upstream runs in, activators' own capacity and the probe of the network are left out.
    """

    def __init__(
        self,
        limits: ScalingLimits,
        utilisation: float = DEFAULTS.container_concurrency_target_fraction,
        stable_window_s: float = DEFAULTS.stable_window_s,
        panic_window_percentage: float = DEFAULTS.panic_window_percentage,
        panic_threshold_percentage: float = DEFAULTS.panic_threshold_percentage,
        max_scale_up_rate: float = DEFAULTS.max_scale_up_rate,
        max_scale_down_rate: float = DEFAULTS.max_scale_down_rate,
        scale_down_delay_s: float = DEFAULTS.scale_down_delay_s,
        activation_scale: int = DEFAULTS.activation_scale,
        initial_scale: int = DEFAULTS.initial_scale,
        target_burst_capacity: float = DEFAULTS.target_burst_capacity,
        scale_to_zero_grace_period_s: float = DEFAULTS.scale_to_zero_grace_period_s,
        scale_to_zero_pod_retention_period_s: float = DEFAULTS.scale_to_zero_pod_retention_period_s,
        progress_deadline_s: float = DEFAULTS.progress_deadline_s,
        aggregation_algorithm: str = "linear",
        tick_s: float = TICK_S,
    ) -> None:
        _within("stable_window_s", stable_window_s, WINDOW_RANGE_S)
        _within("panic_window_percentage", panic_window_percentage, (1.0, 100.0))
        _within("panic_threshold_percentage", panic_threshold_percentage, (110.0, 1000.0))
        _within("max_scale_up_rate", max_scale_up_rate, (1.0, math.inf), above=True)
        _within("max_scale_down_rate", max_scale_down_rate, (1.0, math.inf), above=True)
        _within("scale_down_delay_s", scale_down_delay_s, (0.0, WINDOW_RANGE_S[1]))
        _within("activation_scale", activation_scale, (1, math.inf))
        _within("initial_scale", initial_scale, (1, math.inf))
        if aggregation_algorithm not in AGGREGATIONS:
            raise ScenarioError(f"knative: {aggregation_algorithm=}; expected {' or '.join(AGGREGATIONS)}")
        self.limits = limits
        self.utilisation = positive("knative: utilisation", utilisation)
        self._seats = [float(each) for each in limits.seats]
        self._weighted = AGGREGATIONS[aggregation_algorithm] is WeightedBuckets
        self._beat = Cadence(tick_s)
        self._before_s = math.nan  # time of the last observation, failed scrapes included
        self._pools = []
        for pool, seats in enumerate(self._seats):
            target, total = resolve_target(DEFAULTS, target_annotation=seats, utilization_annotation=utilisation)
            decider = DeciderSpec(
                target,
                total,
                target_burst_capacity,
                panic_threshold_percentage / 100.0,
                max_scale_up_rate,
                max_scale_down_rate,
                stable_window_s,
                scale_down_delay_s,
                int(activation_scale),
            )
            revision = RevisionSpec(
                min_scale=int(limits.min_replicas[pool]),
                max_scale=int(limits.max_replicas[pool]),
                initial_scale=int(initial_scale),
                reachability="reachable",
                stable_window_s=stable_window_s,
                grace_period_s=scale_to_zero_grace_period_s,
                pod_retention_s=scale_to_zero_pod_retention_period_s,
                progress_deadline_s=progress_deadline_s,
                target_burst_capacity=target_burst_capacity,
            )
            short_s = panic_window_s(stable_window_s, panic_window_percentage)
            self._pools.append(PoolScaler(Settings(decider, revision, short_s, AGGREGATIONS[aggregation_algorithm])))
        each = ", ".join(f"{pool.settings.decider.target_value:.4g}" for pool in self._pools)
        self._targets = f"target {each} per replica"

    def reset(self) -> None:
        """A new revision under a new autoscaler."""
        self._beat.reset()
        self._before_s = math.nan
        for pool in self._pools:
            pool.reset()

    def decide(self, seen: Observation) -> Decision:
        """Record what was seen; every tick, decide from the windows."""
        t_s = float(seen.t_s)
        why = self._record(t_s, seen)
        if not self._beat.due(t_s):
            return hold(seen, "between ticks")
        # Falling weights take silence for a load that falls, where the plain mean leaves it out.
        silent = bool(why) and self._weighted
        if silent or not any(pool.has_data(t_s) for pool in self._pools):
            return hold(seen, why or "no data")
        ready, current = seen.ready.tolist(), seen.target.tolist()
        target = tuple(
            pool.tick(t_s, int(ready[i]), int(current[i])) if pool.settings.revision.max_scale else 0
            for i, pool in enumerate(self._pools)
        )
        return Decision(target, self._words())

    def state(self) -> dict[str, Any]:
        """All there is to remember, as plain JSON. The beat is not: a restarted autoscaler ticks at once."""
        before_s = None if math.isnan(self._before_s) else self._before_s
        return {"before_s": before_s, "pools": [pool.state() for pool in self._pools]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of a scaler built alike."""
        self.reset()
        self._before_s = math.nan if state["before_s"] is None else float(state["before_s"])
        for pool, kept in zip(self._pools, state["pools"], strict=True):
            pool.restore(kept)

    def _record(self, t_s: float, seen: Observation) -> str:
        """Put the concurrency into the windows; why not, if not."""
        before_s = self._before_s
        # Not back with a clock that was set back: seconds that were recorded would be recorded again and add up.
        self._before_s = t_s if math.isnan(before_s) else max(before_s, t_s)
        why = blind(seen, running=seen.running, waiting=seen.waiting)
        if why:
            return why
        requests = float(seen.running + seen.waiting)
        serving, ordered = seen.ready_at_scrape.tolist(), seen.target.tolist()
        held = sum(map(mul, serving, self._seats))
        if held == 0:
            if requests == 0:
                return "no pod and no request to report"
            serving = ordered
            held = sum(max(1, count) * seats for count, seats in zip(serving, self._seats, strict=True))
        if held == 0:
            return "no replica holds a sequence within the SLO"
        since_s = t_s - 1.0 if math.isnan(before_s) else before_s
        for pool, count, seats in zip(self._pools, serving, self._seats, strict=True):
            pool.record(since_s, t_s, requests * (max(1, count) * seats / held))
        return ""

    def _words(self) -> str:
        concurrency = " + ".join(f"{pool.mean:.4g}" for pool in self._pools)
        panicking = any(pool.autoscaler is not None and pool.autoscaler.in_panic for pool in self._pools)
        mode = "panic" if panicking else "stable"
        return (
            f"{mode}: concurrency {concurrency}, target {self._pools[0].settings.decider.target_value:.4g} per replica"
        )


def _within(name: str, value: float, range_: tuple[float, float], *, above: bool = False) -> None:
    low, high = range_
    if not (low < value if above else low <= value) or not value <= high:
        raise ScenarioError(f"knative: {name} = {value}; expected {'above' if above else 'from'} {low:g} to {high:g}")


SCALERS = {
    "knative": ScalerKind(
        Knative,
        Knob(
            "utilisation",
            (1.0, 0.85, 0.7, 0.55, 0.48, 0.41, 0.35, 0.28, 0.22, 0.18, 0.14, 0.1, 0.07),
            0.7,
            "running + waiting requests per replica aimed at, as a share of its sequences at l_SLO",
        ),
        "Knative KPA on running + waiting requests, with panic mode and scaling to zero",
        stabilisation="scale_down_delay_s",
        native_s=TICK_S,
        lacks_at={
            "keeps a starting fleet": "max_scale_up_rate counts from the ready pods: 1.5 of none are 2, whatever starts"
        },
        upstream={
            "utilisation": DEFAULTS.container_concurrency_target_fraction,
            "stable_window_s": DEFAULTS.stable_window_s,
            "panic_window_percentage": DEFAULTS.panic_window_percentage,
            "panic_threshold_percentage": DEFAULTS.panic_threshold_percentage,
            "max_scale_up_rate": DEFAULTS.max_scale_up_rate,
            "max_scale_down_rate": DEFAULTS.max_scale_down_rate,
            "scale_down_delay_s": DEFAULTS.scale_down_delay_s,
        },
        roles=False,
    )
}

SEARCH: dict[str, dict[str, tuple[Any, ...]]] = {
    "knative": {
        "utilisation": ("log", 0.05, 1.0),
        "stable_window_s": ("log", 6.0, 1800.0),
        "panic_window_percentage": ("float", 1.0, 100.0),
        "panic_threshold_percentage": ("float", 110.0, 1000.0),
        "max_scale_up_rate": ("log", 1.5, 1000.0),
        "max_scale_down_rate": ("log", 1.1, 100.0),
        "scale_down_delay_s": ("float", 0.0, 1800.0),
        "activation_scale": ("int", 1, 8),
        "aggregation_algorithm": ("choice", *AGGREGATIONS),
    }
}

UPSTREAM_DEFAULTS: dict[str, dict[str, Any]] = dict.fromkeys(("knative", "knative-kpa"), exposed_defaults())
