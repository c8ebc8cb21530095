"""Names to objects: scans a package for the tables its modules declare. Knows nothing of what it finds."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

from rlscale.errors import ScenarioError, nearest


def scan(package: str, table: str) -> dict[str, Any]:
    """Merge the dict named `table` of every module in `package`, plus entry points of the group `rlscale.<table>`.

    A module without the table is skipped. Two modules that claim one name are a programming error.
    """
    found: dict[str, Any] = {}
    root = importlib.import_module(package)
    for module_info in pkgutil.iter_modules(root.__path__):
        if module_info.name.startswith("_"):
            continue
        declared: Mapping[str, Any] = getattr(importlib.import_module(f"{package}.{module_info.name}"), table, {})
        clash = found.keys() & declared.keys()
        assert not clash, f"{package}.{module_info.name} declares {clash} a second time"
        found.update(declared)
    for point in _installed(f"rlscale.{table.lower()}"):
        found.setdefault(point.name, point)
    return found


@cache
def _installed(group: str) -> tuple[metadata.EntryPoint, ...]:
    """Entry points of a group. Once per process: reading what every installed distribution declares takes 10 ms."""
    return tuple(metadata.entry_points(group=group))


def get(package: str, table: str, name: str, what: str) -> Any:
    """The object called `name`; `module:Class` names one from outside; unknown names are met with the nearest ones."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ScenarioError(f"{what} '{name}' cannot be imported: {error}; expected module:Class") from None
    found = scan(package, table)
    if name not in found:
        raise ScenarioError(f"unknown {what} '{name}'; {nearest(name, found)}")
    entry = found[name]
    return entry.load() if isinstance(entry, metadata.EntryPoint) else entry
