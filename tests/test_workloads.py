"""Load families against the published statistics they stand for, over at least fifty generated hours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments import family_checks, family_tokens
from rlscale.errors import ScenarioError
from rlscale.registry import scan
from rlscale.types import Load
from rlscale.workloads.build import build
from rlscale.workloads.multi_tenant import MultiTenant
from rlscale.workloads.servegen import SERVICES
from rlscale.workloads.tokens import TOKEN_LAWS, means

HOURS = 60


def counts(load: Load, rng: np.random.Generator) -> np.ndarray:
    """Requests per second."""
    return rng.poisson(load.values.astype(np.float64)) if load.law == "poisson" else load.values.astype(np.float64)


def hours_of(kind: str, rate: float, seed: int, **fields: object) -> np.ndarray:
    """(HOURS, 3600) counts per second, each hour an independent realisation."""
    workload = build({"kind": kind, "rate_per_s": rate, **fields}, "test")
    rng = np.random.default_rng(seed)
    return np.stack([counts(workload.sample(rng, 3600.0, 1.0), rng) for _ in range(HOURS)])


@pytest.mark.parametrize("check", family_checks.CHECKS, ids=lambda check: f"{check.family}: {check.figure}")
def test_families_have_the_published_statistics(check: family_checks.Check) -> None:
    """At least 50 generated hours, seed 1; every tolerance stands in experiments/family_checks.py."""
    assert check.hours >= 50.0
    row = family_checks.measure(check, 1)
    assert row["within"], row


@pytest.mark.parametrize("check", family_tokens.CHECKS, ids=lambda check: f"{check.law}: {check.side} {check.figure}")
def test_lengths_are_the_published_ones(check: family_tokens.LengthCheck) -> None:
    """About 180 000 requests, seed 14; mean, p50, p95 and p99 within 10 %."""
    row = family_tokens.measure(check, 14)
    assert row["within"], row


def test_every_token_law_has_published_lengths_beside_it() -> None:
    assert {check.law for check in family_tokens.CHECKS} == set(TOKEN_LAWS)


@pytest.mark.parametrize(("law", "total"), [("code-2024", 2534.0), ("chat-2024", 1737.0)])
def test_the_prompts_of_2024_are_scaled_to_the_mean_of_both(law: str, total: float) -> None:
    """Exact but for the rounding of the knots to hundredths."""
    assert sum(means(TOKEN_LAWS[law])) == pytest.approx(total, abs=0.01)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_presets_fields_and_a_given_field_wins(service: str) -> None:
    plain = build({"kind": "multi-tenant", "service": service}, "test")
    ours = build({"kind": "multi-tenant", "service": service, "rate_per_s": 7.0, "cv_p95": 20.0}, "test")
    assert isinstance(plain, MultiTenant)
    assert isinstance(ours, MultiTenant)
    assert {name: getattr(plain, name) for name in SERVICES[service]} == SERVICES[service]
    changed = {name for name in MultiTenant.model_fields if getattr(plain, name) != getattr(ours, name)}
    assert changed == {"rate_per_s", "cv_p95"}
    assert ours.client_rates().sum() == pytest.approx(7.0)


def test_days_of_different_size_leave_the_other_draws_alone() -> None:
    """One day at a time: the same load but for one factor, the same at every moment of the day."""
    spec = {"kind": "multi-tenant", "clients": 5, "rate_per_s": 50.0}
    flat, sized = (
        build({**spec, "day_sigma": sigma}, "test").sample(np.random.default_rng(3), 3600.0, 60.0)
        for sigma in (0.0, 0.5)
    )
    ratio = sized.history_per_s / flat.history_per_s
    assert np.ptp(ratio) < 1e-9
    assert abs(ratio[0] - 1.0) > 0.01


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
        ({"kind": "multi-tenant", "service": "m-smal"}, "service: unknown service 'm-smal'; did you mean 'm-small'"),
        ({"kind": "multi-tenant", "service": 3}, "service: unknown service '3'"),
        ({}, "no 'kind'"),
    ],
)
def test_a_wrong_workload_is_refused_with_file_and_field(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ScenarioError, match=message) as caught:
        build(spec, "my.yaml")
    assert str(caught.value).startswith("my.yaml")
