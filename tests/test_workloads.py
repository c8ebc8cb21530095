"""Load families against the published statistics they stand for, over at least fifty generated hours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments.families import CHECKS, Check, measure
from rlscale.errors import ScenarioError
from rlscale.registry import scan
from rlscale.types import Load
from rlscale.workloads.build import build
from rlscale.workloads.requests import draw_requests

HOURS = 60


def counts(load: Load, rng: np.random.Generator) -> np.ndarray:
    """Requests per second."""
    return rng.poisson(load.values.astype(np.float64)) if load.law == "poisson" else load.values.astype(np.float64)


def hours_of(kind: str, rate: float, seed: int, **fields: object) -> np.ndarray:
    """(HOURS, 3600) counts per second, each hour an independent realisation."""
    workload = build({"kind": kind, "rate_per_s": rate, **fields}, "test")
    rng = np.random.default_rng(seed)
    return np.stack([counts(workload.sample(rng, 3600.0, 1.0), rng) for _ in range(HOURS)])


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.family}: {check.figure}")
def test_families_have_the_published_statistics(check: Check) -> None:
    """At least 50 generated hours, seed 1; every tolerance stands in the table of experiments/families.py."""
    assert check.hours >= 50.0
    row = measure(check, 1)
    assert row["within"], row


@pytest.mark.parametrize(("kind", "rate"), [("code", 2.57), ("chat", 5.53), ("long-context", 3.4)])
def test_hours_have_the_published_mean(kind: str, rate: float) -> None:
    """60 hours, seed 11; within 3 standard errors over hours."""
    means = hours_of(kind, rate, 11).mean(axis=1)
    assert abs(means.mean() - rate) <= 3.0 * means.std(ddof=1) / np.sqrt(HOURS)


@pytest.mark.parametrize(
    "kind", ["steady", "diurnal", "code", "chat", "flash-crowd", "multi-tenant", "gamma", "long-context"]
)
def test_the_long_run_mean_is_the_rate_asked_for(kind: str) -> None:
    """60 independent hours at random moments of the week, seed 12; within 3 standard errors and 25 %."""
    means = hours_of(kind, 20.0, 12, randomise_phase=True).mean(axis=1)
    error = means.std(ddof=1) / np.sqrt(HOURS)
    assert abs(means.mean() - 20.0) <= 3.0 * error
    assert error < 5.0


@pytest.mark.parametrize(
    ("tokens", "prompt", "output"),
    [
        ("chat", (1020, 4083, 4142), (129, 451, 601)),
        ("code", (1469, 7303, 7436), (13, 90, 251)),
        ("long-context", (6909, 39_551, 85_400), (350, 698, 1119)),
        ("api", (672, 2404, 4961), (54, 566, 1109)),
        ("reasoning", (261, 7158, 23_472), (736, 5984, 13_818)),
    ],
)
def test_lengths_have_the_published_quantiles(tokens: str, prompt: tuple[int, ...], output: tuple[int, ...]) -> None:
    """About 72 000 requests, seed 14; p50, p95 and p99 within 10 %."""
    load = build({"kind": "steady", "rate_per_s": 20.0, "tokens": tokens}, "test").sample(
        np.random.default_rng(14), 3600.0, 1.0
    )
    drawn = draw_requests(load, np.random.default_rng(14))
    assert np.quantile(drawn.prompt_tokens, (0.5, 0.95, 0.99)) == pytest.approx(prompt, rel=0.10)
    assert np.quantile(drawn.output_tokens, (0.5, 0.95, 0.99)) == pytest.approx(output, rel=0.10)


NEEDED: dict[str, dict[str, Any]] = {
    "markov": {"rate_per_s": 10.0, "levels": [1.0, 4.0], "transitions": [[0.9, 0.1], [0.2, 0.8]]},
    "sessions": {"base": {"kind": "steady", "rate_per_s": 10.0}},
    "deferrable": {"base": {"kind": "steady", "rate_per_s": 10.0}},
}


@pytest.mark.parametrize("kind", sorted(set(scan("rlscale.workloads", "WORKLOADS")) - {"trace", "sum", "product"}))
def test_every_family_samples_again_what_it_sampled(kind: str) -> None:
    workload = build({"kind": kind, **NEEDED.get(kind, {"rate_per_s": 10.0})}, "test")
    first, again = (workload.sample(np.random.default_rng(5), 1800.0, 1.0) for _ in range(2))
    np.testing.assert_array_equal(first.values, again.values)
    assert len(first.values) == 1800
    assert (first.values >= 0).all()
    assert len(first.history_per_s) * first.history_step_s == 86_400.0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "stedy"}, "did you mean 'steady'"),
        ({"kind": "steady", "rate": 1.0}, "unknown key 'rate'"),
        ({"kind": "steady", "rate_per_s": -1.0}, "rate_per_s: got -1.0"),
        ({"kind": "steady", "rate_per_s": "10/s"}, "requests per second"),
        ({"kind": "steady", "tokens": "chatt"}, "did you mean 'chat'"),
        ({}, "no 'kind'"),
    ],
)
def test_a_wrong_workload_is_refused_with_file_and_field(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ScenarioError, match=message) as caught:
        build(spec, "my.yaml")
    assert str(caught.value).startswith("my.yaml")
