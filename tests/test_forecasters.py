"""Forecasters that are fitted: cases that can be worked out, gaps, zeros, too little history, no leakage, quantiles."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.backtest import LEVELS, Series, backtest
from rlscale.errors import ScenarioError
from rlscale.forecast_arima import Arima
from rlscale.forecast_cells import LARGEST_PER_S, CellForecaster
from rlscale.forecast_kalman import Kalman
from rlscale.forecast_lags import LagRegression
from rlscale.forecast_parts import Distribution
from rlscale.forecast_quantile import QuantileRegression, WithQuantiles
from rlscale.forecast_season import HoltWinters, SeasonalNaive
from rlscale.predict import forecaster
from rlscale.types import DAY_S, Floats

NEW = ("seasonal-naive", "holt-winters", "kalman", "arima", "lag-regression", "quantile-regression")
FITTED = ("holt-winters", "kalman", "arima", "lag-regression", "quantile-regression")
STEP_S = 1800.0  # 48 cells a day: every model is fitted within a few days of cells
DAY = 48
LEAD_S = 2 * STEP_S


def walk(model: Any, rates: Floats, step_s: float = STEP_S) -> Floats:
    """Forecast after each rate."""
    model.reset(np.zeros(0), step_s)
    return np.array([model.update(rate, step_s) for rate in rates.tolist()])


def season(days: float) -> Floats:
    """100 requests/s on average, 60 more at noon than at midnight, twice a day a little more."""
    angle = 2.0 * np.pi * np.arange(round(days * DAY)) / DAY
    return 100.0 - 30.0 * np.cos(angle) + 10.0 * np.sin(2.0 * angle)


def noisy_season(days: float, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return np.maximum(0.0, season(days) + rng.normal(0.0, 5.0, round(days * DAY)))


@pytest.mark.parametrize("name", NEW)
def test_a_constant_stays_a_constant(name: str) -> None:
    forecasts = walk(forecaster(name, LEAD_S), np.full(5 * DAY, 40.0))
    assert forecasts == pytest.approx(40.0, rel=1e-6)


@pytest.mark.parametrize("name", NEW)
def test_nothing_arrives_nothing_is_expected(name: str) -> None:
    forecasts = walk(forecaster(name, LEAD_S), np.zeros(5 * DAY))
    assert (forecasts == 0.0).all()


@pytest.mark.parametrize(("name", "days"), [("kalman", 4), ("arima", 4), ("lag-regression", 4)])
def test_a_line_goes_on(name: str, days: int) -> None:
    """100 + 0.5 per cell, with noise of 0.01 (seed 1) so that variances exist: two cells ahead within 0.5 of a step."""
    at = np.arange(days * DAY)
    line = 100.0 + 0.5 * at + np.random.default_rng(1).normal(0.0, 0.01, len(at))
    forecasts = walk(forecaster(name, LEAD_S), line)
    assert forecasts[-1] == pytest.approx(100.0 + 0.5 * (len(at) + 1), abs=0.25)


@pytest.mark.parametrize(
    ("name", "days", "tolerance"),
    # Seasons are smoothed over half an hour: a cell here, so nothing. Regressions get two harmonics exactly.
    [("seasonal-naive", 3, 3.0), ("holt-winters", 4, 0.5), ("lag-regression", 6, 3.0), ("quantile-regression", 6, 4.0)],
)
def test_a_pure_season_is_seen_coming(name: str, days: int, tolerance: float) -> None:
    """Swing of 60: over the last day the largest error is below the tolerance; the last value errs by up to 13."""
    rates = season(days)
    forecasts = walk(forecaster(name, LEAD_S), rates)
    error = np.abs(forecasts[-DAY - 2 : -2] - rates[-DAY:])
    assert error.max() < tolerance
    assert np.abs(rates[-DAY - 2 : -2] - rates[-DAY:]).max() > 12.0


def test_seasonal_naive_scales_yesterday_to_the_level_of_today() -> None:
    rates = np.concatenate([np.full(DAY, 10.0), np.full(10, 20.0)])
    assert walk(SeasonalNaive(LEAD_S), rates)[-1] == pytest.approx(20.0)
    yesterday = np.concatenate([np.full(30, 10.0), np.full(18, 40.0)])
    model = SeasonalNaive(LEAD_S, smooth_s=0.0)
    rates = np.concatenate([yesterday, np.full(29, 20.0)])  # two cells before yesterday's rise, twice its level
    assert walk(model, rates)[-1] == pytest.approx(2.0 * 40.0)


def test_seasonal_naive_takes_the_season_that_erred_less() -> None:
    """Two weeks in which one day in seven is closed: last week knows, yesterday does not."""
    week = np.concatenate([np.tile(season(1), 6), np.full(DAY, 5.0)])
    rates = np.tile(week, 3)
    model = SeasonalNaive(LEAD_S, level_s=STEP_S, smooth_s=0.0)
    forecasts = walk(model, rates)
    opened = np.arange(2 * 7 * DAY, 3 * 7 * DAY)
    assert np.abs(forecasts[opened - 2] - rates[opened]).mean() < 1.0


def test_holt_winters_is_the_recursion_of_statsmodels() -> None:
    """From the same first states and weights: level and forecasts of statsmodels' own filter, to 1e-9."""
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    model = HoltWinters(LEAD_S, refit_s=0.0, cell_s=STEP_S)
    rates = noisy_season(4)
    model.reset(np.zeros(0), STEP_S)
    model.update(float(rates[0]), STEP_S)
    model.alpha, model.beta, model.gamma, model.phi = 0.3, 0.05, 0.2, 0.95
    model._season, model._level, model._trend = (season(1) - 100.0).tolist(), 100.0, 0.0
    model._reach = model._damped()
    for at, rate in enumerate(rates.tolist()):
        model._advance(rate, at % DAY)
    theirs = ExponentialSmoothing(
        rates, trend="add", damped_trend=True, seasonal="add", seasonal_periods=DAY, initialization_method="known",
        initial_level=100.0, initial_trend=0.0, initial_seasonal=season(1) - 100.0,
    ).fit(0.3, 0.05, 0.2, damping_trend=0.95, optimized=False)  # fmt: skip
    model.cells = len(rates) - 1  # the last cell's place in the day, counted from 0
    assert model._level == pytest.approx(theirs.level[-1], abs=1e-9)
    assert model._forecast() == pytest.approx(theirs.forecast(2)[-1], abs=1e-9)


def test_the_kalman_gain_of_a_random_walk_is_the_known_one() -> None:
    """No slope, steps of q times the noise: the gain ends at p / (p + 1), p = (q + sqrt(q² + 4q)) / 2."""
    for q in (0.01, 0.1, 1.0):
        model = Kalman(LEAD_S, level_share=q, slope_share=0.0, refit_s=0.0)
        walk(model, np.full(3000, 5.0))
        p = (q + math.sqrt(q * q + 4.0 * q)) / 2.0
        assert model.gain == pytest.approx(p / (p + 1.0), rel=0.02)


def test_kalman_finds_the_variances_of_a_random_walk() -> None:
    """Steps of variance 1, noise of variance 4 (seed 2, 480 cells): gain within 0.08 of the 0.39 of q = 1/4."""
    rng = np.random.default_rng(2)
    rates = 500.0 + np.cumsum(rng.normal(0.0, 1.0, 480)) + rng.normal(0.0, 2.0, 480)
    model = Kalman(LEAD_S)
    walk(model, rates)
    assert model.gain == pytest.approx(0.39, abs=0.08)


def test_the_variance_of_kalman_and_arima_is_that_of_a_random_walk() -> None:
    """Steps of variance 1 (seed 3, 2000 cells): 4 cells ahead the standard deviation is 2, within 15 %."""
    rates = 1000.0 + np.cumsum(np.random.default_rng(3).normal(0.0, 1.0, 2000))
    for model in (Kalman(4 * STEP_S, level_share=1e4, slope_share=0.0, refit_s=0.0), Arima(4 * STEP_S, p=0, d=1, q=0)):
        walk(model, rates)
        low, high = model.quantiles([0.158655, 0.841345])
        assert (high - low) / 2.0 == pytest.approx(2.0, rel=0.15)


def test_arima_finds_the_coefficient_of_an_ar1_and_returns_to_the_mean() -> None:
    """φ = 0.7 around 50, shocks of 2 (seed 4, 1000 cells): φ within 0.1, mean within 1.5; φ² is left after two."""
    rng = np.random.default_rng(4)
    rates = np.full(1000, 50.0)
    for k in range(1, 1000):
        rates[k] = 50.0 + 0.7 * (rates[k - 1] - 50.0) + rng.normal(0.0, 2.0)
    model = Arima(LEAD_S, p=1, d=0, q=0, fit_s=14 * DAY_S)
    forecasts = walk(model, rates)
    assert model.ar[0] == pytest.approx(0.7, abs=0.1)
    assert model.mean_per_s == pytest.approx(50.0, abs=1.5)
    assert forecasts[-1] == pytest.approx(model.mean_per_s + model.ar[0] ** 2 * (rates[-1] - model.mean_per_s))


def test_arima_filters_as_statsmodels_does() -> None:
    """ARIMA(1,1,1) fitted once, 100 cells later with a gap: statsmodels says the same to 1e-3."""
    from statsmodels.tsa.arima.model import ARIMA

    rng = np.random.default_rng(5)
    rates = 300.0 + np.cumsum(rng.normal(0.0, 1.0, 400)) + rng.normal(0.0, 2.0, 400)
    rates[350:355] = np.nan
    model = Arima(LEAD_S, p=1, d=1, q=1, refit_s=30 * DAY_S, fit_s=14 * DAY_S)
    forecasts = walk(model, rates)
    theirs = ARIMA(rates, order=(1, 1, 1)).smooth([*model.ar, *model.ma, 4.0])
    assert forecasts[-1] == pytest.approx(float(theirs.forecast(2)[-1]), rel=1e-3)
    assert model._squares() == pytest.approx(1.0 + (1.0 + model.ar[0] + model.ma[0]) ** 2)


def test_lag_regression_learns_what_a_square_wave_does_next() -> None:
    """A wave of 8 cells, 10 and 30: the mean of the last two cells and the newest say what comes in two."""
    rates = np.tile(np.repeat([10.0, 30.0], 4), 60)
    model = LagRegression(LEAD_S, ridge=1e-6)
    forecasts = walk(model, rates)
    error = np.abs(forecasts[-10:-2] - rates[-8:])
    assert error.mean() < 5.0  # the last value errs by 10
    assert model.failed_fits == 0


def test_quantile_regression_knows_that_noise_grows_with_the_level() -> None:
    """Noise of a tenth of the season (seed 6, 30 days, the 960 cells after 10): within 0.06 of 0.8 and 0.9."""
    rng = np.random.default_rng(6)
    level = season(30)
    rates = np.maximum(0.0, level * (1.0 + rng.normal(0.0, 0.1, len(level))))
    found = backtest(Series("noise", "generated", STEP_S, rates), "quantile-regression", LEAD_S)
    came, (low, _, high, _) = rates[10 * DAY :], found.quantiles_per_s[10 * DAY - 2 : -2].T
    assert ((low <= came) & (came <= high)).mean() == pytest.approx(0.8, abs=0.06)
    assert (came <= high).mean() == pytest.approx(0.9, abs=0.06)
    busy = came > 100.0
    assert (high - low)[busy].mean() > 1.2 * (high - low)[~busy].mean()
    model = QuantileRegression(LEAD_S)
    walk(model, rates)
    values = model.quantiles([0.1, 0.3, 0.5, 0.9, 0.95, 0.99])
    assert values == sorted(values)


@pytest.mark.parametrize("name", NEW)
def test_gaps_move_the_clock_and_teach_nothing(name: str) -> None:
    """A season with a gap of a third of a day: within it the last forecast, a day after it as good as ever."""
    rates = season(6)
    rates[4 * DAY : 4 * DAY + 16] = np.nan
    forecasts = walk(forecaster(name, LEAD_S), rates)
    assert (forecasts[4 * DAY : 4 * DAY + 16] == forecasts[4 * DAY - 1]).all()
    assert np.isfinite(forecasts).all()
    error = np.abs(forecasts[-DAY - 2 : -2] - season(6)[-DAY:])
    assert error.mean() < 9.0  # the last value errs by 8.7 on average


@pytest.mark.parametrize("name", NEW)
def test_any_rate_gives_a_rate(name: str) -> None:
    """Zeros, spikes of 1e300, outages and noise (seed 7): finite, never negative, quantiles in order."""
    rng = np.random.default_rng(7)
    rates = rng.gamma(0.3, 100.0, 5 * DAY)
    rates[rng.random(len(rates)) < 0.3] = 0.0
    rates[rng.random(len(rates)) < 0.05] = np.nan
    rates[[60, 130, 131]] = 1e300, 1e9, 1e12
    model = WithQuantiles(forecaster(name, LEAD_S), LEAD_S)
    model.reset(np.zeros(0), STEP_S)
    for rate in rates.tolist():
        forecast = model.update(rate, STEP_S)
        assert 0.0 <= forecast <= LARGEST_PER_S
        values = model.quantiles(LEVELS)
        assert all(0.0 <= low <= high < math.inf for low, high in pairwise(values))


@pytest.mark.parametrize("name", NEW)
def test_with_too_little_history_the_last_rate_is_repeated(name: str) -> None:
    model = forecaster(name, 540.0)
    assert math.isnan(model.update(math.nan, 15.0))
    assert [model.update(rate, 15.0) for rate in (3.0, 7.0, math.nan, 5.0)] == [3.0, 7.0, 7.0, 5.0]


@pytest.mark.parametrize("name", NEW)
def test_cells_are_filled_by_intervals_of_any_length(name: str) -> None:
    """Half a day of 15 s intervals is as good as of 60 s ones with their means, and as a history."""
    minutes = noisy_season(15)  # as minutes: half a day
    quarters = np.repeat(minutes, 4) + np.tile([-2.0, 2.0, -1.0, 1.0], len(minutes))
    fine, coarse, told = (forecaster(name, 540.0) for _ in range(3))
    by_quarter, by_minute = walk(fine, np.maximum(0.0, quarters), 15.0), walk(coarse, minutes, 60.0)
    told.reset(minutes, 60.0)
    after = [model.update(math.nan, 60.0) for model in (fine, coarse, told)]
    assert by_quarter[-1] == pytest.approx(by_minute[-1], rel=0.05)
    assert after[1] == after[2]


def test_who_has_a_distribution_says_so() -> None:
    assert {name for name in NEW if isinstance(forecaster(name, LEAD_S), Distribution)} == {
        "kalman", "arima", "quantile-regression",
    }  # fmt: skip


def test_errors_of_the_last_forecasts_become_quantiles() -> None:
    """A coin between 8 and 12 after a last value: errors are -4, 0 and 4, so quantiles lie among them."""
    model = WithQuantiles(forecaster("last", 60.0), 60.0)
    for rate in np.random.default_rng(0).choice([8.0, 12.0], 400).tolist():
        model.update(rate, 60.0)
    model.update(12.0, 60.0)
    low, high = model.quantiles([0.02, 0.98])
    assert low == pytest.approx(8.0, abs=1.0)
    assert high == pytest.approx(17.0, abs=1.5)  # 12 and an error of 4, wider than at 8


def test_a_fit_is_counted_and_timed() -> None:
    for name in FITTED:
        model: Any = forecaster(name, LEAD_S)
        walk(model, noisy_season(5))
        assert isinstance(model, CellForecaster)
        assert model.trained_s > 0.0
        assert model.failed_fits == 0


def test_a_missing_library_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlscale.forecast_parts.find_spec", lambda name: None)
    for name, library in (("arima", "statsmodels"), ("holt-winters", "statsmodels"), ("kalman", "statsmodels"),
                          ("quantile-regression", "scikit-learn")):  # fmt: skip
        with pytest.raises(ScenarioError, match=f"'{name}' needs {library}; .*forecast"):
            forecaster(name, 540.0)
    assert walk(forecaster("kalman", LEAD_S, refit_s=0.0), noisy_season(1))[-1] > 0  # variances that were given
    assert forecaster("lag-regression", 540.0)


def test_building_a_forecaster_loads_no_library(repo_root: Path) -> None:
    code = (
        "import sys; from rlscale.predict import FORECASTERS, forecaster\n"
        "for name in FORECASTERS: forecaster(name, 540.0).update(1.0, 60.0)\n"
        "print(sorted({'statsmodels', 'sklearn', 'pandas', 'scipy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
