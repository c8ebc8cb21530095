"""Histograms of the Vertical Pod Autoscaler, and the recommender in the manner of Autopilot on them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from agents.autopilot import Autopilot, Recommender
from agents.histogram import Decaying, Exponential, Histogram, Linear, confidence, recommend
from rlscale.checks import ToyFleet, drive, limits_of, totals
from rlscale.errors import ScenarioError


def test_a_percentile_is_the_end_of_its_bucket_but_the_start_of_the_last():
    histogram = Histogram(Linear(10, 1))
    for value in (1, 2, 3, 4):
        histogram.add(value, value)
    assert [histogram.percentile(share) for share in (-1, 0.05, 0.1, 0.3, 0.6, 0.61, 1.0, 2.0)] == [
        2, 2, 2, 3, 4, 5, 5, 5,
    ]  # fmt: skip
    histogram.add(99.0, 100.0)
    assert histogram.percentile(0.9) == 10


def test_empty_is_zero_and_dust_is_empty():
    histogram = Histogram(Linear(10, 1))
    assert histogram.percentile(0.9) == 0
    histogram.add(5, 1e-5)
    assert histogram.percentile(0.9) == 0


def test_exponential_buckets_grow_by_the_ratio():
    buckets = Exponential(500, 40, 1.5)
    assert [buckets.find(value) for value in (-1, 0, 39.99, 40, 99.9, 100, 1e9, math.inf)] == [0, 0, 0, 1, 1, 2, 5, 5]
    sizes = np.diff([buckets.start(bucket) for bucket in range(buckets.count)])
    assert sizes[1:] / sizes[:-1] == pytest.approx(1.5)


def test_a_half_life_halves_and_old_samples_are_welcome():
    histogram = Decaying(Linear(10, 1), 3600.0)
    histogram.add(2, 0.0, 2.0)
    histogram.add(1, 3600.0, 1.0)  # both count alike now
    assert histogram.percentile(0.5) == 2
    assert histogram.percentile(0.51) == 3
    histogram.add(2, 0.0, 0.1)  # late
    assert histogram.percentile(0.5) == 3


def test_weights_stay_finite_over_years_and_a_shift_changes_no_percentile():
    near, far = (Decaying(Linear(10, 1), 3600.0) for _ in range(2))
    start_s = 3600.0 * 24 * 365 * 3
    rng = np.random.default_rng(3)
    for k, value in enumerate(rng.uniform(0, 9, 400)):
        near.add(value, 3600.0 * k)
        far.add(value, start_s + 3600.0 * k)
    for share in (0.1, 0.5, 0.9, 0.99):
        assert near.percentile(share) == far.percentile(share)
    assert all(weight < 1e32 for weight in far.state()["weights"].values())
    restored = Decaying(Linear(10, 1), 3600.0)
    restored.restore(json.loads(json.dumps(far.state())))
    assert restored.state() == far.state()


def test_bounds_are_wider_the_less_is_known():
    histogram = Histogram(Linear(10, 1))
    histogram.add(3)
    assert recommend(histogram, 0.0).upper == math.inf
    short, long = recommend(histogram, confidence(100, 6000.0)), recommend(histogram, confidence(14400, 864_000.0))
    assert short.target == long.target == pytest.approx(4 * 1.15)
    assert short.lower < long.lower < long.target < long.upper < short.upper
    assert long.upper == pytest.approx(4 * 1.15 * 1.1)
    assert confidence(1440, 864_000.0) == 1.0


def test_impossible_samples_and_buckets_are_refused():
    with pytest.raises(ScenarioError):
        Histogram(Linear(10, 1)).add(math.nan)
    with pytest.raises(ScenarioError):
        Linear(10, 0)
    with pytest.raises(ScenarioError):
        Exponential(10, 1, 1.0)


def test_shrinking_is_deferred_slowed_and_small_changes_are_ignored():
    recommender = Recommender(share=1.0, half_life_s=60.0, defer_s=900.0, decay=0.5, ignore=0.05, growth=2.0)
    assert recommender.usage(0.0, 100.0) >= 100.0
    assert recommender.usage(300.0, 1.0) == recommender.usage(600.0, 1.0) >= 100.0
    assert recommender.count(96.0, 100.0, 0.0) == 100.0
    assert recommender.count(10.0, 100.0, 0.0) == 50.0
    assert recommender.count(104.0, 100.0, 0.0) == 100.0


def test_the_more_is_starting_the_less_is_added():
    recommender = Recommender(share=0.9, half_life_s=60.0, defer_s=0.0, decay=0.5, ignore=0.05, growth=1.0)
    assert recommender.count(1000.0, 100.0, 0.0) == 200.0
    assert recommender.count(1000.0, 100.0, 75.0) == 125.0
    assert recommender.count(1000.0, 100.0, 100.0) == 100.0


def test_over_days_the_papers_half_life_keeps_what_the_default_forgets():
    def replicas(**parameters: float) -> int:
        limits = limits_of()
        scaler, fleet = Autopilot(limits, **parameters), ToyFleet(limits, 100.0)
        drive(scaler, fleet, 240)
        fleet.rate_per_s = 20.0
        return totals(drive(scaler, fleet, 240))[-1]

    assert replicas(half_life_s=43_200.0) > replicas()


def test_it_provides_for_a_percentile_of_five_minute_means():
    limits = limits_of()
    for ignore, replicas in ((0.0, 9), (0.05, 8)):  # the bucket that holds 80/s ends within 5 % of it
        scaler, fleet = Autopilot(limits, headroom=1.0, ignore=ignore), ToyFleet(limits, 80.0)
        assert totals(drive(scaler, fleet, 240))[-1] == replicas
