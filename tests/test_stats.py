"""Statistics with known answers: what is resampled, what is paired, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments import stats


def test_interquartile_mean_drops_a_quarter_at_each_end():
    assert stats.iqm(np.arange(1.0, 9.0)) == pytest.approx(4.5)  # of 3, 4, 5, 6
    assert stats.iqm(np.array([100.0, 1.0, 2.0, 3.0, -50.0])) == pytest.approx(2.0)  # five seeds: the middle three
    assert stats.iqm(np.array([1.0, 2.0, 9.0])) == pytest.approx(4.0)  # three seeds: nothing to drop


def test_one_seed_that_never_reaches_does_not_decide_but_two_of_five_do():
    assert stats.iqm(np.array([1.0, 2.0, 3.0, 4.0, math.inf])) == pytest.approx(3.0)
    assert math.isinf(stats.iqm(np.array([1.0, 2.0, 3.0, math.inf, math.inf])))


def test_interquartile_mean_works_along_the_last_axis():
    assert stats.iqm(np.array([[1.0, 2.0, 3.0, 40.0], [0.0, 5.0, 7.0, 9.0]])) == pytest.approx([2.5, 6.0])


def test_fewer_than_five_blocks_give_no_interval():
    assert stats.resample(4) is None
    assert stats.resample(5) is not None


def test_a_resample_draws_as_many_blocks_as_there_are_and_is_the_same_every_time():
    first, again, other = stats.resample(7, 3, 500), stats.resample(7, 3, 500), stats.resample(7, 4, 500)
    assert first is not None and again is not None and other is not None
    assert np.all(first.weights.sum(axis=1) == 7)
    assert np.array_equal(first.weights, again.weights)
    assert not np.array_equal(first.weights, other.weights)
    assert np.array_equal(first.seeds(5), again.seeds(5))


def test_interval_of_a_mean_has_the_textbook_width_and_coverage():
    # 400 data sets of 20 blocks from N(10, 2), seed 1, 1000 resamples each. The percentile bootstrap of a mean covers
    # a little less than its nominal 95 % at n = 20 (about 93 %); 400 trials have a standard error of 1.3 points.
    rng = np.random.default_rng(1)
    draws = stats.resample(20, 0, 1000)
    assert draws is not None
    hits, widths = 0, []
    for _ in range(400):
        blocks = rng.normal(10.0, 2.0, 20)
        interval = stats.percentile_interval(draws.weights @ blocks / 20)
        hits += interval.low <= 10.0 <= interval.high
        widths.append(interval.high - interval.low)
    assert 0.89 <= hits / 400 <= 0.97
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 2.0 / math.sqrt(20), rel=0.08)


def test_paired_difference_is_exact_where_the_blocks_differ_more_than_the_scalers():
    # Blocks between 1 and 100 USD, the second scaler always 5 % dearer: the paired interval is a point.
    cost = np.linspace(1.0, 100.0, 12)
    draws = stats.resample(12)
    assert draws is not None
    a, b = draws.weights @ (1.05 * cost), draws.weights @ cost
    interval = stats.percentile_interval(stats.relative_difference(a, b))
    assert interval.low == pytest.approx(0.05) and interval.high == pytest.approx(0.05)
    apart = stats.percentile_interval(a)
    assert apart.high / apart.low > 1.5  # unpaired, the two could not be told apart


def test_never_reaching_is_infinitely_dear_and_two_that_never_reach_are_equal():
    cost, base = np.array([1.0, math.inf, 2.0, math.inf]), np.array([2.0, 2.0, math.inf, math.inf])
    assert stats.relative_difference(cost, base).tolist() == [-0.5, math.inf, -1.0, 0.0]


def test_an_interval_may_end_at_infinity_but_is_never_a_mixture():
    samples = np.concatenate([np.full(950, 3.0), np.full(50, math.inf)])
    assert stats.percentile_interval(samples) == stats.Interval(3.0, math.inf)
    tails = stats.percentile_interval(np.arange(1.0, 1001.0))
    assert (tails.low, tails.high) == (pytest.approx(25.0, abs=1.0), 975.0)


def test_training_seeds_are_resampled_too():
    # Two seeds that cost 1 and 3 on every block: without resampling seeds the interval would be the point 2.
    draws = stats.resample(6, 0, 4000)
    assert draws is not None
    means = np.array([1.0, 3.0])[draws.seeds(2)].mean(axis=1)
    assert stats.percentile_interval(means) == stats.Interval(1.0, 3.0)
    assert means.mean() == pytest.approx(2.0, abs=0.05)  # 4000 draws, standard error 0.011


def test_probability_of_improvement_counts_pairs_on_the_same_block_and_ties_half():
    assert stats.probability_of_improvement(np.array([[1.0, 5.0, 9.0]]), np.array([[2.0, 6.0, 10.0]])) == 1.0
    assert stats.probability_of_improvement(np.array([[1.0, 5.0]]), np.array([[1.0, 4.0]])) == 0.25
    two_seeds = np.array([[1.0, 1.0], [3.0, 3.0]])
    assert stats.probability_of_improvement(two_seeds, np.array([[2.0, 2.0]])) == 0.5
    never = np.array([[math.inf, math.inf]])
    assert stats.probability_of_improvement(never, never) == 0.5


def test_blocks_cut_a_load_by_time_and_a_short_rest_joins_the_block_before():
    assert stats.block_of(np.array([0.0, 1799.0, 1800.0, 2999.0]), 3000.0, 1800.0).tolist() == [0, 0, 1, 1]  # 20 min
    assert stats.block_of(np.array([0.0, 1800.0, 2399.0]), 2400.0, 1800.0).tolist() == [0, 0, 0]  # 10 min: no block
    assert stats.block_of(np.array([0.0, 3599.0]), 3600.0, 86_400.0).tolist() == [0, 0]
    days = stats.block_of(np.arange(0.0, 2 * 86_400.0, 21_600.0), 2 * 86_400.0, 21_600.0)
    assert days.tolist() == list(range(8))  # two days of ServeGen in six-hour blocks


def test_default_blocks_are_days_and_half_hours_of_recorded_hours():
    assert stats.default_block_s(3000.0, recorded=True) == 1800.0
    assert stats.default_block_s(3000.0, recorded=False) == 86_400.0
    assert stats.default_block_s(7 * 86_400.0, recorded=True) == 86_400.0
