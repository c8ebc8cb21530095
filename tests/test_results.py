"""The result folder: whole files or none, nothing overwritten, clear words for a full disk."""

from __future__ import annotations

import errno
import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from experiments import results
from experiments.results import ResultFolder
from rlscale.errors import ResultError

STUDY = {"study": {"name": "a", "targets": (0.99,)}, "code": "1"}


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_new_or_empty_folder_is_taken(tmp_path: Path):
    ResultFolder(tmp_path / "new" / "deep").open(STUDY, resume=False)
    (tmp_path / "empty").mkdir()
    ResultFolder(tmp_path / "empty").open(STUDY, resume=False)
    assert (tmp_path / "empty" / "cells").is_dir()


def test_a_finished_comparison_is_never_overwritten_not_even_by_resume(tmp_path: Path):
    results.write_json(tmp_path / "results.json", {"old": 1})
    for resume in (False, True):
        with pytest.raises(ResultError, match="never overwritten; give --out another name"):
            ResultFolder(tmp_path).open(STUDY, resume)
    assert json.loads((tmp_path / "results.json").read_text()) == {"old": 1}


def test_an_interrupted_comparison_needs_resume_and_the_same_study(tmp_path: Path):
    ResultFolder(tmp_path).open(STUDY, resume=False)
    with pytest.raises(ResultError, match="interrupted comparison; --resume goes on with it"):
        ResultFolder(tmp_path).open(STUDY, resume=False)
    ResultFolder(tmp_path).open(STUDY, resume=True)
    with pytest.raises(ResultError, match="started with another study; give the same study, or another --out"):
        ResultFolder(tmp_path).open({**STUDY, "study": {"name": "b"}}, resume=True)
    with pytest.raises(ResultError, match="code has changed since"):
        ResultFolder(tmp_path).open({**STUDY, "code": "2"}, resume=True)


def test_somebody_elses_folder_or_a_file_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(ResultError, match="not empty and holds no comparison"):
            ResultFolder(tmp_path).open(STUDY, resume)
    with pytest.raises(ResultError, match="is a file"):
        ResultFolder(tmp_path / "notes.txt").open(STUDY, resume=False)


def test_cells_copied_into_a_new_folder_are_taken_up(tmp_path: Path):
    (tmp_path / "cells").mkdir()
    ResultFolder(tmp_path).open(STUDY, resume=True)
    assert (tmp_path / "started.json").exists()


def test_a_write_that_fails_leaves_nothing_under_the_final_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(results.os, "fsync", full_disk)
    with pytest.raises(OSError):
        results.write_json(tmp_path / "cell.json.gz", {"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(results.os, "fsync", full_disk)
    with pytest.raises(ResultError, match=r"the disk is full while writing .*; free some space"):
        ResultFolder(tmp_path / "out").open(STUDY, resume=False)
    assert not (tmp_path / "out" / "started.json").exists()


def test_what_json_cannot_say_becomes_null(tmp_path: Path):
    value = {"a": np.array([1.0, math.nan]), "b": math.inf, "c": np.int64(3), "d": (True, None), 5: "x"}
    results.write_json(tmp_path / "x.json.gz", value)
    expected = {"a": [1.0, None], "b": None, "c": 3, "d": [True, None], "5": "x"}
    assert results.read_json(tmp_path / "x.json.gz") == expected


def test_equal_content_gives_equal_bytes(tmp_path: Path):
    for name in ("a.json.gz", "b.json.gz"):
        results.write_json(tmp_path / name, {"x": [1, 2, 3]})
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_a_truncated_cell_is_named_with_what_to_do(tmp_path: Path):
    results.write_json(tmp_path / "x.json.gz", {"x": list(range(1000))})
    whole = (tmp_path / "x.json.gz").read_bytes()
    (tmp_path / "x.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ResultError, match=r"x\.json\.gz cannot be read .* remove it and run with --resume"):
        results.read_json(tmp_path / "x.json.gz")


def test_tables_have_their_header_even_without_rows_and_quote_what_needs_it(tmp_path: Path):
    results.write_csv(tmp_path / "t.csv", [], ("a", "b"))
    assert (tmp_path / "t.csv").read_text() == "a,b\n"
    rows = [{"a": 'say "x, y"', "b": 1 / 3, "c": 0}, {"a": None, "b": math.inf}]
    results.write_csv(tmp_path / "t.csv", rows, ("a", "b"))
    assert (tmp_path / "t.csv").read_text() == 'a,b\n"say ""x, y""",0.333333333\n,inf\n'


def test_provenance_names_command_versions_seeds_and_time():
    found = results.provenance(datetime.now(UTC), {"test": 3})
    assert found["command"].startswith("python -m experiments")
    assert found["versions"]["numpy"] == np.__version__
    assert found["seeds"] == {"test": 3} and found["cores"] >= 1 and found["duration_s"] >= 0
    assert set(found) >= {"commit", "dirty", "started"}


def test_the_time_of_a_resumed_study_leaves_out_the_pauses(tmp_path: Path) -> None:
    """Cells every minute for ten minutes, and as many three hours later: four spans of five minutes."""
    folder = ResultFolder(tmp_path)
    folder.open(STUDY, resume=False)
    for number, at_s in enumerate([*range(0, 600, 60), *range(10_800, 11_400, 60)]):
        path = folder.cell_path(str(number))
        path.write_bytes(b"")
        os.utime(path, (at_s, at_s))
    os.utime(tmp_path / "started.json", (0, 0))
    assert folder.busy_h() == pytest.approx(4 * 300 / 3600)
