"""Scalers with explicit state: saved as JSON, restored into another object, they go on as if nothing had happened."""

from __future__ import annotations

import json

import pytest

from rlscale import registry
from rlscale.checks import ToyFleet, drive, limits_of
from rlscale.execute import bound

KINDS = registry.scan("agents", "SCALERS")
STATEFUL = (
    "aws-target-tracking",
    "aws-step",
    "aws-simple",
    "aws-predictive",
    "gcp-mig",
    "azure-autoscale",
    "autopilot",
    "token-backlog",
    "cluster-autoscaler",
)


@pytest.mark.parametrize("intervals", [0, 1, 250])
@pytest.mark.parametrize("pools", [1, 3])
@pytest.mark.parametrize("name", STATEFUL)
def test_a_restored_scaler_decides_as_the_one_that_was_saved(name: str, pools: int, intervals: int):
    limits = limits_of(pools)
    saved, other = KINDS[name].build(limits), KINDS[name].build(limits)
    fleet = ToyFleet(limits, 90.0)
    drive(saved, fleet, intervals)
    other.restore(json.loads(json.dumps(saved.state(), allow_nan=False)))
    for k in range(200):
        fleet.rate_per_s = 30.0 + 60.0 * (k // 50 % 2)
        seen = fleet.measure()
        decision = saved.decide(seen)
        assert other.decide(seen) == decision, k
        fleet.apply(bound(decision, limits, seen.target).target)
        fleet.wait()
    assert other.state() == saved.state()


def test_the_history_of_days_survives_too():
    limits = limits_of()
    for name, parameters in (("aws-predictive", {}), ("gcp-mig", {"predictive": True})):
        saved, other = KINDS[name].build(limits, **parameters), KINDS[name].build(limits, **parameters)
        for hour in range(80):
            saved.forecast.learn(3600.0 * hour, float(hour % 24))
        other.restore(json.loads(json.dumps(saved.state(), allow_nan=False)))
        assert other.forecast.ahead(3600.0 * 80) == saved.forecast.ahead(3600.0 * 80) == 80 % 24
