"""What a comparison claims, on arrays where the answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from experiments import analysis, stats
from experiments.analysis import Sweep
from rlscale.types import Floats

REQUESTS = 100_000.0
MISSED = (0.1, 0.01, 0.001)  # shares at three knob values: levels 1, 2 and 3


def sweep(
    label: str, usd_per_h: tuple[float, ...], learned: bool = False, seeds: tuple[float, ...] = (1.0,), blocks: int = 8,
    missed: tuple[float, ...] = MISSED, day: Floats | None = None,
) -> Sweep:  # fmt: skip
    """Every block has its own size `day`; seeds multiply the cost."""
    size = np.linspace(0.5, 1.5, blocks) if day is None else day
    cost = np.array(seeds)[:, None, None] * np.array(usd_per_h)[:, None] * 24.0 * size
    requests = np.broadcast_to(REQUESTS * size, cost.shape)
    knob = np.arange(1.0, len(usd_per_h) + 1) / 10.0
    complete = np.ones(cost.shape[:2], bool)
    bad = requests * np.array(missed)[:, None]
    return Sweep(label, learned, knob, cost, requests, bad, np.full(blocks, 24.0), complete)


def entries(*sweeps: Sweep, target: float = 0.99, blocks: int = 8) -> dict[str, dict[str, Any]]:
    found = analysis.headline({s.label: s for s in sweeps}, {}, target, stats.resample(blocks, 0, 500))
    return {entry["scaler"]: entry for entry in found}


def test_cost_at_equal_attainment_and_paired_difference():
    found = entries(sweep("a", (10, 20, 30)), sweep("b", (11, 22, 33)))
    assert found["a"]["usd_per_h"] == pytest.approx(20.0) and found["a"]["best_rule"]
    assert found["b"]["versus_best"]["difference"] == pytest.approx(0.1)
    # Both scale with the day: whatever blocks are drawn, b costs 10 % more, while the cost itself varies.
    assert found["b"]["versus_best"]["interval"] == {"low": pytest.approx(0.1), "high": pytest.approx(0.1)}
    assert found["a"]["interval"]["high"] - found["a"]["interval"]["low"] > 2.0
    assert found["b"]["probability"] == 0.0 and found["a"]["probability"] is None


def test_between_knob_values_the_cost_follows_the_level():
    found = entries(sweep("a", (10, 20, 30)), target=1.0 - 10.0**-2.5)
    assert found["a"]["usd_per_h"] == pytest.approx(25.0)


def test_who_never_gets_there_or_is_always_above_is_labelled_and_ranked_last():
    low = sweep("low", (1, 2, 3), missed=(0.5, 0.3, 0.2))
    high = sweep("high", (5, 6, 7), missed=(1e-3, 5e-4, 2e-4))
    found = analysis.headline({s.label: s for s in (low, high, sweep("a", (10, 20, 30)))}, {}, 0.99, None)
    assert [(e["scaler"], e["status"]) for e in found] == [("a", "reached"), ("high", "above"), ("low", "never")]
    assert found[0]["best_rule"] and math.isinf(found[2]["usd_per_h"])
    text = analysis.verdict(found, 0.99)
    assert "a is cheapest: 20.00 USD/h" in text and "high costs less still (5.00 USD/h)" in text


def test_when_nobody_gets_there_the_closest_is_named():
    low = [sweep("a", (1, 2, 3), missed=(0.5, 0.3, 0.2)), sweep("b", (2, 4, 5), missed=(0.5, 0.1, 0.1))]
    text = analysis.verdict(analysis.headline({s.label: s for s in low}, {}, 0.99, None), 0.99)
    assert "a, b never reach it. Closest is b with 90.0\u00a0% at 4.00 USD/h" in text


def test_a_learned_policy_is_one_row_by_the_interquartile_mean_of_its_seeds():
    seeds = (0.9, 1.0, 1.0, 1.1, 5.0)  # one failed seed
    found = entries(sweep("rule", (10, 20, 30)), sweep("ppo", (10, 20, 30), learned=True, seeds=seeds))
    assert found["ppo"]["usd_per_h"] == pytest.approx(20.0 * (1.0 + 1.0 + 1.1) / 3)
    assert len(found["ppo"]["members"]) == 5
    interval = found["ppo"]["versus_best"]["interval"]
    assert interval["low"] < 0.0 < interval["high"] and interval["high"] > 1.0  # the seeds are resampled too


def test_a_loss_is_called_a_loss_a_win_a_win_and_a_draw_neither():
    def told(factor: float, seeds: tuple[float, ...] = (1.0, 1.0, 1.0)) -> str:
        scaled = tuple(factor * usd for usd in (10, 20, 30))
        both = {s.label: s for s in (sweep("rule", (10, 20, 30)), sweep("ppo", scaled, True, seeds))}
        return analysis.verdict(analysis.headline(both, {}, 0.99, stats.resample(8, 0, 500)), 0.99)

    assert "ppo loses: it costs 5.0\u00a0% more than the best rule, rule" in told(1.05)
    assert "ppo wins: it costs 5.0\u00a0% less than the best rule, rule" in told(0.95)
    assert "cannot be told apart" in told(1.0, (0.8, 1.0, 1.2))
    assert "3 training seeds: an early comparison" in told(1.05)


def test_without_enough_blocks_there_is_no_interval_and_the_verdict_says_so():
    both = {s.label: s for s in (sweep("rule", (10, 20, 30), blocks=2), sweep("ppo", (9, 18, 27), True, blocks=2))}
    found = analysis.headline(both, {}, 0.99, stats.resample(2))
    assert all(entry["interval"] is None for entry in found)
    assert "no interval over loads, so this is one observation" in analysis.verdict(found, 0.99)


def test_a_failed_cell_takes_its_knob_value_off_the_front():
    whole = sweep("a", (10, 20, 30))
    grid = [[[{"hours": [24.0], "cost_usd": [240.0 * k], "requests": [1e5], "missed": [1e5 * m]} for _ in range(3)]
             for k, m in zip((1, 2, 3), MISSED)]]  # fmt: skip
    grid[0][1][2] = None  # type: ignore[call-overload]
    broken = analysis.gather("a", False, grid, (0.1, 0.2, 0.3), recorded=False)
    assert broken is not None and broken.complete.tolist() == [[True, False, True]]
    cost, _ = broken.points()
    assert np.isinf(cost[0, 1]) and entries(whole)["a"]["usd_per_h"] == pytest.approx(20.0)
    assert len(analysis.front_points(broken)) == 2
    none = analysis.gather("a", False, [[[None]]], (None,), recorded=False)
    assert none is None


def test_seeds_of_a_recorded_load_are_luck_and_no_blocks_of_their_own():
    def blocks(missed: float) -> dict[str, list[float]]:
        return {"hours": [0.5, 0.5], "cost_usd": [10.0, 12.0], "requests": [1000.0, 900.0], "missed": [missed, 0.0]}

    grid = [[[blocks(10.0), blocks(20.0), blocks(30.0)]]]
    recorded = analysis.gather("a", False, grid, (None,), recorded=True)
    generated = analysis.gather("a", False, grid, (None,), recorded=False)
    assert recorded is not None and generated is not None
    assert recorded.missed.shape == (1, 1, 2) and recorded.missed[0, 0].tolist() == [60.0, 0.0]
    assert generated.missed.shape == (1, 1, 6)
    assert recorded.points()[0] == generated.points()[0] == pytest.approx(22.0)  # USD/h either way


def test_the_frozen_knob_is_read_off_training_loads_and_judged_as_it_is():
    train = sweep("a", (10, 20, 30))
    (frozen,) = analysis.frozen_knobs(train, 1.0 - 10.0**-1.5)
    assert frozen.knob == pytest.approx(0.15)
    exam = sweep("a", (17.0,), missed=(0.03,))
    (entry,) = analysis.headline({"a": train}, {"a": exam}, 0.99, stats.resample(8, 0, 200))
    assert entry["frozen"]["usd_per_h"] == pytest.approx(17.0)
    assert entry["frozen"]["attainment"] == pytest.approx(0.97)
    ends = entry["frozen"]["attainment_interval"]
    assert ends["low"] == pytest.approx(0.97) and ends["high"] == pytest.approx(0.97)


def test_attainments_that_rest_on_few_misses_are_flagged():
    few, many = sweep("a", (10, 20, 30), day=np.full(8, 0.01)), sweep("a", (10, 20, 30))
    assert entries(few, target=0.999)["a"]["few_misses"]  # 8 000 requests, 8 misses
    assert not entries(many, target=0.999)["a"]["few_misses"]


def test_hypervolume_prefers_the_cheaper_front():
    volumes = analysis.hypervolumes({s.label: s for s in (sweep("a", (10, 20, 30)), sweep("b", (20, 30, 40)))})
    # The box ends at 40 USD/h; level 1 is its floor and adds nothing.
    assert volumes["a"] == pytest.approx((20 * 1 + 10 * 1) / (40 * 3))
    assert volumes["b"] == pytest.approx((10 * 1 + 0 * 1) / (40 * 3))
