"""Behaviour of the Kubernetes HorizontalPodAutoscaler: what becomes of a proposal over time.

Two paths, as upstream: without a `behavior` section the legacy one (one window, and at most a doubling), with one
windows and rate policies of both directions. Lists of recommendations and events are changed in place, slot by slot.
After pkg/controller/podautoscaler/horizontal.go and pkg/apis/autoscaling/v2/defaults.go of kubernetes/kubernetes,
v1.33 and later (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from agents.hpa_calculator import MAX_INT32, Tolerance, whole

MIN_INT32 = -(2**31)
WITHIN, TOO_FEW, TOO_MANY = "DesiredWithinRange", "TooFewReplicas", "TooManyReplicas"
UP_LIMIT, DOWN_LIMIT = "ScaleUpLimit", "ScaleDownLimit"


@dataclass(frozen=True, slots=True)
class Policy:
    """In any `period_s` seconds, a change of at most `value` replicas, or percent of the replicas."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Rules:
    """One direction of `behavior`; None: not given.

    `select` says whether the policy with the largest or the smallest change rules, or that nothing may change.
    """

    policies: tuple[Policy, ...] | None = None
    select: Literal["Max", "Min", "Disabled"] | None = None
    window_s: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class Behavior:
    """The `behavior` section of an autoscaler."""

    up: Rules = Rules()
    down: Rules = Rules()


UP = Rules((Policy("Pods", 4, 15.0), Policy("Percent", 100, 15.0)), "Max", 0.0)
DOWN = Rules((Policy("Percent", 100, 15.0),), "Max", None)
DOWNSCALE_STABILIZATION_S = 300.0


def with_defaults(behavior: Behavior, downscale_stabilization_s: float = DOWNSCALE_STABILIZATION_S) -> Behavior:
    """Every field that was not given takes its default; policies that were given replace the default list."""
    return Behavior(_filled(behavior.up, UP, 0.0), _filled(behavior.down, DOWN, downscale_stabilization_s))


def _filled(given: Rules, default: Rules, window_s: float) -> Rules:
    return Rules(
        default.policies if given.policies is None else given.policies,
        given.select or default.select,
        window_s if given.window_s is None else given.window_s,
        given.tolerance,
    )


def tolerance_of(behavior: Behavior | None, tolerance: Tolerance) -> Tolerance:
    """The controller's tolerance, direction by direction replaced by the autoscaler's own."""
    if behavior is None:
        return tolerance
    down, up = behavior.down.tolerance, behavior.up.tolerance
    return Tolerance(tolerance.down if down is None else down, tolerance.up if up is None else up)


# Recommendations.
@dataclass(frozen=True, slots=True)
class Recommendation:
    """What was proposed, before stabilisation, and when, seconds."""

    replicas: int
    t_s: float


def legacy_stabilize(log: list[Recommendation], now_s: float, proposal: int, window_s: float) -> int:
    """The largest proposal not older than the window; the proposal is logged as it is, over the last expired slot."""
    highest, slot = proposal, -1
    for place, entry in enumerate(log):
        if now_s - entry.t_s > window_s:
            slot = place
        elif entry.replicas > highest:
            highest = entry.replicas
    _log(log, slot, Recommendation(proposal, now_s))
    return highest


def stabilize(log: list[Recommendation], now_s: float, current: int, proposal: int, up_s: float, down_s: float) -> int:
    """The current count moved between the smallest proposal younger than `up_s` and the largest younger than `down_s`.

    The proposal is logged as it is, over the last slot that is older than both windows.
    """
    up, down, slot = proposal, proposal, -1
    for place, entry in enumerate(log):
        age_s = now_s - entry.t_s
        if age_s < up_s and entry.replicas < up:
            up = entry.replicas
        if age_s < down_s and entry.replicas > down:
            down = entry.replicas
        if age_s > up_s and age_s > down_s:
            slot = place
    _log(log, slot, Recommendation(proposal, now_s))
    return min(max(current, up), down)


def _log(log: list[Recommendation], slot: int, entry: Recommendation) -> None:
    if slot >= 0:
        log[slot] = entry
    else:
        log.append(entry)


def legacy_normalize(current: int, desired: int, low: int, high: int) -> tuple[int, str]:
    """Within the bounds and at most the larger of 4 and twice the current count; with the reason."""
    limit = max(2 * current, 4)
    top, reason = (limit, UP_LIMIT) if high > limit else (high, TOO_MANY)
    if desired < low:
        return low, TOO_FEW
    if desired > top:
        return top, reason
    return desired, WITHIN


# Rate policies.
@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """How many replicas one scaling added, or took, and when. An outdated one gives its slot to the next."""

    change: int
    t_s: float
    outdated: bool = False


@dataclass(slots=True)
class Events:
    """Scale events by direction, in the order of their slots."""

    up: list[ScaleEvent]
    down: list[ScaleEvent]


def changed_within(events: Iterable[ScaleEvent], now_s: float, period_s: float) -> int:
    """Replicas changed by events younger than the period; one exactly that old no longer counts."""
    return sum(event.change for event in events if now_s - event.t_s < period_s)


def up_limit(rules: Rules, events: Events, now_s: float, current: int) -> int:
    """The count up to which the policies allow to grow; may be below the current one."""
    if rules.select == "Disabled":
        return current
    pick, limit = (min, MAX_INT32) if rules.select == "Min" else (max, MIN_INT32)
    for policy in rules.policies or ():
        start = _period_start(policy, events, now_s, current)
        share = 1 + policy.value / 100
        limit = pick(limit, start + policy.value if policy.kind == "Pods" else whole(start * share))
    return limit


def down_limit(rules: Rules, events: Events, now_s: float, current: int) -> int:
    """The count down to which the policies allow to shrink; may be above the current one."""
    if rules.select == "Disabled":
        return current
    # The largest change leaves the smallest count.
    pick, limit = (max, MIN_INT32) if rules.select == "Min" else (min, MAX_INT32)
    for policy in rules.policies or ():
        start = _period_start(policy, events, now_s, current)
        share = 1 - policy.value / 100
        limit = pick(limit, start - policy.value if policy.kind == "Pods" else math.trunc(start * share))
    return limit


def _period_start(policy: Policy, events: Events, now_s: float, current: int) -> int:
    if not events.up and not events.down:
        return current
    added = changed_within(events.up, now_s, policy.period_s)
    return current - added + changed_within(events.down, now_s, policy.period_s)


def rate_limited(
    behavior: Behavior, events: Events, now_s: float, current: int, desired: int, low: int, high: int
) -> tuple[int, str]:
    """Within what the policies of the direction and the bounds allow; with the reason. `behavior` has its defaults."""
    if desired > current:
        limit = max(current, up_limit(behavior.up, events, now_s, current))
        top, reason = (limit, UP_LIMIT) if high > limit else (high, TOO_MANY)
        if desired > top:
            return top, reason
    elif desired < current:
        limit = min(current, down_limit(behavior.down, events, now_s, current))
        floor, reason = (limit, DOWN_LIMIT) if low < limit else (low, TOO_FEW)
        if desired < floor:
            return floor, reason
    return desired, WITHIN


def store_event(behavior: Behavior | None, events: Events, now_s: float, before: int, after: int) -> None:
    """Remember a scaling, over the last outdated slot of its direction if there is one. Without `behavior`, nothing.

    Events older than the longest period of their direction become outdated first.
    """
    if behavior is None or before == after:
        return
    rules, side = (behavior.up, events.up) if after > before else (behavior.down, events.down)
    longest_s = max((policy.period_s for policy in rules.policies or ()), default=0.0)
    slot = -1
    for place, event in enumerate(side):
        if event.outdated or now_s - event.t_s > longest_s:
            side[place] = replace(event, outdated=True)
            slot = place
    newest = ScaleEvent(abs(after - before), now_s)
    if slot >= 0:
        side[slot] = newest
    else:
        side.append(newest)
