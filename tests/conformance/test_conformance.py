"""Production scalers against what upstream's own tests and documents require, case by case.

The cases are those of the folder named by RLSCALE_VECTORS, by default the project's own copy.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conformance.kinds import Refused, runners
from conformance.vectors import Case, differences, folder, read

CASES = list(read(folder()))
RUNNERS = runners()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_conformance(case: Case, record_property: pytest.RecordProperty) -> None:
    record_property("conformance", case.system)
    run = RUNNERS.get((case.system, case.kind))
    assert run is not None, f"no runner for kind '{case.kind}' of {case.system}"
    try:
        actual = dict(run(case.input))
    except Refused as error:
        assert case.expected.get("error"), f"refused: {error}"
        return
    assert not case.expected.get("error") or actual.get("error"), f"expected an error, got {actual}"
    wrong = differences(case.expected, actual)
    assert not wrong, f"{case.file}: " + "; ".join(wrong)


def test_the_projects_own_copy_is_complete() -> None:
    assert len(list(read(Path(__file__).parent / "vectors"))) == 343


@pytest.mark.parametrize(
    ("expected", "actual", "wrong"),
    [
        ({"replicas": 3}, {"replicas": 3, "more": 1}, 0),
        ({"replicas": 3}, {"replicas": 4}, 1),
        ({"replicas": 3}, {}, 1),
        ({"replicas": None}, {"replicas": 4}, 0),
        ({"replicas": 1}, {"replicas": True}, 1),
        ({"valid": True}, {"valid": 1}, 1),
        ({"forecast": 1.0, "abs_tolerance": 0.1}, {"forecast": 1.05}, 0),
        ({"forecast": 1.0, "abs_tolerance": 0.1}, {"forecast": 1.2}, 1),
        ({"steps": [{"ebc": 3}, {"ebc": 5}]}, {"steps": [{"ebc": 4}, {"ebc": 7}]}, 1),
        ({"best": ["a", "b"]}, {"best": ["a"]}, 1),
    ],
)
def test_what_counts_as_the_same(expected: dict[str, object], actual: dict[str, object], wrong: int) -> None:
    assert len(differences(expected, actual)) == wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "JSONDecodeError"),
        ('{"schema_version": 2, "cases": []}', "schema_version 2; expected 1"),
        ('{"schema_version": 1, "case_count": 3, "system": "x", "cases": []}', "0 cases; case_count says 3"),
        ('{"schema_version": 1}', "cases"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(ValueError, match=r"odd\.json") as caught:
        list(read(tmp_path))
    assert said in str(caught.value)


def test_an_unseen_folder_of_the_same_schema_is_read(tmp_path: Path) -> None:
    case = {"id": "x.y.001", "kind": "y", "provenance": "analytic", "source_path": "", "input": {}, "expected": {}}
    content = {"schema_version": 1, "system": "x", "case_count": 1, "cases": [case]}
    (tmp_path / "new.json").write_text(json.dumps(content))
    assert [found.id for found in read(tmp_path)] == ["x.y.001"]
    with pytest.raises(ValueError, match=r"no \*\.json"):
        list(read(tmp_path / "nowhere"))
