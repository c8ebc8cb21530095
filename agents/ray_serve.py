"""Ray Serve's replica autoscaler on running + queued requests, one deployment per pool.

Upstream's controller is in agents/ray_serve_policy.py, its metric in agents/ray_serve_metrics.py; this feeds them from
observations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.ray_serve_metrics import RequestMetrics
from agents.ray_serve_policy import LOOP_S, AutoscalingConfig, DeploymentAutoscaler, LegacyAutoscaler
from agents.threshold import OCCUPANCIES
from rlscale.decide import Cadence, blind, hold, positive
from rlscale.types import Decision, Knob, Observation, ScalerKind, ScalingLimits

_UPSTREAM = AutoscalingConfig()
# A replica of upstream's defaults takes 5 requests at a time and is to have 2 of them.
UPSTREAM_SHARE = _UPSTREAM.target_ongoing_requests / 5

UPSTREAM_DEFAULTS: dict[str, dict[str, Any]] = {
    "ray-serve replicas": {
        name: getattr(_UPSTREAM, name)
        for name in ("min_replicas", "max_replicas", "initial_replicas", "target_ongoing_requests")
    },
    "ray-serve timing": {
        name: getattr(_UPSTREAM, name)
        for name in (
            "upscale_delay_s",
            "downscale_delay_s",
            "downscale_to_zero_delay_s",
            "look_back_period_s",
            "metrics_interval_s",
        )
    },
}


class RayServe:
    """`target_ongoing_share` is the wanted running + queued requests per replica over its sequences at l_SLO; a number
    of requests, as upstream has it, can be given with `target_ongoing_requests` instead.

    The running requests of all replicas are one reporter, the queue is another (upstream has one per replica and one
    per handle; only their total enters). A scrape is a push at the time it was taken. The metric is the service's:
    every pool has its share of it by the sequences of its running replicas, and a pool with nothing running is called
    up by any request. The loop turns at every call, delays are by the clock; `legacy` is the release that counts
    turns, of which a call is one. Asked without usable metrics it holds, where upstream would take dropped reporters
    for no requests.
    """

    def __init__(
        self,
        limits: ScalingLimits,
        target_ongoing_share: float = 0.5,
        target_ongoing_requests: float | None = None,
        upscale_delay_s: float = _UPSTREAM.upscale_delay_s,
        downscale_delay_s: float = _UPSTREAM.downscale_delay_s,
        downscale_to_zero_delay_s: float | None = None,
        upscaling_factor: float = 1.0,
        downscaling_factor: float = 1.0,
        look_back_period_s: float = _UPSTREAM.look_back_period_s,
        metrics_interval_s: float = _UPSTREAM.metrics_interval_s,
        aggregation_function: str = "mean",
        gang_size: int = 1,
        target_capacity: float | None = None,
        legacy: bool = False,
    ) -> None:
        share = positive("ray-serve: target_ongoing_share", target_ongoing_share)
        self._seats = [float(seats) for seats in limits.seats]
        targets = [share * seats for seats in self._seats]
        if target_ongoing_requests is not None:
            targets = [target_ongoing_requests for _ in self._seats]
        kind = LegacyAutoscaler if legacy else DeploymentAutoscaler
        self._pools = [
            kind(
                AutoscalingConfig(
                    min_replicas=int(limits.min_replicas[pool]),
                    max_replicas=int(limits.max_replicas[pool]),
                    target_ongoing_requests=max(target, 1e-9),  # a pool that carries nothing within the SLO
                    upscale_delay_s=upscale_delay_s,
                    downscale_delay_s=downscale_delay_s,
                    downscale_to_zero_delay_s=downscale_to_zero_delay_s,
                    upscaling_factor=positive("ray-serve: upscaling_factor", upscaling_factor),
                    downscaling_factor=positive("ray-serve: downscaling_factor", downscaling_factor),
                    gang_size=gang_size,
                    target_capacity=target_capacity,
                )
            )
            for pool, target in enumerate(targets)
        ]
        # A scrape interval beyond the push interval is no silence: staleness is judged by `blind`.
        self._metrics = RequestMetrics(look_back_period_s, metrics_interval_s, aggregation_function)
        self._beat = Cadence(LOOP_S)

    def reset(self) -> None:
        """A controller restart."""
        self._metrics.reset()
        self._beat.reset()
        for pool in self._pools:
            pool.reset()

    def state(self) -> dict[str, Any]:
        """What a restarted controller would not know, as plain values."""
        return {"metrics": self._metrics.state(), "pools": [pool.state() for pool in self._pools]}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self._metrics.restore(state["metrics"])
        for pool, saved in zip(self._pools, state["pools"], strict=True):
            pool.restore(saved)

    def decide(self, seen: Observation) -> Decision:
        """One turn of the loop."""
        t_s = float(seen.t_s)
        if not self._beat.due(t_s):
            return hold(seen, "between turns of the loop")
        why = blind(seen, running=seen.running, waiting=seen.waiting)
        if why:
            return hold(seen, why)
        at_s = t_s - float(seen.age_s)
        self._metrics.record("replicas", at_s, float(seen.running))
        self._metrics.record("handles", at_s, float(seen.waiting))
        total = self._metrics.total(t_s)
        ready, current = np.asarray(seen.ready).tolist(), np.asarray(seen.target).tolist()
        serving = sum(count * seats for count, seats in zip(ready, self._seats, strict=True))
        target = tuple(
            pool.decide(
                int(running), int(now), total * running * seats / serving if running * seats > 0 else total, t_s
            )
            for pool, running, now, seats in zip(self._pools, ready, current, self._seats, strict=True)
        )
        per_seat = f"{total / serving:.2f} of the sequences at l_SLO" if serving > 0 else "nothing running"
        return Decision(target, f"{total:.4g} ongoing requests, {per_seat}")


_KNOB = Knob(
    "target_ongoing_share",
    OCCUPANCIES,
    0.5,
    "running + queued requests per replica, as a share of its sequences at l_SLO",
)

SCALERS = {
    "ray-serve": ScalerKind(
        RayServe,
        _KNOB,
        "Ray Serve's autoscaler on running + queued requests per running replica",
        native_s=1.0,  # upstream's loop takes 0.1 s, below a sub-step of the simulator
        upstream={
            "target_ongoing_share": UPSTREAM_SHARE,
            "upscale_delay_s": _UPSTREAM.upscale_delay_s,
            "downscale_delay_s": _UPSTREAM.downscale_delay_s,
            "look_back_period_s": _UPSTREAM.look_back_period_s,
        },
    )
}

SEARCH: dict[str, dict[str, tuple[Any, ...]]] = {
    "ray-serve": {
        "target_ongoing_share": ("log", 0.05, 2.0),
        "upscale_delay_s": ("float", 0.0, 120.0),
        "downscale_delay_s": ("float", 0.0, 1800.0),
        "upscaling_factor": ("log", 0.2, 3.0),
        "downscaling_factor": ("log", 0.05, 2.0),
        "look_back_period_s": ("float", 10.0, 300.0),
        "aggregation_function": ("choice", "mean", "max", "min"),
    }
}
