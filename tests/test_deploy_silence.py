"""Metrics that all at once tell of no requests: doubted for a while, then believed."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st
from test_deploy_shields import at, seen

from rlscale.deploy import shield_config as config
from rlscale.deploy.shields.silence import Silence


def test_sudden_silence_is_doubted_and_then_believed() -> None:
    gate = Silence(config.Silence(doubt_s=60.0))
    assert [gate.judge(seen(40.0), at(now, 4)).who for now in range(0, 60, 15)] == ["scaler"] * 4
    ruled = [gate.judge(seen(0.0), at(now, 4)) for now in range(60, 150, 15)]
    assert [one.who for one in ruled] == ["hold"] * 4 + ["scaler"] * 2
    assert "0/s after 40/s" in ruled[0].reason
    assert gate.judge(seen(40.0), at(150, 4)).who == "scaler"


def test_requests_end_the_doubt_and_old_metrics_are_not_its_business() -> None:
    gate = Silence(config.Silence())
    for now in range(0, 60, 15):
        gate.judge(seen(40.0), at(now, 4))
    assert gate.judge(seen(0.0), at(60, 4)).who == "hold"
    assert gate.judge(seen(0.0), at(75, 4, blind="no value for waiting")).who == "scaler"
    assert gate.judge(seen(math.nan), at(90, 4)).who == "scaler"
    assert gate.judge(seen(30.0), at(105, 4)).who == "scaler"
    assert gate.judge(seen(0.0), at(120, 4)).who == "hold", "and begins anew"


@given(st.lists(st.floats(0.0, 1.9), min_size=5, max_size=40))
def test_few_requests_may_cease_by_chance(rates: list[float]) -> None:
    """Below 30 expected in the interval of 15 s nothing is held, whatever comes."""
    gate = Silence(config.Silence())
    assert all(gate.judge(seen(rate), at(15.0 * i, 4)).who == "scaler" for i, rate in enumerate(rates))


def test_a_load_that_fades_is_no_silence() -> None:
    gate = Silence(config.Silence())
    assert all(gate.judge(seen(40.0 * 0.8**i), at(15.0 * i, 4)).who == "scaler" for i in range(60))


def test_the_doubt_goes_on_after_a_restart() -> None:
    gate, after = Silence(config.Silence(doubt_s=60.0)), Silence(config.Silence(doubt_s=60.0))
    for now in range(0, 60, 15):
        gate.judge(seen(40.0), at(now, 4))
    gate.judge(seen(0.0), at(60, 4))
    after.restore(json.loads(json.dumps(gate.state())))
    assert after.judge(seen(0.0), at(105, 4)).who == "hold"
    assert after.judge(seen(0.0), at(120, 4)).who == "scaler"
