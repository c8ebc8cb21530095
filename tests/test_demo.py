"""The demonstration as a user runs it, on an hour of chat and with hardly any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from envs import scenario_path
from experiments import demo
from experiments.__main__ import main
from experiments.study import read_study

RULES = {"fixed", "headroom", "headroom-held", "hpa", "threshold", "smoothing", "holt", "scheduled"}


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study of the demonstration on a chat scenario of one hour; training of a moment on the same."""
    scenario = tmp_path / "chat-hour.yaml"
    scenario.write_text(yaml.safe_dump(yaml.safe_load(scenario_path("chat").read_text()) | {"horizon_s": 3600.0}))
    study = tmp_path / "demo.yaml"
    data = yaml.safe_load(demo.STUDY.read_text()) | {"scenarios": [str(scenario)]}
    study.write_text(yaml.safe_dump(data))
    monkeypatch.setattr(demo, "STUDY", study)
    monkeypatch.setattr(demo, "FAST_STEPS", 1024)
    monkeypatch.setattr(demo, "SCENARIO", str(scenario))
    return tmp_path


@pytest.mark.e2e
def test_the_demo_trains_two_policies_compares_them_and_says_where_the_report_is(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = short / "out"
    assert main(["demo", "--fast", "--workers", "1", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    report = out / "comparison" / "report.html"
    assert str(report) in text and report.stat().st_size > 10_000
    found: dict[str, Any] = json.loads((out / "comparison" / "results.json").read_text())
    kinds = {entry["scaler"]: entry["kind"] for entry in found["headline"]}
    assert kinds["ppo"] == kinds["dqn"] == "learned" and {"headroom", "fixed"} <= kinds.keys()
    assert found["failures"] == []
    assert "USD per hour at 0.99" in text and "learned" in text
    for algo in ("ppo", "dqn"):
        assert json.loads((out / algo / "seed-0" / "manifest.json").read_text())["algo"] == algo


@pytest.mark.e2e
def test_an_earlier_demo_is_not_overwritten(short: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = short / "out"
    (out / "seed-0").mkdir(parents=True)
    (out / "seed-0" / "kept").write_text("kept")
    assert main(["demo", "--fast", "--out", str(out)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert (out / "seed-0" / "kept").read_text() == "kept" and not (out / "comparison").exists()


def test_the_study_of_the_demo_is_a_valid_one_with_the_rules_people_run() -> None:
    study = read_study(demo.STUDY)
    assert {entry.name for entry in study.scalers} >= RULES
    assert [entry.name for entry in study.scenarios] == ["chat"]
