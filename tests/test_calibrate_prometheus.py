"""From recorded metrics to a load, a profile and a scenario, without a server."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.calibrate_prometheus import labels_of, seconds_of
from experiments.calibrate_prometheus_load import gaps, spread2, tokens, trace_text
from experiments.calibrate_prometheus_profile import fitted
from experiments.calibrate_prometheus_ranges import MOST_POINTS, Ranges, fetch, read_ranges, save
from experiments.calibrate_prometheus_scenario import windows
from rlscale.deploy.base import MetricsError
from rlscale.deploy.buckets import Buckets
from rlscale.deploy.prometheus_answer import Series
from rlscale.deploy.prometheus_http import Api
from rlscale.deploy.templates import load_template
from rlscale.errors import RlscaleError
from rlscale.sim.profiles import service_profile
from rlscale.types import Floats
from rlscale.workloads.readers import read

START_S = 1_790_000_040.0  # a whole minute


def recorded(cells: int = 1440, prompts: Floats | None = None, base_s: float = 0.010) -> Ranges:
    """What a service with the prompts and sequences of h100-8b and a base of its own would have shown, 2 % noise."""
    rng = np.random.default_rng(0)
    law = service_profile("h100-8b").law
    rate = 20.0 + 15.0 * np.sin(np.arange(cells) / cells * 4.0 * math.pi)
    prompt = np.full(cells, 1000.0) if prompts is None else prompts
    batch, answer = rate * 1.5 / 2.0, np.full(cells, 200.0)
    own = batch / answer * (law.c2_s * prompt + law.c4_s * prompt**2)
    tpot = base_s + law.c1_s * batch + law.c3_s * batch * (prompt + answer / 2.0) + own
    alone = base_s + law.c2_s * prompt + law.c4_s * prompt**2
    values = {
        "arrival_per_s": rate, "waiting": np.zeros(cells), "running": 2.0 * batch, "dropped_per_s": np.zeros(cells),
        "prompt_tokens": prompt, "answer_tokens": answer, "replicas": np.full(cells, 2.0),
        "tpot_s": tpot * np.exp(0.02 * rng.standard_normal(cells)), "ttft_s": 0.5 * tpot + tpot - own + alone - base_s,
    }  # fmt: skip
    return Ranges("http://test", START_S, 60.0, values, scrape_s=15.0)


def test_gaps_are_told_and_marked_and_never_filled(tmp_path: Path) -> None:
    ranges = recorded()
    ranges.values["arrival_per_s"][100:130] = math.nan
    found = gaps(ranges)
    assert [(gap.start_s, gap.cells) for gap in found] == [(START_S + 6000.0, 30)]
    path = tmp_path / "trace.csv"
    path.write_text(trace_text(ranges))
    trace = read(path)
    assert trace.series is not None
    assert trace.series.missing.sum() == 30
    assert trace.notes[-1] == "30 missing cells interpolated"
    assert trace.mean_per_s == pytest.approx(np.nanmean(ranges.values["arrival_per_s"]), rel=0.02)
    assert trace.week_s == (START_S + 3 * 86_400.0) % (7 * 86_400.0)


def test_a_range_that_is_mostly_gaps_is_refused() -> None:
    ranges = recorded()
    ranges.values["arrival_per_s"][:800] = math.nan
    with pytest.raises(MetricsError, match="56% of the range has no arrival rate"):
        gaps(ranges)


def test_the_base_of_a_law_is_found_and_what_cannot_be_told_is_taken_from_the_named_profile() -> None:
    """Within 3 %: 2 % noise per cell, medians of 20."""
    known, done = service_profile("h100-8b").law, fitted(recorded(), "h100-8b", 0, 20)
    assert done.law.c0_s == pytest.approx(0.010, rel=0.03)
    assert done.law.c2_s == pytest.approx(known.c2_s, rel=0.10)
    assert {"c1_s", "c3_s", "c4_s"} <= done.reasons.keys()
    assert (done.law.c1_s, done.law.c3_s, done.law.c4_s) == (known.c1_s, known.c3_s, known.c4_s)


def test_prompts_that_vary_tell_their_own_coefficient() -> None:
    prompts = np.random.default_rng(1).uniform(400.0, 4000.0, 1440)
    done = fitted(recorded(prompts=prompts), "h100-8b", 0, 20)
    assert done.found is not None
    assert "c2_s" not in done.reasons
    assert done.law.c2_s == pytest.approx(service_profile("h100-8b").law.c2_s, rel=0.10)


@pytest.mark.parametrize("what", ["tpot_s", "replicas", "running"])
def test_without_its_columns_there_is_no_profile_and_it_is_said(what: str) -> None:
    ranges = recorded()
    ranges.values[what][:] = math.nan
    done = fitted(ranges, "h100-8b", 0, 20)
    assert done.found is None
    assert done.law == service_profile("h100-8b").law
    assert "no cell has" in done.reasons["c0_s"]


def test_one_batch_cannot_tell_base_and_slope_apart() -> None:
    ranges = recorded()
    ranges.values["running"][:] = 30.0
    assert "cannot be told apart" in fitted(ranges, "h100-8b", 0, 20).reasons["c0_s"]


def test_lengths_come_from_histograms_then_means_then_the_base() -> None:
    ranges = recorded()
    found, notes = tokens(ranges, {}, "chat")
    assert found == {"prompt": 1000.0, "output": 200.0}
    assert "tail" in notes[0]
    even = Buckets(np.array([500.0, 1000.0, 2000.0, np.inf]), np.array([25.0, 50.0, 100.0, 100.0]))
    ranges.histograms["prompt_tokens"] = even
    found, _ = tokens(ranges, {"output": 300.0}, "chat")
    assert isinstance(found, dict)
    assert found["output"] == 300.0
    assert found["prompt"][0.5] == pytest.approx(1000.0, rel=0.01)  # the mean of the histogram is the recorded one
    assert spread2(even) == pytest.approx(1.0 + 1.0 / 3.0, rel=0.01)  # even from 0 to 2000
    ranges.values["answer_tokens"][:] = math.nan
    assert tokens(ranges, {}, "chat")[0] == "chat"


def test_what_was_read_can_be_kept_and_read_again(tmp_path: Path) -> None:
    ranges = recorded(cells=10)
    ranges.values["ttft_s"][3] = math.nan
    ranges.histograms["ttft"] = Buckets(np.array([1.0, np.inf]), np.array([3.0, 4.0]))
    save(tmp_path / "ranges.json", ranges)
    again = read_ranges(tmp_path / "ranges.json")
    assert again.values.keys() == ranges.values.keys()
    for name, column in ranges.values.items():
        np.testing.assert_array_equal(again.values[name], column)
    assert again.histograms["ttft"].count.tolist() == [3.0, 4.0]
    assert (again.start_s, again.step_s, again.scrape_s) == (ranges.start_s, 60.0, 15.0)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("", "ranges.json: file"), ("[]", "file"), ('{"version": 2}', "version"),
        ({"values": {"waiting": [1.0]}}, "expected arrival_per_s"), ({"more": 1}, "more: Extra"),
        ({"values": {"arrival_per_s": [1.0], "waiting": []}}, "one length"), ({"step_s": 0.0}, "step_s"),
        ({"values": {"arrival_per_s": ["1"]}}, "arrival_per_s.0"),
        ({"histograms": {"ttft": {"edge": [1.0], "count": [1.0]}}}, "one count more"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_range(tmp_path: Path, told: Any, said: str) -> None:
    good = {"version": 1, "source": "s", "start_s": 0.0, "step_s": 60.0, "scrape_s": None, "histograms": {},
            "values": {"arrival_per_s": [1.0]}}  # fmt: skip
    path = tmp_path / "ranges.json"
    path.write_text(told if isinstance(told, str) else json.dumps({**good, **told}))
    with pytest.raises(MetricsError, match=said):
        read_ranges(path)


class Recorder(Api):
    """A server that has everything at one scrape per 15 s, and counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__("http://test")
        self.points: list[int] = []

    def query_range(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        count = round((end_s - start_s) / step_s) + 1
        self.points.append(count)
        times = [start_s + i * step_s for i in range(count)]
        if "count_over_time" in expression:
            return [Series((), tuple((t, 240.0) for t in times))]
        if "sum by (le)" in expression:
            return [Series((("le", le),), tuple((t, n) for t in times)) for le, n in (("1", 1.0), ("+Inf", 2.0))]
        return [Series((), tuple((t, t) for t in times))]


def test_a_long_range_is_asked_for_in_pieces_and_put_together_in_order() -> None:
    api = Recorder()
    ranges = fetch(api, load_template("vllm"), {}, START_S, 14 * 86_400.0, None)
    assert (ranges.step_s, ranges.cells) == (60.0, 20_160)
    assert max(api.points) <= MOST_POINTS
    ends = ranges.start_s + 60.0 * np.arange(1, ranges.cells + 1)  # a cell holds what is known at its end
    np.testing.assert_allclose(ranges.values["arrival_per_s"], ends)
    assert ranges.histograms["ttft"].count.tolist() == [14.0, 28.0]  # by days, added


def test_a_step_too_short_for_the_scrapes_and_a_range_too_short_for_two_halves() -> None:
    with pytest.raises(MetricsError, match="samples are 15 s apart"):
        fetch(Recorder(), load_template("vllm"), {}, START_S, 86_400.0, 20.0)
    with pytest.raises(RlscaleError, match="too short for a training and a test half"):
        windows(recorded(cells=60))
    assert windows(recorded(cells=5 * 1440)).days == {"train": [0, 2], "test": [2, 5]}
    assert windows(recorded(cells=1440)).days is None


@pytest.mark.parametrize("text", ["14", "d", "-1d", "1y", "0h", "9999w", ""])
def test_a_range_that_is_none(text: str) -> None:
    with pytest.raises(RlscaleError, match="--range"):
        seconds_of(text)
    assert seconds_of("14d") == 14 * 86_400.0


def test_labels_on_the_command_line() -> None:
    assert labels_of('a=b, c="d e"') == {"a": "b", "c": "d e"}
    with pytest.raises(RlscaleError, match="expected name=value"):
        labels_of("a")


def test_the_command_writes_a_scenario_that_passes_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ranges = recorded(cells=240)
    ranges.values["arrival_per_s"][50] = math.nan
    save(Path("ranges.json"), ranges)
    command = ["calibrate", "--offline", "ranges.json", "--out", "out", "--scalers", "none", "--draws", "10"]
    assert main(command) == 0
    told = json.loads(Path("out/results.json").read_text())
    assert told["missing_cells"] == 1
    assert told["answer"] is None
    assert told["profile"]["left_out"].keys() >= {"c3_s", "c4_s"}
    assert "1 cells (0.42%) have no rate" in capsys.readouterr().out
    assert main(["scenarios", "check", "out/scenario.yaml"]) == 0
    assert main(command) == 2  # nothing is overwritten
    assert "out exists" in capsys.readouterr().err


def test_two_sources_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--offline", "a", "--prometheus", "http://b", "--out", "none"]) == 2
    assert main(["calibrate", "--out", "none"]) == 2
    assert capsys.readouterr().err.count("give one of") == 2
