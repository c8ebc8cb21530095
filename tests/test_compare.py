"""The compare command as a user runs it: real simulator, small scenario."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_world import alternating_trace

from agents.headroom import Headroom
from envs import scenario_path
from experiments import results
from experiments.__main__ import main
from rlscale.types import ScalingLimits

FILES = {"results.json", "rows.csv", "blocks.csv", "fronts.csv", "failures.csv", "report.html", "started.json", "cells"}


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chat on H100 with an hour per load: a cell takes a few hundredths of a second."""
    data = yaml.safe_load(scenario_path("chat").read_text()) | {"horizon_s": 3600.0}
    path = tmp_path_factory.mktemp("scenario") / "short-chat.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(autouse=True)
def odd_scalers_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(here).parent), here]))


def study(tmp_path: Path, scenario: Path, scalers: list[Any], **more: Any) -> Path:
    path = tmp_path / "study.yaml"
    seeds = {"train": 2, "test": 5}
    path.write_text(yaml.safe_dump({"scenarios": [str(scenario)], "scalers": scalers, "seeds": seeds} | more))
    return path


def compare(*args: object) -> int:
    return main(["compare", *map(str, args), "--workers", "1"])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.e2e
def test_a_study_gives_results_tables_and_a_report(tmp_path: Path, scenario: Path, capsys: pytest.CaptureFixture[str]):
    scalers = ["fixed", {"name": "headroom", "knob": [0.9, 1.0, 1.1, 1.3, 1.6]}]
    out = tmp_path / "out"
    assert compare(study(tmp_path, scenario, scalers), "--out", out) == 0
    assert {item.name for item in out.iterdir()} == FILES
    assert str(out / "report.html") in capsys.readouterr().out
    found = json.loads((out / "results.json").read_text())
    assert found["failures"] == [] and found["loads"][0]["blocks"] == 5
    assert {entry["scaler"] for entry in found["headline"]} == {"fixed", "headroom"}
    assert found["provenance"]["seeds"] == {"train": 2, "test": 5}
    # Blocks add up to runs, runs to fronts.
    rows, blocks = table(out / "rows.csv"), table(out / "blocks.csv")
    one = [row for row in rows if row["scaler"] == "headroom" and row["knob"] == "1.1" and row["split"] == "test"]
    assert len(one) == 5
    cost = sum(float(row["cost_usd"]) for row in one)
    same = [b for b in blocks if b["scaler"] == "headroom" and b["knob"] == "1.1" and b["split"] == "test"]
    assert sum(float(b["cost_usd"]) for b in same) == pytest.approx(cost)
    assert sum(float(b["missed"]) for b in same) == pytest.approx(sum(float(row["missed"]) for row in one), abs=1e-3)
    points = [f for f in table(out / "fronts.csv") if f["scaler"] == "headroom" and f["knob"] == "1.1"]
    (point,) = [f for f in points if f["split"] == "test"]
    assert float(point["usd_per_h"]) == pytest.approx(cost / 5.0)
    # All scalers met the same loads.
    assert len({row["requests"] for row in rows if row["seed"] == "3" and row["split"] == "test"}) == 1


@pytest.mark.e2e
def test_flags_stand_for_a_study_and_a_finished_folder_is_refused(
    tmp_path: Path, scenario: Path, capsys: pytest.CaptureFixture[str]
):
    args = ("--scenario", scenario, "--scalers", "headroom", "--seeds", "1", "--out", tmp_path / "out")
    assert compare(*args) == 0
    before = {item.name: item.stat().st_mtime_ns for item in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    for again in ((), ("--resume",)):
        assert compare(*args, *again) == 2
        assert "never overwritten; give --out another name" in capsys.readouterr().err
    assert {item.name: item.stat().st_mtime_ns for item in (tmp_path / "out").iterdir()} == before


@pytest.mark.e2e
def test_a_trace_is_shown_in_both_scalings_without_an_interval_over_loads(tmp_path: Path, scenario: Path):
    trace, out = alternating_trace(tmp_path / "minutes.csv"), tmp_path / "out"
    args = ("--trace", trace, "--scenario", scenario, "--scalers", "headroom,hpa", "--seeds", "2", "--mean-need", "9")
    assert compare(*args, "--out", out) == 0
    found = json.loads((out / "results.json").read_text())
    assert [load["name"] for load in found["loads"]] == ["minutes (superpose)", "minutes (amplify)"]
    assert all(load["about"]["need"] == pytest.approx(9.0, rel=0.05) for load in found["loads"])
    assert all(load["blocks"] == 1 and load["recorded"] for load in found["loads"])  # 20 minutes; two seeds are luck
    assert all(entry["interval"] is None for entry in found["headline"])
    page = (out / "report.html").read_text()
    assert "no interval over loads" in page and "flattened" in page
    defaults = [row for row in found["rows"] if row["variant"] == "defaults"]
    assert {row["scaler"] for row in defaults} == {"hpa"} and all(row["split"] == "test" for row in defaults)


@pytest.mark.e2e
def test_a_failing_scaler_is_listed_and_the_rest_is_compared(tmp_path: Path, scenario: Path):
    out = tmp_path / "out"
    path = study(tmp_path, scenario, [{"name": "odd_scalers:BROKEN", "label": "broken"}, "headroom"])
    assert compare(path, "--out", out) == 0
    failures = table(out / "failures.csv")
    assert len(failures) == 4 * (2 + 5)
    assert {f["error"] for f in failures} == {"ZeroDivisionError: a decision divided by zero"}
    found = json.loads((out / "results.json").read_text())
    assert {entry["scaler"] for entry in found["headline"]} == {"headroom"}
    page = (out / "report.html").read_text()
    assert "28 cells failed" in page and "a decision divided by zero" in page


@pytest.mark.e2e
def test_when_everything_fails_the_exit_code_and_the_first_error_say_so(
    tmp_path: Path, scenario: Path, capsys: pytest.CaptureFixture[str]
):
    path = study(tmp_path, scenario, ["odd_scalers:BROKEN"], seeds={"train": 1, "test": 1})
    assert compare(path, "--out", tmp_path / "out") == 2
    assert "no cell could be run; the first error: ZeroDivisionError" in capsys.readouterr().err
    assert len(table(tmp_path / "out" / "failures.csv")) == 8


@pytest.mark.e2e
def test_ctrl_c_keeps_finished_cells_and_resume_goes_on(tmp_path: Path, scenario: Path):
    path = study(tmp_path, scenario, [{"name": "odd_scalers:SLOW", "knob": [4, 8]}], seeds={"train": 1, "test": 4})
    out = tmp_path / "out"
    command = [sys.executable, "-m", "experiments", "compare", str(path), "--out", str(out), "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 90
    while len(list(out.glob("cells/*.json.gz"))) < 2:  # 10 cells of most of a second each
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err
    kept = {item.name: item.stat().st_mtime_ns for item in (out / "cells").iterdir()}
    assert 2 <= len(kept) < 10 and all(name.endswith(".json.gz") for name in kept)
    assert not (out / "results.json").exists()

    assert compare(path, "--out", out) == 2  # not without being asked to
    assert compare(path, "--out", out, "--resume") == 0
    after = {item.name: item.stat().st_mtime_ns for item in (out / "cells").glob("*.json.gz")}
    assert len(after) == 10 and kept.items() <= after.items()
    assert (out / "report.html").exists()


@pytest.mark.e2e
def test_training_seeds_of_a_policy_are_one_row_with_its_multiplier_as_knob(
    tmp_path: Path, scenario: Path, monkeypatch: pytest.MonkeyPatch
):
    for seed in range(3):
        (tmp_path / f"ppo-{seed}").mkdir()
        (tmp_path / f"ppo-{seed}" / "manifest.json").write_text(json.dumps({"bias": 1.0 + 0.02 * seed}))
    built: list[tuple[str, float]] = []

    def load_policy(path: str, limits: ScalingLimits, multiplier: float = 1.0) -> Headroom:
        built.append((Path(path).name, multiplier))
        return Headroom(limits, multiplier * json.loads((Path(path) / "manifest.json").read_text())["bias"])

    monkeypatch.setitem(sys.modules, "rlscale.policy_folder", types.SimpleNamespace(load_policy=load_policy))
    rule = {"name": "headroom", "knob": [1.0, 1.15, 1.35, 1.7]}
    learned = {"name": f"policy:{tmp_path}/ppo-*", "label": "ppo", "knob": [1.0, 1.15, 1.35, 1.7]}
    out = tmp_path / "out"
    assert compare(study(tmp_path, scenario, [rule, learned]), "--out", out) == 0
    found = json.loads((out / "results.json").read_text())
    entry = next(e for e in found["headline"] if e["scaler"] == "ppo" and e["target"] == 0.99)
    assert entry["kind"] == "learned" and len(entry["members"]) == len(entry["knob"]) == 3
    assert {name for name, _ in built} == {"ppo-0", "ppo-1", "ppo-2"}
    # The bias is undone by the multiplier: at equal attainment the policy is the rule, but for interpolation.
    if entry["versus_best"] is not None:
        assert abs(entry["versus_best"]["difference"]) < 0.05
    assert "The learned policy ppo" in (out / "report.html").read_text()


@pytest.mark.e2e
def test_a_full_disk_is_one_error_and_leaves_no_half_written_file(
    tmp_path: Path, scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    path, out, real, left = study(tmp_path, scenario, ["headroom"]), tmp_path / "out", os.fsync, [10]

    def fsync(fd: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(results.os, "fsync", fsync)
    assert compare(path, "--out", out) == 2
    err = capsys.readouterr().err
    assert "the disk is full" in err and "--resume" in err and "Traceback" not in err
    assert {item.name for item in out.iterdir()} == {"started.json", "cells"}
    cells = list((out / "cells").iterdir())
    assert len(cells) == 9 and all(results.read_json(cell)["summary"] for cell in cells)
    left[0] = 10_000
    assert compare(path, "--out", out, "--resume") == 0


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--out", "x"], "nothing to compare; give a study file, --trace PATH or --scenario NAME"),
        (["nowhere.yaml", "--out", "x"], "nowhere.yaml: cannot be read"),
        (["nowhere.yaml", "--seeds", "3", "--out", "x"], "give a study file or flags, not both"),
        (["--scenario", "chatt", "--out", "x"], "unknown scenario 'chatt'"),
        (["--scenario", "chat", "--scalers", "hpaa", "--out", "x"], "unknown scaler 'hpaa'; did you mean 'hpa'"),
        (["--scenario", "chat", "--scalers", "hpa", "--seeds", "0", "--out", "x"], "seeds.test: got 0, expected"),
        (["--trace", "nowhere.csv", "--scalers", "hpa", "--out", "x"], "nowhere.csv"),
    ],
)
def test_a_wrong_argument_is_one_error_before_anything_is_written(
    tmp_path: Path, args: list[str], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *args]) == 2
    err = capsys.readouterr().err
    assert expected in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_wrong_parameters_of_a_scaler_cost_no_simulation(
    tmp_path: Path, scenario: Path, capsys: pytest.CaptureFixture[str]
):
    path = study(tmp_path, scenario, [{"name": "headroom", "params": {"windows": 3}}])
    assert compare(path, "--out", tmp_path / "out") == 2
    assert "scaler 'headroom' cannot be built" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
