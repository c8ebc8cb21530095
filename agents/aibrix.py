"""AIBrix's pod autoscaler, APA and its KPA variant, on the mean of running + waiting requests per replica.

After vllm-project/aibrix, commit e3e10f9e4aeb (Apache-2.0); the rules themselves are in agents/aibrix_*.py.
"""

from __future__ import annotations

from dataclasses import asdict
from operator import mul
from typing import Any

from agents.aibrix_rules import RESYNC_S, Algorithm, Context, Controller, Sample
from agents.aibrix_windows import GRANULARITY_S, PANIC_WINDOW_S, STABLE_WINDOW_S, WindowPair
from rlscale.decide import Cadence, blind, hold, positive
from rlscale.errors import ScenarioError
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

DEFAULTS = Context()
_RULES: dict[str, float] = {
    name: getattr(DEFAULTS, name)
    for name in (
        "max_scale_up_rate",
        "max_scale_down_rate",
        "up_fluctuation_tolerance",
        "down_fluctuation_tolerance",
        "scale_up_cooldown_window_s",
        "scale_down_cooldown_window_s",
    )
}


class PoolScaler:
    """The PodAutoscaler of one pool."""

    def __init__(self, algorithm: Algorithm, context: Context, target: float, windows_s: tuple[float, float]) -> None:
        self.target = target  # running + waiting requests per replica
        self.controller = Controller(algorithm, context)
        self._windows_s = windows_s
        self.reset()

    def reset(self) -> None:
        """A restart of the controller."""
        self.controller.reset()
        self.windows = WindowPair(*self._windows_s)

    def sync(self, t_s: float, current: int, ready: int, value: float | None) -> tuple[int, str]:
        """Record the mean over the pods, None without any, and reconcile."""
        samples = []
        if value is not None:
            self.windows.record(t_s, value)
            samples.append(Sample(self.target, self.windows.stable.average, self.windows.panic.average))
        return self.controller.reconcile(t_s, current, ready, samples)

    def state(self) -> dict[str, Any]:
        """All there is to remember, as plain JSON."""
        return {"windows": self.windows.state(), "log": self.controller.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.windows.restore(state["windows"])
        self.controller.restore(state["log"])


class AIBrix:
    """One PodAutoscaler per pool; `target` is the mean of a replica, as a share of its sequences at l_SLO.

    Metrics are taken at a resync only, as upstream, so an interval longer than it means fewer samples in a window and
    nothing else. The pods' mean is the service's load spread over what serves. A pool that serves nothing while
    replicas of it start has no metric and holds; an empty pool is asked from outside, by the load that one replica
    would have. APA multiplies the replicas there are and so never leaves 0; the KPA variant does.
    """

    def __init__(
        self,
        limits: ScalingLimits,
        algorithm: Algorithm,
        target: float = 0.5,
        stable_window_s: float = STABLE_WINDOW_S,
        panic_window_s: float = PANIC_WINDOW_S,
        resync_s: float = RESYNC_S,
        **settings: float,
    ) -> None:
        if not 0 < panic_window_s <= stable_window_s:
            raise ScenarioError(
                f"aibrix: panic_window_s = {panic_window_s}, stable_window_s = {stable_window_s}; "
                "expected 0 < panic_window_s <= stable_window_s"
            )
        for name in ("max_scale_up_rate", "max_scale_down_rate"):
            if name in settings and not settings[name] > 1:
                raise ScenarioError(f"aibrix: {name} = {settings[name]}; expected a number above 1")
        self.limits = limits
        self.target = positive("aibrix: target", target)
        self._seats = [float(each) for each in limits.seats]
        self._beat = Cadence(resync_s)
        self._pools = []
        for pool, seats in enumerate(self._seats):
            low, high = int(limits.min_replicas[pool]), int(limits.max_replicas[pool])
            context = Context(**settings, min_replicas=low, max_replicas=high)
            windows_s = stable_window_s, panic_window_s
            self._pools.append(PoolScaler(algorithm, context, self.target * seats, windows_s))

    def reset(self) -> None:
        """A restart of the controller: windows and recommendations are gone."""
        self._beat.reset()
        for pool in self._pools:
            pool.reset()

    def decide(self, seen: Observation) -> Decision:
        """One resync of every pool."""
        t_s = float(seen.t_s)
        if not self._beat.due(t_s):
            return hold(seen, "between resyncs")
        why = blind(seen, running=seen.running, waiting=seen.waiting)
        serving, current = seen.ready_at_scrape.tolist(), seen.target.tolist()
        held = sum(map(mul, serving, self._seats))
        if not why and held == 0 and any(current):
            why = "no replica with metrics"
        if why:
            return hold(seen, why)
        requests, ready = float(seen.running + seen.waiting), seen.ready.tolist()
        share = requests / held if held else None
        target, words = [], []
        for i, pool in enumerate(self._pools):
            pods = min(int(ready[i]), int(serving[i]))
            value = requests if share is None else share * self._seats[i]
            count, said = pool.sync(t_s, int(current[i]), pods, value if pods or not current[i] else None)
            target.append(count)
            words.append(said)
        load = "no replica" if share is None else f"{share:.2f} of the sequences at l_SLO"
        return Decision(tuple(target), f"{load}, target {self.target:.2f}; {', '.join(words)}")

    def state(self) -> dict[str, Any]:
        """All there is to remember, as plain JSON. The beat is not: a restarted controller resyncs at once."""
        return {"pools": [pool.state() for pool in self._pools]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of a scaler built alike."""
        self.reset()
        for pool, kept in zip(self._pools, state["pools"], strict=True):
            pool.restore(kept)


def apa(
    limits: ScalingLimits,
    target: float = 0.5,
    stable_window_s: float = RESYNC_S,
    max_scale_up_rate: float = DEFAULTS.max_scale_up_rate,
    max_scale_down_rate: float = DEFAULTS.max_scale_down_rate,
    up_fluctuation_tolerance: float = DEFAULTS.up_fluctuation_tolerance,
    down_fluctuation_tolerance: float = DEFAULTS.down_fluctuation_tolerance,
    scale_up_cooldown_window_s: float = DEFAULTS.scale_up_cooldown_window_s,
    scale_down_cooldown_window_s: float = DEFAULTS.scale_down_cooldown_window_s,
    resync_s: float = RESYNC_S,
) -> AIBrix:
    """APA: the present replicas times value over target.

    Upstream's window of 180 s multiplies the present count by a ratio that is mostly of earlier counts: with replicas
    that start at once it runs in circles at a constant load. So the window is one resync long unless asked otherwise.
    """
    return AIBrix(
        limits,
        "apa",
        target,
        stable_window_s,
        min(PANIC_WINDOW_S, stable_window_s),
        resync_s,
        max_scale_up_rate=max_scale_up_rate,
        max_scale_down_rate=max_scale_down_rate,
        up_fluctuation_tolerance=up_fluctuation_tolerance,
        down_fluctuation_tolerance=down_fluctuation_tolerance,
        scale_up_cooldown_window_s=scale_up_cooldown_window_s,
        scale_down_cooldown_window_s=scale_down_cooldown_window_s,
    )


def kpa(
    limits: ScalingLimits,
    target: float = 0.02,
    stable_window_s: float = STABLE_WINDOW_S,
    panic_window_s: float = PANIC_WINDOW_S,
    panic_threshold: float = DEFAULTS.panic_threshold,
    max_scale_up_rate: float = DEFAULTS.max_scale_up_rate,
    max_scale_down_rate: float = DEFAULTS.max_scale_down_rate,
    up_fluctuation_tolerance: float = DEFAULTS.up_fluctuation_tolerance,
    down_fluctuation_tolerance: float = DEFAULTS.down_fluctuation_tolerance,
    scale_up_cooldown_window_s: float = DEFAULTS.scale_up_cooldown_window_s,
    scale_down_cooldown_window_s: float = DEFAULTS.scale_down_cooldown_window_s,
    resync_s: float = RESYNC_S,
) -> AIBrix:
    """The KPA variant: value over target, by the mean of a pod.

    As the mean falls with every pod that is added, the count settles at about the root of load over target: a target
    has to be far below what a pod is meant to hold.
    """
    return AIBrix(
        limits,
        "kpa",
        target,
        stable_window_s,
        panic_window_s,
        resync_s,
        panic_threshold=panic_threshold,
        max_scale_up_rate=max_scale_up_rate,
        max_scale_down_rate=max_scale_down_rate,
        up_fluctuation_tolerance=up_fluctuation_tolerance,
        down_fluctuation_tolerance=down_fluctuation_tolerance,
        scale_up_cooldown_window_s=scale_up_cooldown_window_s,
        scale_down_cooldown_window_s=scale_down_cooldown_window_s,
    )


_REVERSED = {
    "waits before it shrinks": "stabilisation takes the minimum of its window when shrinking, so it holds nothing back",
}
_CIRCLES = "the upstream window of 180 s multiplies the present count by a ratio of earlier ones: it runs in circles"
SCALERS = {
    "aibrix-apa": ScalerKind(
        apa,
        Knob(
            "target",
            (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07),
            0.5,
            "mean of running + waiting requests per replica, as a share of its sequences at l_SLO",
        ),
        "AIBrix APA: replicas in proportion to the mean load per replica",
        stabilisation="scale_down_cooldown_window_s",
        native_s=RESYNC_S,
        lacks=_REVERSED
        | {"starts from zero": "it multiplies the present count, which never leaves 0; others start the first"},
        lacks_at={
            "takes back what it gave": _CIRCLES,
        },
        upstream={"target": 0.5, "stable_window_s": STABLE_WINDOW_S} | _RULES,
    ),
    "aibrix-kpa": ScalerKind(
        kpa,
        Knob(
            "target",
            (0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.015, 0.01, 0.007, 0.005),
            0.02,
            "load per wanted replica, as a share of a replica's sequences at l_SLO, counted by the mean of one replica",
        ),
        "AIBrix KPA variant: replicas by the mean load of one replica over the target",
        stabilisation="scale_down_cooldown_window_s",
        native_s=RESYNC_S,
        lacks=_REVERSED,
        lacks_at={
            "counts pending once": "from target = 0.35 on one replica's load hardly passes it; a queue does, many times"
        },
        upstream={
            "target": 0.02,
            "stable_window_s": STABLE_WINDOW_S,
            "panic_window_s": PANIC_WINDOW_S,
            "panic_threshold": DEFAULTS.panic_threshold,
        }
        | _RULES,
    ),
}

_SEARCH_RULES: dict[str, tuple[Any, ...]] = {
    "max_scale_up_rate": ("log", 1.1, 10.0),
    "max_scale_down_rate": ("log", 1.1, 10.0),
    "up_fluctuation_tolerance": ("float", 0.0, 0.3),
    "down_fluctuation_tolerance": ("float", 0.0, 0.3),
    "scale_up_cooldown_window_s": ("float", 0.0, 600.0),
    "scale_down_cooldown_window_s": ("float", 0.0, 1800.0),
}
SEARCH: dict[str, dict[str, tuple[Any, ...]]] = {
    "aibrix-apa": {"target": ("log", 0.05, 1.0), "stable_window_s": ("log", 10.0, 600.0)} | _SEARCH_RULES,
    "aibrix-kpa": {
        "target": ("log", 0.002, 0.5),
        "stable_window_s": ("log", 60.0, 600.0),
        "panic_window_s": ("log", 10.0, 60.0),
        "panic_threshold": ("float", 1.1, 5.0),
    }
    | _SEARCH_RULES,
}

UPSTREAM_DEFAULTS: dict[str, dict[str, Any]] = {
    "aibrix": {name: value for name, value in asdict(DEFAULTS).items() if not name.endswith("_replicas")}
    | {
        "up_tolerance": DEFAULTS.up_fluctuation_tolerance,
        "down_tolerance": DEFAULTS.down_fluctuation_tolerance,
        "scale_up_cooldown_s": DEFAULTS.scale_up_cooldown_window_s,
        "scale_down_cooldown_s": DEFAULTS.scale_down_cooldown_window_s,
        "stable_window_s": STABLE_WINDOW_S,
        "panic_window_s": PANIC_WINDOW_S,
        "granularity_s": GRANULARITY_S,
        "resync_s": RESYNC_S,
        "resync_interval_s": RESYNC_S,
    }
}
