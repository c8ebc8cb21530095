"""Out of distribution: a policy that sees what it was never trained on makes room for the fallback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlscale.deploy.shield_config import Distribution as Setting
from rlscale.deploy.shields.base import Context, Ruling, State
from rlscale.types import Floats, Observation, ScalingLimits

if TYPE_CHECKING:
    from rlscale.feature_statistics import FeatureStatistics
    from rlscale.features import FeatureExtractor

PASS = Ruling()


class Distribution:
    """Scores every observation against the training statistics that a policy brings, `policy.statistics`.

    Without them it stays out of the way and says so once. The policy's own `interval_s` and `multiplier` make the
    features those that its network sees.
    """

    counted = ("distribution_fallback",)

    def __init__(self, setting: Setting, policy: Any, limits: ScalingLimits) -> None:
        self.setting, self.limits = setting, limits
        self.statistics: FeatureStatistics | None = getattr(policy, "statistics", None)
        self._interval_s = float(getattr(policy, "interval_s", 0.0))
        self._multiplier = float(getattr(policy, "multiplier", 1.0))
        self.reset()

    def reset(self) -> None:
        """In range, no history."""
        self.score = 0.0
        self._said = self._handed_over = False
        self._outside = self._inside = 0
        self._features: FeatureExtractor | None = None

    def warm_up(self, history_per_s: Floats, history_step_s: float) -> None:
        """Load before the run, for the features that look back."""
        if self.statistics is not None:
            self._extractor().reset(slice(None), self._multiplier * history_per_s, history_step_s)

    def judge(self, seen: Observation, context: Context) -> Ruling:
        """The fallback, once observations have been out of range for a while and until they are back for longer."""
        if self.statistics is None:
            said, self._said = self._said, True
            return PASS if said else Ruling(reason="distribution: off, the scaler brings no statistics of its training")
        from rlscale.policy import times_demand

        features = self._extractor().push(times_demand(seen, self._multiplier))[0]
        if context.blind:  # features repeat the last good metrics then, which says nothing of now
            return self._ruling("waits for metrics")
        self.score = self.statistics.score(features)
        self._count()
        if not self._handed_over:
            return PASS
        far = ", ".join(self.statistics.farthest(features))
        return self._ruling(f"{self.score:.1f} of {self.setting.score:g}, farthest {far}")

    def _count(self) -> None:
        setting = self.setting
        self._outside = self._outside + 1 if self.score > setting.score else 0
        self._inside = self._inside + 1 if self.score <= setting.back_share * setting.score else 0
        if self._outside >= setting.after_decisions:
            self._handed_over = True
        elif self._inside > setting.back_decisions:
            self._handed_over = False

    def _ruling(self, words: str) -> Ruling:
        return Ruling("fallback", f"distribution: {words}") if self._handed_over else PASS

    def _extractor(self) -> FeatureExtractor:
        if self._features is None:
            from rlscale.features import FeatureExtractor

            self._features = FeatureExtractor(self.limits, self._interval_s)
        return self._features

    def state(self) -> State:
        """For JSON."""
        counters = {"handed_over": self._handed_over, "outside": self._outside, "inside": self._inside}
        features = None if self._features is None else self._features.state()
        return {**counters, "said": self._said, "features": features}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        self._handed_over, self._said = bool(state["handed_over"]), bool(state["said"])
        self._outside, self._inside = int(state["outside"]), int(state["inside"])
        if self.statistics is not None and state["features"] is not None:
            self._extractor().restore(state["features"])
