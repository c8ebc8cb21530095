"""The bench command: what it reports, not how fast this machine is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import _bench_env as bench
from experiments.__main__ import main
from rlscale import registry


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `bench env --quick` keeps."""
    out = tmp_path_factory.mktemp("bench") / "new" / "bench.json"
    assert main(["bench", "env", "--quick", "--out", str(out)]) == 0
    return dict(json.loads(out.read_text()))


@pytest.mark.e2e
def test_every_size_and_number_of_pools_is_timed_in_at_least_seven_rounds(found: dict[str, Any]) -> None:
    cases = {(case["pools"], case["n"]) for case in found["kernel"]}
    assert cases == {(pools, n) for pools in (1, 3) for n in bench.QUICK_SIZES}
    for case in found["kernel"] + found["trace_length"]:
        for clock in ("wall_ns", "cpu_ns"):
            spread = case[clock]
            assert len(spread["all"]) == case["rounds"] >= 7
            assert 0 < spread["min"] <= spread["median"] == pytest.approx(np.median(spread["all"]))


@pytest.mark.e2e
def test_loads_of_an_hour_a_day_and_a_week_are_compared(found: dict[str, Any]) -> None:
    assert [case["load_s"] for case in found["trace_length"]] == [3600.0, 86_400.0, 604_800.0]
    assert len({case["n"] for case in found["trace_length"]}) == 1


@pytest.mark.e2e
def test_memory_start_and_plain_python_are_measured_in_processes_of_their_own(found: dict[str, Any]) -> None:
    assert found["memory"]["n"] == bench.QUICK_SIZES[-1] and found["memory"]["arrays_gb"] > 0
    assert found["startup"]["warm_s"] > 0 and found["startup"]["cold_s"] is None  # left out by --quick
    assert found["plain_python"]["ratio"] > 1.0  # what is compared really was plain Python


@pytest.mark.e2e
def test_the_file_says_on_which_machine_and_from_which_code(found: dict[str, Any]) -> None:
    assert found["machine"]["cpu"] and len(found["machine"]["load_average"]["before"]) == 3
    assert {"commit", "versions", "command"} <= found["provenance"].keys()


def test_an_earlier_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    out.write_text("kept")
    assert main(["bench", "env", "--quick", "--out", str(out)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert out.read_text() == "kept"


@pytest.mark.parametrize("pools", [1, 3])
def test_a_timing_is_real_work_without_a_collapse_and_the_same_each_time(pools: int) -> None:
    case = bench._sized("chat", pools, 16, 0.05)
    seen = []
    for _ in range(2):
        bench._time(case)
        cluster, pool = case.world.cluster, case.world.pool
        assert cluster["arrived"].min() > 1000.0
        assert cluster["missed"].sum() < 0.01 * cluster["arrived"].sum()
        assert pool["started"].sum() > 0  # fleets change
        last = (cluster["cell"] + cluster["step"]).max()
        assert last < len(case.world.loads[0].values)  # no row has outlasted its load
        seen.append((cluster["finished"].tolist(), pool["node_s"].tolist()))
    assert seen[0] == seen[1]


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_learning_is_timed_with_its_curve_and_where_the_time_went(tmp_path: Path) -> None:
    out = tmp_path / "train.json"
    assert main(["bench", "train", "--quick", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [(c["algo"], c["name"] == "here") for c in found["contestants"]] == [
        ("ppo", True), ("ppo", False), ("dqn", True), ("dqn", False),
    ]  # fmt: skip
    for contestant in found["contestants"]:
        assert contestant["frames_per_s"] == pytest.approx(contestant["steps"] / contestant["seconds"])
        assert sum(contestant["shares"].values()) == pytest.approx(1.0)
        assert all(share >= 0.0 for share in contestant["shares"].values())
        assert contestant["curve"] and contestant["curve"][-1]["steps"] == contestant["steps"]
    assert found["overhead"][0]["step_ns"] > found["overhead"][0]["kernel_ns"] > 0
    assert "<svg" in out.with_suffix(".svg").read_text()


@pytest.mark.e2e
def test_every_scaler_is_timed_on_one_and_on_several_pools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "decide.json"
    assert main(["bench", "decide", "--quick", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    scalers = set(registry.scan("agents", "SCALERS"))
    assert {(case["scaler"], case["pools"]) for case in found["decide"]} == {(s, p) for s in scalers for p in (1, 2)}
    assert all(about["decisions"] * about["interval_s"] > 3500 for about in found["recorded"])
    assert all(0 < case["median_us"] <= case["p95_us"] for case in found["decide"])
    assert "headroom-held" in capsys.readouterr().out
