"""Studies: what they resolve to, and one clear error for each way to get one wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.study import (
    MULTIPLIERS,
    load_cases,
    parse_study,
    policy_folders,
    read_study,
    scaler_cases,
)
from rlscale.errors import ScenarioError
from rlscale.registry import scan
from rlscale.types import Knob, ScalerKind

KINDS = {
    "hpa": ScalerKind(lambda limits: None, Knob("target", (1.0, 0.5), 0.5), "an HPA", {"target": 0.8}),  # type: ignore[arg-type,return-value]
    "still": ScalerKind(lambda limits: None, None, "no knob"),  # type: ignore[arg-type,return-value]
}
GOOD = """
scenarios: [chat, {name: code, block_s: 3600}]
traces:
  - {path: hour.csv.gz, scenario: chat, mean_need: 10}
  - {path: week.csv, name: week, scenario: chat, scaling: superpose, block_s: 21600}
scalers: [hpa, still, {name: hpa, label: slow hpa, params: {sync_s: 60}, knob: [0.9, 0.6], upstream: false}]
seeds: {train: 2, test: 5}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


def fault(tmp_path: Path, text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        study = read_study(write(tmp_path, text))
        load_cases(study)
        scaler_cases(study, KINDS)
    return str(caught.value)


def test_a_study_resolves_to_loads_and_scalers(tmp_path: Path):
    study = read_study(write(tmp_path, GOOD))
    assert study.name == "study" and study.seeds.test == 5 and study.targets == [0.95, 0.99, 0.999]
    loads = load_cases(study)
    assert [load.name for load in loads] == ["chat", "code", "hour (superpose)", "hour (amplify)", "week (superpose)"]
    assert [load.trace.mode if load.trace else None for load in loads][2:] == ["superpose", "amplify", "superpose"]
    assert loads[1].block_s == 3600 and loads[2].trace is not None and loads[2].trace.mean_need == 10.0
    hpa, still, slow = scaler_cases(study, KINDS)
    assert (hpa.knob, hpa.values, hpa.upstream) == ("target", (1.0, 0.5), {"target": 0.8})
    assert (still.knob, still.values) == (None, ())
    assert (slow.label, slow.values, slow.params, slow.upstream) == ("slow hpa", (0.9, 0.6), {"sync_s": 60}, None)
    assert not hpa.learned and hpa.members == 1


def test_one_hour_traces_are_shown_both_ways_by_default():
    study = parse_study({"traces": [{"path": "a.csv", "scenario": "chat"}], "scalers": ["hpa"]}, "x")
    assert [load.trace.mode for load in load_cases(study) if load.trace] == ["superpose", "amplify"]


RUN = "scenarios: [chat]\n"
HPA = "scalers: [hpa]\n"
TRACE = "traces: [{path: a.csv, scenario: chat, %s}]\n" + HPA


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RUN + HPA + "seedz: 3", "study.yaml, line 3: unknown key 'seedz'; did you mean 'seeds'?"),
        (RUN + "scalers: [{name: hpa, knobs: [1]}]", "line 2: unknown key 'scalers.0.knobs'; did you mean 'knob'?"),
        (RUN + "scalers: [hpaa]", "unknown scaler 'hpaa'; did you mean 'hpa'"),
        (RUN, "study.yaml, line 1: 'scalers' is missing"),
        (HPA, "nothing to run: give at least one entry under scenarios or traces"),
        (RUN + "scalers: []", "scalers: got [], expected"),
        (RUN + HPA + "seeds: {test: 0}", "seeds.test: got 0, expected greater than or equal to 1"),
        (RUN + HPA + "seeds: {test: ten}", "seeds.test: got 'ten', expected a valid integer"),
        (RUN + HPA + "targets: [99]", "targets.0: got 99, expected less than 1"),
        (RUN + "scalers: [hpa, hpa]", "hpa named twice; give each entry its own label"),
        ("scenarios: [chat, chat]\n" + HPA, "the loads chat are listed twice"),
        (RUN + "scalers: [{name: still, knob: [1]}]", "'still' declares no knob"),
        (RUN + "scalers: [{name: hpa, params: {target: 1}}]", "hpa.params.target is the knob"),
        (
            TRACE % "scaling: stretch",
            "traces.0.scaling: got 'stretch', expected 'superpose', 'amplify', 'both' or 'recorded'",
        ),
        (TRACE % "mean_need: -1", "traces.0.mean_need: got -1, expected"),
        (TRACE % "windows_days: {test: [6, 8]}", "windows_days has test; expected at least train and test"),
        (
            TRACE % "windows_days: {train: [0, 7], test: [6, 8]}",
            "training, validation and test days must follow one another",
        ),
        ("traces: [{path: a.csv}]\n" + HPA, "line 1: 'traces.0.scenario' is missing"),
        (RUN + "scalers: [policy:nowhere-*]", "no policy folder matches 'nowhere-*'"),
        (RUN + "scalers: [nowhere:Class]", "'nowhere:Class' cannot be imported"),
        ("scenarios: [chat\n" + HPA, "study.yaml, line 2: not YAML"),
        ("just a text", "got 'just a text', expected a study in YAML: a mapping with the keys name, scenarios"),
        ("", "got None, expected a study in YAML"),
    ],
)
def test_each_fault_is_one_error_with_file_field_got_and_expected(tmp_path: Path, text: str, expected: str):
    message = fault(tmp_path, text)
    assert expected in message
    assert "Traceback" not in message


def test_two_faults_are_both_told(tmp_path: Path):
    message = fault(tmp_path, "scenarios: [chat]\nscalers: [hpa]\nseedz: 3\ntargets: [2.0]")
    assert "seedz" in message and "targets.0" in message


def test_a_missing_or_binary_file_is_one_error(tmp_path: Path):
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_study(tmp_path / "nowhere.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ScenarioError, match="is not text"):
        read_study(tmp_path / "x.yaml")


def test_every_study_that_comes_along_names_known_scalers(repo_root: Path):
    files = sorted((repo_root / "experiments" / "studies").glob("*.yaml"))
    assert files
    for path in files:
        study = read_study(path)
        assert load_cases(study)
        known = [entry for entry in study.scalers if not entry.name.startswith("policy:")]
        assert scaler_cases(study.model_copy(update={"scalers": known}), scan("agents", "SCALERS"))


def test_several_training_seeds_of_a_policy_are_one_row(tmp_path: Path):
    for seed in range(3):
        (tmp_path / f"ppo-{seed}").mkdir()
        (tmp_path / f"ppo-{seed}" / "manifest.json").write_text("{}")
    by_pattern = policy_folders(str(tmp_path / "ppo-*"))
    assert [Path(folder).name for folder in by_pattern] == ["ppo-0", "ppo-1", "ppo-2"]
    assert policy_folders(str(tmp_path)) == by_pattern  # the folder above them means all of them
    assert policy_folders(str(tmp_path / "ppo-1")) == [str(tmp_path / "ppo-1")]
    study = parse_study({"scenarios": ["chat"], "scalers": [f"policy:{tmp_path}/ppo-*"]}, "x")
    (case,) = scaler_cases(study, KINDS)
    assert case.learned and case.members == 3 and case.knob == "multiplier" and case.values == MULTIPLIERS
    assert case.label == "ppo"


def test_a_policy_per_scenario_is_one_row_and_needs_as_many_seeds_everywhere(tmp_path: Path):
    def trained(*names: str) -> None:
        for name in names:
            (tmp_path / name).mkdir(parents=True)
            (tmp_path / name / "manifest.json").write_text("{}")

    trained("ppo-chat/seed-0", "ppo-chat/seed-1", "ppo-code/seed-0")
    data = {"scenarios": ["chat", "code"], "scalers": [f"policy:{tmp_path}/ppo-{{scenario}}/seed-*"]}
    with pytest.raises(ScenarioError, match=r"training seeds \{'chat': 2, 'code': 1\}"):
        scaler_cases(parse_study(data, "x"), KINDS)
    trained("ppo-code/seed-1")
    (case,) = scaler_cases(parse_study(data, "x"), KINDS)
    assert (case.label, case.members) == ("ppo", 2)
    assert case.policy("code", 1) == str(tmp_path / "ppo-code" / "seed-1")
    assert case.policy("chat", 0) == str(tmp_path / "ppo-chat" / "seed-0")
