"""Recorded loads: scaled to the fleet a study asks for, labelled when scaling flattens them, split where it can be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_world import alternating_trace

from experiments import sources
from experiments.cases import LoadCase, TraceCase
from experiments.compare import open_grid
from experiments.study import parse_study
from rlscale.loop import need_series
from rlscale.registry import scan
from rlscale.workloads.readers import read


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty minutes that alternate between 1 and 7 requests per second every three minutes."""
    return alternating_trace(tmp_path_factory.mktemp("trace") / "minutes.csv")


def case(path: Path, mode: str = "amplify", **more: Any) -> LoadCase:
    return LoadCase(f"{path.name} ({mode})", "chat", TraceCase(str(path), "auto", mode, 10.0, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["superpose", "amplify"])
def test_a_trace_is_scaled_to_the_mean_need_asked_for(minutes: Path, mode: str):
    scenario, load = sources.sample(case(minutes, mode), "test", 0)
    need = need_series(load, scenario.cluster, scenario.limits)
    assert need.mean() == pytest.approx(10.0, rel=0.03)
    assert load.duration_s == pytest.approx(1200.0, abs=20.0)  # the first ten minutes are history


def test_a_trace_as_it_is_brings_every_request_and_superposing_moves_copies_of_them(minutes: Path):
    every = read(minutes).requests
    assert every is not None
    _, load = sources.sample(case(minutes, "recorded"), "test", 0)
    scored = every.between(600.0, 600.0 + load.duration_s)
    assert load.requests is not None and sources.about(case(minutes, "recorded"))["factor"] == 1.0  # type: ignore[index]
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        np.testing.assert_array_equal(getattr(load.requests, name), getattr(scored, name))
    assert sources.sample(case(minutes, "amplify"), "test", 0)[1].requests is None  # drawn out of rates
    _, copies = sources.sample(case(minutes, "superpose"), "test", 0)
    assert copies.requests is not None and (np.diff(copies.requests.arrival_s) >= 0).all()
    for one in (load, copies):
        counts = np.bincount(one.requests.arrival_s.astype(int), minlength=len(one.values))  # type: ignore[union-attr]
        np.testing.assert_array_equal(counts, one.values)


def test_amplifying_keeps_the_swings_and_superposing_flattens_them_and_says_so(minutes: Path):
    kept, flat = sources.about(case(minutes, "amplify")), sources.about(case(minutes, "superpose"))
    assert kept is not None and flat is not None
    assert kept["swings"] == pytest.approx(1.0, abs=0.05) and not kept["flattened"]
    assert flat["swings"] < 0.5 and flat["flattened"]
    assert kept["before"] == pytest.approx(flat["before"])
    assert kept["windows_s"] == [1.0, 10.0, 60.0]
    # One minute of 1/s or 7/s: variance 32400 plus Poisson, mean 240; amplified, all but the Poisson part grows.
    assert kept["before"][2] == pytest.approx(136, rel=0.05)
    assert kept["after"][2] == pytest.approx(136 * kept["factor"], rel=0.05)


def test_capacity_is_that_of_the_traces_own_requests_and_the_same_for_every_seed(minutes: Path):
    of_chat = sources.base("chat").limits.capacity_per_s
    first, load0 = sources.sample(case(minutes), "test", 0)
    other, load1 = sources.sample(case(minutes), "test", 1)
    assert first.limits.capacity_per_s == other.limits.capacity_per_s
    assert first.limits.capacity_per_s != of_chat  # 150 output tokens instead of 211
    assert first.cluster == sources.base("chat").cluster
    assert load0.law == "poisson" or not np.array_equal(load0.values, load1.values)


def test_a_short_trace_trains_on_the_scenarios_generator(minutes: Path):
    scenario, load = sources.sample(case(minutes), "train", 0)
    assert scenario is sources.base("chat")
    assert np.array_equal(load.values, scenario.sample_load("train", 0).values)


def test_both_scalings_of_a_short_trace_share_their_training_cells(minutes: Path):
    entry = {"path": str(minutes), "scenario": "chat"}
    study = parse_study({"traces": [entry], "scalers": ["headroom"], "seeds": {"train": 2, "test": 1}}, "here")
    cells = open_grid(study).first_phase()
    values = len(scan("agents", "SCALERS")["headroom"].knob.values)
    assert sum(cell.split == "train" for cell in cells) == 2 * values  # and not twice as many
    assert sum(cell.split == "test" for cell in cells) == 2 * values  # one seed, two scalings


def test_the_key_of_a_recorded_load_does_not_depend_on_where_the_file_lies(minutes: Path):
    here, there = case(minutes), case(Path("elsewhere.csv"))
    assert sources.identity(here) == sources.identity(there)
    assert here.trace is not None
    bigger = replace(here, trace=replace(here.trace, mean_need=12.0))
    assert sources.identity(here) != sources.identity(bigger)


def test_servegen_is_multiplied_in_one_way_split_by_days_and_cut_into_six_hours(shared_traces: Path):
    path = shared_traces / "servegen_m-large_days0-7_rates.csv.gz"
    windows = (("train", 0, 5), ("test", 6, 8))
    asked = [case(path, mode, windows_days=windows) for mode in ("superpose", "amplify")]
    (only,) = sources.resolved(asked)
    assert only.name.endswith("(rates)") and only.block_s == 21_600.0
    _, train = sources.sample(only, "train", 0)
    _, test = sources.sample(only, "test", 0)
    assert train.duration_s > 4 * 86_400.0 and test.duration_s == pytest.approx(2 * 86_400.0)
    assert train.rate_per_s.mean() != pytest.approx(test.rate_per_s.mean(), rel=1e-3)


def test_the_azure_chat_hour_is_flattened_by_superposing(shared_traces: Path):
    about = sources.about(case(shared_traces / "azure_llm_2023_conv.csv.gz", "superpose"))
    assert about is not None and about["flattened"]
    assert about["before"] == pytest.approx([1.39, 3.86, 16.1], rel=0.05)  # the published figures of the trace
