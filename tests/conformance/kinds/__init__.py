"""How the cases of each system are run: one module per system, each through the classes that simulation and live use.

A module names its `SYSTEM` as the files do and maps every kind of case to a function, in `KINDS`, from a case's input
to what came out, under the names of the case's `expected`. A function may raise `Refused` where upstream reports an
error.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

Runner = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Refused(Exception):
    """Upstream reports an error here and changes nothing."""


def runners() -> dict[tuple[str, str], Runner]:
    """(system, kind) to the function that runs such a case."""
    found: dict[tuple[str, str], Runner] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        found |= {(module.SYSTEM, kind): run for kind, run in module.KINDS.items()}
    return found
