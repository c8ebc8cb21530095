"""Many cells in worker processes: what fails is listed, what dies takes nothing with it, a full disk stops."""

from __future__ import annotations

import errno
import functools
import os
import time
from pathlib import Path

import pytest

from experiments.pool import run_all
from rlscale.errors import ResultError, ScenarioError


def touch(cell: int, folder: Path) -> None:
    (folder / str(cell)).write_text(os.environ.get("OMP_NUM_THREADS", "unset"))


def odd_ones_fail(cell: int, folder: Path) -> None:
    if cell == 1:
        raise ZeroDivisionError("one")
    if cell == 3:
        raise ScenarioError("three is not possible; give two")
    touch(cell, folder)


def three_dies(cell: int, folder: Path) -> None:
    if cell == 3:
        os._exit(9)
    time.sleep(0.05)
    touch(cell, folder)


def two_fills_the_disk(cell: int, folder: Path) -> None:
    if cell == 2:
        raise OSError(errno.ENOSPC, "No space left on device", "cells/2.json")
    touch(cell, folder)


def names(folder: Path) -> list[int]:
    return sorted(int(item.name) for item in folder.iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_failing_cells_do_not_stop_the_others_and_are_told_apart(tmp_path: Path, workers: int):
    failures = run_all(functools.partial(odd_ones_fail, folder=tmp_path), range(6), workers)
    assert names(tmp_path) == [0, 2, 4, 5]
    errors = {failure.cell: failure.error for failure in failures}
    assert errors == {1: "ZeroDivisionError: one", 3: "three is not possible; give two"}
    assert all("Traceback" in failure.trace for failure in failures)


def test_a_worker_that_dies_loses_only_its_own_cell(tmp_path: Path):
    failures = run_all(functools.partial(three_dies, folder=tmp_path), range(8), 2)
    assert [failure.cell for failure in failures] == [3]
    assert "died" in failures[0].error
    assert names(tmp_path) == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_stops_everything_and_says_what_to_do(tmp_path: Path, workers: int):
    with pytest.raises(ResultError, match=r"the disk is full .*finished cells are kept.*--resume"):
        run_all(functools.partial(two_fills_the_disk, folder=tmp_path), range(50), workers)
    assert {0, 1} <= set(names(tmp_path)) and len(names(tmp_path)) < 10


def test_workers_use_one_thread_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run_all(functools.partial(touch, folder=tmp_path), range(2), 2)
    assert [item.read_text() for item in tmp_path.iterdir()] == ["1", "1"]


def test_without_a_terminal_progress_is_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run_all(functools.partial(odd_ones_fail, folder=tmp_path), range(4), 1, "cells")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("cells: 4/4 (2 failed")
    assert not any("\x1b" in line for line in lines)


def test_no_cells_is_nothing_to_do():
    assert run_all(print, [], 0) == []
