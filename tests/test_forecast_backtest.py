"""The back-test of forecasters: no leakage, losses as the formulas say, series without gaps, the command in small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.backtest import Series, backtest, naive_error, pinball, score, scored
from experiments.backtest_series import averaged, generated, recorded
from rlscale.predict import FORECASTERS
from rlscale.types import Floats

STEP_S = 1800.0  # 48 cells a day: every model is fitted within a few days of cells
DAY = 48
LEAD_S = 2 * STEP_S


def season(days: float) -> Floats:
    """100 requests/s on average, 60 more at noon than at midnight, twice a day a little more."""
    angle = 2.0 * np.pi * np.arange(round(days * DAY)) / DAY
    return 100.0 - 30.0 * np.cos(angle) + 10.0 * np.sin(2.0 * angle)


def noisy_season(days: float, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return np.maximum(0.0, season(days) + rng.normal(0.0, 5.0, round(days * DAY)))


@pytest.mark.parametrize("name", FORECASTERS)
def test_the_future_never_changes_a_past_forecast(name: str) -> None:
    """Two series that part after 5 days: forecasts and quantiles until then are the same, bit for bit."""
    first, second = noisy_season(7), noisy_season(7)
    second[5 * DAY :] = np.random.default_rng(9).gamma(1.0, 300.0, 2 * DAY)
    found = [backtest(Series("x", "generated", STEP_S, rates), name, LEAD_S) for rates in (first, second)]
    assert np.array_equal(found[0].point_per_s[: 5 * DAY], found[1].point_per_s[: 5 * DAY], equal_nan=True)
    quantiles = [forecasts.quantiles_per_s[: 5 * DAY] for forecasts in found]
    assert np.array_equal(*quantiles, equal_nan=True)
    assert not np.array_equal(found[0].point_per_s, found[1].point_per_s)


@pytest.mark.parametrize("name", [name for name in FORECASTERS if name != "quantile-regression"])  # that takes weeks
def test_coverage_of_a_noisy_season_is_near_what_was_promised(name: str) -> None:
    """12 days (seed 0), about 530 cells scored: 10 to 90 % holds 0.8 within 0.1, the 90 % quantile 0.9 within 0.06."""
    row = score(backtest(Series("x", "generated", STEP_S, noisy_season(12)), name, LEAD_S))
    assert row["coverage_80"] == pytest.approx(0.8, abs=0.1)
    assert row["coverage_90"] == pytest.approx(0.9, abs=0.06)
    assert row["coverage_99"] > 0.96
    assert row["failed_fits"] == 0


def test_losses_are_the_formulas() -> None:
    came, quantile = np.array([10.0, 10.0]), np.array([8.0, 11.0])
    assert pinball(came, quantile, 0.9).tolist() == pytest.approx([0.9 * 2.0, 0.1 * 1.0])
    series = Series("x", "generated", STEP_S, season(3) + np.repeat([0.0, 5.0, 12.0], DAY))
    at = scored(series, 2)
    assert series.naive == "a day ago"
    assert len(at) == 2 * DAY
    assert naive_error(series, at, 2) == pytest.approx(6.0)  # 5 and 7 more than the day before
    short = Series("x", "generated", 60.0, np.arange(60.0))
    assert short.naive == "last value"
    assert score(backtest(short, "last", 540.0))["mase"] == pytest.approx(1.0)


def test_what_is_not_recorded_is_not_scored(tmp_path: Path) -> None:
    path = tmp_path / "gaps_60s.csv"
    missing = [200 <= k < 220 for k in range(400)]
    path.write_text("count,missing\n" + "".join(f"{60 + k % 7},{int(gone)}\n" for k, gone in enumerate(missing)))
    series = recorded(path, 60.0)
    assert np.isnan(series.rates_per_s).tolist() == missing
    assert series.name == "gaps_60s"
    assert np.isfinite(series.rates_per_s[scored(series, 9)]).all()
    assert len(recorded(path, 120.0).rates_per_s) == 200
    assert recorded(path, 10.0).interval_s == 60.0  # its own cells


def test_a_generated_series_has_the_rate_of_its_scenario() -> None:
    """The chat scenario's day and the day before it, 200 requests/s on long-run average: within 40 %, and noisy."""
    series = generated("chat", 1, 60.0, seed=0)
    assert len(series.rates_per_s) == 2 * 1440
    assert series.rates_per_s.mean() == pytest.approx(200.0, rel=0.4)
    assert np.array_equal(series.rates_per_s, generated("chat", 1, 60.0, seed=0).rates_per_s)
    assert averaged(np.array([1.0, 3.0, 5.0, 7.0]), 1.0, 2.0).tolist() == [2.0, 6.0]


def test_the_command_writes_scores_report_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, out = tmp_path / "load_600s.csv", tmp_path / "found"
    counts = np.random.default_rng(0).poisson(np.repeat(noisy_season(4), 3))
    trace.write_text("count\n" + "\n".join(map(str, counts)) + "\n")
    argv = ["forecast", "--trace", str(trace), "--forecasters", "last,kalman,seasonal-naive", "--out", str(out)]
    assert main(argv) == 0
    assert sorted(path.name for path in out.iterdir()) == ["load_600s.svg", "report.md", "results.json", "scores.csv"]
    results = json.loads((out / "results.json").read_text())
    assert [row["forecaster"] for row in results["scores"]] == ["last", "kalman", "seasonal-naive"]
    assert all(row["pinball_90"] > 0 and 0 <= row["coverage_80"] <= 1 for row in results["scores"])
    assert str(tmp_path) not in (out / "results.json").read_text() + (out / "report.md").read_text()
    assert "MASE against a day ago" in (out / "report.md").read_text()
    assert "<svg" in (out / "load_600s.svg").read_text()
    capsys.readouterr()
    before = (out / "results.json").read_bytes()
    assert main(argv) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (out / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--forecasters", "lest"], "did you mean 'last'"),
        (["--scenario", "chatt"], "chat"),
        (["--trace", "nowhere.csv"], "nowhere.csv"),
        (["--days", "0"], "--days 0"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert main(["forecast", *flags, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
