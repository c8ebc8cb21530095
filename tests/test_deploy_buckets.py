"""Quantile, share and mean from buckets against numpy on the observations themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlscale.deploy.buckets import Buckets, mean, of_pairs, quantile, share_below
from rlscale.types import Floats

EDGES = np.array([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, np.inf])


def held(seen: Floats) -> Buckets:
    return Buckets(EDGES, np.array([(seen <= edge).sum() for edge in EDGES], float))


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("seed", range(5))
def test_a_quantile_is_in_the_bucket_of_the_true_one(seed: int, q: float) -> None:
    seen = np.random.default_rng(seed).lognormal(-1.0, 1.0, 5000)
    true = float(np.quantile(seen, q))
    found, bucket = quantile(held(seen), q), int(np.searchsorted(EDGES, true))
    assert EDGES[bucket - 1] * 0.999 <= found <= EDGES[bucket] * 1.001


@pytest.mark.parametrize("seed", range(5))
def test_within_a_bucket_even_observations_are_told_exactly(seed: int) -> None:
    """2 % of the value: 50 000 observations, evenly spread over each of the buckets."""
    rng = np.random.default_rng(seed)
    bucket = rng.choice(9, 50_000, p=rng.dirichlet(np.ones(9)))
    low, high = np.append(0.0, EDGES[:8])[bucket], EDGES[:9][bucket]
    seen = low + (high - low) * rng.random(50_000)
    for limit in (0.02, 0.07, 0.3, 0.8, 2.0):
        assert share_below(held(seen), limit) == pytest.approx((seen <= limit).mean(), abs=0.01)
    for q in (0.2, 0.5, 0.9):
        assert quantile(held(seen), q) == pytest.approx(np.quantile(seen, q), rel=0.1, abs=0.002)
    assert mean(float(seen.sum()), held(seen)) == pytest.approx(seen.mean())


@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=60), st.floats(0.0, 12.0))
@settings(max_examples=300, deadline=None)
def test_a_share_lies_between_those_of_the_edges_around_the_limit(values: list[float], limit: float) -> None:
    seen = np.array(values)
    i = int(np.searchsorted(EDGES, limit))
    low = (seen <= (EDGES[i - 1] if i > 0 else -1.0)).mean()
    high = (seen <= EDGES[i]).mean() if math.isfinite(EDGES[i]) else low
    assert low - 1e-9 <= share_below(held(seen), limit) <= high + 1e-9


def test_what_is_above_the_last_edge_is_late_and_has_no_quantile() -> None:
    seen = np.array([20.0, 30.0])
    assert share_below(held(seen), 60.0) == 0.0
    assert quantile(held(seen), 0.9) == math.inf
    assert share_below(held(seen), math.inf) == 1.0


def test_an_empty_histogram_knows_nothing() -> None:
    empty = held(np.zeros(0))
    assert all(math.isnan(value) for value in (quantile(empty, 0.9), share_below(empty, 1.0), mean(0.0, empty)))


@pytest.mark.parametrize(
    "pairs", [{}, {1.0: 5.0}, {1.0: 5.0, 2.0: 6.0}, {1.0: math.nan, math.inf: 1.0}, {math.inf: 1.0}]
)
def test_what_is_no_histogram_is_refused(pairs: dict[float, float]) -> None:
    assert of_pairs(pairs) is None


def test_counts_that_fall_are_levelled_and_units_converted() -> None:
    found = of_pairs({100.0: 5.0, 250.0: 4.0, math.inf: 6.0}, 1e-3)
    assert found is not None
    assert found.count.tolist() == [5.0, 5.0, 6.0]
    assert found.edge.tolist() == pytest.approx([0.1, 0.25, math.inf])
