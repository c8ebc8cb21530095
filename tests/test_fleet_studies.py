"""The studies of the full cluster in small: ablation, processes, and the oracle on a mixed fleet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import ablation, fidelity_fleet, processes
from experiments.__main__ import main
from rlscale.parts import Energy


def test_an_ablation_pairs_every_switch_with_every_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds of half an hour: too little for signs, enough for what is known exactly."""
    out = tmp_path / "ablation"
    assert main(["ablation", "--out", str(out), "--seeds", "2", "--hours", "0.5", "--workers", "1"]) == 0
    rows = json.loads((out / "summary.json").read_text())["rows"]
    assert [(row["switch"], row["rule"]) for row in rows] == [
        (switch.name, rule) for switch in ablation.SWITCHES for rule in ablation.RULES
    ]
    paid = [row for row in rows if row["switch"] == "electricity paid"]
    assert all(row["attainment_change_points"] == 0.0 and 1.0 < row["cost_change_percent"] < 4.0 for row in paid)
    assert main(["ablation", "--out", str(out)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_a_switch_that_is_off_leaves_the_base_and_on_changes_it() -> None:
    spec = ablation._base(0.5).cluster
    assert all(switch.on(switch.off(spec)) != switch.off(spec) for switch in ablation.SWITCHES
               if switch.name not in ("sessions", "jobs that may wait"))  # fmt: skip
    assert spec.energy == Energy()


def test_what_happens_to_a_fleet_is_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 0: 300 days of spot capacity, 2 000 of shortages, 1 500 starts of every kind; ranges of the table."""
    monkeypatch.setattr(processes, "SPOT_DAYS", 300)
    monkeypatch.setattr(processes, "CLUSTERS", 1500)
    assert main(["processes", "--out", str(tmp_path / "p")]) == 0
    assert all(row["within"] for row in json.loads((tmp_path / "p" / "summary.json").read_text())["rows"])


def test_a_mixed_fleet_serves_as_the_oracle_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 0, 150 s at half load, H100 and A100: mean TPOT within 5 %, attainment within 2 points."""
    monkeypatch.setattr(fidelity_fleet, "DURATION_S", 150.0)
    row = fidelity_fleet.compare(fidelity_fleet.Cell("mixed", 0.5, 0))
    assert row["fluid_tpot_mean"] == pytest.approx(row["replica_tpot_mean"], rel=0.05)
    assert row["fluid_attainment"] == pytest.approx(row["replica_attainment"], abs=0.02)


def test_errors_are_judged_by_band() -> None:
    found = [
        {f"{side}_{name}": value for side, value in (("fluid", mine), ("replica", theirs))
         for name in fidelity_fleet.MEASURES} for mine, theirs in ((0.99, 0.98), (0.5, 0.4))
    ]  # fmt: skip
    enough = fidelity_fleet.band(found, "replica", True)
    assert enough["cells"] == 1
    assert enough["attainment_median"] == pytest.approx(0.01) and enough["attainment_within"] == 1.0
    too_few = fidelity_fleet.band(found, "replica", False)
    assert too_few["ttft_mean_median"] == pytest.approx(0.25) and too_few["ttft_mean_within"] == 0.0
