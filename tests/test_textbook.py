"""The textbook flow as a user runs it, and that it is the flow of the loop."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from agents.allocation import LpAllocation
from envs import get_scenario
from experiments.__main__ import main
from experiments.textbook import Row, first_hours, follow, forecast_errors
from rlscale.loop import run


def cells(text: str, title: str) -> list[list[str]]:
    """The table below a title: header and rows."""
    lines = [line for line in text.split(title, 1)[1].split("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|--")]


@pytest.mark.e2e
def test_every_stage_is_on_the_screen_and_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new"
    assert main(["textbook", "--hours", "0.5", "--minutes", "5", "--out", str(out)]) == 0
    shown, text = capsys.readouterr().out, (out / "textbook.md").read_text()
    assert shown.strip() == text.strip()
    header, *rows = cells(text, "## Monitor")
    assert header[:7] == ["min", "requests/s", "waiting", "forecast/s", "error", "wanted/s", "LP"]
    assert header[7:] == ["whole", "ready", "shadow", "served by", "drained", "nodes back", "spot gone", "in SLO"]
    assert [row[0] for row in rows] == ["5", "10", "15", "20", "25", "30"]
    for row in rows:
        shares = [float(share) for share in re.findall(r"[0-9]+", row[10])]
        assert len(shares) == 2 and abs(sum(shares) - 100) <= 1
        assert float(row[9]) > 0.0
    solutions = {row[0]: float(row[-1]) for row in cells(text, "## The program")[1:]}
    assert solutions["relaxed"] <= solutions["whole"] <= solutions["greedy"]
    assert "Shadow price" in text
    totals = cells(text, "## Totals")
    assert [row[0] for row in totals[1:]] == ["lp-allocation", "headroom (greedy, reactive)"]
    assert re.search(r"Cost: [0-9.]+ USD, .* Attainment: [0-9.]+%", text.splitlines()[-1])


@pytest.mark.e2e
def test_a_folder_that_is_there_and_numbers_that_make_no_sense_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["textbook", "--out", str(tmp_path)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert main(["textbook", "--hours", "0"]) == 2
    assert "--hours 0.0; expected a number above 0" in capsys.readouterr().err


def test_it_is_the_run_of_the_loop() -> None:
    """Chat on three pools with spot, one hour, seed 1: same bill, misses and changes."""
    scenario = get_scenario("chat-spot")
    load = first_hours(scenario.sample_load("test", 1), 1.0)
    told = follow(scenario, load, 1).totals
    looped = run(scenario, LpAllocation(scenario.limits), load, 1).summary()
    for name in ("cost_usd", "missed", "churn", "attainment", "preempted"):
        assert told[name] == pytest.approx(looped[name], rel=1e-9)


def test_a_forecast_is_held_against_what_came_a_lead_time_later() -> None:
    def row(rate: float, forecast: float) -> Row:
        return Row(0.0, rate, 0.0, forecast, None, (), np.zeros(1), np.zeros(5))

    errors = forecast_errors([row(10.0, 12.0), row(10.0, 9.0), row(8.0, 9.0), row(0.0, 9.0)], 2)
    assert np.isnan(errors[[0, 1, 3]]).all()
    assert errors[2] == pytest.approx(0.5)
