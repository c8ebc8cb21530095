"""What can be named in live.yaml: sources of metrics, backends, elections. From outside they come as entry points.

A kind is a model of its options and a function that builds it from them; it is imported when it is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from rlscale.deploy.base import Clock, LiveConfigError
from rlscale.errors import nearest
from rlscale.types import ScalingLimits
from rlscale.yaml_file import checked

Options = TypeVar("Options", bound=BaseModel)

SOURCES = {"none": "rlscale.deploy.no_metrics:KIND", "prometheus": "rlscale.deploy.metrics_config:KIND",
           "scrape": "rlscale.deploy.scrape:KIND"}  # fmt: skip
BACKENDS = {
    "dry-run": "rlscale.deploy.dry_run:KIND",
    "kubernetes": "rlscale.deploy.kubernetes:KIND",
    "keda": "rlscale.deploy.keda:KIND",
    "http": "rlscale.deploy.http_decide:KIND",
    "rest": "rlscale.deploy.rest:KIND",
}
LEADERS = {"none": "rlscale.deploy.lease:ALWAYS", "lease": "rlscale.deploy.lease:KIND"}
TABLES = {"metrics": (SOURCES, "rlscale.sources"), "backend": (BACKENDS, "rlscale.backends"),
          "leader": (LEADERS, "rlscale.leaders")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Site:
    """What every kind may need to know of the service it is built for."""

    service: str
    limits: ScalingLimits
    interval_s: float
    clock: Clock
    leads: Callable[[], bool] = lambda: True
    last_order_s: float = math.inf  # an order begun while leading has to end within it


@dataclass(frozen=True, slots=True)
class Kind(Generic[Options]):
    """One thing that can be named."""

    options: type[Options]
    build: Callable[[Options, Site], Any]


def build(field: str, entry: Mapping[str, Any], site: Site, where: str, text: str = "") -> Any:
    """What `field` of live.yaml names, built. LiveConfigError for unknown kinds and options."""
    table, group = TABLES[field]
    name = str(entry["kind"])
    kind = _kind(field, name, table, group, where)
    options = {key: value for key, value in entry.items() if key != "kind"}
    try:
        return kind.build(checked(kind.options, options, where, LiveConfigError, text, field), site)
    except LiveConfigError as error:
        said = str(error)
        raise LiveConfigError(said if said.startswith(where) else f"{where}: {said}") from None


def _kind(field: str, name: str, table: Mapping[str, str], group: str, where: str) -> Kind[Any]:
    if name in table:
        module, _, attribute = table[name].partition(":")
        found: Kind[Any] = getattr(import_module(module), attribute)
        return found
    installed = {point.name: point for point in metadata.entry_points(group=group)}
    if name not in installed:
        known = nearest(name, {*table, *installed})
        raise LiveConfigError(f"{where}: {field}: unknown kind '{name}'; {known}; one of your own is an entry point of "
                              f"{group}")  # fmt: skip
    loaded = installed[name].load()
    if not isinstance(loaded, Kind):
        raise LiveConfigError(f"{field}: the entry point '{name}' of {group} is a {type(loaded).__name__}, expected a "
                              "rlscale.deploy.kinds.Kind")  # fmt: skip
    return loaded
