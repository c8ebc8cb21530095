"""Feedback: what an interval cost, what it missed, and the reward of both. Knows no scaler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlscale.types import RewardWeights


@dataclass(frozen=True, slots=True)
class Scale:
    """What a scenario's reward is measured against, so that one weight fits all scenarios."""

    usd_per_interval: float  # of the cheapest constant fleet that reaches the target attainment on training loads
    requests_per_interval: float  # mean of the training loads


@dataclass(frozen=True, slots=True)
class Reward:
    """The raw terms, all of them costs, and their negative weighted sum."""

    cost: Any  # cost of the interval / reference cost per interval
    missed: Any  # missed requests / mean requests per interval
    churn: Any  # sum of |change of the bounded target|
    total: Any


def charged_usd(cost_usd: Any, carbon_g: Any, late_tokens: Any, carbon_price: float, late_price: float) -> Any:
    """The bill, and what no bill shows: carbon (USD per kg), and late deferrable work (USD per million tokens)."""
    return cost_usd + carbon_price * carbon_g / 1e3 + late_price * late_tokens / 1e6


def reward(cost_usd: Any, missed: Any, churn: Any, scale: Scale, weights: RewardWeights) -> Reward:
    """r = -cost/reference - lambda * missed/mean requests - mu * churn.

    Misses are counted against the scenario's mean, not the interval's: a miss at noon and at night weigh the same.
    """
    cost, share, total = weighed(
        cost_usd, missed, churn, scale.usd_per_interval, scale.requests_per_interval, weights.missed, weights.churn
    )
    return Reward(cost, share, churn, total)


def weighed(
    cost_usd: Any, missed: Any, churn: Any, usd: float, requests: float, missed_weight: float, churn_weight: float
) -> tuple[Any, Any, Any]:
    """The formula of `reward` in plain numbers, which kernels compile: relative cost, share of misses, reward."""
    cost = cost_usd / usd
    share = missed / requests
    return cost, share, -(cost + missed_weight * share + churn_weight * churn)
