"""From what a YAML file says to a workload. Knows the families only through the registry."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from rlscale import registry
from rlscale.errors import RlscaleError, ScenarioError, nearest
from rlscale.types import Workload

UNITS = (("_per_s", "requests per second"), ("_per_day", "per day"), ("_s", "seconds"))


def build(spec: Mapping[str, Any], where: str) -> Workload:
    """The workload that `spec` describes; `where` (the file) begins every error message."""
    if not isinstance(spec, Mapping):
        raise ScenarioError(f"{where}: workload is {spec!r}; expected a mapping with the key 'kind'")
    kind = spec.get("kind")
    if not isinstance(kind, str):
        kinds = ", ".join(sorted(registry.scan("rlscale.workloads", "WORKLOADS")))
        raise ScenarioError(f"{where}: workload has no 'kind'; expected one of {kinds}")
    try:
        family = registry.get("rlscale.workloads", "WORKLOADS", kind, "workload kind")
    except ScenarioError as error:
        raise ScenarioError(f"{where}: {error}") from None
    return _make(family, kind, spec, where)


def _make(family: Any, kind: str, spec: Mapping[str, Any], where: str) -> Workload:
    fields = {str(key): value for key, value in spec.items()}
    if ":" in kind:
        del fields["kind"]  # a class from outside has no name here
    try:
        if isinstance(family, type) and issubclass(family, BaseModel):
            return cast(Workload, family.model_validate(fields, context={"where": where}))
        fields.pop("kind", None)
        return cast(Workload, family(**fields))
    except ValidationError as error:
        raise ScenarioError(f"{where}: workload '{kind}': {_explain(error, family)}") from None
    except RlscaleError as error:
        text = str(error)
        raise type(error)(text if text.startswith(where) else f"{where}: workload '{kind}': {text}") from None
    except TypeError as error:
        raise ScenarioError(f"{where}: workload '{kind}': {error}") from None


def _explain(error: ValidationError, family: type[BaseModel]) -> str:
    """Every fault on one line: field, what was got, what was expected."""
    return "; ".join(_fault(dict(item), family) for item in error.errors(include_url=False))


def _fault(item: dict[str, Any], family: type[BaseModel]) -> str:
    path = [str(part) for part in item["loc"] if not str(part).startswith(("function-", "dict[", "constrained"))]
    field = ".".join(path) or "fields"
    got = item["input"]
    if item["type"] == "extra_forbidden":
        return f"unknown key '{field}' (got {got!r}); {_near_field(path[-1], family)}"
    if item["type"] == "missing":
        return f"'{field}' is missing; add it ({_meaning(path, family)})"
    expected = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if item["type"] in {"value_error", "assertion_error"}:
        return f"{field}: {expected}" if path else expected
    unit = next((text for suffix, text in UNITS if path and path[0].endswith(suffix)), "")
    return f"{field}: got {got!r}, expected {expected}{f', a plain number in {unit}' if unit else ''}"


def _near_field(name: str, family: type[BaseModel]) -> str:
    """`rate_per_minute` is near `rate_per_s` only in its first half: compare without the unit as well."""
    known = list(family.model_fields)
    if difflib.get_close_matches(name, known, cutoff=0.5):
        return nearest(name, known)
    stem = name.split("_")[0]
    return nearest(next((field for field in known if field.split("_")[0] == stem), name), known)


def _meaning(path: list[str], family: type[BaseModel]) -> str:
    field = family.model_fields.get(path[0]) if path else None
    return (field.description if field else None) or "no default"
