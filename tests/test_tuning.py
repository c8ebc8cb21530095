"""Tuning: what is searched, the same search whatever happens to it, and the same budget for everybody."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from experiments import tuning
from experiments.__main__ import main
from experiments.search import KINDS, Search, space_of
from experiments.sharpen import next_value
from experiments.tuning import defaults, front
from rlscale.checks import limits_of
from rlscale.registry import scan

SCALERS = scan("agents", "SCALERS")
BUDGET = "3000"  # intervals: 12 trials of an hour


@pytest.fixture
def short(tmp_path: Path) -> str:
    """A scenario of one hour."""
    from envs import scenario_path

    path = tmp_path / "hour.yaml"
    path.write_text(scenario_path("chat").read_text() + "\nhorizon_s: 3600\n")
    return str(path)


@pytest.mark.parametrize("name", sorted(SCALERS))
def test_every_scaler_can_be_built_at_both_ends_of_its_search_space(name: str) -> None:
    kind = SCALERS[name]
    space = space_of(name, kind)
    for spec in space.values():
        assert spec[0] in KINDS and len(spec) >= 3 and (spec[0] == "choice" or spec[1] < spec[2])
    assert kind.knob is None or kind.knob.name in space
    for end in (1, -1):
        kind.build(limits_of(), **{key: spec[end] for key, spec in space.items()})
    for key, value in Search(space, 4, 0).inside(defaults(kind)).items():
        kind.build(limits_of(), **{key: value})


def test_a_search_asks_for_the_same_settings_again() -> None:
    space = {"a": ("log", 0.1, 10.0), "n": ("int", 1, 9), "way": ("choice", "x", "y")}
    asked = []
    for _ in range(2):
        search, found = Search(space, 12, 3), []
        for number in range(12):
            trial, chosen = search.ask({"a": 1.0, "n": 99} if number == 0 else None)
            search.tell(trial, chosen["a"] * chosen["n"], -chosen["n"])
            found.append(chosen)
        asked.append(found)
    assert asked[0] == asked[1]
    assert asked[0][0]["a"] == 1.0 and asked[0][0]["n"] == 9
    assert len({json.dumps(chosen) for chosen in asked[0]}) >= 10


def test_the_front_holds_the_neighbours_of_every_target_and_nothing_that_something_cheaper_matches() -> None:
    measured = [(1, 2e5), (2, 4e4), (3, 9e3), (4, 9e4), (5, 9e3), (6, 5e3), (7, 2e3), (9, 0)]
    rows = [{"settings": {"k": i}, "usd_per_h": float(cost), "missed": missed, "requests": 1e6}
            for i, (cost, missed) in enumerate(measured)]  # fmt: skip
    assert [point["settings"]["k"] for point in front(rows, [0.95])] == [0, 1, 7]
    assert [point["settings"]["k"] for point in front(rows, [0.9975])] == [5, 6, 7]
    assert [point["settings"]["k"] for point in front(rows, [0.9975], whole=True)] == [0, 1, 2, 5, 6, 7]


@pytest.mark.parametrize(("slope", "start"), [(1.0, [0.5]), (-1.0, [0.5]), (2.0, [0.3, 3.0]), (-0.7, [0.1, 0.2])])
def test_sharpening_finds_where_a_rule_just_reaches_a_target(slope: float, start: list[float]) -> None:
    """Level 2 + slope x log(knob), target 2: knob 1, from one side or from both, within ten steps."""
    tried = [(knob, 2.0 + slope * math.log(knob)) for knob in start]
    for _ in range(10):
        value = next_value(tried, 2.0, rises=slope > 0)
        if value is None:
            break
        tried.append((value, 2.0 + slope * math.log(value)))
    over = [level for _, level in tried if level >= 2.0]
    assert over and min(over) < 2.05
    assert next_value(tried, 2.0, rises=slope > 0) is None or len(tried) == len(start) + 10


def test_a_search_that_is_killed_ends_as_one_that_is_not(
    tmp_path: Path, short: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed in the middle of its sixth trial."""
    flags = ["tune", "headroom-held", "--scenario", short, "--budget", BUDGET]
    assert main([*flags, "--out", str(tmp_path / "whole")]) == 0
    run, count = tuning.run_cell, 0

    def killed(*given: Any) -> None:
        nonlocal count
        count += 1
        if count == 6:
            raise KeyboardInterrupt
        run(*given)

    monkeypatch.setattr(tuning, "run_cell", killed)
    assert main([*flags, "--out", str(tmp_path / "cut")]) == 130
    monkeypatch.setattr(tuning, "run_cell", run)
    assert not (tmp_path / "cut" / "front.json").exists()
    assert main([*flags, "--out", str(tmp_path / "cut")]) == 2
    assert "--resume goes on with it" in capsys.readouterr().err
    assert main([*flags, "--out", str(tmp_path / "cut"), "--resume"]) == 0
    assert (tmp_path / "cut" / "front.json").read_text() == (tmp_path / "whole" / "front.json").read_text()


def test_a_comparison_gives_every_rule_the_same_budget_and_shows_what_was_possible(tmp_path: Path, short: str) -> None:
    out = tmp_path / "tuned"
    flags = ["--scenario", short, "--scalers", "fixed,headroom-held,hpa", "--seeds", "1", "--workers", "1"]
    assert main(["compare", *flags, "--tuned", BUDGET, "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["tuning"]["intervals_per_load"] == int(BUDGET)
    searches = [json.loads(path.read_text()) for path in (out / "tuned").glob("*.json")]
    assert {search["scaler"] for search in searches} == {"fixed", "headroom-held", "hpa"}
    assert {len(search["trials"]) for search in searches} == {12}
    bound = {entry["target"]: entry["bound_usd_per_h"] for entry in results["headline"]}
    assert 0 < bound[0.95] <= bound[0.99] <= (bound[0.999] or float("inf"))
    for entry in results["headline"]:
        assert entry["regret"] is None or entry["regret"] > -0.02
    assert "above what" in (out / "report.html").read_text()


def test_a_budget_below_one_trial_is_refused(tmp_path: Path, short: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "hpa", "--scenario", short, "--budget", "100", "--out", str(tmp_path / "x")]) == 2
    assert "a budget of 100 intervals is below one trial on hour: 240" in capsys.readouterr().err
