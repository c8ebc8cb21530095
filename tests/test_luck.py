"""Counter-based luck: uniform, independent between its five numbers, the right distributions; histogram bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlscale.sim import luck
from rlscale.sim.histogram import BINS, INF_BIN, bin_of, edges_s, quantile

N = 20_000


@pytest.mark.parametrize("free", ["seed", "index", "interval"])
def test_uniforms_are_uniform_and_uncorrelated_along_every_number(free: str) -> None:
    """20 000 draws: Kolmogorov-Smirnov p > 0.001 and correlation of neighbours below 4 standard errors."""
    numbers = {"seed": 3, "stream": 1, "pool": 0, "index": 5, "interval": 7}
    u = np.array([luck.uniform(**{**numbers, free: i}) for i in range(N)])
    assert stats.kstest(u, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 4.0 / math.sqrt(N)
    assert 0.0 < u.min() < u.max() < 1.0


def test_the_same_numbers_give_the_same_luck_and_any_other_number_gives_other_luck() -> None:
    here = luck.bits(1, 2, 3, 4, 5)
    assert luck.bits(1, 2, 3, 4, 5) == here
    others = [luck.bits(*(1 + (k == i) + n for i, n in enumerate(range(5)))) for k in range(5)]
    assert len({int(here), *(int(o) for o in others)}) == 6


def test_streams_of_one_seed_are_independent() -> None:
    """20 000 pairs, streams 1 and 4: correlation below 4 standard errors."""
    one, other = (np.array([luck.uniform(9, stream, 0, 0, i) for i in range(N)]) for stream in (1, 4))
    assert abs(np.corrcoef(one, other)[0, 1]) < 4.0 / math.sqrt(N)


@pytest.mark.parametrize("mean", [0.3, 4.0, 15.9, 16.1, 90.0, 4000.0])
def test_counts_are_poisson(mean: float) -> None:
    """20 000 stratified uniforms: mean within 1 %, variance within 3 %, quantiles those of scipy within one count."""
    u = (np.arange(N) + 0.5) / N
    counts = np.array([luck.poisson(mean, x) for x in u])
    assert counts.mean() == pytest.approx(mean, rel=0.01)
    assert counts.var() == pytest.approx(mean, rel=0.03)
    assert np.abs(counts - stats.poisson.ppf(u, mean)).max() <= 1.0


def test_normal_quantiles_are_exact_to_nine_digits_and_rough_normals_have_mean_0_and_variance_1() -> None:
    """20 000 rough normals, seed 1: mean within 4 standard errors, variance within 3 %."""
    u = (np.arange(N) + 0.5) / N
    z = np.array([luck.normal_quantile(x) for x in u])
    np.testing.assert_allclose(z, stats.norm.ppf(u), rtol=2e-9, atol=2e-9)
    rough = np.array([luck.rough_normal(1, 4, 0, i, 0) for i in range(N)])
    assert abs(rough.mean()) < 4.0 / math.sqrt(N)
    assert rough.var() == pytest.approx(1.0, rel=0.03)


@given(st.floats(min_value=1e-9, max_value=1e6))
def test_a_duration_lies_in_its_bin(seconds: float) -> None:
    number, edges = int(bin_of(seconds)), edges_s()
    assert 0 <= number < INF_BIN
    if edges[0] <= seconds < edges[INF_BIN]:
        assert edges[number] <= seconds < edges[number + 1]
        assert edges[number + 1] / edges[number] <= 1.0 + 1.0 / 32.0 + 1e-12


@given(st.lists(st.floats(min_value=2e-3, max_value=900.0), min_size=1, max_size=300), st.floats(0.01, 0.99))
def test_quantiles_are_those_of_the_samples_to_a_bin(samples: list[float], q: float) -> None:
    counts = np.bincount([int(bin_of(x)) for x in samples], minlength=BINS).astype(float)
    exact = np.sort(samples)[math.ceil(q * len(samples)) - 1]
    assert quantile(counts, q) == pytest.approx(exact, rel=1.0 / 31.0)


def test_a_quantile_among_the_dropped_is_infinite_and_of_nothing_is_nan() -> None:
    counts = np.zeros(BINS)
    assert math.isnan(quantile(counts, 0.99))
    counts[bin_of(0.5)], counts[INF_BIN] = 97.0, 3.0
    assert quantile(counts, 0.99) == math.inf
    assert quantile(counts, 0.5) == pytest.approx(0.5, rel=0.04)
