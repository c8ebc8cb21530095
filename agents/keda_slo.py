"""llm-d's latency law on KEDA: the worst P90 latency over its SLO says how many replicas there should be.

After guides/workload-autoscaling/README.slo-aware.md of llm-d/llm-d, d38c9f0c81e9 (Apache-2.0): recording rules make
one smoothed signal of the latencies, a formula over triggers turns it into a count, which the autoscaler takes as it is
(an average value with a target of 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.hpa_scaler import Settings, counts
from agents.keda import KedaSettings, Reading, ScaledPools
from agents.keda_executor import COOLDOWN_S, POLLING_S, any_active, composed
from rlscale.decide import Cadence, blind, called_from_zero, positive
from rlscale.errors import ScenarioError
from rlscale.types import Knob, Observation, ScalerKind, ScalingLimits

RECORDING_S = 15.0


@dataclass(frozen=True, slots=True)
class Band:
    """Latency over SLO between which nothing is done. Latency is flat before the knee and vertical behind it: the
    band sits below 1."""

    upper: float = 0.55
    lower: float = 0.40

    def desired(self, signal: float, replicas: int, ready: int) -> int:
        """Wanted replicas. Growth is credited with the replicas that start: those that serve bear their load too.

        Shrinking is not, or a fleet that is starting would look idle.
        """
        if signal > self.upper:
            credit = ready / replicas if 0 < ready < replicas else 1.0
            return replicas + math.ceil(replicas * (signal * credit / self.upper - 1.0))
        if signal < self.lower:
            return replicas - math.floor(replicas * (1.0 - signal / self.lower))
        return replicas


class Signal:
    """Mean over `window_s` of the latency over its SLO, every sample cut off at `clamp`.

    A sample at the knee may be many times its SLO and already says all it can at the clamp; uncut it would hold the
    mean up long after the recovery.
    """

    def __init__(self, clamp: float = 2.0, window_s: float = 45.0) -> None:
        self.clamp = positive("keda-slo: clamp", clamp)
        self.window_s = positive("keda-slo: window_s", window_s)
        self._samples: list[tuple[float, float]] = []  # (time, clamped), oldest first

    def record(self, now_s: float, latency_over_slo: float) -> None:
        """One evaluation of the recording rules."""
        while self._samples and self._samples[0][0] <= now_s - self.window_s:
            del self._samples[0]
        self._samples.append((now_s, min(latency_over_slo, self.clamp)))

    def mean(self, now_s: float) -> float:
        """The smoothed signal, or NaN when nothing was recorded in the window."""
        recent = [value for t_s, value in self._samples if t_s > now_s - self.window_s]
        return sum(recent) / len(recent) if recent else math.nan

    def state(self) -> dict[str, Any]:
        """The samples, plain."""
        return {"samples": [list(sample) for sample in self._samples]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._samples = [(t_s, value) for t_s, value in state["samples"]]


def worst_of(seen: Observation, ttft_s: float, tpot_s: float) -> tuple[float, str]:
    """The larger of TTFT and TPOT over their SLOs, by P90 where it is known and by the mean elsewhere, and in words.

    No traffic is 0; traffic without any latency is NaN.
    """
    worst, words = math.nan, "no latency"
    rows = (("TTFT", seen.ttft_p90_s, seen.ttft_s, ttft_s), ("TPOT", seen.tpot_p90_s, seen.tpot_s, tpot_s))
    for name, p90_s, mean_s, slo_s in rows:
        latency_s, kind = (p90_s, "P90") if math.isfinite(p90_s) else (mean_s, "mean")
        if math.isfinite(latency_s) and not latency_s / slo_s <= worst:
            worst, words = float(latency_s / slo_s), f"{kind} {name}"
    if math.isnan(worst) and not (seen.arrival_per_s > 0 or seen.waiting > 0 or seen.running > 0):
        return 0.0, "no traffic"
    return worst, words


class KedaSlo(ScaledPools):
    """Replicas by latency over SLO, within a band below which the fleet shrinks and above which it grows.

    `upper` is the band's upper end, `lower` None keeps the proportion of upstream's band. The SLO of TTFT is that of a
    short prompt. Defaults of the autoscaler are those of the guide: fast up, one replica per two minutes down. Where
    nothing serves there is no latency: from zero, requests activate, as a queue trigger does upstream.
    """

    def __init__(
        self,
        limits: ScalingLimits,
        upper: float = 0.55,
        lower: float | None = None,
        clamp: float = 2.0,
        smoothing_s: float = 45.0,
        polling_s: float = POLLING_S,
        cooldown_s: float = COOLDOWN_S,
        **hpa: Any,
    ) -> None:
        positive("keda-slo: upper", upper)
        below = upper * (Band().lower / Band().upper) if lower is None else lower
        if not 0 < below <= upper < clamp:
            raise ScenarioError(
                f"keda-slo: lower = {below}, upper = {upper}, clamp = {clamp}; expected 0 < lower <= upper < clamp"
            )
        self.band = Band(upper, below)
        self._signal_of = clamp, smoothing_s
        super().__init__(limits, KedaSettings(polling_s, cooldown_s), Settings(**(GUIDE | hpa)))

    def reset(self) -> None:
        """New objects, new controllers, no recorded signal."""
        super().reset()
        self.signal = Signal(*self._signal_of)
        self._rule = Cadence(RECORDING_S)

    def _read(self, seen: Observation) -> tuple[Sequence[Reading], str]:
        why = blind(seen, arrival_per_s=seen.arrival_per_s, waiting=seen.waiting, running=seen.running)
        if why:
            return [Reading(None, 1.0, False, why)] * len(self.pools), why
        now_s = float(seen.t_s)
        worst, source = worst_of(seen, self.limits.slo.ttft_s, self.limits.slo.tpot_s)
        if self._rule.due(now_s) and not math.isnan(worst):
            self.signal.record(now_s, worst)
        smoothed = self.signal.mean(now_s)
        called = called_from_zero(seen)
        if math.isnan(smoothed):
            why = "requests, but no latency yet"
            return [Reading(None, 1.0, called, why)] * len(self.pools), why
        fleet = zip(counts(seen.target), counts(seen.ready), strict=True)
        wanted = [composed(self.band.desired, smoothed, replicas, ready) for replicas, ready in fleet]
        readings = [Reading(count, 1.0, called or any_active([(count or 0.0, 0.0)])) for count in wanted]
        return readings, f"{smoothed:.2f} of the SLO by {source}, {self.band.lower:.2f} to {self.band.upper:.2f} wanted"


GUIDE: dict[str, Any] = {
    "behavior": "given",
    "window_up_s": 30.0,
    "window_down_s": 180.0,
    "up_pods": 4,
    "up_percent": 100,
    "up_period_s": 60.0,
    "down_pods": 1,
    "down_percent": 0,
    "down_period_s": 120.0,
}
UPPERS = (1.5, 1.1, 0.7, 0.62, 0.55, 0.48, 0.4, 0.33, 0.27, 0.22, 0.18)

SEARCH: dict[str, dict[str, tuple[Any, ...]]] = {
    "keda-slo": {
        "upper": ("log", 0.1, 1.5),
        "smoothing_s": ("float", 15.0, 180.0),
        "window_up_s": ("float", 0.0, 300.0),
        "window_down_s": ("float", 0.0, 1800.0),
        "up_pods": ("int", 1, 16),
        "up_percent": ("int", 10, 400),
        "up_period_s": ("float", 15.0, 300.0),
        "down_pods": ("int", 1, 16),
        "down_period_s": ("float", 15.0, 600.0),
        "tolerance": ("float", 0.0, 0.3),
    }
}
SCALERS = {
    "keda-slo": ScalerKind(
        KedaSlo,
        Knob("upper", UPPERS, 0.55, "P90 latency over its SLO above which replicas are added"),
        "llm-d's law on KEDA: replicas by the worst of P90 TTFT and P90 TPOT over their SLOs",
        stabilisation="window_down_s",
        native_s=RECORDING_S,
        lacks_at={
            "counts pending once": "upper = 0.22 is near an idle replica's latency: what starts is multiplied as well"
        },
        lacks={"bears one missing metric": "takes the worst of the latencies there are, as a maximum in PromQL does"},
        upstream={"upper": 0.55, "lower": 0.40, "clamp": 2.0, "smoothing_s": 45.0},
    )
}
