"""Load predictors of NVIDIA Dynamo's planner."""

from __future__ import annotations

import importlib
import json
import math
from itertools import pairwise

import numpy as np
import pytest

from agents.dynamo_predictors import PREDICTORS, KalmanPredictor, best_arima, predictor
from rlscale.errors import ScenarioError


@pytest.mark.parametrize("name", PREDICTORS)
def test_leading_zeros_are_dropped_and_what_is_not_finite_is_zero(name: str):
    model = predictor(name)
    assert model.predict() == 0.0
    for value in (0.0, math.nan, 5.0):
        model.add(value)
    assert model.last == 5.0
    model.add(math.inf)
    assert model.last == 0.0
    model.reset_idle_skip()
    assert not model.add(0.0)


@pytest.mark.parametrize("name", ["constant", "arima"])
def test_too_few_points_forecast_the_last_value(name: str):
    model = predictor(name)
    for value in (3.0, 9.0, 4.0):
        model.add(value)
    assert model.predict() == 4.0


@pytest.mark.parametrize("name", PREDICTORS)
def test_constant_data_forecast_themselves_and_nothing_goes_below_zero(name: str):
    model = predictor(name)
    for _ in range(8):
        model.add(40.0)
    assert model.predict() == pytest.approx(40.0)
    for value in (20.0, 5.0, 0.0, 0.0):
        model.add(value)
    assert model.predict() >= 0.0


def test_the_kalman_filter_is_the_textbook_one():
    values, model = [10.0, 12.0, 15.0, 14.0, 18.0], KalmanPredictor()
    move, seen = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 0.0]])
    mean, cov = np.array([10.0, 0.0]), 1000.0 * np.eye(2)
    model.add(values[0])
    for value in values[1:]:
        mean, cov = move @ mean, move @ cov @ move.T + np.diag([1.0, 0.1])
        assert model.predict() == pytest.approx(mean[0])
        assert model.predict() == pytest.approx(mean[0])  # asked twice, it goes one step ahead only
        gain = (cov @ seen.T / (seen @ cov @ seen.T + 10.0))[:, 0]
        mean, cov = mean + gain * (value - mean[0]), (np.eye(2) - np.outer(gain, seen)) @ cov
        model.add(value)
    assert model.predict() == pytest.approx((move @ mean)[0])


@pytest.mark.parametrize("name", PREDICTORS)
def test_state_is_plain_and_goes_on(name: str):
    if name == "arima":
        pytest.importorskip("statsmodels")
    first, second = predictor(name), predictor(name)
    for k in range(12):
        first.add(50.0 + 10 * math.sin(k))
    first.predict()
    second.restore(json.loads(json.dumps(first.state())))
    for value in (61.0, 44.0):
        first.add(value)
        second.add(value)
    assert second.predict() == pytest.approx(first.predict(), rel=1e-6)
    first.reset()
    assert first.predict() == 0.0


def test_arima_finds_an_autoregression():
    """Seed 1, 300 points of AR(1) with 0.8: forecasts beat the last value by a tenth or more."""
    pytest.importorskip("statsmodels")
    rng, y = np.random.default_rng(1), 0.0
    values = []
    for _ in range(300):
        y = 0.8 * y + rng.standard_normal()
        values.append(100.0 + 5 * y)
    order, parameters = best_arima(values[:200])
    assert order[0] + order[2] > 0
    assert len(parameters) >= 2
    model = predictor("arima")
    for value in values[:250]:
        model.add(value)
    ours, last = [], []
    for before, value in pairwise(values[249:]):
        ours.append((model.predict() - value) ** 2)
        last.append((before - value) ** 2)
        model.add(value)
    assert np.mean(ours) < 0.9 * np.mean(last)


def test_a_collapse_is_tried_again_on_logarithms():
    """Seed 2: 20 points of heavy-tailed noise without memory."""
    pytest.importorskip("statsmodels")
    rng, model = np.random.default_rng(2), predictor("arima")
    for value in rng.pareto(1.5, 20):
        model.add(float(value))
    model.predict()
    state = model.state()
    assert state["log"] == (state["order"][0] == state["order"][2] == 0) or state["log"]


def test_without_statsmodels_one_clear_error(monkeypatch: pytest.MonkeyPatch):
    real = importlib.import_module

    def missing(name: str, package: str | None = None):
        if name.startswith("statsmodels"):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ScenarioError, match="needs statsmodels"):
        predictor("arima")
    assert predictor("constant").predict() == 0.0
