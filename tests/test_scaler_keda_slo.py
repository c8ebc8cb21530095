"""llm-d's latency law on KEDA."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from agents import keda_slo as family
from agents.keda_slo import Band, KedaSlo, Signal, worst_of
from rlscale.checks import ToyFleet, drive, limits_of, observation, totals
from rlscale.errors import ScenarioError
from rlscale.types import Observation, ScalingLimits, Slo

SLO = replace(limits_of(), slo=Slo(ttft_s=1.0, tpot_s=0.05))


def seen(t: float, ready: int, p90_s: float, pending: int = 0, **changes: Any) -> Observation:
    fleet = {"ready": np.array([ready]), "pending": np.array([pending]), "target": np.array([ready + pending])}
    load = {"arrival_per_s": 10.0, "running": 10.0, "ttft_p90_s": p90_s, "ready_at_scrape": np.array([ready])}
    return observation(SLO, t_s=float(t), **(fleet | load | changes))


# Signal.
def test_the_worst_of_both_latencies_over_their_slos_counts() -> None:
    assert worst_of(seen(0, 1, 0.4, tpot_p90_s=0.04), 1.0, 0.05) == (pytest.approx(0.8), "P90 TPOT")
    assert worst_of(seen(0, 1, 0.9, tpot_p90_s=0.04), 1.0, 0.05) == (0.9, "P90 TTFT")


def test_without_a_p90_the_mean_stands_in_and_the_words_say_so() -> None:
    assert worst_of(seen(0, 1, math.nan, ttft_s=0.3), 1.0, 0.05) == (0.3, "mean TTFT")
    assert "mean TTFT" in KedaSlo(SLO).decide(seen(0, 1, math.nan, ttft_s=0.3)).reason
    assert "P90 TTFT" in KedaSlo(SLO).decide(seen(0, 1, 0.3, ttft_s=0.2)).reason


def test_no_traffic_reads_zero_and_traffic_without_latency_nothing() -> None:
    idle = {"arrival_per_s": 0.0, "running": 0.0}
    assert worst_of(seen(0, 1, math.nan, **idle), 1.0, 0.05) == (0.0, "no traffic")
    assert math.isnan(worst_of(seen(0, 1, math.nan), 1.0, 0.05)[0])


def test_an_slo_without_a_tpot_never_counts_it() -> None:
    assert worst_of(seen(0, 1, 0.1, tpot_p90_s=9.0), 1.0, math.inf) == (0.1, "P90 TTFT")


def test_samples_are_clamped_before_they_are_averaged_over_45_seconds() -> None:
    signal = Signal()
    for t_s, ratio in ((0.0, 90.0), (15.0, 0.5), (30.0, 0.5)):
        signal.record(t_s, ratio)
    assert signal.mean(30.0) == pytest.approx(1.0)
    assert signal.mean(45.0) == pytest.approx(0.5)  # the first is 45 s old
    assert math.isnan(signal.mean(75.0))
    restored = Signal()
    restored.restore(json.loads(json.dumps(signal.state())))
    assert restored.mean(30.0) == signal.mean(30.0)


# Law.
@pytest.mark.parametrize(
    ("signal", "replicas", "ready", "wanted"),
    [
        (0.55, 4, 4, 4),  # the band's ends belong to it
        (0.40, 4, 4, 4),
        (0.60, 4, 4, 5),  # 4 + ceil(4 * 0.0909)
        (1.10, 4, 4, 8),
        (2.00, 4, 4, 15),
        (1.10, 8, 4, 8),  # credited with the four that start
        (1.65, 8, 4, 12),
        (1.10, 8, 0, 16),  # nothing serves: no credit
        (0.60, 8, 4, 5),  # a credit may undo the growth itself
        (0.30, 8, 4, 6),  # shrinking is not credited
        (0.39, 4, 4, 4),
        (0.00, 4, 4, 0),
    ],
)
def test_the_law(signal: float, replicas: int, ready: int, wanted: int) -> None:
    assert Band().desired(signal, replicas, ready) == wanted


def test_up_waits_for_one_more_sync_and_down_is_one_replica_every_two_minutes() -> None:
    scaler, counts, replicas = KedaSlo(SLO), [], 4
    for turn in range(60):
        replicas = scaler.decide(seen(15 * turn, replicas, 0.5 if turn < 20 else 0.05)).target[0]
        counts.append(replicas)
    assert counts[:20] == [4] * 20
    falls = [15 * turn for turn in range(1, 60) if counts[turn] < counts[turn - 1]]
    assert falls[0] - 15 * 20 >= 180
    assert all(later - earlier == 120 for earlier, later in pairwise(falls))
    assert counts[-1] == 1

    scaler, counts, replicas = KedaSlo(SLO), [], 4
    for turn in range(10):
        replicas = scaler.decide(seen(15 * turn, replicas, 0.5 if turn < 4 else 1.5)).target[0]
        counts.append(replicas)
    assert counts[:6] == [4, 4, 4, 4, 4, 7]  # of the 30 s window, the sync before counts, that 30 s ago does not


def test_missing_metrics_hold_though_the_rules_upstream_read_them_as_idle() -> None:
    scaler = KedaSlo(SLO)
    scaler.decide(seen(0, 4, 0.5))
    for turn in range(1, 60):
        decision = scaler.decide(seen(15 * turn, 4, math.nan, arrival_per_s=math.nan, age_s=15.0 * turn))
        assert decision.target == (4,)
        assert decision.reason.startswith("hold")


def test_requests_without_any_latency_hold() -> None:
    assert "no latency yet" in KedaSlo(SLO).decide(seen(0, 0, math.nan, pending=3)).reason


def test_from_zero_requests_activate() -> None:
    limits = limits_of()
    limits.min_replicas[:] = 0
    called = observation(limits, ready=np.array([0]), waiting=3.0, arrival_per_s=1.0)
    assert KedaSlo(limits).decide(called).target == (1,)
    assert KedaSlo(limits).decide(replace(called, waiting=0.0, arrival_per_s=0.0)).target == (0,)


def test_in_a_closed_circle_latency_settles_within_the_band() -> None:
    """60 requests/s, replicas start in 2 minutes, 3 hours; no randomness. TTFT in the toy is 0.44 s at 7 replicas."""
    limits: ScalingLimits = limits_of()
    fleet = ToyFleet(limits, 60.0, start_s=120.0)
    settled = totals(drive(KedaSlo(limits), fleet, 720))[-40:]
    assert set(settled) == {7}
    assert 0.40 <= fleet.measure().ttft_s <= 0.55


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"upper": 0.0}, "upper"),
        ({"upper": 2.0}, "clamp"),
        ({"lower": 0.6}, "lower"),
        ({"smoothing_s": 0.0}, "window_s"),
        ({"cooldown_s": math.nan}, "cooldown_s"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        KedaSlo(SLO, **settings)


def test_both_ends_of_every_searched_parameter_can_be_built() -> None:
    for parameter, (_, *values) in family.SEARCH["keda-slo"].items():
        for value in values:
            KedaSlo(SLO, **{parameter: value})
