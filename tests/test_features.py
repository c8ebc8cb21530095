"""Features against the plain computation of what their table says, and compiled against plain Python, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from envs import get_scenario
from rlscale import features, monitor
from rlscale.checks import limits_of, observation
from rlscale.features import FEATURES, HIGHEST, LOWEST, NAMES, WINDOWS_S, FeatureExtractor
from rlscale.monitor import Monitor
from rlscale.sim.world import SimWorld
from rlscale.types import Observation, ScalingLimits

INTERVAL_S = 15.0
ROWS, POOLS = 5, 2


def plain(patch: pytest.MonkeyPatch, module: Any, *kernels: str) -> None:
    """Let the kernels of a module run as plain Python."""
    for name in kernels:
        patch.setattr(module, name, getattr(module, name).py_func)


def seen_by(known: ScalingLimits, rng: np.random.Generator, step: int, rows: int = ROWS) -> Observation:
    """A random moment of `rows` clusters; every tenth metric is missing or cannot be, loads jump over decades."""

    def metric(scale: float, *shape: int) -> Any:
        broken = rng.choice([np.nan, -1.0, np.inf], (rows, *shape))
        return np.where(rng.random((rows, *shape)) < 0.1, broken, scale * rng.random((rows, *shape)))

    ready, pending = rng.integers(0, 6, (rows, POOLS)), rng.integers(0, 3, (rows, POOLS, 7))
    return replace(
        observation(known), t_s=np.full(rows, INTERVAL_S * step), week_s=INTERVAL_S * step + 50_000.0 * np.arange(rows),
        age_s=10.0 * rng.random(rows), arrival_per_s=metric(10.0 ** rng.integers(-1, 3)), waiting=metric(300.0),
        ttft_s=metric(3.0), tpot_s=metric(0.1), attainment=metric(1.0), compute_occupancy=metric(2.0, POOLS),
        memory_occupancy=metric(1.0, POOLS), ready=ready, pending=pending.sum(axis=2),
        pending_by_age=pending.astype(np.float64), target=ready + 1, ready_at_scrape=ready,
        draining=rng.integers(0, 2, (rows, POOLS)), standby=rng.integers(0, 3, (rows, POOLS)),
        carbon_g_per_kwh=800.0 * rng.random((rows, POOLS)), work_waiting=4e9 * rng.random(rows),
        work_urgent=1e9 * rng.random(rows),
    )  # fmt: skip


def by_the_table(known: ScalingLimits, seen: Observation, rates: list[float], good: dict[str, float], r: int) -> Any:
    """One row of features, as the names and units of `FEATURES` say; `rates` of the last hour, newest last."""
    capacity = known.capacity_per_s
    served = max(float(seen.ready[r] @ capacity), float(capacity.min()))
    largest = float(known.max_replicas @ capacity)
    work_per_h = max(1.0, 3600.0 * known.max_replicas @ known.work_tokens_per_s[:POOLS])
    mean = {window: np.mean(rates[-round(window / INTERVAL_S) :]) for window in WINDOWS_S}
    angle = {name: 2.0 * math.pi * seen.week_s[r] / period for name, period in (("day", 86_400.0), ("week", 604_800.0))}
    value = {
        "load_now": rates[-1] / served,
        **{f"load_{window:g}s": mean[window] / served for window in WINDOWS_S},
        "load_peak": max(rates) / served,
        "load_slope": (mean[60.0] - mean[900.0]) / served,
        "load_noise": np.std(rates[-20:]) / served,
        "backlog": good["waiting"] / (served * known.drain_s),
        "compute_occupancy": good["compute_occupancy"],
        "memory_occupancy": good["memory_occupancy"],
        "ttft": good["ttft_s"] / known.slo.ttft_s,
        "tpot": good["tpot_s"] / known.slo.tpot_s,
        "missed": good["missed"],
        **{name: seen.pending_by_age[r, :, k] @ capacity / served
           for k, name in enumerate(name for name in NAMES if name.startswith("pending"))},
        **{name: getattr(seen, name)[r] @ capacity / largest for name in ("ready", "target", "draining")},
        **{f"{name}_{f.__name__}": f(angle[name]) for name in angle for f in (math.sin, math.cos)},
        "age": seen.age_s[r] / INTERVAL_S,
        "missing": float(not 0.0 <= seen.arrival_per_s[r] < math.inf),
        "lead_median": known.start_median_s.max() / 600.0,
        "lead_p95": known.start_p95_s.max() / 600.0,
        "standby": seen.standby[r] @ capacity / served,
        "carbon_least": seen.carbon_g_per_kwh[r].min() / 500.0,
        "carbon_spread": np.ptp(seen.carbon_g_per_kwh[r]) / 500.0,
        "work_waiting": seen.work_waiting[r] / work_per_h,
        "work_urgent": seen.work_urgent[r] / work_per_h,
    }  # fmt: skip
    return np.clip([value[name] for name, *_ in FEATURES], LOWEST, HIGHEST)


def last_good(known: ScalingLimits, seen: Observation, r: int, good: dict[str, float]) -> dict[str, float]:
    """The newest value of every metric that was there and possible; pools weighted by their capacity."""
    share = known.capacity_per_s / known.capacity_per_s.sum()
    now = {name: float(getattr(seen, name)[r]) for name in ("arrival_per_s", "waiting", "ttft_s", "tpot_s")}
    now |= {name: float(getattr(seen, name)[r] @ share) for name in ("compute_occupancy", "memory_occupancy")}
    now["missed"] = 1.0 - float(seen.attainment[r])
    return {name: value if 0.0 <= value < math.inf else good.get(name, 0.0) for name, value in now.items()}


@pytest.fixture
def known() -> ScalingLimits:
    """Two unequal pools and a TPOT limit."""
    limits = limits_of(POOLS)
    return replace(limits, slo=replace(limits.slo, tpot_s=0.05))


def test_features_are_what_their_table_says(known: ScalingLimits) -> None:
    """Five random clusters over three turns of the hour-long ring; seed 0."""
    rng = np.random.default_rng(0)
    history = 50.0 * rng.random(60)
    extractor = FeatureExtractor(known, INTERVAL_S, ROWS)
    extractor.reset(slice(None), history, 60.0)
    rates = [list(np.repeat(history, 4)) for _ in range(ROWS)]
    good: list[dict[str, float]] = [{} for _ in range(ROWS)]
    for step in range(720):
        seen = seen_by(known, rng, step)
        found = extractor.push(seen)
        for r in range(ROWS):
            good[r] = last_good(known, seen, r, good[r])
            rates[r] = [*rates[r][-239:], good[r]["arrival_per_s"]]
            np.testing.assert_allclose(found[r], by_the_table(known, seen, rates[r], good[r], r), rtol=1e-6, atol=1e-7)


def test_a_row_that_begins_anew_is_a_new_extractor_bit_for_bit(known: ScalingLimits) -> None:
    """Row 3 begins anew after 100 intervals, in the middle of the other rows' ring."""
    rng = np.random.default_rng(1)
    extractor, alone = FeatureExtractor(known, INTERVAL_S, ROWS), FeatureExtractor(known, INTERVAL_S)
    for step in range(100):
        extractor.push(seen_by(known, rng, step))
    history = 80.0 * rng.random((1, 60))
    extractor.reset(np.array([3]), history, 60.0)
    alone.reset(0, history[0], 60.0)
    for step in range(300):
        seen = seen_by(known, rng, step)
        found = extractor.first(seen, np.array([3]))[0] if step == 0 else extractor.push(seen)[3]
        np.testing.assert_array_equal(alone.push(monitor.row(seen, 3))[0], found)


def test_history_that_is_short_or_has_gaps_is_filled_with_its_mean(known: ScalingLimits) -> None:
    extractor = FeatureExtractor(known, INTERVAL_S)
    extractor.reset(0, np.array([30.0, np.nan, 10.0]), 60.0)
    found = extractor.push(observation(known, arrival_per_s=20.0, ready=np.array([1, 0])))
    minutes = 20.0 + 4 * 10.0 + 4 * 20.0 + 4 * 30.0 + 7 * 20.0  # now, the history, its mean
    assert found[0, NAMES.index("load_300s")] == pytest.approx(minutes / 200.0)
    assert found[0, NAMES.index("load_3600s")] == pytest.approx(2.0)
    assert found[0, NAMES.index("load_peak")] == pytest.approx(3.0)
    assert np.isfinite(found).all()


def rounds(known: ScalingLimits) -> Iterator[np.ndarray]:
    """Features of 300 random intervals, with rows that begin anew on the way."""
    rng = np.random.default_rng(2)
    extractor = FeatureExtractor(known, INTERVAL_S, ROWS)
    for step in range(300):
        seen = seen_by(known, rng, step)
        yield extractor.push(seen)
        if step % 70 == 0:
            rows = np.array([step // 70, 0])
            extractor.reset(rows, rng.random((2, 60)), 60.0)
            yield extractor.first(seen, rows)


def test_compiled_features_are_plain_python_bit_for_bit(known: ScalingLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = list(rounds(known))
    plain(monkeypatch, features, "_push", "_begin", "_turn", "circle")
    for found, expected in zip(rounds(known), compiled, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_compiled_observations_are_plain_python_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pools, noise of 10 %, one scrape in five fails; plain Python reads the records as attributes."""
    mixed = get_scenario("chat-mixed")
    spec = replace(mixed.cluster, metric_noise=0.1, metric_missing_share=0.2)
    world = SimWorld(spec, [mixed.sample_load("train", 0)], [1, 2, 3], np.array([3, 4]))
    compiled, by_hand = Monitor(world, mixed.limits), Monitor(world, mixed.limits)
    watch = monitor._watch
    for step in range(40):
        world.apply(np.array([[3 + step % 3, 5 + step % 4]] * 3))
        world.wait()
        expected = compiled.observe()
        with monkeypatch.context() as patch:
            plain(patch, monitor, "_watch")
            for name in ("cluster", "pool", "slot", "scrape", "scrape_before", "pool_scrape"):
                patch.setattr(world, name, getattr(world, name).view(np.recarray))
            found = by_hand.observe()
        for name in Observation.__slots__:
            value = getattr(expected, name)
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
    assert monitor._watch is watch


def test_an_observation_is_a_value() -> None:
    """What was seen stays as it was while the world goes on and while single rows are looked at again."""
    chat = get_scenario("chat")
    world = SimWorld(chat.cluster, [chat.sample_load("train", 0)], [1, 2, 3], np.array([6]))
    watcher = Monitor(world, chat.limits)
    world.wait()
    first = watcher.observe()
    kept = {name: np.array(getattr(first, name)) for name in monitor.NUMBERS + monitor.OCCUPANCIES + monitor.COUNTS}
    world.wait()
    rows = np.array([1])
    again = watcher.observe_again(rows)
    now = watcher.observe()
    for name, value in kept.items():
        np.testing.assert_array_equal(getattr(first, name), value)
        np.testing.assert_array_equal(getattr(again, name)[[0, 2]], value[[0, 2]])
        np.testing.assert_array_equal(getattr(again, name)[1], getattr(now, name)[1])
