"""Companions of an arrival in a bursty stream: the table against theory and against drawn streams."""

from __future__ import annotations

import numpy as np
import pytest

from rlscale.sim.company import KNOTS, LOWEST, companions, company_table

X = 2.0 ** (LOWEST + np.arange(KNOTS))


def test_a_poisson_stream_has_as_many_companions_as_arrivals_are_expected() -> None:
    np.testing.assert_allclose(company_table(1.0), X, rtol=1e-12)
    np.testing.assert_allclose(company_table(1.0 + 1e-9), X, rtol=1e-2)


@pytest.mark.parametrize("cv", [1.5, 2.0, 3.5])
@pytest.mark.parametrize("x", [0.0625, 1.0, 16.0])
def test_the_table_is_the_index_of_dispersion_of_drawn_streams(cv: float, x: float) -> None:
    """2 000 000 gamma distances, seed 0: index of dispersion - 1 + mean count, within 3 %."""
    shape = 1.0 / cv**2
    at = np.cumsum(np.random.default_rng(0).gamma(shape, 1.0 / shape, 2_000_000))
    counts = np.bincount((at / x).astype(int))
    drawn = counts.var() / counts.mean() - 1.0 + x
    assert companions(company_table(cv**2), x) == pytest.approx(drawn, rel=0.03)


@pytest.mark.parametrize("cv2", [1.3, 4.0, 71.0, 400.0])
def test_long_windows_hold_the_mean_and_the_excess_of_the_whole_burst(cv2: float) -> None:
    """For long windows the index of dispersion is cv2 itself: companions -> x + cv2 - 1 (within 1 % at 2^15)."""
    assert company_table(cv2)[-1] == pytest.approx(X[-1] + cv2 - 1.0, rel=0.01)
    assert (np.diff(company_table(cv2)) > 0).all()


def test_outside_the_table_the_nearest_knot_counts() -> None:
    table = company_table(4.0)
    assert companions(table, 0.0) == table[0]
    assert companions(table, 1e9) == table[-1]
