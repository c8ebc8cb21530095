"""Engine models of NVIDIA Dynamo's planner: regressions on records of forward passes."""

from __future__ import annotations

import numpy as np
import pytest

from agents.dynamo_engine import AggregatedModel, DecodeModel, MovingAverage, PrefillModel, Regression


# Engine models
def line(x: float, z: float) -> float:
    return 0.01 + 1e-5 * x + 3e-8 * z


def test_a_regression_finds_the_line_from_five_records_on():
    model = AggregatedModel()
    for k in range(5):
        assert model.next_itl_s(0.0, 0.0) is None
        model.observe(1.0, 100.0 + 10 * k, 5.0, 5000.0 + 900 * (k % 3), line(100 + 10 * k, 5000 + 900 * (k % 3)))
    assert model.next_itl_s(5000.0, 1000.0) == pytest.approx(line(120.0, 6000.0 + 5720.0 / 5))
    assert model.next_ttft_s(5000.0, 2048.0, 5000.0) == pytest.approx(2 * line(2048, 5000) + line(1024, 5000))
    batch = 36.564  # requests/s: 98 sequences are the last within 13 ms
    assert model.best_rate(1000.0, 100.0, 2048.0, 1e3, 40.0) > batch - 20
    assert model.best_rate(1000.0, 100.0, 2048.0, 1e3, 1e-3) == pytest.approx(1 / (100 * line(10.0, 1050.0)))


def test_the_fullest_bucket_makes_room():
    model = Regression(1, max_samples=8, buckets=4)
    model.add((0.0,), 1.0)
    model.add((100.0,), 2.0)
    for _ in range(50):
        model.add((90.0,), 1.9)
    kept = [x for (x,), _ in model]
    assert len(model) == len(kept) == 8
    assert 0.0 in kept


def test_more_work_in_less_time_is_no_fit():
    model = Regression(1)
    for k in range(6):
        model.add((float(k),), 1.0 - 0.1 * k)
    assert not model.ready
    model.add((3.0,), 0.0)  # no time is no record
    assert len(model) == 6


def test_sums_that_come_and_go_fit_as_least_squares_do():
    """Seed 3, 500 records of which 64 stay; slopes to 1e-6."""
    rng, model = np.random.default_rng(3), Regression(2)
    for _ in range(500):
        x, z = rng.uniform(0, 8000), rng.uniform(0, 1e6)
        model.add((x, z), line(x, z) + 1e-3 * rng.standard_normal())
    samples = list(model)
    design = np.array([[1.0, *x] for x, _ in samples])
    best = np.linalg.lstsq(design, np.array([y for _, y in samples]), rcond=None)[0]
    assert model.ready
    assert model.predict(4000.0, 5e5) == pytest.approx(float(best @ [1.0, 4000.0, 5e5]), rel=1e-6)


def test_separate_engines_have_models_of_their_own():
    prefill, decode = PrefillModel(), DecodeModel()
    assert (prefill.best_rate(1000, 512), decode.best_rate(20.0, 1000, 100)) == (0.0, 0.0)
    for k in range(1, 7):
        prefill.regression.add((100.0 * k,), 0.01 + 1e-4 * 100 * k)
        decode.regression.add((1000.0 * k,), 0.01 + 1e-6 * 1000 * k)
    assert prefill.best_rate(1000.0, 400.0) == pytest.approx(1 / (2 * 0.05 + 0.03))  # chunks of 400, 400, 200
    assert decode.best_rate(20.5, 1000.0, 100.0) == pytest.approx(10 / (100 * 0.02))
    assert decode.best_rate(20.5, 1000.0, 100.0, max_num_seqs=4) == pytest.approx(4 / (100 * 0.014))
    assert decode.best_rate(1.0, 1000.0, 100.0) == pytest.approx(1 / (100 * 0.011))


def test_a_moving_average_skips_leading_zeros():
    mean = MovingAverage(2)
    for value in (0.0, 0.0, 4.0, 0.0):
        mean.add(value)
    assert mean.value == 2.0
