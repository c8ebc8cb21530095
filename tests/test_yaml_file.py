"""Files that people write in YAML: whatever stands in them, one error that names file, line, field, got, expected."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from rlscale.errors import ScenarioError
from rlscale.yaml_file import MAX_BYTES, checked, line_of, mapping, read_mapping


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Entry(Strict):
    rate: float = 1.0


class Book(Strict):
    entries: list[Annotated[Entry, Field()]] = Field(default_factory=list)
    best: Entry | None = None
    words: dict[str, Any] = Field(default_factory=dict)


def fault(text: str, under: str = "") -> str:
    with pytest.raises(ScenarioError) as caught:
        raw = mapping(text, "book.yaml", "a book", ScenarioError)
        checked(Book, raw[under] if under else raw, "book.yaml", ScenarioError, text, under)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: " + "[" * 5000, "book.yaml: nested too deeply; expected a book"),
        ("best: {a: b\n", "book.yaml, line 2: not YAML (expected ',' or '}', but got '<stream end>'); expected a book"),
        ("words: {day: 2026-13-45}", "book.yaml: not YAML (month must be in 1..12); expected a book"),
        ("best: \x00", "book.yaml: not YAML (it cannot be parsed); expected a book"),
        ("words: !!python/object/apply:os.system ['true']", "book.yaml, line 1: not YAML (could not determine"),
        ("- best", "book.yaml: got ['best'], expected a book"),
        ("\nentries:\n- rate: 1.0\n- rat: 2.0\n", "line 4: unknown key 'entries.1.rat'; did you mean 'rate'?"),
        ("best: {rte: 2.0}", "book.yaml, line 1: unknown key 'best.rte'; did you mean 'rate'?"),
        ("bst: 1\n\nbest: {rate: much}",
         "book.yaml, line 3: best.rate: got 'much', expected a valid number; line 1: unknown key 'bst'; did you mean"),
    ],
)  # fmt: skip
def test_every_fault_is_named(text: str, said: str) -> None:
    assert said in fault(text)


def test_a_field_below_a_key_is_named_whole() -> None:
    assert "line 2: unknown key 'metrics.bst'; did you mean 'best'?" in fault(
        "service: a\nmetrics: {bst: 1}", "metrics"
    )


def test_what_was_got_is_shown_short() -> None:
    """Nine levels of ten names each for the level below: 10^9 words, were they written out."""
    levels = [f"  - &l{depth + 1} [{', '.join([f'*l{depth}'] * 10)}]\n" for depth in range(9)]
    text = "words:\n  first:\n  - &l0 lol\n" + "".join(levels) + "best: *l9\n"
    assert len(fault(text)) < 2000
    assert len(fault(f"best: {'x' * 100_000}")) < 200


def test_a_file_that_is_too_long_no_text_or_not_there_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "book.yaml"
    for content, said in ((b"#" * (MAX_BYTES + 1), "expected at most 1000000, a book"), (b"\xff\xfe", "is not text")):
        path.write_bytes(content)
        with pytest.raises(ScenarioError, match=said):
            read_mapping(path, "a book", ScenarioError)
    for nothing in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(ScenarioError, match=r"cannot be read \(.+\); expected a book"):
            read_mapping(nothing, "a book", ScenarioError)


def test_the_line_of_a_place_that_is_not_there_is_that_of_what_holds_it() -> None:
    text = "a:\n  b: 1\n  c:\n  - d\n  - e\n"
    assert [line_of(text, place) for place in ((), ("a",), ("a", "b"), ("a", "c", 1), ("a", "c", 7), ("a", "x"))] == [
        1, 1, 2, 5, 3, 1,
    ]  # fmt: skip
