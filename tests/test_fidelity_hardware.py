"""The iteration law against measured hardware: on tables that are read where they are, copied nowhere."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from experiments import fidelity_hardware as hardware
from experiments.__main__ import main
from experiments.calibrate_read import read_measurements
from experiments.fidelity_hardware_report import GOALS, band, spreads

SPLITWISE = "model,hardware,tensor_parallel,prompt_tokens,batch,output_tokens,prompt_ms,token_ms,e2e_ms\n" + "".join(
    f"m,a100-80gb,8,{n},{b},128,{30 + 0.2 * n * b},{30 + b},{127 * (30 + b) + 30 + 0.2 * n * b}\n"
    for n in (256, 512, 1024) for b in (1, 2, 4, 64)
)  # fmt: skip
ML_ENERGY = (
    "task,model_id,gpu_model,num_gpus,tensor_parallel,expert_parallel,data_parallel,weight_precision,max_num_seqs,"
    "avg_batch_size,avg_output_len,output_throughput_tokens_per_sec,median_itl_ms\n"
) + "".join(f"chat,o/M,H100,1,1,1,1,bfloat16,{b},{b},{400 + b},{b / (0.007 + 8e-5 * b)},{7 + 0.06 * b}\n"
            for b in (8, 16, 32, 64, 128, 256))  # fmt: skip
AIC = (
    "system,backend,backend_version,model_path,precision,isl,osl,batch_size,tp_size,pp_size,attention_dp_size,"
    "moe_tp_size,moe_ep_size,silicon_ttft_ms,silicon_tpot_ms\n"
) + "".join(
    f"h100_sxm,vllm,0.1,o/M,fp8,{n},{m},{b}.0,2.0,1.0,1.0,1.0,1.0,{9 + 0.02 * n + 0.1 * b},"
    f"{6 + 0.05 * b + b / m * 0.02 * n}\n"
    for n in (512, 2048) for m in (128, 512) for b in (4, 16, 64)
)  # fmt: skip


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder like the published one, made up."""
    for name, text in zip(hardware.FILES, (AIC, SPLITWISE, ML_ENERGY), strict=True):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture(scope="session")
def shared_profiles(repo_root: Path) -> Path:
    """Published tables kept beside the repository, or where RLSCALE_PROFILES says."""
    folder = Path(os.environ.get("RLSCALE_PROFILES", repo_root.parent / "shared" / "profiles"))
    if not (folder / hardware.FILES[0]).exists():
        pytest.skip("needs ../shared/profiles, or RLSCALE_PROFILES=FOLDER")
    return folder


def test_adapters_give_groups_lengths_and_seconds(tables: Path) -> None:
    (source, (one,)) = read_measurements(tables / hardware.FILES[0])
    assert (source.name, source.form, one.label) == ("AIConfigurator", "closed-loop", "H100, vllm 0.1, M, fp8, TP2")
    assert (one.gpu, one.gpus, one.tpot_s[0]) == ("H100-SXM5-80GB", 2, pytest.approx(6.52e-3, rel=1e-6))
    (source, (one,)) = read_measurements(tables / hardware.FILES[1])
    assert source.form == "static" and np.isnan(one.ttft_s[one.batch == 64.0]).all()
    (source, (one,)) = read_measurements(tables / hardware.FILES[2])
    assert np.isnan(one.prompt).all()
    assert one.tpot_s == pytest.approx(0.007 + 8e-5 * one.batch)  # Little's law, not the median


def test_the_command_writes_cells_a_figure_and_a_report_without_measured_times(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["fidelity", "hardware", "--profiles", str(tables), "--out", str(out)]) == 0
    part = out / "hardware"
    assert {file.name for file in out.iterdir()} == {"hardware", "report.html", "report.md"}
    names = {file.name for file in part.iterdir()}
    assert names == {"cells.csv", "shipped.csv", "figure.svg", "summary.json", "report.md"}
    cells = list(csv.DictReader((part / "cells.csv").read_text().splitlines()))
    assert not any("measured" in column for column in cells[0])
    of_energy = [row for row in cells if row["table"].startswith("ML.ENERGY")]
    assert of_energy and all(row["predicted_s"] == "" for row in of_energy)
    assert main(["fidelity", "hardware", "--profiles", str(tables), "--out", str(out)]) == 2  # never overwritten


def test_a_missing_table_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fidelity", "hardware", "--profiles", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "--profiles names the folder" in capsys.readouterr().err


def test_nothing_of_a_held_out_row_reaches_the_fit(tables: Path) -> None:
    source, (seen,) = read_measurements(tables / hardware.FILES[0])
    before = hardware.judge(source, seen)
    held = [row for row, fitted in enumerate(hardware.fitted_on(seen.group, seen.configurations)) if not fitted]
    seen.tpot_s[held] *= 3.0
    seen.ttft_s[held] *= 0.1
    after = hardware.judge(source, seen)
    assert before.law is not None and after.law is not None
    assert np.array_equal(before.law.value, after.law.value)


def test_bands_and_spreads() -> None:
    assert [band(x) for x in (0.5, 1.0, 1.5, 3.0)] == ["up to 1", "up to 1", "1 to 2", "more than 2"]
    (row,) = spreads([{"time": "tpot", "error": e} for e in (-0.1, 0.2, 0.3)], ("time",))
    assert (row["cells"], row["median"], row["bias"]) == (3, 0.2, 0.2)


def test_splitwise_is_met_on_configurations_that_were_not_fitted(shared_profiles: Path) -> None:
    judged = list(hardware.of_file(shared_profiles / hardware.FILES[1]))
    cells = [cell for one in judged for cell in hardware.cells_of(one) if cell["part"] == "held out"]
    assert len(judged) == 12 and not any(one.refused for one in judged)
    for row in spreads(cells, ("time",)):  # 108 and 104 configurations; the split is fixed, so are the numbers
        assert row["median"] <= GOALS[row["time"]]


def test_the_published_tables_are_read_whole(shared_profiles: Path) -> None:
    counts = []
    for name in hardware.FILES:
        _, found = read_measurements(shared_profiles / name)
        counts.append((len(found), sum(len(one) for one in found)))
    assert counts == [(213, 2179), (12, 228), (98, 738)]


def test_shipped_profiles_are_compared_where_model_and_gpus_agree(tables: Path) -> None:
    source, (seen,) = read_measurements(tables / hardware.FILES[1])
    assert not list(hardware.of_shipped(hardware.judge(source, seen)))
    text = (tables / hardware.FILES[1]).read_text().replace("m,a100", "llama2-70b,a100")
    (tables / "llama.csv").write_text(text)
    source, (seen,) = read_measurements(tables / "llama.csv")
    assert {row["profile"] for row in hardware.of_shipped(hardware.judge(source, seen))} == {"a100-70b-tp8"}
