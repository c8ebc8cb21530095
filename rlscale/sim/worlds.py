"""Which engine runs a cluster: `fluid` for training and large comparisons, `request` for every single request."""

from __future__ import annotations

from typing import Any

from rlscale.errors import ScenarioError
from rlscale.sim.request_world import RequestWorld
from rlscale.sim.world import SimWorld

ENGINES: dict[str, type[SimWorld]] = {"fluid": SimWorld, "request": RequestWorld}


def make_world(engine: str, *args: Any, **more: Any) -> SimWorld:
    """A world of clusters on an engine; arguments are those of `SimWorld`."""
    if engine not in ENGINES:
        raise ScenarioError(f"engine '{engine}'; expected {' or '.join(ENGINES)}")
    return ENGINES[engine](*args, **more)
