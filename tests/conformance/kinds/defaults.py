"""Default settings: those that each family declares of its product, by the name of the case."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

import agents

SYSTEM = "defaults"


def declared() -> dict[str, dict[str, Any]]:
    """All tables `UPSTREAM_DEFAULTS` of the scalers, merged."""
    found: dict[str, dict[str, Any]] = {}
    for info in pkgutil.iter_modules(agents.__path__):
        if not info.name.startswith("_"):
            found |= getattr(importlib.import_module(f"agents.{info.name}"), "UPSTREAM_DEFAULTS", {})
    return found


def defaults(case: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one product."""
    return dict(declared()[case["system"]])


KINDS = {"defaults": defaults}
