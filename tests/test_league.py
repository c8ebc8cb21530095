"""The league: one budget for all, costs at equal attainment between near neighbours, resumable, readable."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import fronts, league, probes
from experiments.__main__ import main
from experiments.league_table import by_load, standings
from experiments.study import read_study
from rlscale.registry import scan

BUDGET = "1920"  # intervals: 8 trials of an hour
STUDY = """
scenarios: [{name: %s, block_s: 900.0}]
scalers: [headroom-held, knative, hpa]
seeds: {train: 1, test: 2}
targets: [0.99, 0.999]
resamples: 100
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scalers on an hour of chat."""
    from envs import scenario_path

    folder = tmp_path_factory.mktemp("league")
    (folder / "hour.yaml").write_text(scenario_path("chat").read_text() + "\nhorizon_s: 3600\n")
    (folder / "study.yaml").write_text(STUDY % (folder / "hour.yaml"))
    return folder / "study.yaml"


@pytest.fixture(scope="module")
def finished(study: Path) -> Path:
    """A league that was played to its end."""
    out = study.parent / "whole"
    assert main(["league", str(study), "--budget", BUDGET, "--workers", "1", "--out", str(out)]) == 0
    return out


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def test_everybody_has_the_same_budget_and_a_row_for_every_target(finished: Path) -> None:
    searches = [json.loads(path.read_text()) for path in (finished / "tuned").glob("*.json")]
    assert {search["scaler"] for search in searches} == {"headroom-held", "knative", "hpa"}
    assert {len(search["trials"]) for search in searches} == {8}
    table = rows(finished, "league.csv")
    assert {(row["scaler"], row["target"]) for row in table} == {
        (name, target) for name in ("headroom-held", "knative", "hpa") for target in ("0.99", "0.999")
    }
    assert {row["status"] for row in table} <= {"reached", "above", "never"}
    costs = [float(row["usd_per_h"]) for row in table if row["usd_per_h"] and row["bound_usd_per_h"]]
    assert costs and all(cost > 0 for cost in costs)


def test_products_run_at_their_own_pace_and_at_their_defaults_too(finished: Path) -> None:
    paced = [row for row in rows(finished, "league.csv") if row["own_pace_s"]]
    assert {row["scaler"] for row in paced} <= {"knative"}
    for row in paced:
        assert float(row["own_pace_s"]) == 2.0 and float(row["own_pace_usd_per_h"]) > 0
    assert {row["scaler"] for row in rows(finished, "defaults.csv")} == {"knative", "hpa"}
    text = (finished / "report.md").read_text()
    assert "hpa (defaults)" in text and "## At 99.90% of requests" in text
    assert 'id="at-0.999"' in (finished / "report.html").read_text()


def test_its_report_can_be_drawn_anew(finished: Path) -> None:
    before = {name: (finished / name).read_text() for name in ("report.md", "report.html")}
    for name in before:
        (finished / name).unlink()
    assert main(["report", str(finished)]) == 0
    assert {name: (finished / name).read_text() for name in before} == before


def test_a_league_that_is_killed_ends_as_one_that_is_not(
    finished: Path, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of its twentieth run."""
    from experiments import tuning

    out, flags = study.parent / "cut", ["league", str(study), "--budget", BUDGET, "--workers", "1"]
    run, count = tuning.run_cell, 0

    def killed(*given: Any) -> None:
        nonlocal count
        count += 1
        if count == 20:
            raise KeyboardInterrupt
        run(*given)

    monkeypatch.setattr(tuning, "run_cell", killed)
    assert main([*flags, "--out", str(out)]) == 130
    monkeypatch.setattr(tuning, "run_cell", run)
    assert main([*flags, "--out", str(out), "--resume"]) == 0

    def without_times(folder: Path) -> list[dict[str, str]]:
        return [{key: value for key, value in row.items() if key != "decision_us"}
                for row in rows(folder, "league.csv")]  # fmt: skip

    assert without_times(out) == without_times(finished)
    assert (out / "settings.json").read_text() == (finished / "settings.json").read_text()


def test_the_league_study_names_every_scenario_and_asks_for_every_scaler() -> None:
    from envs import scenario_names

    study = read_study(league.STUDY)
    assert {entry.name for entry in study.scenarios} == set(scenario_names())
    assert {entry.name for entry in study.scalers} == set(scan("agents", "SCALERS"))
    assert len(study.traces) >= 12


def test_every_product_says_how_often_it_decides() -> None:
    silent = {name for name, kind in scan("agents", "SCALERS").items() if kind.upstream and not kind.native_s}
    assert silent == {"gcp-mig"}  # which publishes none


def row(load: str, scaler: str, usd: float | None, **more: Any) -> dict[str, Any]:
    status = "never" if usd is None else "reached"
    return {"load": load, "target": 0.99, "scaler": scaler, "usd_per_h": usd, "status": status, "regret": None,
            "churn_per_h": 1.0, "decision_us": 1.0, **more}  # fmt: skip


def test_standings_go_by_the_median_above_the_cheapest_and_never_is_infinitely_dear() -> None:
    table = [row("a", "x", 10.0), row("a", "y", 11.0), row("a", "z", 20.0),
             row("b", "x", 10.0), row("b", "y", 10.4), row("b", "z", None),
             row("c", "x", 10.0), row("c", "y", 9.0), row("c", "z", None),
             row("d", "x", None), row("d", "y", None), row("d", "z", None)]  # fmt: skip
    found = {entry["scaler"]: entry for entry in standings(table, 0.99)}
    assert list(found) == ["x", "y", "z"]
    assert found["x"]["median_above_cheapest"] == 0.0 and found["x"]["cheapest"] == 2
    assert found["y"]["median_above_cheapest"] == pytest.approx(0.04) and found["y"]["within_5_percent"] == 2
    assert math.isinf(found["z"]["median_above_cheapest"]) and found["z"]["reached"] == 1
    assert {entry["loads"] for entry in found.values()} == {3}  # nobody reaches the target on d
    assert [entry["scaler"] for entry in by_load(table, 0.99)["b"]] == ["x", "y", "z"]


def trial(usd: float, missed: float) -> dict[str, float]:
    return {"usd_per_h": usd, "missed": missed, "requests": 1e6}


def test_a_cost_is_pinned_down_when_its_two_neighbours_are_near() -> None:
    target = fronts.level_of(0.99)
    assert probes.pinned([trial(10.0, 2e4), trial(10.2, 5e3)], target)
    assert not probes.pinned([trial(10.0, 2e4), trial(11.0, 5e3)], target)
    assert not probes.pinned([trial(10.2, 5e3)], target) and not probes.pinned([trial(10.0, 2e4)], target)
    assert not probes.pinned([trial(11.0, 2e4), trial(10.2, 5e3)], target)  # nothing cheaper falls short


def test_between_far_neighbours_no_cost_is_read() -> None:
    cost, level = np.array([10.0, 20.0]), np.array([1.0, 3.0])
    assert float(fronts.cost_at(cost, level, 2.0).cost) == pytest.approx(15.0)
    far = fronts.cost_at(cost, level, 2.0, widest=1.5)
    assert float(far.cost) == 20.0 and fronts.STATUS[int(far.status)] == "above"
    assert fronts.STATUS[int(fronts.cost_at(cost, level, 3.0, widest=1.5).status)] == "reached"
