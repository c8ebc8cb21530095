"""The parts of the full cluster as cases of the benchmark: each alone, and all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rlscale.parts import Actuator, Admission, Energy, Failures, Grid, Shortage, SpotMarket
from rlscale.scenario import Scenario
from rlscale.types import Load

Part = tuple[Callable[[Scenario], Scenario], Callable[[Load], Load]]
NODE_ROWS = 256


def _cluster(scenario: Scenario, **changes: object) -> Scenario:
    return replace(scenario, cluster=replace(scenario.cluster, **changes))  # type: ignore[arg-type]


def _pools(scenario: Scenario, **changes: object) -> Scenario:
    pools = tuple(replace(pool, **changes) for pool in scenario.cluster.pools)  # type: ignore[arg-type]
    return _cluster(scenario, pools=pools)


def _supply(scenario: Scenario) -> Scenario:
    return _cluster(_pools(scenario, spot=True), shortage=Shortage(), spot=SpotMarket())


def _failures(scenario: Scenario) -> Scenario:
    return _cluster(scenario, failures=Failures(0.05, 0.02, 0.01, 1800.0, "requeued"))


def _standby(scenario: Scenario) -> Scenario:
    return _pools(scenario, standby="sleeping", standby_replicas=2, max_standby=4)


def _actuator(scenario: Scenario) -> Scenario:
    return _cluster(scenario, actuator=Actuator(0.1, 300.0))


def _energy(scenario: Scenario) -> Scenario:
    zones = {pool.zone for pool in scenario.cluster.pools}
    return _cluster(scenario, energy=Energy(True, 1.2, tuple((zone, Grid((300.0,), (0.1,))) for zone in zones)))


def _admission(scenario: Scenario) -> Scenario:
    return _cluster(scenario, admission=Admission("reject", 20.0))


def _sessions(load: Load) -> Load:
    return replace(load, values=(0.25 * load.values).astype(np.float32), continues=0.75, think_s=45.0)


def _work(load: Load) -> Load:
    minutes = max(1, int(load.duration_s // 60.0))
    return replace(load, work_per_s=np.where(np.arange(minutes) % 30 == 0, 2.5e5, 0.0), deadline_s=21_600.0)


def _same(load: Load) -> Load:
    return load


def _none(scenario: Scenario) -> Scenario:
    return scenario


def _all(scenario: Scenario) -> Scenario:
    for part in (_supply, _failures, _standby, _actuator, _energy, _admission):
        scenario = part(scenario)
    return scenario


PARTS: dict[str, Part] = {
    "off": (_none, _same),
    "spot and shortage": (_supply, _same),
    "failures": (_failures, _same),
    "standby": (_standby, _same),
    "HPA": (_actuator, _same),
    "energy": (_energy, _same),
    "admission": (_admission, _same),
    "sessions": (_none, _sessions),
    "deferrable work": (_none, _work),
    "everything": (_all, lambda load: _work(_sessions(load))),
}
