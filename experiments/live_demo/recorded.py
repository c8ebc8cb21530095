"""The requests of a demonstration: drawn once from the scenario's test load, then the same for everybody."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.results import write_csv
from rlscale.beginning import initial_replicas
from rlscale.scenario import Scenario
from rlscale.types import Load, Requests
from rlscale.workloads.requests import draw_requests

STREAM = 7  # of luck, for the requests
COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")


@dataclass(frozen=True)
class Recorded:
    """A load with every request in it, and the fleet it begins with."""

    load: Load
    requests: Requests
    initial: int  # replicas

    def write(self, path: Path) -> None:
        """As the clients read it."""
        table = np.column_stack([getattr(self.requests, name) for name in COLUMNS])
        write_csv(path, [dict(zip(COLUMNS, row, strict=True)) for row in table.tolist()], COLUMNS)


def record(scenario: Scenario, seed: int, initial: int | None = None) -> Recorded:
    """Requests of the test load with this seed. The load knows no history: a service that just began has none.

    `initial` replicas; what the load needs by default, for which the simulator has to be there.
    """
    load = scenario.sample_load("test", seed)
    requests = draw_requests(load, np.random.default_rng([STREAM, seed]))
    cells = (requests.arrival_s / load.step_s).astype(np.int64)
    counts = np.bincount(cells, minlength=len(load.values)).astype(np.float32)
    known = replace(load, law="counts", values=counts, requests=requests, history_per_s=np.zeros(0))
    return Recorded(known, requests, initial_replicas(load, scenario.limits)[0] if initial is None else initial)
