"""What a live configuration may say about shields, field by field with units. Knows no shield."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlscale.strict import Strict


class Breaker(Strict):
    """When the scaler is no longer asked: it raised, answered what cannot be read, or was late."""

    on: bool = True
    deadline_s: float | None = Field(5.0, gt=0, le=600, description="seconds for one decision; null: no limit, and "
                                     "no thread of its own")  # fmt: skip
    failures: int = Field(3, ge=1, description="so many within window_s open the breaker")
    window_s: float = Field(300.0, gt=0, description="seconds")
    cool_off_s: float = Field(120.0, gt=0, description="seconds until it is asked once more")


class Metrics(Strict):
    """What happens while metrics are missing or old."""

    on: bool = True
    stale_s: float = Field(60.0, gt=0, description="seconds; older ones are not decided upon, and never those of the "
                           "last three control intervals")  # fmt: skip
    needed: tuple[Literal["arrival_per_s", "waiting", "running", "compute_occupancy"], ...] = Field(
        ("arrival_per_s", "waiting"), strict=False, description="metrics without which there is no decision"
    )
    hold_s: float = Field(120.0, ge=0, description="seconds for which the target is held before the fallback decides")
    fresh_decisions: int = Field(4, ge=1, description="decisions with metrics in a row before the scaler is back")
    scale_in_blind: bool = Field(False, description="whether a fallback may take replicas away without metrics")


class Silence(Strict):
    """When metrics that all at once tell of no requests are doubted. Left out where `limits.scale_to_zero` is set."""

    on: bool = True
    window_s: float = Field(300.0, gt=0, description="seconds of arrivals before it that they are compared with")
    share: float = Field(0.02, gt=0, lt=1, description="of those arrivals, below which it is silence")
    least_requests: float = Field(
        30.0, gt=0, description="expected in a control interval; with fewer, none may be chance"
    )
    doubt_s: float = Field(1800.0, gt=0, description="seconds for which the target is held")


class Distribution(Strict):
    """When an observation is too far from what a policy was trained on."""

    on: bool = True
    score: float = Field(3.0, gt=0, description="out of range above it; 1 is as far as training days go themselves")
    after_decisions: int = Field(8, ge=1, description="decisions in a row above the score before the fallback decides")
    back_share: float = Field(0.5, gt=0, le=1, description="of the score, below which an observation is in range again")
    back_decisions: int = Field(20, ge=1, description="decisions in a row in range before the policy is back")


class Queueing(Strict):
    """Floor and ceiling around the present load, by what replicas carry within the SLO."""

    on: bool = True
    floor_share: float = Field(1.0, ge=0, le=1, description="of the arrival rate, that targets carry at least")
    quicker: float = Field(
        4.0, ge=1, description="times as fast as at l_SLO, that replicas may serve which are hardly busy"
    )
    floor_window_s: float = Field(60.0, gt=0, description="seconds over which that rate is averaged")
    ceiling_factor: float = Field(3.0, ge=1, description="of the largest recent demand, beyond which nothing is added")
    ceiling_window_s: float = Field(3600.0, gt=0, description="seconds that count as recent")
    ceiling_slack: int = Field(2, ge=0, description="replicas on top of the ceiling")


class Flap(Strict):
    """How often the direction of a pool's target may turn."""

    on: bool = True
    window_s: float = Field(600.0, gt=0, description="seconds")
    reversals: int = Field(10, ge=1, description="turns within the window before the target is held")
    swing_replicas: int = Field(2, ge=1, description="a turn is a change back by so many replicas at least")
    swing_share: float = Field(0.2, ge=0, lt=1, description="and by this share of the count")


class Tolerance(Strict):
    """What becomes of changes that the actuator would ignore."""

    on: bool = True
    share: float | None = Field(None, ge=0, lt=1, description="of the current count; null: what the backend says")
    out: Literal["enlarge", "mark"] = Field("enlarge", description="a scale-out that is too small")
    back: Literal["enlarge", "mark"] = Field("mark", description="a scale-in that is too small; enlarged it takes "
                                             "more than was asked")  # fmt: skip


class Limits(Strict):
    """Minimum, maximum, steps, and what it takes to scale to zero."""

    on: bool = True
    max_step_up: int | None = Field(None, ge=1, description="replicas that one decision may add to a pool")
    max_step_down: int | None = Field(None, ge=1, description="replicas that one decision may take from a pool")
    max_share_down: float = Field(0.5, gt=0, le=1, description="of the capacity, that one decision may take away")
    scale_to_zero: bool = Field(False, description="whether no replica at all is ever wanted")
    idle_s: float = Field(600.0, ge=0, description="seconds without traffic, by fresh metrics, before that")


class ShieldsConfig(Strict):
    """All shields, each on unless switched off."""

    breaker: Breaker = Breaker()
    metrics: Metrics = Metrics()
    silence: Silence = Silence()
    distribution: Distribution = Distribution()
    queueing: Queueing = Queueing()
    flap: Flap = Flap()
    tolerance: Tolerance = Tolerance()
    limits: Limits = Limits()
