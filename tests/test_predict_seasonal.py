"""Holt-Winters and the line through the last measurements."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlscale.predict import HoltWintersAdditive, Linear, forecaster
from rlscale.predict_seasonal import HoltWinters


def wave(hour: float) -> float:
    return 50.0 + 30.0 * math.sin(2 * math.pi * hour / 24.0)


def test_a_season_alone_repeats_itself():
    model = HoltWintersAdditive(0.4, 0.1, 0.3)
    series = [10.0, 20.0, 30.0, 20.0] * 3
    model.start(series[:8])
    for value in series:
        model.update(value)
    assert [model.ahead(h) for h in range(1, 6)] == pytest.approx([10.0, 20.0, 30.0, 20.0, 10.0])


def test_initial_values_can_be_given():
    model = HoltWintersAdditive(0.5, 0.5, 0.5, level=10.0, trend=2.0, season=[1.0, -1.0])
    assert [model.ahead(1), model.ahead(2)] == [13.0, 13.0]
    model.update(15.0)  # level 0.5*14 + 0.5*12 = 13, trend 0.5*3 + 0.5*2 = 2.5, offset 0.5*2 + 0.5*1 = 1.5
    assert (model.level, model.trend, model.season, model.position) == (13.0, 2.5, [1.5, -1.0], 1)


def test_with_two_days_of_history_it_expects_the_rise_of_the_morning():
    model = HoltWinters(lead_s=3600.0, cell_s=3600.0)
    model.reset(np.array([wave(hour) for hour in range(72)]), 3600.0)
    for hour in range(72, 96):
        ahead = model.update(wave(hour), 3600.0)
        assert ahead == pytest.approx(wave(hour + 1), abs=0.5)


def test_history_cells_and_control_intervals_may_differ():
    coarse, fine = (HoltWinters(lead_s=600.0, period_s=3600.0, cell_s=300.0) for _ in range(2))
    for k in range(48):
        rate = 10.0 + k % 12
        coarse.update(rate, 300.0)
        for _ in range(20):
            fine.update(rate, 15.0)
    assert fine.forecast_per_s == pytest.approx(coarse.forecast_per_s)


def test_a_gap_does_not_shift_the_season():
    whole, gappy = (HoltWinters(lead_s=300.0, period_s=3600.0, cell_s=300.0) for _ in range(2))
    for k in range(60):
        rate = 10.0 + 5.0 * (k % 12 == 6)
        whole.update(rate, 300.0)
        gappy.update(math.nan if 30 <= k < 35 else rate, 300.0)
    assert gappy.forecast_per_s == pytest.approx(whole.forecast_per_s, abs=0.2)


def test_a_line_is_extended_by_the_lead_time_and_old_points_leave():
    model = Linear(lead_s=60.0, points=5)
    for k, rate in enumerate([500.0, 0.0, *(10.0 + 2.0 * k for k in range(5))]):
        ahead = model.update(rate, 15.0)
        assert k < 6 or ahead == pytest.approx(18.0 + 8.0)
    assert forecaster("linear", 300.0).update(7.0, 15.0) == 7.0
    falling = Linear(lead_s=100.0)
    assert [falling.update(rate, 10.0) for rate in (10.0, 5.0)][-1] == 0.0
    assert falling.projected_per_s == pytest.approx(-45.0)
