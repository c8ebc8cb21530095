"""Files of conformance cases: reading them, and what counts as the same result."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OWN = Path(__file__).parent / "vectors"
SCHEMA = 1
TOLERANCES = ("abs_tolerance", "rel_tolerance")
# Upstream computes it in floating point on the way to an integer; the cases' README allows one.
LOOSE = {"ebc": 1.0}


@dataclass(frozen=True)
class Case:
    """One case of a file."""

    file: str
    system: str
    id: str
    kind: str
    input: Mapping[str, Any]
    expected: Mapping[str, Any]


def folder() -> Path:
    """`RLSCALE_VECTORS`, or the project's own copy."""
    return Path(os.environ.get("RLSCALE_VECTORS") or OWN)


def read(where: Path) -> Iterator[Case]:
    """All cases of all JSON files of a folder; a file that is none, or of another schema, is named."""
    files = sorted(where.glob("*.json"))
    if not files:
        raise ValueError(f"{where}: no *.json here; RLSCALE_VECTORS names a folder of conformance cases")
    for path in files:
        try:
            content = json.loads(path.read_text())
            if content["schema_version"] != SCHEMA:
                raise ValueError(f"schema_version {content['schema_version']}; expected {SCHEMA}")
            if content.get("case_count", len(content["cases"])) != len(content["cases"]):
                raise ValueError(f"{len(content['cases'])} cases; case_count says {content['case_count']}")
            for case in content["cases"]:
                asked = _questions(case["expected"])
                yield Case(
                    path.name, content["system"], case["id"], case["kind"], asked | case["input"], case["expected"]
                )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: {type(error).__name__}: {error}") from error


def _questions(expected: Mapping[str, Any]) -> dict[str, Any]:
    """What a case asks beside its input: which values to find a bucket for, and how many starts of buckets to name."""
    asked: dict[str, Any] = {}
    if "find" in expected:
        asked["find"] = [value for value, _ in expected["find"]]
    if "starts" in expected:
        asked["starts"] = len(expected["starts"])
    return asked


def differences(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """What of `expected` did not come out, a line each. Null is not asserted; tolerances stand beside the values."""
    tolerance = {name: float(expected.get(name, 0.0)) for name in TOLERANCES}
    asserted = {name: value for name, value in expected.items() if name not in (*TOLERANCES, "see", "note")}
    return list(_compare("", asserted, actual, tolerance))


def _compare(place: str, expected: Any, actual: Any, tolerance: Mapping[str, float]) -> Iterator[str]:
    if expected is None:
        return
    if isinstance(expected, Mapping):
        for name, value in expected.items():
            if not isinstance(actual, Mapping) or name not in actual:
                if value is not None:
                    yield f"{place}{name}: expected {value!r}, got nothing"
            else:
                yield from _compare(f"{place}{name}.", value, actual[name], tolerance)
    elif isinstance(expected, list):
        if not isinstance(actual, Sequence) or isinstance(actual, str) or len(actual) != len(expected):
            yield f"{place.rstrip('.')}: expected {expected!r}, got {actual!r}"
        else:
            for i, (want, got) in enumerate(zip(expected, actual, strict=True)):
                yield from _compare(f"{place}{i}.", want, got, tolerance)
    elif not _same(place, expected, actual, tolerance):
        yield f"{place.rstrip('.')}: expected {expected!r}, got {actual!r}"


def _same(place: str, expected: Any, actual: Any, tolerance: Mapping[str, float]) -> bool:
    numbers = (int, float)
    if isinstance(expected, bool) or not isinstance(expected, numbers):
        return bool(actual == expected) and isinstance(actual, bool) == isinstance(expected, bool)
    if isinstance(actual, bool) or not isinstance(actual, numbers):
        return False
    within = max(tolerance["abs_tolerance"], LOOSE.get(place.rstrip(".").rpartition(".")[2], 0.0))
    return actual == expected or math.isclose(actual, expected, rel_tol=tolerance["rel_tolerance"], abs_tol=within)
