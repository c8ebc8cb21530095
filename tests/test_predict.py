"""Forecasters: the formula, the memory, and what they make of measurements that are missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlscale.errors import ScenarioError
from rlscale.predict import FORECASTERS, Exponential, Forecaster, Holt, LastValue, MovingAverage, forecaster

NONE = np.zeros(0)
RATES = st.lists(st.one_of(st.floats(0, 1e6), st.just(math.nan)), max_size=40)


def feed(model: Forecaster, *rates: float, interval_s: float = 15.0) -> float:
    forecast = math.nan
    for rate in rates:
        forecast = model.update(rate, interval_s)
    return forecast


def test_last_value_repeats_what_it_saw():
    assert feed(LastValue(), 3.0, 7.0) == 7.0


def test_exponential_smoothing_is_the_formula_step_by_step():
    model = Exponential(alpha=0.5)
    assert feed(model, 10.0) == 10.0  # y'(0) = y(0)
    assert feed(model, 12.0) == 0.5 * 12 + 0.5 * 10
    assert feed(model, 14.0) == 0.5 * 14 + 0.5 * 11
    assert feed(model, 13.0) == 12.75  # textbook series 10, 12, 14, 13
    assert feed(Exponential(alpha=0.3), 5.0, 5.0, 5.0, 5.0) == pytest.approx(5.0, abs=1e-12)


def test_moving_average_forgets_what_has_left_the_window():
    model = MovingAverage(window_s=30.0)
    assert feed(model, 10.0, 20.0) == 15.0
    assert feed(model, 40.0) == 30.0  # the 10 has left
    assert feed(model, 90.0, interval_s=30.0) == 90.0  # one long interval fills the window


def test_moving_average_weighs_by_time_not_by_count():
    model = MovingAverage(window_s=60.0)
    model.update(10.0, 45.0)
    assert model.update(50.0, 15.0) == pytest.approx((10 * 45 + 50 * 15) / 60)


def test_holt_matches_the_textbook_series():
    model = Holt(lead_s=1.0, alpha=0.8, beta=0.2)
    feed(model, 10.0, interval_s=1.0)
    model.trend_per_s2 = 2.0  # the series starts with the trend x1 - x0
    assert feed(model, 12.0, 13.0, 17.0, interval_s=1.0) == pytest.approx(18.7616, abs=1e-9)


def test_holt_sees_a_ramp_coming_where_smoothing_lags():
    ramp = [100 + 0.03 * 15 * k for k in range(240)]  # an hour, 0.03 requests/s per second
    ahead = ramp[-1] + 0.03 * 520
    assert feed(Holt(lead_s=520.0), *ramp) == pytest.approx(ahead, abs=0.5)
    assert feed(Exponential(), *ramp) < ramp[-1]


def test_holt_never_expects_fewer_than_no_requests():
    assert feed(Holt(lead_s=3600.0, beta=0.5), 100.0, 50.0, 0.0, 0.0) == 0.0


def test_holt_does_not_care_how_time_is_cut():
    fine, coarse = Holt(lead_s=300.0), Holt(lead_s=300.0)
    for model, step_s in ((fine, 15.0), (coarse, 60.0)):
        for k in range(int(36000 / step_s)):
            model.update(10 + 0.001 * step_s * k, step_s)
    assert fine.trend_per_s2 == pytest.approx(0.001, rel=1e-3)
    assert coarse.trend_per_s2 == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize("name", FORECASTERS)
def test_a_missing_measurement_repeats_the_last_forecast_and_leaves_no_trace(name: str):
    gappy, whole = forecaster(name, 300.0), forecaster(name, 300.0)
    before = feed(gappy, 10.0, 12.0)
    for missing in (math.nan, math.inf, -math.inf):
        assert feed(gappy, missing) == before
    feed(whole, 10.0, 12.0)
    assert feed(gappy, 30.0) == feed(whole, 30.0)


@pytest.mark.parametrize("name", FORECASTERS)
def test_before_the_first_measurement_nothing_is_known(name: str):
    model = forecaster(name, 300.0)
    assert math.isnan(feed(model, math.nan))
    model.reset(np.array([4.0, 4.0]), 60.0)
    assert feed(model, math.nan) == pytest.approx(4.0)  # the history counts as measured
    model.reset(NONE, 60.0)
    assert math.isnan(feed(model, math.nan))


@pytest.mark.parametrize("name", FORECASTERS)
@given(rates=RATES)
def test_forecasts_are_never_negative_and_a_reset_forgets(name: str, rates: list[float]):
    model = forecaster(name, 300.0)
    first = [model.update(rate, 15.0) for rate in rates]
    model.reset(NONE, 15.0)
    assert np.array_equal(first, [model.update(rate, 15.0) for rate in rates], equal_nan=True)
    assert all(forecast >= 0 for forecast in first if not math.isnan(forecast))


@pytest.mark.parametrize("name", ["last", "average", "exponential"])
@given(rates=st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_without_a_trend_a_forecast_stays_among_the_measurements(name: str, rates: list[float]):
    forecast = feed(forecaster(name, 300.0), *rates)
    assert min(rates) - 1e-6 <= forecast <= max(rates) + 1e-6


@pytest.mark.parametrize("name", FORECASTERS)
def test_the_ends_of_every_parameter_range_can_be_built(name: str):
    for key, parameter in FORECASTERS[name].parameters.items():
        for value in (parameter.low, parameter.high):
            assert feed(forecaster(name, 300.0, **{key: value}), 8.0, 8.0) == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("exponential", {"alpha": 1.5}, "alpha = 1.5; expected 0.001 to 1"),
        ("exponential", {"alpha": math.nan}, "alpha = nan"),
        ("exponential", {"alfa": 0.5}, "did you mean 'alpha'"),
        ("exponentail", {}, "did you mean 'exponential'"),
        ("no.such:Model", {}, "cannot be imported"),
    ],
)
def test_a_wrong_name_or_value_is_met_with_what_was_expected(name: str, parameters: dict[str, float], said: str):
    with pytest.raises(ScenarioError, match=said):
        forecaster(name, 300.0, **parameters)


def test_a_forecaster_from_outside_is_named_by_module_and_class():
    assert isinstance(forecaster("rlscale.predict:Holt", 300.0, alpha=0.1), Holt)
