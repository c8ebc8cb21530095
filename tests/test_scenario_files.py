"""Every wrong scenario file is refused with file and field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rlscale.errors import ScenarioError
from rlscale.scenario import load_scenario

POOL = {"name": "a", "node": "h100-x1", "profile": "h100-8b", "min_replicas": 1, "max_replicas": 4}
GOOD = {
    "summary": "a small chat service for tests",
    "slo": {"ttft_s": 1.0, "tpot_s": 0.05},
    "pools": [POOL],
    "workload": {"kind": "steady", "rate_per_s": 20.0},
    "horizon_s": 600.0,
}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "made.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slo": {"ttft_ms": 1000}}, r"unknown key 'slo.ttft_ms'; did you mean 'ttft_s'"),
        ({"slo": {"ttft_s": "1 s", "tpot_s": 0.05}}, r"slo.ttft_s: got '1 s'"),
        ({"pools": [{**POOL, "min_replicas": 9}]}, r"min_replicas=9 is above max_replicas=4; swap them"),
        ({"pools": [{**POOL, "usd_per_gpu_hour": -1}]}, r"usd_per_gpu_hour: got -1"),
        ({"pools": [{**POOL, "node": "h1000-x1"}]}, r"unknown node profile 'h1000-x1'; did you mean"),
        ({"pools": [{**POOL, "node": "a100-x1"}]}, r"runs on H100-SXM5-80GB; node 'a100-x1' has"),
        ({"workload": {"kind": "stedy", "rate_per_s": 1.0}}, r"did you mean 'steady'"),
        ({"workload": {"kind": "steady", "rate_per_s": float("nan")}}, r"rate_per_s"),
        ({"control": {"interval_s": 15, "substep_s": 4}}, r"no multiple of substep_s"),
        ({"splits": {"exam": {}}}, r"exam"),
    ],
)
def test_a_wrong_scenario_is_refused_with_file_and_field(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(ScenarioError, match=message) as caught:
        load_scenario(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_yaml_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "made.yaml"
    path.write_text("slo: [1, 2\npools: }")
    with pytest.raises(ScenarioError, match=r"line 2: not YAML"):
        load_scenario(path)
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(tmp_path / "none.yaml")
    path.write_text("just words")
    with pytest.raises(ScenarioError, match="got 'just words', expected a scenario in YAML: a mapping"):
        load_scenario(path)


def test_an_slo_that_even_an_idle_fleet_misses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"cannot meet the SLO even unloaded.*unloaded p99"):
        _ = load_scenario(written(tmp_path, slo={"ttft_s": 0.01, "tpot_s": 0.05})).limits


def test_requests_beyond_the_kv_memory_are_refused(tmp_path: Path) -> None:
    workload = {"kind": "steady", "rate_per_s": 1.0, "tokens": {"prompt": 500_000.0, "output": 10.0}}
    with pytest.raises(ScenarioError, match="KV memory"):
        _ = load_scenario(written(tmp_path, workload=workload)).limits
