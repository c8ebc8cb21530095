"""The actuator's tolerance: a change too small for it gets through enlarged, or is named as lost.

Kubernetes' HPA does nothing while |1 - wanted/current| <= 0.1, so KEDA loses 20 -> 21 and 22 -> 20 without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlscale.deploy.shield_config import Tolerance as Setting
from rlscale.deploy.shields.base import Context, State, Target, Verdict
from rlscale.types import Observation


class Tolerance:
    """Enlarges scale-outs and marks scale-ins, unless the setting says otherwise."""

    counted = ("tolerance_enlarged", "tolerance_marked")

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def reset(self) -> None:
        """Nothing is remembered."""

    def apply(self, seen: Observation, wanted: Target, context: Context) -> Verdict:
        """Every change large enough for the actuator, or marked."""
        share = context.tolerance
        target, reasons, counted = list(wanted), [], []
        for pool, (want, now) in enumerate(zip(wanted, context.current, strict=True)):
            if want == now or not ignored(want, now, share):
                continue
            how = self.setting.out if want > now else self.setting.back
            least = max(1, int(context.limits.min_replicas[pool]))
            through = enlarged(want, now, share) if how == "enlarge" else want
            if how == "enlarge" and least <= through <= int(context.limits.max_replicas[pool]):
                target[pool] = through
                reasons.append(f"pool {pool}: {now} to {want} is within {share:.0%}, {through} asked")
                counted.append("tolerance_enlarged")
            else:
                reasons.append(f"pool {pool}: {now} to {want} is within {share:.0%}, the actuator ignores it")
                counted.append("tolerance_marked")
        words = "tolerance: " + "; ".join(reasons) if reasons else ""
        return Verdict(tuple(target), words, tuple(dict.fromkeys(counted)))

    def state(self) -> State:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


def ignored(want: int, now: int, share: float) -> bool:
    """Whether the actuator leaves the fleet as it is; from zero every change gets through."""
    return now > 0 and share > 0.0 and abs(1.0 - want / now) <= share


def enlarged(want: int, now: int, share: float) -> int:
    """The nearest count beyond `want` that gets through."""
    step = 1 if want > now else -1
    while want > 0 and ignored(want, now, share):
        want += step
    return want
