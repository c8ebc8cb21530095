"""Fluid against request engine under an autoscaler on three cells; all of them: `experiments fidelity grid`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from experiments import fidelity_grid as grid


@pytest.mark.parametrize(
    ("point", "ttft", "p99", "attainment"),
    [(grid.Point(0.3, 1.0, 4, 120.0), 0.10, 0.20, 0.01), (grid.Point(0.9, 3.5, 4, 0.0), 0.15, 0.25, 0.02)],
)
def test_the_engines_agree_on_a_fleet_that_doubles(
    point: grid.Point, ttft: float, p99: float, attainment: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds 0 and 1, 15 000 and 44 000 requests each; tolerances of the goals, wider for the bursty cell."""
    monkeypatch.setattr(grid, "SEEDS", (0, 1))
    row = grid.row("judged", point, grid.measured(point))
    assert abs(row["error_ttft_mean"]) < ttft and abs(row["error_ttft_p99"]) < p99
    assert abs(row["error_attainment"]) < attainment and abs(row["error_cost"]) < 0.01


def test_both_engines_meet_the_same_requests_and_the_load_doubles() -> None:
    """Seed 3 at load 0.5, CV 2: counts of the fluid are those of the request engine; the rates are those asked for."""
    point = grid.Point(0.5, 2.0, 4, 120.0)
    load = grid.arrivals(point, 3)
    assert load.requests is not None
    np.testing.assert_array_equal(np.bincount(load.requests.arrival_s.astype(int), minlength=2400), load.values)
    high = 0.5 * 4 * grid.saturation_per_s(grid.cluster(2.0, 4, 120.0).cluster.pools[0].profile)
    assert load.values[:600].mean() == pytest.approx(high / 2, rel=0.05)
    assert load.values[600:].mean() == pytest.approx(high, rel=0.05)


def test_led_by_its_own_targets_an_engine_does_what_it_did() -> None:
    """Seed 0, four replicas that the HPA orders one after the other."""
    point = grid.Point(0.7, 2.0, 4, 120.0)
    scenario, load = grid.cluster(point.cv, point.replicas, point.startup_s), grid.arrivals(point, 0)
    own = grid.once(scenario, grid.hpa(scenario), load, 0, "fluid")
    assert len(np.unique(own.series["target"])) > 1
    led = grid.once(scenario, grid.Led(own.series["target"]), load, 0, "fluid")
    np.testing.assert_array_equal(led.series["target"], own.series["target"])
    assert grid.measures(led) == grid.measures(own)


def test_the_report_lists_what_misses_a_goal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = dict.fromkeys(grid.RUNS, np.array([0.1, 0.5, 0.01, 0.99, 5.0]))
    bad = good | {"fluid": np.array([0.2, math.inf, 0.01, 0.9, 5.2])}
    rows = [
        grid.row(grid.half_of(i), point, bad if point.load == 1.1 else good) for i, point in enumerate(grid.points())
    ]
    grid.write(rows, tmp_path / "grid")
    text = (tmp_path / "grid" / "report.md").read_text()
    capsys.readouterr()
    judged = [one for one in rows if one["half"] == "judged"]
    assert len(rows) == 189 and len(judged) == 94
    outside = sum(not one["within"] for one in judged)
    assert outside == sum(one["load"] == 1.1 for one in judged)
    assert f"Of 94 judged cells {1 - outside / 94:.0%} keep all of them" in text
    assert text.count("| 1.1 |") == outside == text.count("| kept |") and "+100.0 % (100 ms)" in text
