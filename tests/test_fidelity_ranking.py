"""Rankings in two engines: which pairs count, what tau says of them, and a small ranking from end to end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.ranking import agreement, differs, tau
from experiments.stats import resample

# Four scalers over six blocks. 0 beats 1 in every block; 2 and 3 take turns and differ by luck only.
REFERENCE = np.array([[3.0, 3.1, 2.9, 3.0, 3.2, 3.0], [2.0, 2.2, 1.9, 2.1, 2.0, 2.1],
                      [1.0, 0.0, 1.1, 0.1, 0.9, 0.0], [0.0, 1.0, 0.0, 1.0, 0.1, 1.1]])  # fmt: skip


def test_only_pairs_that_luck_cannot_explain_count() -> None:
    draws = resample(6, 0)
    assert draws is not None
    assert differs(REFERENCE, (0, 1), draws) and differs(REFERENCE, (1, 2), draws)
    assert not differs(REFERENCE, (2, 3), draws)
    assert not differs(REFERENCE[[0, 0]], (0, 1), draws)  # the same scaler twice
    same = agreement(REFERENCE, REFERENCE, draws)
    assert (same.pairs, same.told_apart, same.told_apart_in_both, same.tau, same.swapped) == (6, 5, 5, 1.0, ())


def test_tau_falls_by_two_pairs_for_each_that_swaps_and_luck_changes_nothing() -> None:
    draws = resample(6, 0)
    assert draws is not None
    other = REFERENCE[[1, 0, 3, 2]]  # the first two change places, and so do the last two
    found = agreement(other, REFERENCE, draws)
    assert found.swapped == ((0, 1),)
    assert found.tau == pytest.approx((4 - 1) / 5)
    assert np.isnan(tau(other, REFERENCE, [])) and tau(REFERENCE[::-1], REFERENCE, [(0, 1)]) == 1.0


@pytest.mark.e2e
def test_a_ranking_of_three_rules_in_both_engines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ranking"
    args = ["fidelity", "ranking", "--scenarios", "reasoning", "--scalers", "fixed", "headroom", "hpa",
            "--seeds", "1", "--workers", "1", "--out", str(out)]  # fmt: skip
    assert main(args) == 0
    out = out / "ranking"
    found = json.loads((out / "results.json").read_text())
    (rank,) = found["ranks"]
    assert rank["pairs"] == 3 and rank["blocks"] == 24 and not found["failures"]
    assert f"Mean tau {rank['tau']:.3f}" in (out / "report.md").read_text()
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    last = {row["scaler"]: (row["fluid_rank"], row["request_rank"]) for row in rows}
    assert last["fixed"] == ("3", "3")  # twice as dear as the others in either engine
    assert all(abs(float(row["fluid_usd_per_hour"]) / float(row["request_usd_per_hour"]) - 1) < 0.05 for row in rows)
    capsys.readouterr()
    assert main([*args, "--resume"]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert main([*args[:2], "--scenarios", "web", "--out", str(tmp_path / "web")]) == 2
    assert "which the request engine does not model" in capsys.readouterr().err
