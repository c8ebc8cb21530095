"""Energy, carbon, sessions, deferrable work and admission: each against what can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlscale.parts import Admission, Energy, Grid
from rlscale.sim.profiles import node_type, service_profile
from rlscale.sim.world import SimWorld
from rlscale.types import ClusterSpec, Load, Pool, Slo
from rlscale.workloads.tokens import CHAT

POOL = Pool("h100", node_type("h100-x1"), service_profile("h100-8b"), 0, 20)
SLO = Slo(1.0, 0.05, 5000.0)


def load_of(rate: float, seconds: int = 3600, **changes: Any) -> Load:
    return replace(Load("steady", 1.0, np.full(seconds, rate, np.float32), "poisson", (CHAT,)), **changes)


def run(load: Load, replicas: int, **changes: Any) -> SimWorld:
    world = SimWorld(ClusterSpec((POOL,), SLO, **changes), [load], [0], np.array([replicas]))
    for _ in range(round(load.duration_s / 15.0)):
        world.apply(np.array([[replicas]]))
        world.wait()
    return world


def test_an_idle_fleet_draws_host_and_loaded_idle() -> None:
    power = POOL.node.power
    world = run(load_of(0.0), 4, energy=Energy(True, 1.25, (("a", Grid((400.0,), (0.2,))),)))
    joules = 4 * (power.host_w + power.loaded_idle_w) * 3600.0
    q = world.pool[0, 0]
    assert q["energy_j"] == pytest.approx(joules)
    assert q["carbon_g"] == pytest.approx(joules / 3.6e6 * 1.25 * 400.0)
    assert q["energy_usd"] == pytest.approx(joules / 3.6e6 * 1.25 * 0.2)
    assert world.cost_usd()[0] == pytest.approx(4 * 4.09 + q["energy_usd"])


def test_power_rises_with_the_load_and_stays_below_the_prefill_power() -> None:
    power = POOL.node.power
    watts = [float(run(load_of(rate), 4, energy=Energy(True, 1.0)).pool["energy_j"][0, 0]) / 3600.0 / 4
             for rate in (0.0, 4.0, 20.0, 60.0)]  # fmt: skip
    assert watts == sorted(watts)
    assert watts[-1] < power.host_w + power.prefill_w
    assert watts[-1] > power.host_w + power.decode_low_w


def test_the_series_of_a_grid_follow_the_hours_of_the_week() -> None:
    """Intensity 100 in even hours, 300 in odd ones; the run begins at 30 minutes past an even hour."""
    grid = Energy(True, 1.0, (("a", Grid((100.0, 300.0), (0.0,))),))
    world = run(load_of(0.0, week_s=1800.0), 1, energy=grid)
    q = world.pool[0, 0]
    assert q["carbon_g"] == pytest.approx(q["energy_j"] / 3.6e6 * 200.0)


def test_sessions_multiply_the_requests_by_their_turns() -> None:
    """Seed 0, 6 h: 10 sessions/s of mean 4 turns make 40 requests/s within 2 %."""
    world = run(load_of(10.0, 21_600, continues=0.75, think_s=30.0), 10)
    assert world.cluster["arrived"][0] / 21_600 == pytest.approx(40.0, rel=0.02)


def test_a_slow_service_slows_its_own_sessions() -> None:
    loads = load_of(10.0, 3600, continues=0.75, think_s=30.0)
    arrived = [float(run(loads, replicas).cluster["arrived"][0]) for replicas in (1, 8)]
    assert arrived[0] < 0.8 * arrived[1]


def work(tokens: float, minute: int, minutes: int = 60) -> np.ndarray:
    values = np.zeros(minutes)
    values[minute] = tokens / 60.0
    return values


def test_deferrable_work_is_done_by_what_is_left_and_never_more_than_has_come() -> None:
    world = run(load_of(20.0, work_per_s=work(2e7, 5), deadline_s=1800.0), 4)
    assert world.cluster["work"][0] == pytest.approx(2e7, rel=1e-6)
    assert world.cluster["work_late"][0] == 0.0


def test_work_without_a_fleet_is_late_by_all_of_it() -> None:
    world = run(load_of(0.0, work_per_s=work(2e7, 5), deadline_s=1800.0), 0)
    assert world.cluster["work"][0] == 0.0
    assert world.cluster["work_late"][0] == pytest.approx(2e7)


def test_work_makes_passes_longer_but_keeps_the_slo() -> None:
    plain = run(load_of(40.0), 4)
    busy = run(load_of(40.0, work_per_s=np.full(60, 1e5), deadline_s=1800.0), 4)
    tpot = [float(w.cluster["tpot_sum_s"][0] / w.cluster["tpot_count"][0]) for w in (plain, busy)]
    assert 1.5 * tpot[0] < tpot[1] < 0.05
    met = [1.0 - float(w.cluster["missed"][0] / w.cluster["arrived"][0]) for w in (plain, busy)]
    assert met[1] > 0.97 * met[0]


def overloaded(**changes: Any) -> SimWorld:
    return run(load_of(60.0), 2, **changes)


def test_turning_newcomers_away_keeps_the_queue_short_and_serves_more_in_time() -> None:
    queued, turned = overloaded(), overloaded(admission=Admission("reject", 5.0))
    waiting = [float(max(0.0, w.cluster["queued"][0] - w.cluster["left"][0])) for w in (queued, turned)]
    assert waiting[1] < 5.0 * 2 + 100.0 < waiting[0]
    met = [float(w.cluster["finished"][0] + w.cluster["dropped"][0] - w.cluster["missed"][0]) for w in (queued, turned)]
    assert met[1] > 2.0 * met[0]


def test_cutting_answers_serves_more_requests() -> None:
    queued, cut = overloaded(), overloaded(admission=Admission("degrade", 5.0, 32.0))
    assert cut.cluster["degraded_steps"][0] > 100
    assert cut.cluster["finished"][0] > 1.2 * queued.cluster["finished"][0]
    tokens = [float(w.cluster["output_tokens"][0] / w.cluster["finished"][0]) for w in (queued, cut)]
    assert tokens[1] < 0.8 * tokens[0]
