"""Calibration: a law that made the numbers is found again, and what numbers cannot tell is said."""

from __future__ import annotations

import csv
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from experiments.__main__ import main
from experiments.calibrate import calibrate, case_of
from experiments.calibrate_fit import LAW, fit
from experiments.calibrate_forms import Form, Measurements, rows_of
from experiments.calibrate_log import Log, rows_of_log
from experiments.calibrate_split import doublings, fitted_on
from rlscale.scenario import load_scenario
from rlscale.scenario_pool import PoolEntry
from rlscale.sim.laws import iteration_s
from rlscale.sim.naive import Lifetime, Oracle, Server
from rlscale.sim.profiles import service_profile
from rlscale.types import Floats, IterationLaw, Requests

TRUE = IterationLaw(6.7e-3, 8e-5, 1.7e-5, 6.9e-8, 1.2e-9)
COEFFICIENTS = np.array([TRUE.c0_s, TRUE.c1_s, TRUE.c2_s, TRUE.c3_s, TRUE.c4_s])
GRID = tuple(itertools.product((256, 1024, 4096), (128, 1024), (1, 4, 16, 64)))
OVERHEAD_S, BURST_SHARE = 0.02, 0.05


def measured(form: Form = "closed-loop", grid: tuple[tuple[int, ...], ...] = GRID, noise: float = 0.0) -> Measurements:
    """A table that the law made; noise is the standard deviation of log ratios, seed 0."""
    prompt, output, batch = np.array(grid, np.float64).T
    blank = Measurements("made", prompt, output, batch, np.ones(len(grid)), np.ones(len(grid)), label="made")
    rows = rows_of(blank, form)
    times = rows.base @ COEFFICIENTS + BURST_SHARE * (rows.burst @ COEFFICIENTS) + OVERHEAD_S * rows.first
    times *= np.exp(noise * np.random.default_rng(0).standard_normal(len(times)))
    half = len(grid)
    return Measurements("made", prompt, output, batch, times[half:], times[:half], label="made")


def table(path: Path, seen: Measurements, **columns: Any) -> Path:
    """The plain schema, in milliseconds."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt_tokens", "output_tokens", "batch", "ttft_ms", "tpot_ms", *columns])
        for row in zip(seen.prompt, seen.output, seen.batch, 1e3 * seen.ttft_s, 1e3 * seen.tpot_s, strict=True):
            writer.writerow([*row, *columns.values()])
    return path


@pytest.mark.parametrize("form", ["closed-loop", "static"])
def test_a_table_made_by_a_law_gives_the_law_back(form: Form) -> None:
    found = fit(rows_of(measured(form), form))
    assert found.value[:4] == pytest.approx(COEFFICIENTS[:4], rel=0.01)
    assert found.value[4] == pytest.approx(COEFFICIENTS[4], rel=0.05)  # drawn towards zero a little
    if form == "closed-loop":
        assert (found.overhead_s, found.burst_share) == pytest.approx((OVERHEAD_S, BURST_SHARE), rel=0.02)


def test_two_rows_5_and_40_times_too_long_move_the_law_by_a_fifth_at_most() -> None:
    seen = measured()
    seen.tpot_s[3] *= 5.0
    seen.ttft_s[11] *= 40.0
    assert fit(rows_of(seen, "closed-loop")).value[:4] == pytest.approx(
        COEFFICIENTS[:4], rel=0.20
    )  # 5 and 40 times too long


def test_noisy_coefficients_lie_within_three_standard_errors() -> None:
    found = calibrate(case_of(measured(noise=0.03), "closed-loop", "made"), seed=0, draws=40).fit
    assert np.all(np.abs(found.value - COEFFICIENTS) <= 3.0 * found.std_error)  # 24 configurations, 3 % noise, seed 0
    assert np.all(found.low <= found.value) and np.all(found.value <= found.high)


@pytest.mark.parametrize(
    ("grid", "ttft", "zero", "reason"),
    [
        ([(n, m, 8) for n, m, b in GRID], True, "c1_s", "one batch size only (8)"),
        ([(512, 128, b) for b in (1, 2, 4, 8, 16, 32)], True, "c3_s", "contexts do not vary apart from the batch"),
        ([(512, 128, b) for b in (1, 2, 4, 8, 16, 32)], True, "c4_s", "one prompt length only (512 tokens)"),
        ([(512, 128, b) for b in (1, 2, 4, 8, 16, 32)], False, "c2_s", "no TTFT"),
    ],
)
def test_what_the_rows_cannot_tell_is_left_at_zero_with_the_reason(
    grid: list[tuple[int, ...]], ttft: bool, zero: str, reason: str
) -> None:
    seen = measured(grid=tuple(grid))
    if not ttft:
        seen.ttft_s[:] = np.nan
    done = calibrate(case_of(seen, "closed-loop", "made"), seed=0, draws=3)
    assert done.fit.value[LAW.index(zero)] == 0.0
    assert reason in done.left_out[zero]
    predicted = done.fit.predict_s(done.case.rows)
    assert predicted == pytest.approx(done.case.rows.measured_s, rel=0.20)  # merged, not lost


def test_without_prompt_lengths_a_law_of_two_is_fitted() -> None:
    seen = measured(grid=tuple((1, 500, b) for b in (1, 4, 16, 64)))
    seen.prompt[:], seen.ttft_s[:] = np.nan, np.nan
    done = calibrate(case_of(seen, "closed-loop", "made"), seed=0, draws=3)
    assert set(done.left_out) == {"c2_s", "c3_s", "c4_s"}
    assert "no prompt lengths" in done.left_out["c3_s"]


def played(requests: int, rate_per_s: float) -> tuple[Requests, Floats, Floats]:
    """Requests on one replica of the request engine under the true law, seed 0: arrivals, TTFT, E2E."""
    rng = np.random.default_rng(0)
    arrival = np.cumsum(rng.exponential(1.0 / rate_per_s, requests))
    prompt = np.round(rng.lognormal(6.5, 1.0, requests).clip(10, 8000))
    asked = Requests(arrival, prompt, np.round(rng.lognormal(4.6, 0.7, requests).clip(2, 800)))
    done = Oracle(Server(partial(iteration_s, TRUE), 256, 448_000.0, 8192.0), [Lifetime()]).run(asked)
    return asked, done.ttft_s, done.e2e_s


def test_a_request_log_of_the_engine_gives_its_law_back() -> None:
    asked, ttft, e2e = played(1500, 9.0)
    order = np.argsort(asked.arrival_s + ttft)
    log = Log(*(part[order] for part in (asked.prompt_tokens, asked.output_tokens, asked.arrival_s + ttft,
                                         asked.arrival_s + e2e)))  # fmt: skip
    found = fit(rows_of_log(log))
    # 1 500 requests, seed 0, prompts within one chunk: every coefficient within 5 %.
    assert found.value == pytest.approx(COEFFICIENTS, rel=0.05)


def test_a_log_in_a_file_becomes_a_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked, ttft, e2e = played(300, 6.0)
    path = tmp_path / "log.csv"
    with path.open("w") as file:
        file.write("arrival_s,prompt_tokens,output_tokens,ttft_ms,e2e_ms\n")
        for row in zip(asked.arrival_s, asked.prompt_tokens, asked.output_tokens, 1e3 * ttft, 1e3 * e2e, strict=True):
            file.write(",".join(f"{value:.9g}" for value in row) + "\n")
    assert main(["calibrate", str(path), "--out", str(tmp_path / "out"), "--draws", "3"]) == 0
    law = service_profile(str(tmp_path / "out" / "log.yaml")).law
    assert (law.c0_s, law.c2_s) == pytest.approx((TRUE.c0_s, TRUE.c2_s), rel=0.1)  # 300 requests, seed 0
    assert "Microseconds" in capsys.readouterr().out


SCENARIO = """summary: a pool whose profile was calibrated
slo: {ttft_s: 1.0, tpot_s: 0.1}
pools: [{name: mine, node: h100-x1, profile: made.yaml, max_replicas: 4}]
workload: {kind: steady, rate_per_s: 2.0, tokens: chat}
"""


def test_a_scenario_names_a_calibrated_profile_by_its_file(tmp_path: Path) -> None:
    path = table(tmp_path / "made.csv", measured(), gpu="H100", model="mine")
    assert main(["calibrate", str(path), "--out", str(tmp_path / "out"), "--draws", "3", "--like", "h100-8b"]) == 0
    (file,) = (tmp_path / "out").glob("*.yaml")
    raw = yaml.safe_load(file.read_text())
    assert raw["kernel"]["c0_ms"]["value"] == pytest.approx(1e3 * TRUE.c0_s, rel=0.01)
    assert {"source", "std_error", "interval90"} <= set(raw["kernel"]["c3_ms"])
    assert raw["valid"]["batch"] == [1.0, 64.0]
    file.rename(tmp_path / "made.yaml")
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    (pool,) = load_scenario(tmp_path / "scenario.yaml", check_reference=False).cluster.pools
    assert pool.profile.law.c1_s == pytest.approx(TRUE.c1_s, rel=0.02)
    assert pool.profile.kv_capacity_tokens == service_profile("h100-8b").kv_capacity_tokens


def test_every_precision_becomes_a_profile_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(tmp_path / "a.csv", measured(), precision="fp8")
    lines = table(tmp_path / "b.csv", measured(), precision="bf16").read_text().splitlines()[1:]
    both = tmp_path / "both.csv"
    both.write_text((tmp_path / "a.csv").read_text() + "\n".join([*lines, "512,128,4,,9.5,int4"]) + "\n")
    assert main(["calibrate", str(both), "--out", str(tmp_path / "all"), "--draws", "3"]) == 0
    assert sorted(file.stem for file in (tmp_path / "all").glob("*.yaml")) == ["bf16", "fp8"]
    assert "int4: no profile; got 1 measured times" in capsys.readouterr().out
    assert main(["calibrate", str(both), "--out", str(tmp_path / "one"), "--draws", "3", "--only", "FP8"]) == 0
    assert [file.stem for file in (tmp_path / "one").glob("*.yaml")] == ["fp8"]


HEAD = "prompt_tokens,output_tokens,batch,ttft_ms,tpot_ms\n"
ROWS = "".join(f"{n},{m},{b},{20 + n / 50},{7 + b / 10}\n" for n, m, b in GRID)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file is empty"),
        (HEAD, "a header without rows"),
        (HEAD.replace("batch", "concurrency") + ROWS, "column 'batch'"),
        (HEAD.replace(",tpot_ms", ",other") + ROWS, "column 'tpot_ms'"),
        (HEAD.replace("ttft_ms", "tpot_ms") + ROWS, "the column is there twice"),
        (HEAD.replace("tpot_ms", "tpot_us") + ROWS, "column 'tpot_us': got a column 'tpot_us'; expected a unit"),
        (HEAD.replace("ttft_ms", "tpot_s") + ROWS, "got tpot_s and tpot_ms"),
        (HEAD + "512,128,4,20,fast\n" + ROWS, "line 2, column 'tpot_ms': got 'fast'"),
        (HEAD + "512,128,4,20,-9\n" + ROWS, "line 2, column 'tpot_ms': got -9"),
        (HEAD + "512,128,0,20,9\n" + ROWS, "line 2, column 'batch': got 0"),
        (HEAD + "512,128,4,20,0\n" + ROWS, "line 2, column 'tpot_ms': got 0"),
        (HEAD + "512,128,4,20\n" + ROWS, "line 2: got 4 cells"),
        (HEAD + "512,128,4,20,9\n1024,128,8,30,10\n", "got 4 measured times; expected at least"),
        ("arrival_s,prompt_tokens,output_tokens,ttft_ms\n0,10,10,5\n1,10,10,5\n", "column 'tpot_ms' or 'e2e_ms'"),
        ("arrival_s,prompt_tokens,output_tokens,ttft_ms,e2e_ms\n0,10,10,5,90\n1,10,10,5,2\n", "got a last token"),
        ("arrival_s,prompt_tokens,output_tokens,ttft_ms,e2e_ms\n0,10,10,5,90\n", "got 1 measured times"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_that_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert main(["calibrate", str(path), "--out", str(tmp_path / "out"), "--draws", "2"]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and "bad.csv" in error
    assert not (tmp_path / "out").exists()


def test_an_output_that_exists_a_missing_file_and_an_unknown_group_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "made.csv", measured())
    for arguments, told in (
        ([str(path), "--out", str(tmp_path)], "nothing is overwritten"),
        ([str(tmp_path / "none.csv"), "--out", str(tmp_path / "a")], "no such file"),
        ([str(path), "--only", "h900", "--out", str(tmp_path / "a")], "no group contains 'h900'"),
        ([str(path), "--like", "h900", "--out", str(tmp_path / "a"), "--draws", "2"], "unknown service profile 'h900'"),
    ):
        assert main(["calibrate", *arguments]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_profile_file_that_cannot_be_read_names_line_and_field(tmp_path: Path) -> None:
    from rlscale.errors import ScenarioError

    (tmp_path / "bad.yaml").write_text("name: x\nmodel: y\ngpus_per_replica: none\n")
    with pytest.raises(ScenarioError, match=r"bad\.yaml, .*line 3: gpus_per_replica"):
        service_profile("bad.yaml", tmp_path)
    with pytest.raises(ScenarioError, match="No such file"):
        service_profile("none.yaml", tmp_path)


def test_the_split_halves_every_group_and_keeps_repeated_runs_together() -> None:
    configurations = [tuple(float(value) for value in row) for row in GRID]
    chosen = fitted_on("a group", configurations + configurations)
    assert sum(chosen) == len(GRID)
    assert chosen[: len(GRID)] == chosen[len(GRID) :]
    assert fitted_on("a group", configurations[::-1]) == chosen[: len(GRID)][::-1]  # not of the order
    assert fitted_on("another", configurations) != chosen[: len(GRID)]
    assert sum(fitted_on("g", configurations[:7])) == 4


def test_distance_is_counted_in_doublings() -> None:
    assert doublings((1024.0, 128.0, 8.0), [(512.0, 128.0, 8.0), (1024.0, 128.0, 64.0)]) == 1.0
    assert doublings((1024.0, 256.0, 16.0), [(1024.0, 128.0, 8.0)]) == pytest.approx(np.sqrt(2.0))


def test_shipped_precisions_are_profiles_of_their_own() -> None:
    eight, four = (service_profile(f"b200-70b-{bits}") for bits in ("fp8", "fp4"))
    pool = PoolEntry(name="b200", node="b200-x8", profile="b200-70b-fp4", max_replicas=8).build()
    assert pool.slots_per_node == 8
    assert four.law.c0_s < eight.law.c0_s  # half the weights to read in every pass
    assert four.kv_capacity_tokens > eight.kv_capacity_tokens


def test_repeated_runs_count_once_by_their_median() -> None:
    once = measured()
    thrice = measured(grid=GRID * 3)
    thrice.tpot_s[2 * len(GRID) :] *= 1.5  # one of three runs went wrong
    assert calibrate(case_of(thrice, "closed-loop", "made"), 0, 3).fit.value == pytest.approx(
        calibrate(case_of(once, "closed-loop", "made"), 0, 3).fit.value
    )
