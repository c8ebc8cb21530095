"""The report of the fidelity ladder: what is there is told from its tables, what is not says why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from experiments import fidelity, fidelity_theory
from experiments.__main__ import main
from experiments.fidelity_page import FIGURES, finished, write_page
from experiments.fidelity_words import WORDS
from rlscale.errors import ResultError

KEPT = Path(__file__).resolve().parent.parent / "results" / "fidelity"


def test_every_comparison_has_a_title_and_a_place_in_the_ladder() -> None:
    assert list(WORDS) == list(fidelity.PARTS)


def test_the_report_in_the_project_is_made_of_its_tables(tmp_path: Path) -> None:
    """Figures and sentences anew from the kept tables give the kept page."""
    copy = tmp_path / "fidelity"
    shutil.copytree(KEPT, copy, ignore=shutil.ignore_patterns("cells"))
    for name in FIGURES:
        (copy / name / "figure.svg").unlink(missing_ok=True)
    write_page(copy, {})
    drawn = [f"{name}/figure.svg" for name in FIGURES if (KEPT / name).exists()]
    for name in ("report.html", "report.md", *drawn):
        assert (copy / name).read_text() == (KEPT / name).read_text(), name


def test_what_could_not_be_run_says_why_and_what_is_finished_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four seeds of 2 000 requests."""
    for name, value in (("SEEDS", 4), ("REQUESTS", 2000), ("LITTLE_H", 0.05)):
        monkeypatch.setattr(fidelity_theory, name, value)

    def no(_: object) -> None:
        raise ResultError("no tables here")

    monkeypatch.setattr(fidelity, "PARTS", {"theory": fidelity.PARTS["theory"], "hardware": no})
    out = tmp_path / "ladder"
    assert main(["fidelity", "--out", str(out)]) == 0
    assert finished(out / "theory") and not finished(out / "hardware")
    page = (out / "report.html").read_text()
    assert "of 21 cases hold over 4 seeds" in page and "no tables here" in page and "Not run yet." in page
    before = (out / "theory" / "summary.json").stat().st_mtime_ns
    assert main(["fidelity", "--out", str(out)]) == 0
    assert (out / "theory" / "summary.json").stat().st_mtime_ns == before
    capsys.readouterr()
    assert main(["fidelity", "theory", "--out", str(out)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
