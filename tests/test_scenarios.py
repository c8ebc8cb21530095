"""The built-in scenarios hold what a scenario promises, and wrong ones are refused with one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from envs import get_scenario, scenario_names, scenario_path
from experiments.__main__ import main
from experiments.scenarios import TRAINING_LOADS, Constant
from rlscale.errors import ScenarioError
from rlscale.loop import need_series, run
from rlscale.scenario import REFERENCE_FILE, check_unloaded, load_scenario

NAMES = scenario_names()
REFERENCE: dict[str, Any] = json.loads((scenario_path("chat").parent / REFERENCE_FILE).read_text())
# Scenarios about the size of a replica, where one may be enough; half a GPU is worth a choice in a small fleet only.
ONE_SIZE_OR_ANOTHER = ("chat-partitions", "vertical-70b")
SMALL = ("chat-partitions",)


def changed(folder: Path, name: str = "chat", **fields: Any) -> Path:
    """A copy of a built-in scenario with other fields."""
    path = folder / f"{name}-changed.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(scenario_path(name).read_text()) | fields))
    return path


def test_there_are_at_least_sixteen_and_each_says_what_it_tests() -> None:
    assert len(NAMES) >= 16
    assert len({get_scenario(name).summary for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_meets_its_slo_unloaded_and_needs_eight_to_sixteen_replicas(name: str) -> None:
    """Mean over the three training loads that the reference cost is made of."""
    scenario = get_scenario(name)
    known = check_unloaded(scenario)
    loads = [scenario.sample_load("train", seed) for seed in range(TRAINING_LOADS)]
    need = float(np.mean([need_series(load, scenario.cluster, known).mean() for load in loads]))
    if name in SMALL:
        assert 1.5 <= need <= 3.0
    else:
        assert 7.5 <= need <= 16.0
    assert known.min_replicas.sum() >= (1 if name in ONE_SIZE_OR_ANOTHER else 2)


@pytest.mark.parametrize("name", NAMES)
def test_every_reference_is_of_the_present_content_and_the_cheapest_that_reaches_the_target(name: str) -> None:
    scenario, entry = get_scenario(name), REFERENCE[name]  # a stale hash would be refused here
    target = scenario.cluster.slo.attainment
    assert entry["hash"] == scenario.hash and scenario.scale is not None
    assert entry["attainment_one_less"] < target <= entry["attainment"] <= entry["attainment_one_more"]
    mean = np.mean([scenario.sample_load("train", seed).rate_per_s.mean() for seed in range(TRAINING_LOADS)])
    assert entry["requests_per_interval"] == pytest.approx(mean * scenario.cluster.interval_s, rel=1e-6)


def test_the_references_hold_no_scenario_that_is_gone() -> None:
    assert set(REFERENCE) == set(NAMES)


def test_the_stored_reference_is_what_a_constant_fleet_costs_and_reaches() -> None:
    """Chat, one node per replica: price x replicas; attainment over the same three loads and seeds."""
    scenario, entry = get_scenario("chat"), REFERENCE["chat"]
    pool = scenario.cluster.pools[0]
    price = pool.node.usd_per_s(pool.spot) * entry["replicas"] * scenario.cluster.interval_s
    assert entry["usd_per_interval"] == pytest.approx(price, rel=1e-9)
    fleet = (entry["replicas"],)
    totals = [
        run(scenario, Constant(fleet), scenario.sample_load("train", seed), seed, initial=fleet).totals
        for seed in range(TRAINING_LOADS)
    ]
    missed = sum(total["missed"] for total in totals) / sum(total["requests"] for total in totals)
    assert 1.0 - missed == pytest.approx(entry["attainment"], abs=1e-6)


def test_a_reference_of_another_content_is_refused_until_it_is_computed_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(tmp_path, horizon_s=1800.0)
    store = tmp_path / REFERENCE_FILE
    store.write_text(json.dumps({path.stem: REFERENCE["chat"], "other": {"kept": 1}}))
    with pytest.raises(ScenarioError, match="run `python -m experiments scenarios reference"):
        load_scenario(path)
    assert main(["scenarios", "reference", str(path)]) == 0
    assert "replicas, attainment" in capsys.readouterr().out
    assert load_scenario(path).scale is not None
    assert json.loads(store.read_text())["other"] == {"kept": 1}
    assert {item.name for item in tmp_path.iterdir()} == {path.name, REFERENCE_FILE}


def test_a_target_that_no_fleet_reaches_has_no_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pools = [{"name": "h100", "node": "h100-x1", "profile": "h100-8b", "min_replicas": 1, "max_replicas": 2}]
    path = changed(tmp_path, horizon_s=1800.0, pools=pools)
    assert main(["scenarios", "reference", str(path)]) == 2
    assert "the largest fleet (2 replicas)" in capsys.readouterr().err
    assert not (tmp_path / REFERENCE_FILE).exists()


def test_an_slo_that_is_missed_without_load_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = changed(tmp_path, slo={"ttft_s": 1.0, "tpot_s": 0.001})  # one decode pass takes longer
    assert main(["scenarios", "check", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"slo": {"ttft_s": 1.0, "tpot_ms": 50}}, "unknown key 'slo.tpot_ms'; did you mean 'tpot_s'"),
        ({"control": {"interval_s": 15.5}}, "interval_s=15.5 is no multiple of substep_s=1"),
        ({"horizon_s": -1}, "horizon_s: got -1"),
        ({"pools": []}, "pools"),
    ],
)
def test_wrong_fields_name_file_field_and_what_was_got(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    path = changed(tmp_path, **fields)
    with pytest.raises(ScenarioError) as error:
        load_scenario(path)
    assert said in str(error.value) and str(path) in str(error.value)


def test_the_table_names_every_pool_and_its_l_slo(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["scenarios", "check", "chat", "chat-mixed"]) == 0
    text = capsys.readouterr().out
    assert "h100 2-40" in text and "a100-spot 0-60" in text
    assert f"{get_scenario('chat').limits.capacity_per_s[0]:.3g}" in text


@pytest.mark.parametrize("what", ["scalers", "scenarios"])
def test_list_names_what_can_be_named(
    what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["list", what]) == 0
    text = capsys.readouterr().out
    expected = {"scalers": ("headroom", "hpa", "fixed"), "scenarios": NAMES}[what]
    assert all(name in text for name in expected)


def test_list_finds_comparisons_and_policies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for folder, file, content in (
        ("results/days", "results.json", {"study": {"name": "ten days"}}),
        ("runs/demo-1/comparison", "results.json", {"study": {"name": "demo"}}),
        ("runs/demo-1/seed-0", "manifest.json", {"algo": "ppo", "scenario": "chat"}),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / file).write_text(json.dumps(content))
    assert main(["list", "runs", "--folder", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "ten days" in text and "ppo on chat" in text
    assert "comparison" in text and "demo-1/comparison" in text
